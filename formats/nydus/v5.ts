import { decodeName, roundUp } from '../../src/core/bytes.ts';
import { corrupt, LazypullError, printable } from '../../src/core/errors.ts';
import { checkRange } from '../../src/core/source.ts';
import type { Attributes, DirectoryNode, Extent, FileNode } from '../../src/core/types.ts';
import { asBuffer } from '../../src/erofs/struct.ts';
import { decodeDevice, FILE_TYPE, typeOfMode } from '../../src/erofs/layout.ts';
import { NO_XATTRS, NodeMaker } from '../../src/layer/nodes.ts';
import { joinPath } from '../../src/layer/walk.ts';
import { CHUNK_ROW_FLAG, CHUNK_ROW_SIZE, decodeChunkRow, decodePrefetchTable, NID_SIZE, type BlobEntry } from './bootstrap-layout.ts';
import { algorithmsOf, COMPRESSOR, DIGESTER, MAX_CHUNK_SIZE, RAFS_FLAG } from './layout.ts';
import { MAX_CHUNKS, RafsChunk, type ChunkHome } from './read-chunks.ts';
import { prefetchOf } from './read-prefetch.ts';
import type { BlobPlaces, LoadedBlob } from './read-tables.ts';
import { finish, inOrder, type OpenRafs } from './tree.ts';
import { decodeV5BlobExtension, decodeV5Inode, decodeV5Superblock, V5_ALIGNMENT, V5_BLOB_EXTENSION_SIZE, V5_INODE_FLAG, V5_INODE_SIZE, V5_OFFSET_UNIT, V5_SUPERBLOCK_SIZE, type V5Inode, type V5Superblock } from './v5-layout.ts';

/** Of one attribute; more cannot be set in Linux. */
const MAX_XATTR = 65_536;
/** UTF-16 units, as in layers. */
const MAX_PATH_LENGTH = 16_384;
const MAX_PROBLEMS = 100;
const MAX_NAMES = 2_000_000;
/** How often, on average, a byte may be read: inodes that overlap could stand for any number of things. */
const OVERLAP = 4;

/** Opens a RAFS v5 bootstrap (§15): its chunks are described where the files are, and nothing of the blobs is needed. */
export async function openV5(bootstrap: Uint8Array, places: BlobPlaces): Promise<OpenRafs> {
  const reader = new V5Reader(bootstrap, places);
  const root = reader.read();
  const { superblock, blobs, problems } = reader;
  const chunks = inOrder(reader.chunks());
  const prefetch = prefetchOf(reader.prefetchNumbers(), reader.nodes, problems);
  const open = await finish(blobs, reader.entries, { root, chunks, ...(prefetch.length > 0 && { prefetch }) });
  return {
    ...open,
    problems,
    facts: { fsVersion: 5, chunkSize: superblock.chunkSize, compressor: reader.compressor, digester: reader.digester, blobs: blobs.length, chunksUsed: chunks.length, prefetchEntries: superblock.prefetchTableEntries },
  };
}

interface Open {
  readonly node: DirectoryNode;
  readonly inode: V5Inode;
  readonly path: string;
}

/** Reads a v5 bootstrap; the blobs that it names are known from the start. */
export class V5Reader {
  readonly superblock: V5Superblock;
  readonly compressor: keyof typeof COMPRESSOR;
  readonly digester: keyof typeof DIGESTER;
  readonly blobs: readonly LoadedBlob[];
  /** What there is of an entry for each blob. */
  readonly entries: BlobEntry[] = [];
  readonly problems: string[] = [];
  /** By number, from 1. */
  readonly nodes = new Map<number, FileNode>();
  readonly #bytes: Buffer;
  readonly #chunks = new Map<string, RafsChunk>();
  /** Places in the inode table that were met: a directory that names one again would make a tree without end. */
  readonly #met: Uint8Array;
  readonly #links = new Map<number, FileNode>();
  readonly #todo: Open[] = [];
  readonly #maker = new NodeMaker();
  #extents = 0;
  #budget: number;

