import { copyInto, roundUp } from '../core/bytes.ts';
import { LazypullError } from '../core/errors.ts';
import type { Lease, WorkerPool } from '../core/types.ts';
import { CHUNK_DIGEST_SIZE, type ChunkDigester, chunkDigester } from './blake3.ts';
import { lz4Compress } from './lz4.ts';
import { zstdCompress } from './zstd.ts';
import { zstdEncode } from './zstd-encode.ts';

/** How new chunks are compressed. */
export type ChunkPacker = 'zstd' | 'lz4' | 'none';

/** A stretch of leased memory. */
export interface ChunkRange {
  readonly offset: number;
  readonly length: number;
}

/** Bytes to be compressed, and in the same memory what is known of their matches, if anything: bytes of a log as MemberMemory keeps it. */
export interface PlainRange extends ChunkRange {
  readonly known?: ChunkRange;
}

/** What is compressed as one: a chunk, or several small ones that are read together (a batch), in order. */
export type ChunkUnit = readonly PlainRange[];

export interface PackOptions {
  readonly compressor: ChunkPacker;
  /** For zstd, 1 to 22; 3 unless told: that level is our own encoder's, the others are the library's. lz4 has one level. */
  readonly level?: number;
  /** Each unit begins at a multiple of so many bytes; zeros fill the gaps, also behind the last. 1 unless told. */
  readonly align?: number;
}

export interface PackedUnit {
  /** Where it begins in the bytes. */
  readonly offset: number;
  /** Stored bytes, without padding. */
  readonly size: number;
  /** False when it would not have become smaller: stored as it is. */
  readonly compressed: boolean;
}

export interface PackedUnits {
  /** All units in order, with padding. Lies in the lease, unless it found no room there: gone with it. */
  readonly bytes: Uint8Array;
  readonly units: readonly PackedUnit[];
}

/** Level of zstd unless told. */
export const DEFAULT_ZSTD_LEVEL = 3;

/** Whether known matches are of use: who compresses otherwise need not keep a log of them. */
export function packsKnownMatches({ compressor, level = DEFAULT_ZSTD_LEVEL }: Pick<PackOptions, 'compressor' | 'level'>): boolean {
  return compressor === 'lz4' || (compressor === 'zstd' && level === DEFAULT_ZSTD_LEVEL);
}

interface DigestJob {
  readonly memory: SharedArrayBuffer;
  /** Offset and length of each chunk. */
  readonly ranges: Uint32Array;
  readonly digester: ChunkDigester;
}

interface CompressJob {
  readonly memory: SharedArrayBuffer;
  /** Of each unit: offset and length of what is known, the number of ranges, then offset and length of each. */
  readonly units: Uint32Array;
  readonly compressor: ChunkPacker;
  readonly level: number;
  readonly align: number;
}

interface CompressResult {
  readonly size: number;
  /** The packed bytes, when they are larger than the memory that the plain ones came in. */
  readonly overflow?: Uint8Array;
  /** Stored size of each unit, and 1 for those that are compressed. */
  readonly sizes: Uint32Array;
  readonly compressed: Uint8Array;
}

/**
 * Has one thread digest chunks that lie in leased memory, which stays as it is. Digests (32 bytes each) lie back to back:
 * that of chunk i at 32 * i. The caller then decides, in stream order, which chunks are new, and has those compressed.
 */
export function digestChunks(workers: WorkerPool, lease: Lease, chunks: readonly ChunkRange[], digester: ChunkDigester): Promise<Uint8Array> {
  const ranges = new Uint32Array(2 * chunks.length);
  let at = 0;
  for (const { offset, length } of chunks) {
    ranges[at++] = offset;
    ranges[at++] = length;
  }
  return workers.run<DigestJob, Uint8Array>('digest-chunks', { memory: lease.memory, ranges, digester });
}

/** The job itself, as the worker script runs it. */
export async function runDigestChunks({ memory, ranges, digester }: DigestJob): Promise<Uint8Array> {
  const digest = await chunkDigester(digester);
  const digests = new Uint8Array((ranges.length / 2) * CHUNK_DIGEST_SIZE);
  for (let i = 0; i < ranges.length; i += 2) digests.set(digest(new Uint8Array(memory, ranges[i], ranges[i + 1])), (i / 2) * CHUNK_DIGEST_SIZE);
  return digests;
}

/**
 * Has one thread compress units that lie in leased memory; what comes out takes the place of all that is there, so that
 * nothing is allocated. Equal units and options give equal bytes everywhere, whatever the number of threads.
 */
