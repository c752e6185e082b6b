import { corrupt } from '../core/errors.ts';
import { takeRoom } from '../core/room.ts';
import { parseGzipHeader } from './gzip-header.ts';
import { type BlockStart, Inflater } from './inflate.ts';

/** Bytes behind a gzip member's deflate stream: CRC-32 and size. */
const TRAILER = 8;
/** No deflate stream grows more than 1032-fold: two bits for 258 bytes. */
const MAX_GROWTH = 1032;

/** A part of a gzip stream that is to be inflated from its middle. */
export interface GzipPart {
  /** Where its first block begins in the stream. */
  readonly start: BlockStart;
  /** What came out in front of it: 32 KiB, or all there is. */
  readonly window: Uint8Array;
  /** The stream's bytes from the one that holds the first bit on. */
  readonly packed: Uint8Array;
  /** Inflated bytes wanted. */
  readonly size: number;
  /** For messages. */
  readonly what: string;
}

/** Inflates a part across the ends of gzip members. Bytes that cannot deliver what is wanted are CORRUPT; never waits for more. */
export function inflatePart(part: GzipPart): Uint8Array {
  const { start, window, packed, size, what } = part;
  const result = roomFor(part);
  const inflater = new Inflater(what);
  try {
    inflater.resume(start, window);
    const first = Math.floor(start.bit / 8);
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
      let left = nextMember(part, inflater.position - first) - (inflater.position - first);
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

/** Room for what a part inflates to, once it is clear that its stored bytes could fill it. */
export function roomFor({ start, packed, size, what }: GzipPart): Buffer<ArrayBuffer> {
  if (!(size >= 0 && size <= packed.length * MAX_GROWTH)) throw corrupt(`${what}: ${packed.length} stored bytes cannot inflate to ${size}`, { offset: Math.floor(start.bit / 8) });
  return takeRoom(size);
}

/** Where in a part the deflate stream of the next gzip member begins, when the one before ends at `end`; CORRUPT when there is none. */
export function nextMember({ start, packed, what }: GzipPart, end: number): number {
  const offset = Math.floor(start.bit / 8) + end + TRAILER;
  if (end + TRAILER >= packed.length) throw corrupt(`${what}: the gzip data ends before all of it is inflated`, { offset });
  const header = parseGzipHeader(packed.subarray(end + TRAILER), what, offset);
  if (!header) throw corrupt(`${what}: a gzip header ends early`, { offset });
  return end + TRAILER + header.size;
}
