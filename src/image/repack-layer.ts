import type { ConvertContext, ConvertedLayer, LayerInput } from '../core/format.ts';
import type { ByteStream, Sink, WorkerPool } from '../core/types.ts';
import { crc32Combine } from '../codec/crc32.ts';
import { gzipHeader, gzipTrailer } from '../codec/gzip.ts';
import { deflatePiece, type DeflatedPiece } from '../codec/gzip-members.ts';
import { OCI } from '../oci/media-types.ts';

/** Plain bytes that one thread compresses at a time; no match reaches across, so inflating can begin at each. */
const PIECE = 1 << 20;
const LEVEL = 6;
/** The final block, empty: fixed codes, end of block. */
const LAST_BLOCK = Uint8Array.of(3, 0);
const NOTHING = new Uint8Array(0);

/** The same tar as one gzip member, compressed by all threads. Its diffID stays. */
export async function repackLayer(input: LayerInput, { ingest, workers, follower }: ConvertContext): Promise<ConvertedLayer> {
  let tarSize = 0;
  const blob = await ingest(OCI.layerGzip, async (sink) => {
    let size = 0;
    const put: Sink = async (bytes) => {
      follower?.packed(bytes);
      size += bytes.length;
      await sink(bytes);
    };
    await put(gzipHeader(LEVEL));
    let crc = 0;
    for await (const piece of deflated(input.tar(), workers, (bytes) => follower?.tar(bytes))) {
      follower?.point({ bit: size * 8, out: tarSize, member: tarSize === 0, window: () => NOTHING });
      await put(piece.bytes);
      crc = crc32Combine(crc, piece.crc, piece.size);
      tarSize += piece.size;
    }
    await put(LAST_BLOCK);
    await put(gzipTrailer(crc, tarSize));
  });
  const { annotations, platform, artifactType } = input.descriptor;
  return {
    descriptor: { ...blob, ...(annotations && { annotations }), ...(platform && { platform }), ...(artifactType && { artifactType }) },
    diffId: input.diffId,
    tarSize,
    entries: 0,
    chunks: 0,
  };
}

/** Compresses a stream piece by piece, in order, as many at once as there are threads and one more. */
async function* deflated(stream: ByteStream, workers: WorkerPool, each: (bytes: Uint8Array) => Promise<void> | undefined): AsyncGenerator<DeflatedPiece> {
  const queue: Promise<DeflatedPiece>[] = [];
  let piece = new Uint8Array(PIECE);
  let used = 0;
  const submit = (): void => {
    const job = deflatePiece(workers, piece.subarray(0, used), LEVEL);
    // It may fail while an earlier one is awaited.
    job.catch(() => undefined);
    queue.push(job);
    piece = new Uint8Array(PIECE);
    used = 0;
  };
  try {
    for await (const bytes of stream) {
      await each(bytes);
      for (let at = 0; at < bytes.length; ) {
        const part = bytes.subarray(at, at + PIECE - used);
        piece.set(part, used);
        used += part.length;
        at += part.length;
        if (used < PIECE) continue;
        submit();
        if (queue.length > workers.jobs + 1) yield (await queue.shift()) as DeflatedPiece;
      }
    }
    if (used > 0) submit();
    for (let job = queue.shift(); job; job = queue.shift()) yield await job;
  } finally {
    await Promise.allSettled(queue);
  }
}
