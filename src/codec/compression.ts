import { concat } from '../core/bytes.ts';
import { LazypullError, throwIfAborted } from '../core/errors.ts';
import type { ByteStream } from '../core/types.ts';
import { gunzip, type GunzipOptions, type GzipBlock } from './gzip.ts';
import { unzstd } from './zstd.ts';
import type { ZstdFrame } from './zstd-framewise.ts';

export type Compression = 'gzip' | 'zstd' | 'none';

/** Bytes that `detectCompression` looks at. */
const HEAD = 4;

/** What the first bytes say: media types lie. A zstd stream may begin with a skippable frame (RFC 8878, 3.1.2). */
export function detectCompression(head: Uint8Array): Compression {
  const [a, b, c, d] = head;
  if (a === 0x1f && b === 0x8b) return 'gzip';
  if (b === 0xb5 && a === 0x28 && c === 0x2f && d === 0xfd) return 'zstd';
  if (a !== undefined && a >> 4 === 5 && b === 0x2a && c === 0x4d && d === 0x18) return 'zstd';
  return 'none';
}

export interface DecompressOptions extends GunzipOptions {
  readonly signal?: AbortSignal;
  /** Told once, before the first byte is yielded. */
  readonly onCompression?: (compression: Compression) => void;
  /** Does what `gunzip` does, in its place. */
  readonly gunzip?: (stream: ByteStream) => ByteStream;
}

/**
 * Inflates a stream by what its first bytes say; a plain one passes through. Errors are those of `gunzip` and `unzstd`;
 * `maxSize` holds for all three. Yields lent views.
 */
export async function* decompress(stream: ByteStream, options: DecompressOptions = {}): AsyncGenerator<Uint8Array> {
  const iterator = stream[Symbol.asyncIterator]();
  let began = false;
  try {
    const head: Uint8Array[] = [];
    let size = 0;
    let ended = false;
    while (size < HEAD && !ended) {
      throwIfAborted(options.signal);
      const next = await iterator.next();
      if (next.done) ended = true;
      else {
        size += next.value.length;
        // Only the last piece may be kept as it is lent. `slice` of a Buffer would be no copy.
        head.push(size < HEAD ? new Uint8Array(next.value) : next.value);
      }
    }
    const first = concat(head);
    const compression = detectCompression(first);
    options.onCompression?.(compression);
    const whole = rejoin(first, iterator);
    began = true;
    if (compression === 'gzip') yield* options.gunzip ? options.gunzip(whole) : gunzip(whole, options);
    else if (compression === 'zstd') yield* unzstd(whole, { ...options, onFrame: options.onBlock && ((frame) => options.onBlock?.(asBlock(frame))) });
    else yield* limited(whole, options);
  } finally {
    if (!began) await iterator.return?.();
  }
}

/** A frame needs nothing of what is in front of it, like the first block of a gzip member. */
function asBlock({ offset, out }: ZstdFrame): GzipBlock {
  return { bit: offset * 8, out, first: true, window: () => NOTHING };
}

const NOTHING = new Uint8Array(0);

async function* rejoin(first: Uint8Array, iterator: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    if (first.length > 0) yield first;
    for (;;) {
      const next = await iterator.next();
      if (next.done) return;
      yield next.value;
    }
  } finally {
    await iterator.return?.();
  }
}

async function* limited(stream: ByteStream, { maxSize = Infinity, what = 'stream', signal }: DecompressOptions): AsyncGenerator<Uint8Array> {
  let size = 0;
  for await (const bytes of stream) {
    throwIfAborted(signal);
    size += bytes.length;
    if (size > maxSize) throw new LazypullError('LIMIT', `${what} is larger than the ${maxSize} bytes allowed`, { offset: maxSize });
    yield bytes;
  }
}
