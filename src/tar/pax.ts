import { concat, decodeName, encodeName } from '../core/bytes.ts';
import { printable } from '../core/errors.ts';
import type { Time } from '../core/types.ts';
import { decodeTextRange } from './layout.ts';
import type { Place } from './place.ts';

// POSIX.1-2017 pax, "pax Extended Header": records of the form "LENGTH KEY=VALUE\n", the length counting itself.

/**
 * What the extended headers say about an entry. A key that is there with the value `undefined` is a record without a
 * value: it takes back what a global header said, and the plain header block counts again.
 */
export interface PaxAttributes {
  path?: string | undefined;
  linkPath?: string | undefined;
  size?: number | undefined;
  uid?: number | undefined;
  gid?: number | undefined;
  userName?: string | undefined;
  groupName?: string | undefined;
  mtime?: Time | undefined;
  atime?: Time | undefined;
  ctime?: Time | undefined;
  major?: number | undefined;
  minor?: number | undefined;
  xattrs?: Map<string, Uint8Array>;
  sparse?: PaxSparse;
}

/** The GNU.sparse.* records, versions 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse Files"). */
export interface PaxSparse {
  major?: string;
  minor?: string;
  name?: string;
  size?: number;
  blocks?: number;
  /** Offset, length, offset, length...; absent in version 1.0, which keeps its map in the payload. */
  map?: number[];
}

/** The largest user, group and device number that Linux has. */
export const ID_LIMIT = 0xffff_ffff;

const SCHILY_XATTR = 'SCHILY.xattr.';
const LIBARCHIVE_XATTR = 'LIBARCHIVE.xattr.';

/** Reads the records in `bytes[start, end)`. Keys that are not known are passed over, as POSIX asks. */
export function decodePax(bytes: Buffer, start: number, end: number, place: Place): PaxAttributes {
  const attributes: PaxAttributes = {};
  // Kept apart because bsdtar writes each attribute twice, in either order, and only this spelling is exact.
  let schily: Map<string, Uint8Array> | undefined;
  let at = start;
  while (at < end) {
    let length = 0;
    let i = at;
    for (; i < end && i - at < 16; i += 1) {
      const digit = (bytes[i] as number) - 0x30;
      if (digit < 0 || digit > 9) break;
      length = length * 10 + digit;
    }
    const next = at + length;
    // The shortest record is "5 k=\n".
    if (i === at || i >= end || bytes[i] !== 0x20 || length < 5 || next > end || bytes[next - 1] !== 0x0a) throw malformed(place, 'record with a wrong length');
    let equals = i + 1;
    for (; bytes[equals] !== 0x3d; equals += 1) {
      if (equals >= next - 1) throw malformed(place, 'record without "="');
      if (bytes[equals] === 0) throw malformed(place, 'key with a NUL byte');
    }
    if (equals === i + 1) throw malformed(place, 'record without a key');
    const key = decodeTextRange(bytes, i + 1, equals - i - 1);
    if (key.startsWith(SCHILY_XATTR)) {
      schily ??= new Map();
      schily.set(xattrName(key.slice(SCHILY_XATTR.length), place), new Uint8Array(bytes.subarray(equals + 1, next - 1)));
    } else {
      decodeRecord(attributes, { key, bytes, start: equals + 1, end: next - 1, place });
    }
    at = next;
  }
  if (schily) {
    const { xattrs } = attributes;
    if (xattrs) for (const [name, value] of schily) xattrs.set(name, value);
    else attributes.xattrs = schily;
  }
  return attributes;
}

/** One record: its value is `bytes[start, end)`. */
interface PaxRecord {
  readonly key: string;
  readonly bytes: Buffer;
  readonly start: number;
  readonly end: number;
  readonly place: Place;
}

