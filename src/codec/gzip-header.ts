import { concat } from '../core/bytes.ts';
import { corrupt, LazypullError } from '../core/errors.ts';
import { crc32 } from './crc32.ts';

/** Flag bits of a gzip header (RFC 1952, 2.3.1). */
const FHCRC = 0x02;
const FEXTRA = 0x04;
const FNAME = 0x08;
const FCOMMENT = 0x10;
const RESERVED = 0xe0;

/** What is of use in a member's header. */
export interface GzipHeader {
  /** Bytes, up to the first byte of the deflate stream. */
  readonly size: number;
  /** The extra field without its length, when there is one. */
  readonly extra?: Uint8Array;
}

/**
 * Parses the header at the start of `bytes` (RFC 1952, 2.3); undefined when there is more to it than is at hand.
 * Broken headers are CORRUPT; `offset` is where `bytes` stands in the stream `what`. `extra` is a view.
 */
export function parseGzipHeader(bytes: Uint8Array, what: string, offset = 0): GzipHeader | undefined {
  if ((bytes.length > 0 && bytes[0] !== 0x1f) || (bytes.length > 1 && bytes[1] !== 0x8b)) throw corrupt(`${what}: no gzip member where one should begin`, { offset });
  if (bytes.length > 2 && bytes[2] !== 8) throw corrupt(`${what}: unknown gzip compression method ${bytes[2]}`, { offset: offset + 2 });
  const flags = bytes[3] ?? 0;
  if (flags & RESERVED) throw corrupt(`${what}: reserved gzip flags are set (0x${flags.toString(16)})`, { offset: offset + 3 });
  let at = 10;
  let extra: Uint8Array | undefined;
  if (flags & FEXTRA) {
    if (bytes.length < at + 2) return undefined;
    const end = at + 2 + ((bytes[at] as number) | ((bytes[at + 1] as number) << 8));
    extra = bytes.subarray(at + 2, end);
    at = end;
  }
  for (const flag of [FNAME, FCOMMENT]) {
    if (!(flags & flag)) continue;
    const end = at < bytes.length ? bytes.indexOf(0, at) : -1;
    if (end < 0) return undefined;
    at = end + 1;
  }
  if (flags & FHCRC) {
    if (bytes.length < at + 2) return undefined;
    const stored = (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
    if (stored !== (crc32(bytes.subarray(0, at)) & 0xffff)) throw corrupt(`${what}: gzip header checksum differs`, { offset: offset + at });
    at += 2;
  }
  if (bytes.length < at) return undefined;
  return extra ? { size: at, extra } : { size: at };
}

/**
 * Header of a member made by us: no name, no time, unknown system, so that equal content gives equal bytes everywhere.
 * `extra` (at most 65535 bytes) becomes the extra field.
 */
export function gzipHeader(level: number, extra?: Uint8Array): Uint8Array {
  const fixed = Uint8Array.of(0x1f, 0x8b, 8, extra ? FEXTRA : 0, 0, 0, 0, 0, level === 9 ? 2 : level === 1 ? 4 : 0, 0xff);
  if (!extra) return fixed;
  if (extra.length > 0xffff) throw new LazypullError('INTERNAL', `gzip extra field of ${extra.length} bytes does not fit`);
  return concat([fixed, Uint8Array.of(extra.length & 0xff, extra.length >> 8), extra]);
}

/** Trailer of a member: CRC-32 and size (modulo 2^32) of its content. */
export function gzipTrailer(crc: number, size: number): Uint8Array {
  const trailer = new Uint8Array(8);
  const view = new DataView(trailer.buffer);
  view.setUint32(0, crc, true);
  view.setUint32(4, size % 0x1_0000_0000, true);
  return trailer;
}
