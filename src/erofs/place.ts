import { LazypullError } from '../core/errors.ts';
import type { ByteStream, RegularNode } from '../core/types.ts';
import { NULL_BLOCK } from './layout.ts';

/** Where one chunk is. */
export interface ChunkIndex {
  /** 1 is the first slot of the device table, 0 the primary; 16 bits as stored, so that RAFS can use the upper ones. */
  readonly device: number;
  /** Block of that device; NULL_BLOCK for a hole. */
  readonly block: number;
  /** The upper 16 bits, which kernels ignore (RAFS keeps chunk numbers in them); default 0. */
  readonly high?: number;
}

/** A file made of chunks of one size (§8). */
export interface ChunkMap {
  readonly kind: 'chunks';
  /** log2(chunk size / block size), 0..31. */
  readonly bits: number;
  /** As many as the reader will look for: one per chunk, unless the reader counts otherwise (RAFS). */
  readonly indexes: readonly ChunkIndex[];
}

/** A file whose bytes are put into the image: small ones beside their inode. `bytes` may be used again once the image is written. */
export interface StoredBytes {
  readonly kind: 'bytes';
  readonly bytes: Uint8Array;
}

/** The same for bytes that come as a stream, once, when the image is written. */
export interface StoredStream {
  readonly kind: 'stream';
  open(): ByteStream;
}

export type Placement = ChunkMap | StoredBytes | StoredStream;

/** Says where a file's content is. Undefined for an empty file. */
export type Place = (node: RegularNode) => Placement | undefined;

/** Bytes of a file that lie together on one device. */
export interface DeviceRun {
  /** Bytes. */
  readonly length: number;
  /** 1 is the first slot of the device table, 0 the primary; undefined for a hole. */
  readonly device: number | undefined;
  /** Bytes from the device's start; a multiple of the block size. */
  readonly offset: number;
}

/** Largest exponent of the chunk size. */
const MAX_BITS = 31;
/** More of them (128 MiB for one file) are nothing that a file could need. */
const MAX_INDEXES = 1 << 24;

/**
 * The chunk map with the fewest indexes for a file that consists of these runs, in file order. Runs must begin at whole
 * blocks of their device and, but for the last, be whole blocks long.
 */
export function mapRuns(runs: readonly DeviceRun[], blockSize: number): ChunkMap {
  const joined = joinRuns(runs);
  const blocks = (bytes: number): number => Math.ceil(bytes / blockSize);
  let total = 0;
  let bits = MAX_BITS;
  for (const { length, device, offset } of joined) {
    if (device !== undefined && offset % blockSize !== 0) throw new LazypullError('UNSUPPORTED', `file content at offset ${offset} of a device does not begin at a block of ${blockSize} bytes`);
    if (total % blockSize !== 0) throw new LazypullError('UNSUPPORTED', `file content is torn at ${total}, inside a block of ${blockSize} bytes`);
    // Every chunk lies in one run: chunks end where runs end.
    if (total > 0) while (bits > 0 && (total / blockSize) % 2 ** bits !== 0) bits -= 1;
    total += length;
  }
  // No larger than the file needs.
  let enough = 0;
  while (2 ** enough < blocks(total)) enough += 1;
  bits = Math.min(bits, enough);
  const chunk = blockSize * 2 ** bits;
  const count = Math.ceil(total / chunk);
  if (count > MAX_INDEXES) throw new LazypullError('LIMIT', `file of ${total} bytes has ${count} chunks`);
  const indexes: ChunkIndex[] = [];
  for (const { length, device, offset } of joined) {
    for (let done = 0; done < length; done += chunk) indexes.push(device === undefined ? HOLE : indexAt(device, (offset + done) / blockSize));
  }
  return { kind: 'chunks', bits, indexes };
}

const HOLE: ChunkIndex = { device: 0, block: NULL_BLOCK };

function indexAt(device: number, block: number): ChunkIndex {
  if (block >= NULL_BLOCK) throw new LazypullError('LIMIT', `block ${block} of a device has no 32-bit number`);
  return { device, block };
}

/** Without empty runs, and what lies together in one. */
function joinRuns(runs: readonly DeviceRun[]): readonly DeviceRun[] {
  if (runs.length === 1 && (runs[0] as DeviceRun).length > 0) return runs;
  const joined: DeviceRun[] = [];
  for (const run of runs) {
    const last = joined.at(-1);
    if (run.length === 0) continue;
    if (last && last.device === run.device && (run.device === undefined || last.offset + last.length === run.offset)) {
      joined[joined.length - 1] = { ...last, length: last.length + run.length };
    } else {
      joined.push(run);
    }
  }
  return joined;
}