  constructor(bootstrap: Uint8Array, places: BlobPlaces) {
    this.#bytes = asBuffer(bootstrap);
    this.#budget = OVERLAP * bootstrap.length;
    if (bootstrap.length <= V5_SUPERBLOCK_SIZE) throw corrupt(`RAFS v5 bootstrap of ${bootstrap.length} bytes`, { offset: 0 });
    const superblock = decodeV5Superblock(bootstrap);
    const { size, chunkSize, flags, inodeTableOffset, inodeTableEntries } = superblock;
    if (size !== V5_SUPERBLOCK_SIZE) throw corrupt(`RAFS v5 superblock of ${size} bytes`, { offset: 0 });
    if (chunkSize < 4096 || chunkSize > MAX_CHUNK_SIZE || !Number.isInteger(Math.log2(chunkSize))) throw corrupt(`chunk size of ${chunkSize} bytes`, { offset: 0 });
    ({ compressor: this.compressor, digester: this.digester } = algorithmsOf(flags % 2 ** 32, 0));
    if ((flags & RAFS_FLAG.encryptAes128Xts) !== 0) throw new LazypullError('UNSUPPORTED', 'the image is encrypted', { offset: 0 });
    checkRange({ size: bootstrap.length }, inodeTableOffset, inodeTableEntries * 4, 'inode table');
    this.superblock = superblock;
    this.#met = new Uint8Array(inodeTableEntries);
    this.blobs = this.#readBlobs(places);
  }