function decodeRecord(attributes: PaxAttributes, record: PaxRecord): void {
  const { key } = record;
  switch (key) {
    case 'path':
      attributes.path = paxText(record);
      return;
    case 'linkpath':
      attributes.linkPath = paxText(record);
      return;
    case 'uname':
      attributes.userName = paxText(record);
      return;
    case 'gname':
      attributes.groupName = paxText(record);
      return;
    case 'size':
      attributes.size = paxNumber(record);
      return;
    case 'uid':
      attributes.uid = paxNumber(record, ID_LIMIT);
      return;
    case 'gid':
      attributes.gid = paxNumber(record, ID_LIMIT);
      return;
    case 'mtime':
      attributes.mtime = paxTime(record);
      return;
    case 'atime':
      attributes.atime = paxTime(record);
      return;
    case 'ctime':
      attributes.ctime = paxTime(record);
      return;
    case 'SCHILY.devmajor':
      attributes.major = paxNumber(record, ID_LIMIT);
      return;
    case 'SCHILY.devminor':
      attributes.minor = paxNumber(record, ID_LIMIT);
      return;
    default:
      if (key.startsWith('GNU.sparse.')) decodeSparseRecord((attributes.sparse ??= {}), record);
      else if (key.startsWith(LIBARCHIVE_XATTR)) {
        attributes.xattrs ??= new Map();
        attributes.xattrs.set(xattrName(percentDecoded(key.slice(LIBARCHIVE_XATTR.length)), record.place), base64(record));
      }
  }
}

function decodeSparseRecord(sparse: PaxSparse, record: PaxRecord): void {
  const { key, bytes, start, end, place } = record;
  switch (key) {
    case 'GNU.sparse.major':
      sparse.major = bytes.toString('latin1', start, end);
      return;
    case 'GNU.sparse.minor':
      sparse.minor = bytes.toString('latin1', start, end);
      return;
    case 'GNU.sparse.name': {
      const name = paxText(record);
      if (name !== undefined) sparse.name = name;
      return;
    }
    case 'GNU.sparse.size':
    case 'GNU.sparse.realsize':
      sparse.size = requiredNumber(record);
      return;
    case 'GNU.sparse.numblocks':
      sparse.blocks = requiredNumber(record);
      return;
    case 'GNU.sparse.offset':
    case 'GNU.sparse.numbytes': {
      sparse.map ??= [];
      const wantsOffset = sparse.map.length % 2 === 0;
      if (wantsOffset !== (key === 'GNU.sparse.offset')) throw malformed(place, 'sparse offsets and lengths do not alternate');
      sparse.map.push(requiredNumber(record));
      return;
    }
    case 'GNU.sparse.map':
      sparse.map = numberList(record);
      return;
    default:
      return;
  }
}

function malformed(place: Place, message: string): Error {
  return place.corrupt(`pax header: ${message}`);
}

function paxText({ key, bytes, start, end, place }: PaxRecord): string | undefined {
  if (start === end) return undefined;
  const nul = bytes.indexOf(0, start);
  if (nul >= 0 && nul < end) throw malformed(place, `${key} has a NUL byte`);
  return decodeTextRange(bytes, start, end - start);
}

/** Decimal digits; `undefined` for an empty value. */
function paxNumber(record: PaxRecord, limit = Number.MAX_SAFE_INTEGER): number | undefined {
  const { key, bytes, start, end, place } = record;
  if (start === end) return undefined;
  let number = 0;
  for (let i = start; i < end; i += 1) {
    const digit = (bytes[i] as number) - 0x30;
    if (digit < 0 || digit > 9) throw malformed(place, `${key} is not a number: ${shown(record)}`);
    number = number * 10 + digit;
    if (number > limit) throw malformed(place, `${key} is above ${limit}: ${shown(record)}`);
  }
  return number;
}

function requiredNumber(record: PaxRecord): number {
  const number = paxNumber(record);
  if (number === undefined) throw malformed(record.place, `${record.key} has no value`);
  return number;
}

