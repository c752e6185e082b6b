import { createHash } from 'node:crypto';
import { encodeName, roundUp } from '../core/bytes.ts';
import { corrupt, LazypullError, printable } from '../core/errors.ts';
import type { DirectoryNode, FileNode, RegularNode, SymlinkNode } from '../core/types.ts';
import { LinkBelow } from '../layer/nodes.ts';
import { shapeOf } from './directory.ts';
import { Inventory } from './inventory.ts';
import {
  CHUNK_INDEX_SIZE, COMPAT, DEVICE_SLOT_SIZE, encodeDeviceSlot, EXTENDED_INODE_SIZE, INCOMPAT, LAYOUT, MAX_TARGET_SIZE, SLOT_SIZE, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE,
  type DeviceSlot, type Superblock,
} from './layout.ts';
import { NumberList } from './list.ts';
import { Packer } from './packer.ts';
import type { ChunkMap, Place, StoredBytes, StoredStream } from './place.ts';
import { XattrTable } from './xattrs.ts';

/** A source of file content outside of the image. */
export interface ErofsDevice {
  /** At most 64 bytes, usually a digest's hex part; nobody checks it. */
  readonly tag: string;
  /** Bytes. Whoever binds the device shows it with whole blocks, zeros at the end. */
  readonly size: number;
}

/** Where things are in an image that has more than EROFS needs (RAFS v6). Bytes unless said otherwise. */
export interface ErofsFrame {
  /** Offset of the device table, a multiple of 128. */
  readonly deviceTable: number;
  /** The metadata's base, a multiple of the block size. What is between the device table and this is the caller's. */
  readonly metadata: number;
  /** From there to the root's inode, a multiple of 32. */
  readonly rootGap: number;
  /** Behind the image: room for a trailer that the caller writes. */
  readonly trailer: number;
  /** Blocks that devices' addresses are multiples of. */
  readonly deviceAlignment: number;
}

export interface ErofsOptions {
  /** Bytes; default 4096. Content on devices begins at multiples of it: 512 for tars. */
  readonly blockSize?: 512 | 1024 | 2048 | 4096;
  /** In the order in which they are bound at mount; default none. */
  readonly devices?: readonly ErofsDevice[];
  /** Asked once for each regular file. */
  readonly place: Place;
  /** Whether attributes that many files have may be stored once; default true. */
  readonly shareXattrs?: boolean;
  /** At most 16 bytes. */
  readonly volumeName?: string;
  /** 16 bytes; by default derived from devices and shape, so that equal input gives equal images. */
  readonly uuid?: Uint8Array;
  readonly frame?: ErofsFrame;
}

const BLOCK_SIZES: readonly number[] = [512, 1024, 2048, 4096];
const MAX_DEVICES = 0xffff;
/** Chunk indexes of one image: 1 GiB of them. */
const MAX_INDEXES = 1 << 27;

/**
 * Decides where everything is in the image of a tree: superblock, device table, shared attributes, inodes with what belongs
 * to them, blocks of directories and of content. `writeErofs` writes it.
 *
 * CORRUPT for names and targets that cannot exist, UNSUPPORTED for what EROFS has no room for, LIMIT beyond its numbers.
 */
export function planErofs(root: DirectoryNode, options: ErofsOptions): ErofsPlan {
  return new ErofsPlan(root, options);
}

/** An image that is decided on. Memory: about 60 bytes per inode and 13 per name, and the tree itself. */
export class ErofsPlan {
  readonly blockSize: number;
  /** Bytes of the image, in whole blocks, without trailer. */
  readonly size: number;
  readonly superblock: Superblock;
  readonly devices: readonly DeviceSlot[];
  /** What could not be taken over, one line each. */
  readonly warnings: readonly string[];

