import type { Digest } from '../core/digest.ts';
import type { LazypullError } from '../core/errors.ts';
import type { ByteStream, WorkerPool } from '../core/types.ts';
import { decompress, type DecompressOptions } from './compression.ts';
import { streamDigester } from './digest-thread.ts';

export interface UnpackLayerOptions extends Omit<DecompressOptions, 'onTrailer'> {
  /** Names the layer in error messages. */
  readonly what: string;
  /** Bytes of the stored layer. */
  readonly size: number;
  /** Where there is to be more than one thread, one of its own hashes the content of large layers and checks the CRCs of gzip members. */
  readonly workers: Pick<WorkerPool, 'jobs'>;
  /** Called with sha256 and bytes of the content before the stream ends; throws unless they are right. */
  readonly check: (digest: Digest, size: number) => void;
}

/** Stored bytes from which on a thread saves more than its start takes. */
const LARGE = 8 << 20;

/** A layer's content. */
export interface UnpackedLayer {
  /** To be read once. Its end is not told before everything about it is known to be right. */
  readonly stream: ByteStream;
  /**
   * Once the stream has ended, failed or been left: what is wrong with the part of it that was given out. Where a thread does
   * the checking, a reader that fails because of wrong content does so before the cause is known.
   */
  fault(): LazypullError | undefined;
}

/** Inflates a stored layer and hashes its content on the way. Errors are those of `decompress`, and what `check` throws. */
export function unpackLayer(packed: ByteStream, options: UnpackLayerOptions): UnpackedLayer {
  let fault: LazypullError | undefined;
  return { stream: unpacked(packed, options, (found) => (fault = found)), fault: () => fault };
}

async function* unpacked(packed: ByteStream, { size, workers, check, ...options }: UnpackLayerOptions, found: (fault: LazypullError | undefined) => void): AsyncGenerator<Uint8Array> {
  const digester = streamDigester(size < LARGE ? { jobs: 1 } : workers, options.what);
  let hashing = Promise.resolve();
  let right = false;
  const settle = async (): Promise<LazypullError | undefined> => {
    await hashing.catch(() => undefined);
    return digester.fault();
  };
  try {
    const content = decompress(packed, {
      ...options,
      onCompression: (compression) => {
        digester.gzip = compression === 'gzip';
        options.onCompression?.(compression);
      },
      ...(digester.onTrailer && { onTrailer: digester.onTrailer }),
    });
    for await (const bytes of content) {
      hashing = digester.update(bytes);
      // The reader may fail first.
      hashing.catch(() => undefined);
      yield bytes;
      await hashing;
    }
    check(await digester.finish(), digester.size);
    right = true;
  } catch (error) {
    // What is wrong with bytes that came before is the first fault of the stream.
    throw (await settle()) ?? error;
  } finally {
    if (!right) found(await settle());
    await digester.close();
  }
}
