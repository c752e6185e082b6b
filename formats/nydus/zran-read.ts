import { corrupt } from '../../src/core/errors.ts';
import { parseGzipHeader } from '../../src/codec/gzip-header.ts';
import { Inflater } from '../../src/codec/inflate.ts';
import type { ZranWindow } from './read-contexts.ts';

/** No deflate stream grows more than 1032-fold: two bits for 258 bytes. */
const MAX_GROWTH = 1032;
/** Bytes behind a gzip member's deflate stream: CRC-32 and size. */
const TRAILER = 8;

/**
 * The first `size` bytes that a zran context inflates to (§10), across the ends of gzip members. Bytes that cannot deliver
 * what is wanted are CORRUPT; never waits for more.
 */
export function inflateWindow(context: ZranWindow, packed: Uint8Array, size: number, what: string): Uint8Array {
  const { bits, byte, dictionary, inOffset } = context;
  if (size > (packed.length + 1) * MAX_GROWTH) throw corrupt(`${what}: ${packed.length} stored bytes cannot inflate to ${size}`, { offset: inOffset });
  const result = Buffer.allocUnsafeSlow(size);
  const inflater = new Inflater(what);
  try {
    inflater.resume({ bit: inOffset * 8 - bits, out: dictionary.length }, dictionary);
    // The inflater begins with the byte that holds the first bit.
    if (bits > 0) inflater.push(Uint8Array.of(byte));
    let pushed = 0;
    const push = (): void => {
      if (pushed < packed.length) pushed += inflater.push(packed.subarray(pushed));
      if (pushed === packed.length) inflater.end();
    };
    for (let at = 0; at < size; ) {
      push();
      const status = inflater.decode(size - at);
      const bytes = inflater.take();
      result.set(bytes.subarray(0, size - at), at);
      at += bytes.length;
      if (status !== 'done' || at >= size) continue;
      let left = nextMember(packed, inflater.position - inOffset, inOffset, what);
      while (left > 0) {
        push();
        const some = Math.min(left, inflater.unread().length);
        inflater.skip(some);
        left -= some;
      }
      inflater.begin();
    }
    return result;
  } finally {
    inflater.close();
  }
}

/** Bytes from the end of a member's deflate stream to where that of the next one begins; CORRUPT when there is none. */
function nextMember(packed: Uint8Array, end: number, inOffset: number, what: string): number {
  const offset = inOffset + end + TRAILER;
  if (end + TRAILER >= packed.length) throw corrupt(`${what}: the compressed data ends too early`, { offset });
  const header = parseGzipHeader(packed.subarray(end + TRAILER), what, offset);
  if (!header) throw corrupt(`${what}: a gzip header ends early`, { offset });
  return TRAILER + header.size;
}
