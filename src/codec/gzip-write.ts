import { copyInto } from '../core/bytes.ts';
import type { LayerFollower } from '../core/format.ts';
import type { ByteStream, Lease, Sink, WorkerPool } from '../core/types.ts';
import { crc32Combine } from './crc32.ts';
import { gzipHeader, gzipTrailer } from './gzip-header.ts';
import { deflatePiece, type DeflatedPiece } from './gzip-members.ts';

/** Plain bytes that one thread compresses at a time; no match reaches across, so inflating can begin at each. */
const PIECE = 1 << 20;
/** The final block, empty: fixed codes, end of block. */
const LAST_BLOCK = Uint8Array.of(3, 0);
const NOTHING = new Uint8Array(0);

export interface GzipWriteOptions {
  readonly level: number;
  readonly workers: WorkerPool;
  /** Hears of the bytes in both forms, and of the start of each piece. */
  readonly follower?: Pick<LayerFollower, 'point' | 'packed' | 'tar'>;
}

/** Writes a stream as one gzip member, compressed by all threads; the same bytes however many there are. Returns the plain size. */
export async function writeGzip(stream: ByteStream, sink: Sink, { level, workers, follower }: GzipWriteOptions): Promise<number> {
  let packedSize = 0;
  let plainSize = 0;
  let crc = 0;
  const put: Sink = async (bytes) => {
    follower?.packed(bytes);
    packedSize += bytes.length;
    await sink(bytes);
  };
  await put(gzipHeader(level));
  for await (const piece of deflated(stream, level, workers, follower)) {
    follower?.point({ bit: packedSize * 8, out: plainSize, member: plainSize === 0, window: () => NOTHING });
    await put(piece.bytes);
    crc = crc32Combine(crc, piece.crc, piece.size);
    plainSize += piece.size;
  }
  await put(LAST_BLOCK);
  await put(gzipTrailer(crc, plainSize));
  return plainSize;
}

/**
 * Compresses a stream piece by piece, in order, as many at once as there are threads and two more. Pieces are put together in
 * memory that threads see, and that is used again as soon as a piece is compressed.
 */
async function* deflated(stream: ByteStream, level: number, workers: WorkerPool, follower: GzipWriteOptions['follower']): AsyncGenerator<DeflatedPiece> {
  const queue: Promise<DeflatedPiece>[] = [];
  let lease: Lease | undefined;
  let piece: Uint8Array = NOTHING;
  let used = 0;
  const submit = ({ release }: Lease): void => {
    const job = deflatePiece(workers, piece.subarray(0, used), level).finally(release);
    // It may fail while an earlier one is awaited.
    job.catch(() => undefined);
    queue.push(job);
    lease = undefined;
    used = 0;
  };
  try {
    for await (const bytes of stream) {
      await follower?.tar(bytes);
      for (let at = 0; at < bytes.length; ) {
        if (!lease) {
          lease = await workers.lease(PIECE);
          piece = new Uint8Array(lease.memory, 0, PIECE);
        }
        const part = bytes.subarray(at, at + PIECE - used);
        copyInto(piece, part, used);
        used += part.length;
        at += part.length;
        if (used < PIECE) continue;
        submit(lease);
        if (queue.length > workers.jobs + 1) yield (await queue.shift()) as DeflatedPiece;
      }
    }
    if (lease) submit(lease);
    for (let job = queue.shift(); job; job = queue.shift()) yield await job;
  } finally {
    lease?.release();
    await Promise.allSettled(queue);
  }
}
