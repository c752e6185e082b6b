import type { Digest } from '../core/digest.ts';
import type { LazypullError } from '../core/errors.ts';
import type { ByteStream, WorkerPool } from '../core/types.ts';
import { decompress, type DecompressOptions } from './compression.ts';
import { type StreamDigester, streamDigester } from './digest-thread.ts';
import { gunzip } from './gzip.ts';
import { InflateThread } from './inflate-thread.ts';

export interface UnpackLayerOptions extends Omit<DecompressOptions, 'onTrailer' | 'gunzip'> {
  /** Names the layer in error messages. */
  readonly what: string;
  /** Bytes of the stored layer. */
  readonly size: number;
  /**
   * Where there is to be more than one thread, one of its own hashes the content of large layers and checks the CRCs of gzip members, and
   * another one inflates those members unless somebody listens to what is met there.
   */
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
  const { what, maxSize, signal, onMember, onBlock, onPacked } = options;
  const threads = size < LARGE ? { jobs: 1 } : workers;
  // Who wants to hear of a stream's parts wants to hear of them as they come.
  const elsewhere = threads.jobs > 1 && !onMember && !onBlock && !onPacked;
  let digester: StreamDigester | undefined;
  let hashing = Promise.resolve();
  let right = false;
  const settle = async (): Promise<LazypullError | undefined> => {
    await hashing.catch(() => undefined);
    return digester?.fault();
  };
  const inflate = (stream: ByteStream): ByteStream => {
    if (elsewhere) {
      const thread = new InflateThread(what);
      digester = thread;
      return thread.inflate(stream, { maxSize, signal });
    }
    digester = streamDigester(threads, what);
    digester.gzip = true;
    return gunzip(stream, { ...options, ...(digester.onTrailer && { onTrailer: digester.onTrailer }) });
  };
  try {
    for await (const bytes of decompress(packed, { ...options, gunzip: inflate })) {
      digester ??= streamDigester(threads, what);
      hashing = digester.update(bytes);
      // The reader may fail first.
      hashing.catch(() => undefined);
      yield bytes;
      await hashing;
    }
    digester ??= streamDigester(threads, what);
    check(await digester.finish(), digester.size);
    right = true;
  } catch (error) {
    // What is wrong with bytes that came before is the first fault of the stream.
    throw (await settle()) ?? error;
  } finally {
    if (!right) found(await settle());
    await digester?.close();
  }
}
