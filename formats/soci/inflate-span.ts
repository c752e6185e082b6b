import { corrupt } from '../../src/core/errors.ts';
import { parseGzipHeader } from '../../src/codec/gzip-header.ts';
import { Inflater } from '../../src/codec/inflate.ts';
import type { Checkpoint } from './layout.ts';

/** Bytes behind a gzip member's deflate stream: CRC-32 and size. */
const TRAILER = 8;
/** No deflate stream grows more than 1032-fold: two bits for 258 bytes. */
const MAX_GROWTH = 1032;

/** A span to be inflated. */
export interface PackedSpan {
  /** Where its first block begins. */
  readonly checkpoint: Checkpoint;
  /** The layer's bytes from the one that holds the checkpoint's first bit up to the end of the span. */
  readonly packed: Uint8Array;
  /** Bytes of tar wanted. */
  readonly size: number;
  /** For messages. */
  readonly what: string;
}

/** Inflates a span (notes §6.2), across the ends of gzip members. Bytes that cannot deliver what is wanted are CORRUPT; never waits for more. */
export function inflateSpan(span: PackedSpan): Uint8Array {
  const { checkpoint, packed, size, what } = span;
  const result = allocate(span);
  const inflater = new Inflater(what);
  try {
    const bit = checkpoint.in * 8 - checkpoint.bits;
    inflater.resume({ bit, out: checkpoint.out }, checkpoint.window);
    const start = (bit - (bit % 8)) / 8;
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
      const next = nextMember(span, inflater.position - start);
      let left = next - (inflater.position - start);
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

/** Room for a span's tar, once it is clear that its stored bytes could fill it. */
export function allocate({ packed, size, what }: PackedSpan): Buffer<ArrayBuffer> {
  if (!(size >= 0 && size <= packed.length * MAX_GROWTH)) throw corrupt(`${what}: ${packed.length} stored bytes cannot inflate to ${size}`);
  return Buffer.allocUnsafeSlow(size);
}

/** Where the deflate stream of the next gzip member begins in a span, when the one before ends at `end`; CORRUPT when there is none. */
export function nextMember({ checkpoint, packed, what }: PackedSpan, end: number): number {
  const offset = checkpoint.in - (checkpoint.bits > 0 ? 1 : 0) + end + TRAILER;
  if (end + TRAILER >= packed.length) throw corrupt(`${what}: the gzip data ends before all of the span is inflated`, { offset });
  const header = parseGzipHeader(packed.subarray(end + TRAILER), what, offset);
  if (!header) throw corrupt(`${what}: a gzip header ends early`, { offset });
  return end + TRAILER + header.size;
}