  chunks(): RafsChunk[] {
    return [...this.#chunks.values()];
  }

  /** Numbers of inodes, as in the inode table. */
  prefetchNumbers(): number[] {
    const { prefetchTableOffset, prefetchTableEntries } = this.superblock;
    return prefetchTableEntries === 0 ? [] : decodePrefetchTable(this.#take(prefetchTableOffset, prefetchTableEntries * NID_SIZE, 'prefetch table'));
  }

  read(): DirectoryNode {
    const root = this.#node(1, '').node;
    if (root?.type !== 'directory') throw corrupt('root of the image is no directory', { offset: this.superblock.inodeTableOffset });
    for (let next = this.#todo.pop(); next; next = this.#todo.pop()) {
      const { node, inode, path } = next;
      for (let i = 0; i < inode.childCount; i += 1) {
        const { name, node: child } = this.#node(inode.childIndex + i, path);
        if (node.children.has(name)) throw corrupt('directory has two entries of one name', { path: joinPath(path, name) });
        if (child) node.children.set(name, child);
      }
    }
    return root;
  }

  #readBlobs(places: BlobPlaces): LoadedBlob[] {
    const { blobTableOffset, blobTableSize, blobExtensions, blobExtensionsOffset, chunkSize } = this.superblock;
    checkRange({ size: this.#bytes.length }, blobTableOffset, blobTableSize, 'blob table');
    checkRange({ size: this.#bytes.length }, blobExtensionsOffset, blobExtensions * V5_BLOB_EXTENSION_SIZE, 'extended blob table');
    const table = this.#bytes.subarray(blobTableOffset, blobTableOffset + blobTableSize);
    const blobs: LoadedBlob[] = [];
    for (let at = 0; at + 8 < table.length; ) {
      const nul = table.indexOf(0, at + 8);
      const end = nul < 0 ? table.length : nul;
      const id = table.toString('latin1', at + 8, end);
      at = end + 1;
      // What fills the table up to a multiple of 8.
      if (id === '') break;
      const index = blobs.length;
      const place = blobExtensionsOffset + index * V5_BLOB_EXTENSION_SIZE;
      const { compressedSize, uncompressedSize, features, chunkCount } =
        index < blobExtensions ? decodeV5BlobExtension(this.#bytes.subarray(place, place + V5_BLOB_EXTENSION_SIZE), place) : { compressedSize: 0, uncompressedSize: 0, features: 0, chunkCount: 0 };
      const home: ChunkHome = { blob: index, compressor: this.compressor, digester: this.digester };
      const entry: BlobEntry = {
        id, index, chunkSize, chunkCount, features, compressedSize, uncompressedSize, compressor: COMPRESSOR[this.compressor], digester: DIGESTER[this.digester],
        tocSize: 0, contextCompressor: 0, contextOffset: 0, contextCompressedSize: 0, contextUncompressedSize: 0, tocDigest: NONE, metaDigest: NONE, metaSize: 0, cipher: 0,
      };
      this.entries.push(entry);
      blobs.push({ home, source: places.data(entry), found: { chunks: [], batches: [], windows: [] } });
    }
    return blobs;
  }

  /** The inode with a number of the table. A socket has no node: layers do not have any. */
  #node(number: number, parent: string): { name: string; node: FileNode | undefined } {
    const { inodeTableOffset, inodeTableEntries } = this.superblock;
    const slot = inodeTableOffset + (number - 1) * 4;
    if (number < 1 || number > inodeTableEntries) throw corrupt(`inode ${number} of ${inodeTableEntries}`, { path: `/${parent}` });
    if (this.#met[number - 1] === 1) throw corrupt(`inode ${number} is in the tree twice`, { offset: slot });
    this.#met[number - 1] = 1;
    if (this.nodes.size >= MAX_NAMES) throw new LazypullError('LIMIT', `image has more than ${MAX_NAMES} names`);
    const offset = this.#bytes.readUInt32LE(slot) * V5_OFFSET_UNIT;
    const inode = decodeV5Inode(this.#take(offset, V5_INODE_SIZE, 'inode'), offset);
    let at = offset + V5_INODE_SIZE;
    const name = decodeName(Buffer.from(this.#take(at, inode.nameSize, 'name')));
    at += roundUp(inode.nameSize, V5_ALIGNMENT);
    const path = number === 1 ? '' : joinPath(parent, name);
    if (number !== 1 && (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0') || inode.nameSize > 255)) throw corrupt('directory entry has a name that cannot be', { path, offset });
    if (path.length > MAX_PATH_LENGTH) throw corrupt(`path of more than ${MAX_PATH_LENGTH} characters`, { offset });
    const target = (inode.flags & V5_INODE_FLAG.symlink) === 0 ? '' : decodeName(Buffer.from(this.#take(at, inode.symlinkSize, 'symlink target')));
    at += (inode.flags & V5_INODE_FLAG.symlink) === 0 ? 0 : roundUp(inode.symlinkSize, V5_ALIGNMENT);
    const xattrs = (inode.flags & V5_INODE_FLAG.xattr) === 0 ? { map: NO_XATTRS, end: at } : this.#readXattrs(at, path);
    const known = inode.nlink > 1 ? this.#links.get(inode.ino) : undefined;
    const node = known ?? this.#make(inode, { mode: inode.mode & 0o7777, uid: inode.uid, gid: inode.gid, mtime: inode.mtime, xattrs: xattrs.map }, target, xattrs.end, path);
    if (node && node.type !== 'directory' && inode.nlink > 1) this.#links.set(inode.ino, node);
    if (node) this.nodes.set(number, node);
    return { name, node };
  }

  #make(inode: V5Inode, attributes: Attributes, target: string, at: number, path: string): FileNode | undefined {
    const make = this.#maker;
    switch (typeOfMode(inode.mode)) {
      case FILE_TYPE.directory: {
        const node: DirectoryNode = make.directory(attributes);
        this.#todo.push({ node, inode, path });
        return node;
      }
      case FILE_TYPE.file:
        return make.file(attributes, inode.size, this.#readExtents(inode, at, path));
      case FILE_TYPE.symlink:
        return make.symlink(attributes, target);
      case FILE_TYPE.char:
      case FILE_TYPE.block: {
        const { major, minor } = decodeDevice(inode.rdev);
        return make.device(attributes, typeOfMode(inode.mode) === FILE_TYPE.char ? 'char' : 'block', major, minor);
      }
      case FILE_TYPE.fifo:
        return make.fifo(attributes);
      case FILE_TYPE.socket:
        if (this.problems.length < MAX_PROBLEMS) this.problems.push(`${printable(path)} is a socket, which layers do not have: left out`);
        return undefined;
      default:
        throw corrupt(`inode has mode 0${inode.mode.toString(8)}, which is no file type`, { path });
    }
  }

  #readXattrs(at: number, path: string): { map: ReadonlyMap<string, Uint8Array>; end: number } {
    const head = this.#take(at, 8, 'size of attributes');
    const size = head.readUInt32LE(0);
    if (head.readUInt32LE(4) !== 0) throw corrupt('attributes of more than 4 GiB', { path, offset: at });
    const area = this.#take(at + 8, size, 'attributes');
    const map = new Map<string, Uint8Array>();
    for (let from = 0; from < area.length; ) {
      if (from + 4 > area.length) throw corrupt('an attribute is cut off', { path, offset: at + 8 + from });
      const length = area.readUInt32LE(from);
      const pair = area.subarray(from + 4, from + 4 + length);
      const nul = pair.indexOf(0);
      if (pair.length !== length || nul < 1 || length > MAX_XATTR + 256) throw corrupt('an attribute is cut off or has no name', { path, offset: at + 8 + from });
      map.set(decodeName(pair.subarray(0, nul)), Uint8Array.from(pair.subarray(nul + 1)));
      from += 4 + length;
    }
    return { map, end: at + 8 + roundUp(size, V5_ALIGNMENT) };
  }

  #readExtents({ childCount, size }: V5Inode, at: number, path: string): readonly Extent[] {
    this.#take(at, childCount * CHUNK_ROW_SIZE, 'chunks of a file');
    this.#extents += childCount;
    if (this.#extents > MAX_CHUNKS) throw new LazypullError('LIMIT', `files in more than ${MAX_CHUNKS} pieces`, { path });
    let reached = 0;
    const extents = Array.from({ length: childCount }, (_, i): Extent => {
      const offset = at + i * CHUNK_ROW_SIZE;
      const row = decodeChunkRow(this.#bytes.subarray(offset, offset + CHUNK_ROW_SIZE), offset);
      const length = Math.min(row.uncompressedSize, size - reached);
      if (row.fileOffset !== reached || length <= 0) throw corrupt(`chunk ${i} is at byte ${row.fileOffset} of the file, the one before ends at ${reached}`, { path, offset });
      reached += length;
      return { fileOffset: row.fileOffset, length, chunk: this.#chunk(offset, path), chunkOffset: 0 };
    });
    if (reached !== size) throw corrupt(`file of ${size} bytes has chunks of ${reached}`, { path, offset: at });
    return extents;
  }

  #chunk(offset: number, path: string): RafsChunk {
    const row = decodeChunkRow(this.#bytes.subarray(offset, offset + CHUNK_ROW_SIZE), offset);
    const blob = this.blobs[row.blobIndex];
    const { flags, uncompressedSize: size, compressedSize: length } = row;
    if ((flags & CHUNK_ROW_FLAG.encrypted) !== 0) throw new LazypullError('UNSUPPORTED', 'a chunk is encrypted', { path, offset });
    const hole = (flags & CHUNK_ROW_FLAG.hole) !== 0;
    if (!blob || size > MAX_CHUNK_SIZE || (!hole && row.compressedOffset + length > blob.source.size)) throw corrupt(`chunk of ${length} bytes at ${row.compressedOffset} of blob ${row.blobIndex} of ${this.blobs.length}`, { path, offset });
    const packing = hole ? 'hole' : (flags & CHUNK_ROW_FLAG.compressed) === 0 ? 'plain' : 'packed';
    if (packing === 'plain' && length !== size) throw corrupt(`chunk of ${size} bytes is stored as it is, in ${length} bytes`, { path, offset });
    const key = `${row.blobIndex} ${hole ? 'hole' : row.compressedOffset} ${length} ${size} ${flags} ${Buffer.from(row.digest).toString('latin1')}`;
    const known = this.#chunks.get(key);
    if (known) return known;
    const chunk = new RafsChunk(blob.home, { offset: hole ? 0 : row.compressedOffset, length: hole ? 0 : length, size, packing, address: row.uncompressedOffset });
    if (!hole) chunk.setDigest(this.#bytes, offset);
    this.#chunks.set(key, chunk);
    return chunk;
  }

  #take(offset: number, length: number, what: string): Buffer {
    checkRange({ size: this.#bytes.length }, offset, length, what);
    this.#budget -= length;
    if (this.#budget < 0) throw corrupt('inodes lie over each other', { offset });
    return this.#bytes.subarray(offset, offset + length);
  }
}

const NONE = new Uint8Array(32);