  // For `writeErofs`.
  readonly inventory: Inventory;
  readonly xattrs: XattrTable;
  /** Bytes: where the shared attributes are. */
  readonly sharedAt: number;
  /** Inodes in the order of their places. */
  readonly order: Uint32Array;
  /** By inode. */
  readonly nids: Uint32Array;
  readonly types: Uint8Array;
  readonly layouts: Uint8Array;
  readonly startBlocks: Uint32Array;
  readonly blockCounts: Uint32Array;
  readonly chunkBits: Uint8Array;
  /** By inode, and one more: first word in `chunks`; two words each: device above the high block bits, low block bits. */
  readonly firstChunks: Uint32Array;
  readonly chunks = new NumberList();
  /** By inode: bytes that are stored here. */
  readonly stored = new Map<number, StoredBytes | StoredStream>();
  /** Bytes: where nid 0 is. */
  readonly base: number;
  /** Bytes: end of the inodes. */
  readonly metadataEnd: number;

  constructor(root: DirectoryNode, options: ErofsOptions) {
    const { blockSize = 4096, devices = [], frame } = options;
    this.blockSize = blockSize;
    checkOptions(options, blockSize);
    const inventory = (this.inventory = new Inventory(root));
    const { inodes } = inventory;
    this.xattrs = new XattrTable(inventory, options.shareXattrs ?? true);
    this.warnings = this.xattrs.warning === undefined ? [] : [this.xattrs.warning];
    this.types = new Uint8Array(inodes);
    this.layouts = new Uint8Array(inodes);
    this.startBlocks = new Uint32Array(inodes);
    this.blockCounts = new Uint32Array(inodes);
    this.chunkBits = new Uint8Array(inodes);
    this.firstChunks = new Uint32Array(inodes + 1);

    const deviceTable = frame?.deviceTable ?? SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE;
    const tableEnd = deviceTable + devices.length * DEVICE_SLOT_SIZE;
    if (frame && frame.metadata < tableEnd) throw new LazypullError('INTERNAL', `metadata at ${frame.metadata} inside the device table, which ends at ${tableEnd}`);
    this.sharedAt = frame ? frame.metadata + frame.rootGap : tableEnd;
    const rootAt = roundUp(this.sharedAt + this.xattrs.sharedSize, SLOT_SIZE);
    this.base = frame ? frame.metadata : baseOf(rootAt, blockSize);

    const packer = new Packer(rootAt, this.base, blockSize, inodes);
    for (let inode = 0; inode < inodes; inode += 1) {
      this.types[inode] = inventory.typeOf(inode);
      const extent = this.#measure(inode, options);
      packer.add(inode, extent.size, extent.whole);
    }
    packer.finish();
    this.firstChunks[inodes] = this.chunks.length;
    this.order = packer.order;
    this.nids = packer.nids;
    this.metadataEnd = packer.end;
    let next = Math.ceil(packer.end / blockSize);
    for (const inode of this.order) {
      const count = this.blockCounts[inode] as number;
      if (count === 0) continue;
      this.startBlocks[inode] = next;
      next += count;
    }
    const trailing = Math.ceil((frame?.trailer ?? 0) / blockSize);
    if (next + trailing >= 2 ** 32) throw new LazypullError('LIMIT', `image of ${next + trailing} blocks`);
    this.size = next * blockSize;
    this.devices = placeDevices(devices, next + trailing, blockSize, frame?.deviceAlignment ?? 1);
    this.superblock = {
      featureCompat: COMPAT.checksum | COMPAT.mtime,
      featureIncompat: (this.layouts.includes(LAYOUT.chunkBased) ? INCOMPAT.chunkedFile : 0) | (devices.length > 0 ? INCOMPAT.deviceTable : 0),
      blockSize,
      rootNid: this.nids[0] as number,
      inodes,
      epoch: { seconds: 0, nanoseconds: 0 },
      blocks: next,
      metaBlock: this.base / blockSize,
      xattrBlock: this.xattrs.sharedSize === 0 ? 0 : Math.floor(this.sharedAt / blockSize),
      uuid: options.uuid ?? this.#deriveUuid(),
      volumeName: options.volumeName ?? '',
      extraDevices: devices.length,
      deviceTable: devices.length === 0 && !frame ? 0 : deviceTable,
      xattrPrefixCount: 0,
      xattrPrefixes: 0,
      packedNid: 0,
    };
  }

