import { concat, encodeName } from '../../src/core/bytes.ts';
import { encodeTarHeader, END_OF_ARCHIVE, paddingOf, TAR_BLOCK, type TarHeader } from '../../src/tar/write.ts';

// Archives put together block by block: for dialects that src/tar reads and does not write, and for broken ones.

/** Fields as they are to stand in the block; text by `decodeName`, no padding or terminator is added. */
export interface RawHeader {
  name: string;
  typeflag?: string;
  mode?: string;
  uid?: string | Uint8Array;
  gid?: string | Uint8Array;
  size?: number | string | Uint8Array;
  mtime?: string | Uint8Array;
  linkName?: string;
  /** Magic and version, 8 bytes; default ustar. */
  magic?: string;
  userName?: string;
  groupName?: string;
  major?: string;
  minor?: string;
  /** From byte 345 on. */
  tail?: string | Uint8Array;
  /** In place of the sum that is right. */
  checksum?: number;
  signedChecksum?: boolean;
}

export const USTAR = 'ustar\x0000';
export const GNU = 'ustar  \0';
export const V7 = '\0\0\0\0\0\0\0\0';

export function bytesOf(text: string | Uint8Array): Uint8Array {
  return typeof text === 'string' ? encodeName(text) : text;
}

/** One header block. */
export function rawHeader(header: RawHeader): Uint8Array {
  const block = new Uint8Array(TAR_BLOCK);
  const put = (at: number, size: number, text: string | Uint8Array): void => {
    const bytes = bytesOf(text);
    if (bytes.length > size) throw new RangeError(`${bytes.length} bytes for a field of ${size}`);
    block.set(bytes, at);
  };
  const size = header.size ?? 0;
  put(0, 100, header.name);
  put(100, 8, header.mode ?? '0000644\0');
  put(108, 8, header.uid ?? '0000000\0');
  put(116, 8, header.gid ?? '0000000\0');
  put(124, 12, typeof size === 'number' ? `${size.toString(8).padStart(11, '0')}\0` : size);
  put(136, 12, header.mtime ?? '14524770400\0');
  put(156, 1, header.typeflag ?? '0');
  put(157, 100, header.linkName ?? '');
  put(257, 8, header.magic ?? USTAR);
  put(265, 32, header.userName ?? '');
  put(297, 32, header.groupName ?? '');
  put(329, 8, header.major ?? '');
  put(337, 8, header.minor ?? '');
  put(345, 167, header.tail ?? '');
  block.fill(0x20, 148, 156);
  let sum = 0;
  for (const byte of block) sum += header.signedChecksum && byte >= 0x80 ? byte - 256 : byte;
  put(148, 8, `${(header.checksum ?? sum).toString(8).padStart(6, '0')}\0 `);
  return block;
}

/** Payload and padding. */
export function padded(payload: string | Uint8Array): Uint8Array {
  const bytes = bytesOf(payload);
  return concat([bytes, new Uint8Array(paddingOf(bytes.length))]);
}

/** A header with its payload; the size field is the payload's unless the header says otherwise. */
export function rawEntry(header: RawHeader, payload: string | Uint8Array = ''): Uint8Array {
  const bytes = bytesOf(payload);
  return concat([rawHeader({ size: bytes.length, ...header }), padded(bytes)]);
}

/** A pax record; the length can be made to lie. */
export function paxRecord(key: string, value: string | Uint8Array, lie = 0): Uint8Array {
  const rest = concat([bytesOf(` ${key}=`), bytesOf(value), bytesOf('\n')]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length += 1;
  return concat([bytesOf(String(length + lie)), rest]);
}

/** An 'x' or 'g' header with these records. */
export function paxHeader(records: readonly (readonly [string, string | Uint8Array])[], typeflag = 'x'): Uint8Array {
  return rawEntry({ name: typeflag === 'g' ? 'pax_global_header' : 'PaxHeaders/x', typeflag }, concat(records.map(([key, value]) => paxRecord(key, value))));
}

/** A GNU 'L' or 'K' record. */
export function gnuLong(typeflag: 'L' | 'K', name: string): Uint8Array {
  return rawEntry({ name: '././@LongLink', typeflag, magic: GNU, mode: '0000000\0' }, `${name}\0`);
}

/** A number as GNU tar stores what octal digits cannot hold: big-endian two's complement, first bit set. */
export function base256(value: number | bigint, size: number): Uint8Array {
  let rest = BigInt.asUintN(size * 8, BigInt(value));
  const bytes = new Uint8Array(size);
  for (let i = size - 1; i >= 0; i -= 1) {
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  bytes[0] = (bytes[0] as number) | 0x80;
  return bytes;
}

/** The part of a GNU header behind byte 345 that describes a sparse file: at most four pairs. */
export function gnuSparseTail(pairs: readonly (readonly [number, number])[], realSize: number, extended = false): Uint8Array {
  const tail = new Uint8Array(167);
  tail.set(octalPairs(pairs), 386 - 345);
  tail[482 - 345] = extended ? 1 : 0;
  tail.set(bytesOf(`${realSize.toString(8).padStart(11, '0')}\0`), 483 - 345);
  return tail;
}

/** A block of at most 21 further pairs. */
export function gnuSparseExtension(pairs: readonly (readonly [number, number])[], extended = false): Uint8Array {
  const block = new Uint8Array(TAR_BLOCK);
  block.set(octalPairs(pairs), 0);
  block[504] = extended ? 1 : 0;
  return block;
}

function octalPairs(pairs: readonly (readonly [number, number])[]): Uint8Array {
  return bytesOf(pairs.map(([offset, length]) => `${offset.toString(8).padStart(11, '0')}\0${length.toString(8).padStart(11, '0')}\0`).join(''));
}

/** What `archive` takes: payloads at hand. */
export type Item = TarHeader & { readonly body?: string | Uint8Array };

/** Entries by the writer under test, without an end. */
export function entries(...items: readonly Item[]): Uint8Array {
  return concat(items.flatMap(({ body = '', ...header }) => {
    const bytes = bytesOf(body);
    return [encodeTarHeader({ size: bytes.length, ...header }), padded(bytes)];
  }));
}

/** A whole archive: given parts, then two zero blocks. */
export function archive(...parts: readonly Uint8Array[]): Uint8Array {
  return concat([...parts, END_OF_ARCHIVE]);
}
