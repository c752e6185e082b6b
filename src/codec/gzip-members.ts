import { createHash } from 'node:crypto';
import type { Lease, WorkerPool } from '../core/types.ts';
import type { Digest } from '../core/digest.ts';
import { crc32 } from './crc32.ts';
import { deflateRaw } from './deflate.ts';
import { gzipHeader, gzipTrailer } from './gzip.ts';

/** One gzip member to be made: so many bytes of the batch, and which ranges inside it get a digest of their own. */
export interface MemberPlan {
  /** Uncompressed bytes. */
  readonly length: number;
  /** Ranges relative to the member's uncompressed start. */
  readonly hashes: readonly { readonly offset: number; readonly length: number }[];
}

/** Consecutive members, compressed. */
export interface CompressedMembers {
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
}

/** Has the members that lie back to back in a lease compressed and hashed by one thread of the pool. */
export function gzipMembers(workers: WorkerPool, lease: Lease, members: readonly MemberPlan[], level: number): Promise<CompressedMembers> {
  return workers.run<GzipJob, CompressedMembers>('gzip-members', { memory: lease.memory, members, level });
}

/** The job itself, as the worker script runs it. */
export function runGzipMembers(job: GzipJob): CompressedMembers {
  const parts: Uint8Array[] = [];
  const lengths: number[] = [];
  const digests: Digest[] = [];
  let at = 0;
  let size = 0;
  for (const member of job.members) {
    const bytes = new Uint8Array(job.memory, at, member.length);
    for (const range of member.hashes) {
      digests.push(`sha256:${createHash('sha256').update(bytes.subarray(range.offset, range.offset + range.length)).digest('hex')}`);
    }
    const packed = [gzipHeader(job.level), new Uint8Array(deflateRaw(bytes, job.level)), gzipTrailer(crc32(bytes), member.length)];
    const length = packed.reduce((sum, part) => sum + part.length, 0);
    parts.push(...packed);
    lengths.push(length);
    size += length;
    at += member.length;
  }
  // One array of its own, so that it can be handed to the other thread without a copy.
  const all = new Uint8Array(size);
  let to = 0;
  for (const part of parts) {
    all.set(part, to);
    to += part.length;
  }
  return { bytes: all, lengths, digests };
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