  /** Every inode once with its node id, in the order of their places. */
  each(visit: (node: FileNode, nid: number) => void): void {
    for (const inode of this.order) visit(this.inventory.nodes[inode] as FileNode, this.nids[inode] as number);
  }

  /** Chooses an inode's data layout; bytes that go beside the inode, and whether all of them have to be in one block. */
  #measure(inode: number, { place, devices = [], frame }: ErofsOptions): { readonly size: number; readonly whole: boolean } {
    const node = this.inventory.nodes[inode] as FileNode;
    const header = EXTENDED_INODE_SIZE + this.xattrs.sizeOf(inode);
    this.firstChunks[inode] = this.chunks.length;
    if (node.type === 'directory') {
      const { fullBlocks, tail } = shapeOf(this.inventory, this.inventory.directoryOf[inode] as number, this.blockSize);
      return this.#flat(inode, header, fullBlocks, tail);
    }
    if (node.type === 'symlink') return this.#flat(inode, header, 0, targetSize(node, () => this.inventory.pathOf(inode)));
    if (node.type !== 'file') {
      if ((node.type === 'char' || node.type === 'block') && (node.major > 0xfff || node.minor > 0xfffff)) throw corrupt(`device ${node.major}:${node.minor} does not exist`, { path: this.inventory.pathOf(inode) });
      return this.#flat(inode, header, 0, 0);
    }
    if (node instanceof LinkBelow) throw new LazypullError('UNSUPPORTED', `hard link to ${printable(node.target)}, which only a lower layer has: merge the layers`, { path: this.inventory.pathOf(inode) });
    const placement = place(node);
    if (placement?.kind === 'chunks') {
      this.#addChunks(inode, node, placement, devices.length, frame !== undefined);
      return { size: roundUp(header, CHUNK_INDEX_SIZE) + placement.indexes.length * CHUNK_INDEX_SIZE, whole: false };
    }
    if (!placement) {
      if (node.size > 0) throw new LazypullError('INTERNAL', `no place for ${node.size} bytes of content`, { path: this.inventory.pathOf(inode) });
      return this.#flat(inode, header, 0, 0);
    }
    this.stored.set(inode, placement);
    if (placement.kind === 'bytes') {
      if (placement.bytes.length !== node.size) throw new LazypullError('INTERNAL', `${placement.bytes.length} bytes for a file of ${node.size}`, { path: this.inventory.pathOf(inode) });
      return this.#flat(inode, header, 0, node.size);
    }
    this.blockCounts[inode] = this.#blocks(node.size);
    return { size: header, whole: false };
  }

  /** The end of the content stays with the inode if all that fits into one block; kernels read it from there only then. */
  #flat(inode: number, header: number, fullBlocks: number, tail: number): { readonly size: number; readonly whole: boolean } {
    if (tail > 0 && header + tail <= this.blockSize) {
      this.layouts[inode] = LAYOUT.flatInline;
      this.blockCounts[inode] = fullBlocks;
      return { size: header + tail, whole: true };
    }
    this.blockCounts[inode] = fullBlocks + this.#blocks(tail);
    return { size: header, whole: false };
  }

  #blocks(size: number): number {
    const blocks = Math.ceil(size / this.blockSize);
    if (blocks >= 2 ** 32) throw new LazypullError('LIMIT', `content of ${blocks} blocks`);
    return blocks;
  }

  #addChunks(inode: number, node: RegularNode, { bits, indexes }: ChunkMap, devices: number, rafs: boolean): void {
    const wanted = Math.ceil(node.size / (this.blockSize * 2 ** bits));
    if (!(bits >= 0 && bits <= 31) || indexes.length < wanted) throw new LazypullError('INTERNAL', `${indexes.length} chunks of ${this.blockSize} << ${bits} bytes for a file of ${node.size}`, { path: this.inventory.pathOf(inode) });
    this.layouts[inode] = LAYOUT.chunkBased;
    this.chunkBits[inode] = bits;
    for (const { device, block, high = 0 } of indexes) {
      if ((rafs ? device & 0xff : device) > devices) throw new LazypullError('INTERNAL', `content on device ${device} of ${devices}`, { path: this.inventory.pathOf(inode) });
      this.chunks.push(((device << 16) | high) >>> 0);
      this.chunks.push(block);
    }
    if (this.chunks.length / 2 > MAX_INDEXES) throw new LazypullError('LIMIT', `more than ${MAX_INDEXES} chunks`);
  }

  /** Version 8 of RFC 9562: bits of our own making. */
  #deriveUuid(): Uint8Array {
    const hash = createHash('sha256').update(`${this.blockSize} ${this.inventory.inodes} ${this.size}`);
    for (const slot of this.devices) hash.update(encodeDeviceSlot(slot));
    const uuid = Uint8Array.from(hash.digest().subarray(0, 16));
    uuid[6] = ((uuid[6] as number) & 0x0f) | 0x80;
    uuid[8] = ((uuid[8] as number) & 0x3f) | 0x80;
    return uuid;
  }
}