/** Numbers between commas; none in an empty value. */
function numberList(record: PaxRecord): number[] {
  const list: number[] = [];
  const { bytes, end } = record;
  for (let start = record.start; start < end; ) {
    let comma = start;
    while (comma < end && bytes[comma] !== 0x2c) comma += 1;
    list.push(requiredNumber({ ...record, start, end: comma }));
    if (comma === end - 1) throw malformed(record.place, `${record.key} ends with a comma`);
    start = comma + 1;
  }
  return list;
}

/** Decimal seconds with a fraction of any length; what is below a nanosecond is dropped. `undefined` for an empty value. */
function paxTime(record: PaxRecord): Time | undefined {
  const { bytes, start, end } = record;
  if (start === end) return undefined;
  const negative = bytes[start] === 0x2d;
  let i = negative ? start + 1 : start;
  const first = i;
  let seconds = 0;
  for (; i < end && isDigit(bytes[i]); i += 1) seconds = seconds * 10 + (bytes[i] as number) - 0x30;
  let sound = i > first && seconds < Number.MAX_SAFE_INTEGER;
  let nanoseconds = 0;
  if (sound && i < end) {
    sound = bytes[i] === 0x2e;
    let unit = 100_000_000;
    for (i += 1; i < end && isDigit(bytes[i]); i += 1) {
      nanoseconds += ((bytes[i] as number) - 0x30) * unit;
      unit = Math.floor(unit / 10);
    }
    sound &&= i === end;
  }
  if (!sound) throw malformed(record.place, `${record.key} is not a time: ${shown(record)}`);
  if (!negative) return { seconds, nanoseconds };
  // -1.25 is two seconds before the epoch and 750 ms on top. `0 -` keeps a minus zero out.
  return nanoseconds === 0 ? { seconds: 0 - seconds, nanoseconds: 0 } : { seconds: 0 - seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds };
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

/** A time as pax writes it: no more digits than needed. */
export function encodeTime({ seconds, nanoseconds }: Time): string {
  if (nanoseconds === 0) return String(seconds);
  const negative = seconds < 0;
  const whole = negative ? -(seconds + 1) : seconds;
  const fraction = String(negative ? 1_000_000_000 - nanoseconds : nanoseconds).padStart(9, '0').replace(/0+$/, '');
  return `${negative ? '-' : ''}${whole}.${fraction}`;
}

function xattrName(name: string, place: Place): string {
  if (name === '') throw malformed(place, 'extended attribute without a name');
  return name;
}

/** `%41` becomes `A`; libarchive escapes what is not plain ASCII, and the percent sign, this way. */
function percentDecoded(name: string): string {
  if (!name.includes('%')) return name;
  const bytes = Buffer.from(encodeName(name)).toString('latin1');
  return decodeName(Buffer.from(bytes.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))), 'latin1'));
}

function base64({ key, bytes, start, end, place }: PaxRecord): Uint8Array {
  const text = bytes.toString('latin1', start, end);
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text)) throw malformed(place, `${key} is not base64`);
  return new Uint8Array(Buffer.from(text, 'base64'));
}

function shown({ bytes, start, end }: PaxRecord): string {
  return printable(JSON.stringify(bytes.toString('latin1', start, Math.min(end, start + 40))));
}

/** Records in the given order. Values are bytes; keys must be free of "=" and NUL. */
export function encodePax(records: Iterable<readonly [key: string, value: Uint8Array]>): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const [key, value] of records) {
    const name = encodeName(key);
    const rest = name.length + value.length + 3;
    // The length counts its own digits, and those may be one more than at first sight.
    let length = rest + String(rest).length;
    if (String(length).length !== String(rest).length) length = rest + String(length).length;
    parts.push(Buffer.from(`${length} `, 'latin1'), name, Buffer.from('='), value, Buffer.from('\n'));
  }
  return concat(parts);
}

/** Later headers win; a record without a value takes the earlier one back. */
export function mergePax(earlier: PaxAttributes, later: PaxAttributes): PaxAttributes {
  const merged = { ...earlier, ...later };
  if (earlier.xattrs && later.xattrs) merged.xattrs = new Map([...earlier.xattrs, ...later.xattrs]);
  return merged;
}
