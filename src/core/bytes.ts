import { corrupt } from './errors.ts';

/** Concatenates parts into one new array; a single part is returned as it is. */
export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const [first] = parts;
  if (first && parts.length === 1) return first;
  let size = 0;
  for (const part of parts) size += part.length;
  const all = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/**
 * `target.set(source, at)`, many times faster where memory is shared: engines then copy single words, or bytes if the two places are
 * not equally aligned, and a Buffer that is filled with just as many bytes copies them in one go. The two must not overlap.
 */
export function copyInto(target: Uint8Array, source: Uint8Array, at = 0): void {
  const { length } = source;
  const shared = source.buffer instanceof SharedArrayBuffer || target.buffer instanceof SharedArrayBuffer;
  if (!shared || length < SHORT || at + length > target.length) target.set(source, at);
  else Buffer.from(target.buffer, target.byteOffset + at, length).fill(source);
}

/** Fewer bytes are not worth a Buffer. */
const SHORT = 512;

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}

/** Reads a little-endian unsigned 64 bit number; values above 2^53-1 are refused, they cannot be exact. */
export function readU64LE(bytes: Uint8Array, offset: number, what = 'number'): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const value = view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 0x1_0000_0000;
  if (!Number.isSafeInteger(value)) throw corrupt(`${what} is above 2^53-1`, { offset });
  return value;
}

/** Rounds a size up to a multiple of `unit`; plain arithmetic, because bit operators cut to 32 bits. */
export function roundUp(size: number, unit: number): number {
  const rest = size % unit;
  return rest === 0 ? size : size + (unit - rest);
}

/**
 * Names in archives are bytes; in lazypull they are strings. Valid UTF-8 is decoded as such. Any byte that is not part
 * of valid UTF-8 becomes a lone surrogate U+DC80..U+DCFF, so that every byte string has exactly one name and back.
 */
export function decodeName(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const decoded = text.toString('utf8');
  // A replacement character is the only trace of a bad byte; a genuine one in the input re-encodes to the same bytes.
  if (!decoded.includes('\ufffd') || Buffer.from(decoded, 'utf8').equals(text)) return decoded;
  let name = '';
  let at = 0;
  while (at < text.length) {
    const length = utf8SequenceLength(text, at);
    if (length === 0) {
      name += String.fromCharCode(0xdc00 + (text[at] as number));
      at += 1;
    } else {
      name += text.toString('utf8', at, at + length);
      at += length;
    }
  }
  return name;
}

/** The bytes of a name made by `decodeName`. */
export function encodeName(name: string): Uint8Array {
  if (isUtf8Name(name)) return Buffer.from(name, 'utf8');
  const parts: Uint8Array[] = [];
  for (const char of name) {
    const code = char.charCodeAt(0);
    parts.push(char.length === 1 && code >= 0xdc80 && code <= 0xdcff ? Uint8Array.of(code - 0xdc00) : Buffer.from(char, 'utf8'));
  }
  return concat(parts);
}

/** Whether a name consists of valid UTF-8, so that formats which store text can carry it. */
export function isUtf8Name(name: string): boolean {
  return !/\p{Surrogate}/u.test(name);
}

/** Length of the valid UTF-8 sequence at `at`, or 0 (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF). */
function utf8SequenceLength(text: Uint8Array, at: number): number {
  const lead = text[at] as number;
  if (lead < 0x80) return 1;
  const length = lead >= 0xc2 && lead <= 0xdf ? 2 : lead >= 0xe0 && lead <= 0xef ? 3 : lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
  if (length === 0 || at + length > text.length) return 0;
  for (let i = 1; i < length; i++) if (((text[at + i] as number) & 0xc0) !== 0x80) return 0;
  const second = text[at + 1] as number;
  if (lead === 0xe0 && second < 0xa0) return 0;
  if (lead === 0xed && second > 0x9f) return 0;
  if (lead === 0xf0 && second < 0x90) return 0;
  if (lead === 0xf4 && second > 0x8f) return 0;
  return length;
}