/** The root's nid has 16 bits, and 0 would be an inode number that libraries take for none. */
function baseOf(rootAt: number, blockSize: number): number {
  return rootAt / SLOT_SIZE <= 0xffff ? 0 : (Math.floor(rootAt / blockSize) - 1) * blockSize;
}

/** Devices follow the primary in one common address space, as far as it goes; behind its end they have no address, and are found by number only. */
function placeDevices(devices: readonly ErofsDevice[], primary: number, blockSize: number, alignment: number): readonly DeviceSlot[] {
  let next = roundUp(primary, alignment);
  return devices.map(({ tag, size }) => {
    const blocks = Math.ceil(size / blockSize);
    if (blocks >= 2 ** 32) throw new LazypullError('LIMIT', `device of ${blocks} blocks of ${blockSize} bytes`);
    const address = next + blocks < 2 ** 32 ? next : 0;
    next = roundUp(next + blocks, alignment);
    return { tag, blocks, address };
  });
}

function targetSize(node: SymlinkNode, path: () => string): number {
  const bytes = encodeName(node.target);
  if (bytes.length > MAX_TARGET_SIZE || bytes.includes(0)) throw corrupt(`symlink target of ${bytes.length} bytes ${bytes.includes(0) ? 'with a NUL' : `(the limit is ${MAX_TARGET_SIZE})`}`, { path: path() });
  return bytes.length;
}

function checkOptions({ devices = [], volumeName = '', uuid, frame }: ErofsOptions, blockSize: number): void {
  const wrong = (message: string): never => {
    throw new LazypullError('USAGE', message);
  };
  if (!BLOCK_SIZES.includes(blockSize)) wrong(`EROFS blocks of ${blockSize} bytes: choose one of ${BLOCK_SIZES.join(', ')}`);
  if (devices.length > MAX_DEVICES) wrong(`${devices.length} devices; EROFS has room for ${MAX_DEVICES}`);
  for (const { tag } of devices) if (Buffer.byteLength(tag) > 64) wrong(`device tag of more than 64 bytes: ${tag}`);
  if (Buffer.byteLength(volumeName) > 16) wrong(`volume name of more than 16 bytes: ${volumeName}`);
  if (uuid && uuid.length !== 16) wrong(`UUID of ${uuid.length} bytes`);
  if (frame && (frame.deviceTable % DEVICE_SLOT_SIZE !== 0 || frame.metadata % blockSize !== 0 || frame.rootGap % SLOT_SIZE !== 0)) wrong('EROFS frame is not aligned');
}