export async function compressChunks(workers: WorkerPool, lease: Lease, units: readonly ChunkUnit[], options: PackOptions): Promise<PackedUnits> {
  const { compressor, level = DEFAULT_ZSTD_LEVEL, align = 1 } = options;
  if (!Number.isInteger(level) || level < 1 || level > 22) throw new LazypullError('USAGE', `zstd level must be a whole number from 1 to 22, not ${level}`);
  const words = new Uint32Array(units.reduce((sum, unit) => sum + UNIT_HEAD + 2 * unit.length, 0));
  let at = 0;
  for (const unit of units) {
    // The matches of chunks that are put together would be in front of where they are now.
    const known = unit.length === 1 ? unit[0]?.known : undefined;
    words[at++] = known?.offset ?? 0;
    words[at++] = known?.length ?? 0;
    words[at++] = unit.length;
    for (const { offset, length } of unit) {
      words[at++] = offset;
      words[at++] = length;
    }
  }
  const { size, overflow, sizes, compressed } = await workers.run<CompressJob, CompressResult>('compress-chunks', { memory: lease.memory, units: words, compressor, level, align });
  let offset = 0;
  const packed = units.map((_, i): PackedUnit => {
    const unit = { offset, size: sizes[i] as number, compressed: compressed[i] === 1 };
    offset = roundUp(offset + unit.size, align);
    return unit;
  });
  return { bytes: overflow ?? new Uint8Array(lease.memory, 0, size), units: packed };
}

/** Words in front of a unit's ranges. */
const UNIT_HEAD = 3;

/** Where a thread puts packed units together, and the parts of one unit; both grow as needed and are used again. */
let scratch = new Uint8Array(0);
let joined = new Uint8Array(0);

/** The job itself, as the worker script runs it. */
export async function runCompressChunks({ memory, units, compressor, level, align }: CompressJob): Promise<CompressResult> {
  const sizes: number[] = [];
  const compressed: number[] = [];
  let size = 0;
  for (let at = 0; at < units.length; ) {
    const next = at + UNIT_HEAD + 2 * (units[at + 2] as number);
    const unit = plainUnit(memory, units.subarray(at + UNIT_HEAD, next));
    const smaller = await compress(unit, compressor, level, new Uint32Array(memory, units[at], (units[at + 1] as number) / 4));
    at = next;
    const bytes = smaller ?? unit;
    const end = roundUp(size + bytes.length, align);
    if (end > scratch.length) scratch = grown(scratch, end, size);
    copyInto(scratch, bytes, size);
    scratch.fill(0, size + bytes.length, end);
    size = end;
    sizes.push(bytes.length);
    compressed.push(smaller ? 1 : 0);
  }
  const result = { size, sizes: Uint32Array.from(sizes), compressed: Uint8Array.from(compressed) };
  const bytes = scratch.subarray(0, size);
  if (size > memory.byteLength) return { ...result, overflow: bytes.slice() };
  copyInto(new Uint8Array(memory), bytes);
  return result;
}

/** The bytes of a unit in a row: where they are, or put together when they are not neighbours. */
function plainUnit(memory: SharedArrayBuffer, ranges: Uint32Array): Uint8Array {
  const first = ranges[0] ?? 0;
  let size = 0;
  let neighbours = true;
  for (let i = 0; i < ranges.length; i += 2) {
    neighbours &&= ranges[i] === first + size;
    size += ranges[i + 1] as number;
  }
  if (neighbours) return new Uint8Array(memory, first, size);
  if (joined.length < size) joined = grown(joined, size, 0);
  let at = 0;
  for (let i = 0; i < ranges.length; i += 2) {
    copyInto(joined, new Uint8Array(memory, ranges[i], ranges[i + 1]), at);
    at += ranges[i + 1] as number;
  }
  return joined.subarray(0, size);
}

/** The unit compressed, if that makes it smaller; lent until the next call. */
async function compress(unit: Uint8Array, compressor: ChunkPacker, level: number, known: Uint32Array | undefined): Promise<Uint8Array | undefined> {
  if (compressor === 'none') return undefined;
  const packed = compressor === 'lz4' ? lz4Compress(unit, known) : level === DEFAULT_ZSTD_LEVEL ? zstdEncode(unit, known) : await zstdCompress(unit, level);
  return packed.length < unit.length ? packed : undefined;
}

/** Larger memory that begins with the first bytes of the former. */
function grown(memory: Uint8Array, needed: number, used: number): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(Math.max(needed, 2 * memory.length, 1 << 20));
  larger.set(memory.subarray(0, used));
  return larger;
}
