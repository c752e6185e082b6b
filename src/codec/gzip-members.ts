import { copyInto } from '../core/bytes.ts';
import type { WorkerPool } from '../core/types.ts';
import { digestOf, type Digest } from '../core/digest.ts';
import { crc32 } from './crc32.ts';
import { deflateRaw } from './deflate.ts';
import { gzipHeader, gzipTrailer } from './gzip.ts';
import type { MemberMemory } from './member-memory.ts';

/** One gzip member to be made: so many bytes of the batch, and which ranges inside it get a digest of their own. */
export interface MemberPlan {
  /** Uncompressed bytes. */
  readonly length: number;
  /** Ranges relative to the member's uncompressed start. */
  readonly hashes: readonly { readonly offset: number; readonly length: number }[];
  /** Words of the log that tell about it. */
  readonly known: number;
}

/** Consecutive members, compressed. */
export interface CompressedMembers {
  /** Lies in the lease unless it found no room there: gone with it. */
  readonly bytes: Uint8Array;
  /** Compressed size of each member. */
  readonly lengths: readonly number[];
  /** sha256 of each planned range, in order over all members. */
  readonly digests: readonly Digest[];
}

interface GzipJob {
  readonly memory: SharedArrayBuffer;
  readonly members: readonly MemberPlan[];
  readonly level: number;
  /** Where the log begins, bytes. */
  readonly logAt: number;
}

interface GzipResult {
  readonly size: number;
  /** The compressed bytes, when they are larger than the memory that the plain ones came in. */
  readonly overflow?: Uint8Array;
  readonly lengths: readonly number[];
  readonly digests: readonly Digest[];
}

/**
 * Has the members that lie back to back in leased memory compressed and hashed by one thread of the pool. The result takes
 * their place there: nothing is allocated, and nothing is left for the garbage collector.
 */
export async function gzipMembers(workers: WorkerPool, { lease, room }: MemberMemory, members: readonly MemberPlan[], level: number): Promise<CompressedMembers> {
  const { size, overflow, lengths, digests } = await workers.run<GzipJob, GzipResult>('gzip-members', { memory: lease.memory, members, level, logAt: room });
  return { bytes: overflow ?? new Uint8Array(lease.memory, 0, size), lengths, digests };
}

/** Where a thread puts compressed members together; grows as needed and is used again. */
let scratch = new Uint8Array(0);

/** The job itself, as the worker script runs it. */
export function runGzipMembers(job: GzipJob): GzipResult {
  const lengths: number[] = [];
  const digests: Digest[] = [];
  let from = 0;
  let size = 0;
  const put = (bytes: Uint8Array): void => {
    if (size + bytes.length > scratch.length) {
      const larger = new Uint8Array(Math.max(size + bytes.length, 2 * scratch.length, 1 << 20));
      larger.set(scratch.subarray(0, size));
      scratch = larger;
    }
    scratch.set(bytes, size);
    size += bytes.length;
  };
  let logAt = job.logAt;
  for (const { length, hashes, known } of job.members) {
    const bytes = new Uint8Array(job.memory, from, length);
    for (const range of hashes) digests.push(digestOf(bytes.subarray(range.offset, range.offset + range.length)));
    const start = size;
    put(gzipHeader(job.level));
    put(deflateRaw(bytes, job.level, true, new Uint32Array(job.memory, logAt, known)));
    put(gzipTrailer(crc32(bytes), length));
    lengths.push(size - start);
    from += length;
    logAt += 4 * known;
  }
  const result = scratch.subarray(0, size);
  if (size > job.memory.byteLength) return { size, overflow: result.slice(), lengths, digests };
  copyInto(new Uint8Array(job.memory), result);
  return { size, lengths, digests };
}

/** Bytes as deflate blocks that others follow: no final block, and a whole number of bytes. */
export interface DeflatedPiece {
  readonly bytes: Uint8Array;
  /** Uncompressed bytes. */
  readonly size: number;
  /** CRC-32 of the uncompressed bytes. */
  readonly crc: number;
}

/** Has one thread of the pool compress a part of a larger member. */
export function deflatePiece(workers: WorkerPool, bytes: Uint8Array, level: number): Promise<DeflatedPiece> {
  return workers.run('deflate-piece', { bytes, level });
}

/** The job itself, as the worker script runs it. */
export function runDeflatePiece({ bytes, level }: { bytes: Uint8Array; level: number }): DeflatedPiece {
  return { bytes: new Uint8Array(deflateRaw(bytes, level, false)), size: bytes.length, crc: crc32(bytes) };
}
