import { concat, encodeName } from '../core/bytes.ts';
import type { Time } from '../core/types.ts';
import { decodeTextRange } from './layout.ts';
import { base64, malformed, numberList, paxNumber, paxText, paxTime, percentDecoded, requiredNumber, xattrName, type PaxRecord } from './pax-values.ts';
import type { Place } from './place.ts';

// POSIX.1-2017 pax, "pax Extended Header": records of the form "LENGTH KEY=VALUE\n", the length counting itself.

/** What the extended header says about an entry. A record without a value says nothing, and the header block counts. */
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
const TEXT_KEYS: ReadonlySet<string> = new Set(['path', 'linkpath', 'uname', 'gname']);

/** Reads the records in `bytes[start, end)`. Keys that are not known are passed over, as POSIX asks. */
export function decodePax(bytes: Buffer, start: number, end: number, place: Place): PaxAttributes {
  const attributes: PaxAttributes = {};
  // Kept apart because bsdtar writes each attribute twice, in either order, and only this spelling is exact.
  let schily: Map<string, Uint8Array> | undefined;
  for (let at = start; at < end; ) {
    const record = recordAt(bytes, at, end, place);
    const { key } = record;
    if (key.startsWith(SCHILY_XATTR)) {
      schily ??= new Map();
      schily.set(xattrName(key.slice(SCHILY_XATTR.length), place), new Uint8Array(bytes.subarray(record.start, record.end)));
    } else {
      decodeRecord(attributes, record);
    }
    at = record.end + 1;
  }
  if (schily) {
    const { xattrs } = attributes;
    if (xattrs) for (const [name, value] of schily) xattrs.set(name, value);
    else attributes.xattrs = schily;
  }
  return attributes;
}

/**
 * Holds the records in `bytes[start, end)` against the syntax and looks no further: numbers and times may be anything.
 * Names with NUL bytes are refused, as Go's reader does even where it ignores them.
 */
export function checkPax(bytes: Buffer, start: number, end: number, place: Place): void {
  for (let at = start; at < end; ) {
    const record = recordAt(bytes, at, end, place);
    if (TEXT_KEYS.has(record.key)) paxText(record);
    at = record.end + 1;
  }
}

/** The record that starts at `at`; the next one is behind the newline at its `end`. */
export function recordAt(bytes: Buffer, at: number, end: number, place: Place): PaxRecord {
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
  return { key: decodeTextRange(bytes, i + 1, equals - i - 1), bytes, start: equals + 1, end: next - 1, place };
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
