import { decodeName, encodeName, isUtf8Name } from '../core/bytes.ts';
import { LazypullError } from '../core/errors.ts';
import type { ByteStream, Sink, Time } from '../core/types.ts';
import type { TarType } from './entry.ts';
import { encodeAscii, encodeChecksum, encodeOctal, END_OF_ARCHIVE, FIELD, octalLimit, paddingOf, TAR_BLOCK, type Field } from './layout.ts';
import { encodePax } from './pax.ts';
import { encodeTime } from './pax-values.ts';

export { END_OF_ARCHIVE, paddingOf, TAR_BLOCK } from './layout.ts';

/** What a header says. A `TarEntry` is one, and so is a literal with the few fields that matter. */
export interface TarHeader {
  /** Raw name; names by `decodeName` give back their bytes. Directories are usually written with a trailing `/`. */
  readonly path: string;
  readonly type: TarType;
  readonly linkName?: string;
  /** 0..07777. */
  readonly mode: number;
  /** Written instead of `mode` when it fits, so that headers made again keep the file type bits of old ones. */
  readonly rawMode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly userName?: string;
  readonly groupName?: string;
  /** Default: the epoch. */
  readonly mtime?: Time;
  readonly atime?: Time;
  readonly ctime?: Time;
  readonly major?: number;
  readonly minor?: number;
  /** Payload bytes that will follow; counts for files only. */
  readonly size?: number;
  readonly xattrs?: ReadonlyMap<string, Uint8Array>;
}

const TYPEFLAG: Readonly<Record<TarType, string>> = { file: '0', hardlink: '1', symlink: '2', char: '3', block: '4', directory: '5', fifo: '6' };

const MAGIC = 'ustar\x0000';

/** Everything that goes in front of the payload: one ustar block, or, when that cannot hold it all, a pax header and the block. */
export function encodeTarHeader(header: TarHeader): Uint8Array {
  const records = new Map<string, Uint8Array>();
  const block = new Uint8Array(TAR_BLOCK);
  const name = encodeChecked(header, header.path, 'name');
  const split = splitName(name, isPlain(header.path) || !isUtf8Name(header.path));
  if (split) {
    block.set(split.name, FIELD.name.at);
    block.set(split.prefix, FIELD.prefix.at);
  } else {
    records.set('path', name);
    block.set(cut(name, FIELD.name.size), FIELD.name.at);
  }
  if (header.type === 'hardlink' || header.type === 'symlink') {
    putText(block, records, FIELD.linkName, 'linkpath', header, header.linkName ?? '', FIELD.linkName.size);
  }
  const { rawMode = header.mode } = header;
  const mode = checked(header, rawMode <= octalLimit(FIELD.mode) ? rawMode : header.mode, 'mode');
  if (mode > octalLimit(FIELD.mode)) throw refuse(header, `mode cannot be ${mode}`);
  encodeOctal(block, FIELD.mode, mode);
  putNumber(block, records, FIELD.uid, 'uid', header, header.uid ?? 0);
  putNumber(block, records, FIELD.gid, 'gid', header, header.gid ?? 0);
  putNumber(block, records, FIELD.size, 'size', header, header.type === 'file' ? (header.size ?? 0) : 0);
  putTimes(block, records, header);
  encodeAscii(block, FIELD.typeflag.at, TYPEFLAG[header.type]);
  encodeAscii(block, FIELD.magic.at, MAGIC);
  // One byte stays free for the NUL that closes these two.
  putText(block, records, FIELD.userName, 'uname', header, header.userName ?? '', FIELD.userName.size - 1);
  putText(block, records, FIELD.groupName, 'gname', header, header.groupName ?? '', FIELD.groupName.size - 1);
  const device = header.type === 'char' || header.type === 'block';
  putNumber(block, records, FIELD.major, 'SCHILY.devmajor', header, device ? (header.major ?? 0) : 0);
  putNumber(block, records, FIELD.minor, 'SCHILY.devminor', header, device ? (header.minor ?? 0) : 0);
  for (const [key, value] of header.xattrs ?? []) records.set(`SCHILY.xattr.${xattrName(header, key)}`, value);
  encodeChecksum(block);
  return records.size === 0 ? block : withPaxHeader(block, records, name);
}

