import { corrupt } from '../../src/core/errors.ts';
import { asBuffer, readU64, struct, viewOf, write64 } from '../../src/erofs/struct.ts';

// A blob as a sequence of members, each with a tar header BEHIND it, to be read from the end (§5, §6). Payloads are not padded,
// and there is no end of archive.

export const MEMBER = {
  data: 'image.blob',
  meta: 'blob.meta',
  /** Only in a TOC: the header of `blob.meta`. */
  metaHeader: 'blob.meta.header',
  digests: 'blob.digest',
  bootstrap: 'image.boot',
  toc: 'rafs.blob.toc',
} as const;

export const MEMBER_HEADER_SIZE = 512;
export const TOC_ENTRY_SIZE = 128;
/** Entries of a TOC: it is looked for in a blob's last 4096 bytes. */
export const MAX_TOC_ENTRIES = 28;
/** Bytes of one chunk digest in `blob.digest`. */
export const CHUNK_DIGEST_SIZE = 32;

// ---- Headers behind members (§5): GNU tar, fields that mean nothing left as NULs ----

const HEADER = struct(MEMBER_HEADER_SIZE, {
  name: 100, mode: 8, uid: 8, gid: 8, size: 12, mtime: 12, checksum: 8, type: 1, linkName: 100, magic: 8, rest: 247,
});
const GNU_MAGIC = 'ustar  \0';
const REGULAR = '0';
/** Sizes from here on do not fit into 11 octal digits. */
const OCTAL_END = 8 ** 11;

export interface MemberHeader {
  readonly name: string;
  /** Bytes in front of the header. */
  readonly size: number;
}

export function encodeMemberHeader({ name, size }: MemberHeader): Uint8Array {
  const bytes = Buffer.alloc(MEMBER_HEADER_SIZE);
  bytes.write(name, HEADER.name, 100, 'latin1');
  if (size < OCTAL_END) {
    bytes.write(size.toString(8).padStart(11, '0'), HEADER.size, 'latin1');
  } else {
    // Base 256, as GNU tar has it.
    bytes[HEADER.size] = 0x80;
    bytes.writeBigUInt64BE(BigInt(size), HEADER.size + 4);
  }
  bytes.write(REGULAR, HEADER.type, 'latin1');
  bytes.write(GNU_MAGIC, HEADER.magic, 'latin1');
  bytes.write(checksumOf(bytes).toString(8).padStart(7, '0'), HEADER.checksum, 'latin1');
  return bytes;
}

/** Undefined unless the bytes are such a header. `base`: where they are in the blob, for messages. */
export function decodeMemberHeader(bytes: Uint8Array, base: number): MemberHeader | undefined {
  const buffer = asBuffer(bytes);
  if (buffer.toString('latin1', HEADER.magic, HEADER.magic + 5) !== 'ustar') return undefined;
  if (number(buffer, HEADER.checksum, 8) !== checksumOf(buffer)) return undefined;
  const type = buffer[HEADER.type];
  const name = buffer.toString('latin1', HEADER.name, HEADER.name + 100).replace(/\0[^]*$/, '');
  if (type !== 0x30 && type !== 0) throw corrupt('member of a blob is no regular file', { offset: base + HEADER.type });
  const size = (buffer[HEADER.size] as number) >= 0x80 ? base256(buffer) : number(buffer, HEADER.size, 12);
  if (size === undefined || !Number.isSafeInteger(size)) throw corrupt('member of a blob has no size', { offset: base + HEADER.size });
  return { name, size };
}

/** The sum of all bytes, the field itself taken as blanks. */
function checksumOf(bytes: Uint8Array): number {
  let sum = 8 * 0x20;
  for (const [at, byte] of bytes.entries()) if (at < HEADER.checksum || at >= HEADER.type) sum += byte;
  return sum;
}

function number(bytes: Buffer, at: number, width: number): number | undefined {
  const digits = /^ *([0-7]+)[ \0]*$/.exec(bytes.toString('latin1', at, at + width))?.[1];
  return digits === undefined ? undefined : Number.parseInt(digits, 8);
}

function base256(bytes: Buffer): number {
  return bytes.subarray(HEADER.size + 1, HEADER.size + 12).reduce((value, byte) => value * 256 + byte, 0);
}

// ---- TOC entries (§6) ----

const TOC_ENTRY = struct(TOC_ENTRY_SIZE, { flags: 4, reserved: 4, name: 16, digest: 32, compressedOffset: 8, compressedSize: 8, uncompressedSize: 8, reserved2: 48 });

export const TOC_FLAG = { none: 0x1, zstd: 0x2, lz4: 0x4 } as const;

export interface TocEntry {
  /** MEMBER, at most 16 bytes. */
  readonly name: string;
  /** TOC_FLAG: how the member is compressed as a whole. */
  readonly flags: number;
  /** 32 bytes: sha256 of the uncompressed content. That of `image.blob`: of the stored data with its header. */
  readonly digest: Uint8Array;
  /** In the blob. That of `image.blob` means nothing: older writers put the size there. */
  readonly offset: number;
  readonly compressedSize: number;
  /** Of `image.blob`: that of the address space. */
  readonly uncompressedSize: number;
}

export function encodeTocEntry(entry: TocEntry): Uint8Array {
  const bytes = Buffer.alloc(TOC_ENTRY_SIZE);
  const view = viewOf(bytes);
  bytes.writeUInt32LE(entry.flags, TOC_ENTRY.flags);
  bytes.write(entry.name, TOC_ENTRY.name, 16, 'latin1');
  bytes.set(entry.digest.subarray(0, 32), TOC_ENTRY.digest);
  write64(view, TOC_ENTRY.compressedOffset, entry.offset);
  write64(view, TOC_ENTRY.compressedSize, entry.compressedSize);
  write64(view, TOC_ENTRY.uncompressedSize, entry.uncompressedSize);
  return bytes;
}

/** `base`: where the entry is in the blob, for messages. */
export function decodeTocEntry(bytes: Uint8Array, base: number): TocEntry {
  const buffer = asBuffer(bytes);
  const u64 = (at: number): number => readU64(buffer, at, 'place of a member', base);
  return {
    name: buffer.toString('latin1', TOC_ENTRY.name, TOC_ENTRY.name + 16).replace(/\0[^]*$/, ''),
    flags: buffer.readUInt32LE(TOC_ENTRY.flags),
    digest: Uint8Array.from(buffer.subarray(TOC_ENTRY.digest, TOC_ENTRY.digest + 32)),
    offset: u64(TOC_ENTRY.compressedOffset),
    compressedSize: u64(TOC_ENTRY.compressedSize),
    uncompressedSize: u64(TOC_ENTRY.uncompressedSize),
  };
}
