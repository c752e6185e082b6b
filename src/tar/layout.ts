import { decodeName } from '../core/bytes.ts';

// The header block of POSIX.1-2017 (pax, "ustar Interchange Format") and what GNU tar and star put in the same places.

/** Bytes of a header block, and the unit to which payloads are padded. */
export const TAR_BLOCK = 512;

/** Two zero blocks: the regular end of an archive. */
export const END_OF_ARCHIVE: Uint8Array = new Uint8Array(2 * TAR_BLOCK);

/** A field of the header block: where it starts and how many bytes it has. */
export interface Field {
  readonly at: number;
  readonly size: number;
}

const field = (at: number, size: number): Field => ({ at, size });

/** Every field in offset order. Those with a prefix belong to one dialect and lie over the ustar `prefix`. */
export const FIELD = {
  name: field(0, 100),
  mode: field(100, 8),
  uid: field(108, 8),
  gid: field(116, 8),
  size: field(124, 12),
  mtime: field(136, 12),
  checksum: field(148, 8),
  typeflag: field(156, 1),
  linkName: field(157, 100),
  magic: field(257, 6),
  version: field(263, 2),
  userName: field(265, 32),
  groupName: field(297, 32),
  major: field(329, 8),
  minor: field(337, 8),
  prefix: field(345, 155),
  gnuAtime: field(345, 12),
  gnuCtime: field(357, 12),
  gnuSparse: field(386, 96),
  gnuIsExtended: field(482, 1),
  gnuRealSize: field(483, 12),
  starPrefix: field(345, 131),
  starAtime: field(476, 12),
  starCtime: field(488, 12),
  starTrailer: field(508, 4),
} as const;

/** Bytes of zeros that follow a payload of `size` bytes. */
export function paddingOf(size: number): number {
  const rest = size % TAR_BLOCK;
  return rest === 0 ? 0 : TAR_BLOCK - rest;
}

/** Which dialect a header block speaks; it decides what the bytes after `magic` mean. */
export type Dialect = 'v7' | 'ustar' | 'gnu' | 'star';

export function dialectOf(block: Uint8Array, base: number): Dialect {
  const at = base + FIELD.magic.at;
  // "ustar"
  if (block[at] !== 0x75 || block[at + 1] !== 0x73 || block[at + 2] !== 0x74 || block[at + 3] !== 0x61 || block[at + 4] !== 0x72) return 'v7';
  const end = block[at + 5];
  if (end === 0x20) return block[at + 6] === 0x20 && block[at + 7] === 0 ? 'gnu' : 'v7';
  if (end !== 0) return 'v7';
  const tail = base + FIELD.starTrailer.at;
  const star = block[tail] === 0x74 && block[tail + 1] === 0x61 && block[tail + 2] === 0x72 && block[tail + 3] === 0;
  return star ? 'star' : 'ustar';
}

/**
 * A numeric field: octal digits between spaces and NULs, or, when the first bit is set, a big-endian two's complement
 * number in the remaining bits (GNU base-256). Blank is 0. NaN when it is neither, or beyond 2^53-1 either way.
 */
export function decodeNumber(block: Uint8Array, base: number, { at, size }: Field): number {
  let i = base + at;
  const end = i + size;
  if ((block[i] as number) >= 0x80) return decodeBase256(block, i, end);
  while (i < end && (block[i] === 0x20 || block[i] === 0)) i += 1;
  let value = 0;
  for (; i < end; i += 1) {
    const digit = (block[i] as number) - 0x30;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  for (; i < end && block[i] !== 0; i += 1) if (block[i] !== 0x20) return Number.NaN;
  return value;
}

function decodeBase256(block: Uint8Array, at: number, end: number): number {
  const negative = ((block[at] as number) & 0x40) !== 0;
  const flip = negative ? 0xff : 0;
  let value = ((block[at] as number) ^ flip) & 0x7f;
  for (let i = at + 1; i < end; i += 1) {
    value = value * 256 + ((block[i] as number) ^ flip);
    if (value > Number.MAX_SAFE_INTEGER) return Number.NaN;
  }
  // -x is ~x + 1; the one must not push the number out of the exact range.
  return negative ? -value - 1 >= Number.MIN_SAFE_INTEGER ? -value - 1 : Number.NaN : value;
}

/** Writes `value` as octal digits that fill the field up to one closing NUL; the caller has checked that it fits. */
export function encodeOctal(block: Uint8Array, { at, size }: Field, value: number): void {
  encodeAscii(block, at, value.toString(8).padStart(size - 1, '0'));
}

/** The largest number that `encodeOctal` can put into a field. */
export function octalLimit({ size }: Field): number {
  return 8 ** (size - 1) - 1;
}

export function encodeAscii(block: Uint8Array, at: number, text: string): void {
  for (let i = 0; i < text.length; i += 1) block[at + i] = text.charCodeAt(i);
}

/** A text field up to its first NUL, by `decodeName`. */
export function decodeText(block: Buffer, base: number, { at, size }: Field): string {
  return decodeTextRange(block, base + at, size);
}

/** At most `size` bytes from `start` on, up to the first NUL, by `decodeName`. */
export function decodeTextRange(block: Buffer, start: number, size: number): string {
  const limit = start + size;
  let seen = 0;
  let end = start;
  for (; end < limit; end += 1) {
    const byte = block[end] as number;
    if (byte === 0) break;
    seen |= byte;
  }
  if (end === start) return '';
  return seen < 0x80 ? block.toString('latin1', start, end) : decodeName(block.subarray(start, end));
}

/** The sum of the block's bytes, four at a time; `word` counts 32-bit words. */
export function sumWords(words: Uint32Array, word: number): number {
  let lanes = 0;
  // Two 16-bit lanes: 128 words of at most 2 * 255 per lane stay below 2^16.
  for (let i = word; i < word + TAR_BLOCK / 4; i += 1) {
    const four = words[i] as number;
    lanes = (lanes + (four & 0x00ff00ff) + ((four >>> 8) & 0x00ff00ff)) | 0;
  }
  return (lanes & 0xffff) + (lanes >>> 16);
}

/** The checksum of a block whose bytes sum up to `sum`: the checksum field itself counts as eight spaces. */
export function checksumOf(block: Uint8Array, base: number, sum: number): number {
  const { at, size } = FIELD.checksum;
  let value = sum + size * 0x20;
  for (let i = base + at; i < base + at + size; i += 1) value -= block[i] as number;
  return value;
}

/** The same over signed bytes, as some old archivers summed them. */
export function signedChecksumOf(block: Uint8Array, base: number, unsigned: number): number {
  const { at, size } = FIELD.checksum;
  let value = unsigned;
  for (let i = 0; i < TAR_BLOCK; i += 1) {
    if ((i < at || i >= at + size) && (block[base + i] as number) >= 0x80) value -= 256;
  }
  return value;
}

/** Fills in the checksum field: six octal digits, NUL, space. */
export function encodeChecksum(block: Uint8Array): void {
  let sum = 0;
  for (let i = 0; i < TAR_BLOCK; i += 1) sum += block[i] as number;
  encodeAscii(block, FIELD.checksum.at, `${checksumOf(block, 0, sum).toString(8).padStart(6, '0')}\0 `);
}