/**
 * Splits a name into the `prefix` and `name` fields at a slash; undefined when that is not possible. Names that are text
 * but not ASCII go to pax, which says what they are; names that are not even text are bytes, and here bytes are at home.
 */
function splitName(name: Uint8Array, allowed: boolean): { name: Uint8Array; prefix: Uint8Array } | undefined {
  if (!allowed) return undefined;
  if (name.length <= FIELD.name.size) return { name, prefix: name.subarray(0, 0) };
  // The slash goes as far right as the prefix allows, but not to the very end: something must be left as a name.
  const at = name.lastIndexOf(0x2f, Math.min(FIELD.prefix.size, name.length - 2));
  if (at <= 0 || name.length - at - 1 > FIELD.name.size) return undefined;
  return { name: name.subarray(at + 1), prefix: name.subarray(0, at) };
}

function putText(block: Uint8Array, records: Map<string, Uint8Array>, field: Field, key: string, header: TarHeader, text: string, limit: number): void {
  const bytes = encodeChecked(header, text, key);
  if (bytes.length > limit || !(isPlain(text) || !isUtf8Name(text))) records.set(key, bytes);
  block.set(cut(bytes, limit), field.at);
}

function putNumber(block: Uint8Array, records: Map<string, Uint8Array>, field: Field, key: string, header: TarHeader, value: number): void {
  const fits = checked(header, value, key) <= octalLimit(field);
  if (!fits) records.set(key, Buffer.from(String(value)));
  encodeOctal(block, field, fits ? value : 0);
}

function putTimes(block: Uint8Array, records: Map<string, Uint8Array>, header: TarHeader): void {
  const mtime = checkedTime(header, header.mtime ?? { seconds: 0, nanoseconds: 0 }, 'mtime');
  const fits = mtime.seconds >= 0 && mtime.seconds <= octalLimit(FIELD.mtime);
  if (!fits || mtime.nanoseconds !== 0) records.set('mtime', Buffer.from(encodeTime(mtime)));
  encodeOctal(block, FIELD.mtime, fits ? mtime.seconds : 0);
  if (header.atime) records.set('atime', Buffer.from(encodeTime(checkedTime(header, header.atime, 'atime'))));
  if (header.ctime) records.set('ctime', Buffer.from(encodeTime(checkedTime(header, header.ctime, 'ctime'))));
}

/** The 'x' record in front of the block. Its own fields are fixed: nothing but the entry decides about its bytes. */
function withPaxHeader(block: Uint8Array, records: Map<string, Uint8Array>, path: Uint8Array): Uint8Array {
  // Code units would sort surrogates before U+E000; bytes are what other tools sort by.
  const sorted = [...records].sort(([a], [b]) => Buffer.compare(encodeName(a), encodeName(b)));
  const texts = ['path', 'linkpath', 'uname', 'gname'].map((key) => records.get(key));
  if (texts.some((bytes) => bytes && !isUtf8Name(decodeName(bytes)))) sorted.unshift(['hdrcharset', Buffer.from('BINARY')]);
  const body = encodePax(sorted);
  const all = new Uint8Array(TAR_BLOCK + body.length + paddingOf(body.length) + TAR_BLOCK);
  const own = all.subarray(0, TAR_BLOCK);
  encodeAscii(own, FIELD.name.at, paxHeaderName(path));
  encodeOctal(own, FIELD.mode, 0o644);
  encodeOctal(own, FIELD.uid, 0);
  encodeOctal(own, FIELD.gid, 0);
  encodeOctal(own, FIELD.size, body.length);
  encodeOctal(own, FIELD.mtime, 0);
  encodeAscii(own, FIELD.typeflag.at, 'x');
  encodeAscii(own, FIELD.magic.at, MAGIC);
  encodeOctal(own, FIELD.major, 0);
  encodeOctal(own, FIELD.minor, 0);
  encodeChecksum(own);
  all.set(body, TAR_BLOCK);
  all.set(block, all.length - TAR_BLOCK);
  return all;
}

