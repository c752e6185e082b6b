import { corrupt } from '../core/errors.ts';
import { nextMember, roomFor, type GzipPart } from './resume.ts';

/**
 * Empty deflate blocks whose bits leave `8 - bits` over in the last byte, where a part's own bits follow: pako has no way to
 * begin inside a byte. Fixed blocks have 10 bits; an odd number takes a dynamic block of 93 (RFC 1951, 3.2.7).
 */
const PREFIXES: readonly string[] = [
  '', '04c001090000000090ffaf4500', '02082000', '04c001090000000090ffaf05', '020800', '04c001090000000090ffaf4500010400', '0200', '04c001090000000090ffaf45000100',
];
/** `windowBits` of zlib for raw deflate with 32 KiB of history. */
const RAW = -15;

/**
 * Inflates a part like `inflatePart`, with the decoder of pako: what wrote an index shall not be what finds it right.
 * `onMember` is called for every gzip member that begins inside the part with bytes that are wanted.
 */
export async function recheckPart(part: GzipPart, onMember?: () => void): Promise<Uint8Array> {
  const { start, window, packed, size, what } = part;
  const whole = Math.ceil(start.bit / 8);
  const bits = whole * 8 - start.bit;
  const result: Uint8Array<ArrayBuffer> = roomFor(part);
  if (size === 0) return result;
  const { Z_NO_FLUSH, Z_STREAM_END, ZStream, zlibInflate, zlibInflateEnd, zlibInflateInit2, zlibInflateReset, zlibInflateSetDictionary } = await import('pako');
  const stream = new ZStream();
  zlibInflateInit2(stream, RAW);
  try {
    zlibInflateSetDictionary(stream, window);
    stream.output = result;
    stream.avail_out = size;
    const run = (input: Uint8Array, from: number): number => {
      stream.input = input;
      stream.next_in = from;
      stream.avail_in = input.length - from;
      return zlibInflate(stream, Z_NO_FLUSH);
    };
    if (bits > 0) {
      const prefix = Buffer.from(PREFIXES[bits] as string, 'hex');
      prefix[prefix.length - 1] = (prefix.at(-1) as number) | ((packed[0] as number) & (0xff << (8 - bits)) & 0xff);
      run(prefix, 0);
    }
    let status = run(packed, bits > 0 ? 1 : 0);
    while (stream.avail_out > 0) {
      // Everything at hand was offered: without the end of a stream there is no more to come.
      if (status !== Z_STREAM_END) throw corrupt(`${what}: ${stream.msg || 'the compressed data ends early'}`, { offset: whole + stream.next_in });
      const next = nextMember(part, stream.next_in);
      onMember?.();
      zlibInflateReset(stream);
      status = run(packed, next);
    }
    return result;
  } finally {
    zlibInflateEnd(stream);
  }
}
