import { corrupt } from '../core/errors.ts';
import type { ByteSource, ByteStream, Extent, RegularNode } from '../core/types.ts';
import type { Inode } from './inode.ts';
import { BLOCK_MAP_SIZE, CHUNK_FORMAT, CHUNK_INDEX, CHUNK_INDEX_SIZE, COMPAT, NULL_BLOCK } from './layout.ts';
import type { DeviceRun } from './place.ts';
import type { Head } from './read-head.ts';

/** How a chunk-based inode is laid out (§8). */
export interface ChunkFormat {
  /** Bytes. */
  readonly chunkSize: number;
  /** 8 for indexes, 4 for a block map. */
  readonly entrySize: number;
  /** Block numbers of 48 bits. */
  readonly wide: boolean;
}

export function chunkFormat(inode: Inode, blockSize: number, offset: number): ChunkFormat {
  const { union } = inode;
  const known = CHUNK_FORMAT.exponentMask | CHUNK_FORMAT.indexes | CHUNK_FORMAT.bits48;
  if ((union & ~known) !== 0) throw corrupt(`chunk format 0x${union.toString(16)} has unknown bits`, { offset });
  return {
    chunkSize: blockSize * 2 ** (union & CHUNK_FORMAT.exponentMask),
    entrySize: (union & CHUNK_FORMAT.indexes) === 0 ? BLOCK_MAP_SIZE : CHUNK_INDEX_SIZE,
    wide: (union & CHUNK_FORMAT.bits48) !== 0,
  };
}

/** Finds where an image's content is, and holds that against the sizes of image and devices. */
export class ContentMap {
  readonly #head: Head;
  /** Bytes of the image. */
  readonly #size: number;
  readonly #deviceMask: number;
  /** Devices in the order of their addresses; those without address or size cannot be found by one. */
  readonly #addresses: readonly { readonly device: number; readonly start: number; readonly end: number }[];

  constructor(head: Head, size: number) {
    this.#head = head;
    this.#size = size;
    // RAFS keeps bits of its own above the device number, and kernels ignore them; elsewhere they are an error.
    this.#addresses = head.devices
      .map(({ address, blocks }, i) => ({ device: i + 1, start: address, end: address + blocks }))
      .filter(({ start, end }) => start > 0 && end > start)
      .sort((a, b) => a.start - b.start);
    this.#deviceMask = (head.superblock.featureCompat & COMPAT.rafs) === 0 ? 0xffff : 0xff;
  }

  /** Bytes from a block of the common address space on; they lie on one device. */
  run(block: number, length: number, at: number): DeviceRun {
    const { blockSize } = this.#head.superblock;
    const end = block + Math.ceil(length / blockSize);
    const found = this.#addresses[this.#lastUpTo(block)];
    if (found && block < found.end) return this.#onDevice(found.device, block - found.start, length, at);
    const offset = block * blockSize;
    if (!Number.isSafeInteger(end * blockSize) || offset + length > this.#size) throw corrupt(`content of ${length} bytes at block ${block} reaches outside the image`, { offset: at });
    return { length, device: 0, offset };
  }

  /** Appends the runs of some chunks; what lies together becomes one run. `size` is what is left of the file. Returns what is left then. */
  addChunks(runs: DeviceRun[], entries: Buffer, format: ChunkFormat, size: number, at: number): number {
    let left = size;
    for (let entry = 0; entry < entries.length; entry += format.entrySize) {
      const length = Math.min(left, format.chunkSize);
      left -= length;
      const run = format.entrySize === BLOCK_MAP_SIZE ? this.#mapped(entries.readUInt32LE(entry), length, at + entry) : this.#indexed(entries, entry, format, length, at + entry);
      const last = runs.at(-1);
      if (last && last.device === run.device && (run.device === undefined || last.offset + last.length === run.offset)) runs[runs.length - 1] = { ...last, length: last.length + length };
      else runs.push(run);
    }
    return left;
  }

  /** Place in `addresses` of the last device that begins at a block or before; -1 for none. */
  #lastUpTo(block: number): number {
    let low = 0;
    let high = this.#addresses.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#addresses[middle]?.start ?? 0) <= block) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  #mapped(block: number, length: number, at: number): DeviceRun {
    return block === NULL_BLOCK ? hole(length) : this.run(block, length, at);
  }

  #indexed(entries: Buffer, entry: number, { wide }: ChunkFormat, length: number, at: number): DeviceRun {
    const high = wide ? entries.readUInt16LE(entry + CHUNK_INDEX.startHigh) : 0;
    const low = entries.readUInt32LE(entry + CHUNK_INDEX.startLow);
    if (low === NULL_BLOCK && (!wide || high === 0xffff)) return hole(length);
    const device = entries.readUInt16LE(entry + CHUNK_INDEX.deviceId) & this.#deviceMask;
    const block = low + high * 2 ** 32;
    return device === 0 ? this.run(block, length, at) : this.#onDevice(device, block, length, at);
  }

  #onDevice(device: number, block: number, length: number, at: number): DeviceRun {
    const slot = this.#head.devices[device - 1];
    if (!slot) throw corrupt(`content on device ${device} of ${this.#head.devices.length}`, { offset: at });
    const { blockSize } = this.#head.superblock;
    const end = block + Math.ceil(length / blockSize);
    // Some writers leave the size of their devices out.
    if ((slot.blocks > 0 && end > slot.blocks) || !Number.isSafeInteger(end * blockSize)) throw corrupt(`content ends at block ${end} of device ${device}, which has ${slot.blocks}`, { offset: at });
    return { length, device, offset: block * blockSize };
  }
}

function hole(length: number): DeviceRun {
  return { length, device: undefined, offset: 0 };
}

/**
 * Runs as extents: each run is a chunk of its own that is stored as it is, `blob` 0 is the image and others are its
 * devices. A hole is a chunk of no stored bytes.
 */
export function extentsOf(runs: readonly DeviceRun[]): readonly Extent[] {
  let fileOffset = 0;
  return runs.map(({ length, device, offset }) => {
    const extent = { fileOffset, length, chunk: { blob: device ?? 0, offset, length: device === undefined ? 0 : length, size: length }, chunkOffset: 0 };
    fileOffset += length;
    return extent;
  });
}

const PIECE = 1 << 20;

/** The bytes of a file of an opened image. `sources`: the image itself, then its devices in order. */
export async function* streamErofsFile(node: RegularNode, sources: readonly ByteSource[], signal?: AbortSignal): ByteStream {
  for (const { length, chunk, chunkOffset } of node.extents) {
    const source = sources[chunk.blob];
    if (!source) throw corrupt(`content on device ${chunk.blob}, which is not there`);
    for (let done = 0; done < length; done += PIECE) {
      const size = Math.min(PIECE, length - done);
      yield chunk.length === 0 ? new Uint8Array(size) : await source.read(chunk.offset + chunkOffset + done, size, signal);
    }
  }
}