/** A name that old readers, to which this is a file, can write out: ASCII, and within the field. */
function paxHeaderName(path: Uint8Array): string {
  const text = Buffer.from(path).toString('latin1').replace(/\/+$/, '');
  const base = text.slice(text.lastIndexOf('/') + 1).replace(/[^ -~]/g, '_');
  return `PaxHeaders.0/${base}`.slice(0, FIELD.name.size);
}

/** At most `limit` bytes, not ending within a UTF-8 sequence: what readers without pax get to see. */
function cut(bytes: Uint8Array, limit: number): Uint8Array {
  if (bytes.length <= limit) return bytes;
  let end = limit;
  while (end > 0 && ((bytes[end] as number) & 0xc0) === 0x80) end -= 1;
  return bytes.subarray(0, end);
}

/** Only characters 1..127. */
function isPlain(text: string): boolean {
  // oxlint-disable-next-line no-control-regex -- every ASCII character is meant
  return /^[\x01-\x7f]*$/.test(text);
}

function encodeChecked(header: TarHeader, text: string, what: string): Uint8Array {
  if (text.includes('\0')) throw refuse(header, `${what} has a NUL byte`);
  return encodeName(text);
}

function xattrName(header: TarHeader, name: string): string {
  if (name === '' || name.includes('=') || name.includes('\0')) throw refuse(header, `pax cannot carry an extended attribute named ${JSON.stringify(name)}`);
  return name;
}

function checked(header: TarHeader, value: number, what: string): number {
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw refuse(header, `${what} cannot be ${value}`);
}

function checkedTime(header: TarHeader, time: Time, what: string): Time {
  const { seconds, nanoseconds } = time;
  if (Number.isSafeInteger(seconds) && Number.isInteger(nanoseconds) && nanoseconds >= 0 && nanoseconds < 1_000_000_000) return time;
  throw refuse(header, `${what} cannot be ${seconds} s + ${nanoseconds} ns`);
}

function refuse(header: TarHeader, message: string): LazypullError {
  return new LazypullError('UNSUPPORTED', `tar header: ${message}`, { path: header.path });
}

/** An entry with its payload. `size` may be left out when the payload is at hand as bytes. */
export interface TarInput extends TarHeader {
  readonly body?: Uint8Array | ByteStream;
}

/** Writes a whole archive: headers, payloads, padding and the two zero blocks. A payload that is not `size` bytes long is SIZE_MISMATCH. */
export async function writeTar(entries: Iterable<TarInput> | AsyncIterable<TarInput>, sink: Sink): Promise<void> {
  for await (const entry of entries) {
    const { body } = entry;
    const whole = body instanceof Uint8Array;
    const wanted = entry.type === 'file' ? (entry.size ?? (whole ? body.length : 0)) : 0;
    await sink(encodeTarHeader({ ...entry, size: wanted }));
    let size = 0;
    for await (const bytes of whole ? [body] : (body ?? [])) {
      size += bytes.length;
      if (size > wanted) break;
      if (bytes.length > 0) await sink(bytes);
    }
    if (size !== wanted) throw new LazypullError('SIZE_MISMATCH', `tar payload of ${wanted} bytes announced, ${size > wanted ? 'more' : `only ${size}`} given`, { path: entry.path });
    const padding = paddingOf(size);
    if (padding > 0) await sink(END_OF_ARCHIVE.subarray(0, padding));
  }
  await sink(END_OF_ARCHIVE);
}
