import { decodeName } from '../../src/core/bytes.ts';
import type { SkippedLayer } from '../../src/core/format.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { decodeNumber, decodeText, dialectOf, FIELD, type Field } from '../../src/tar/layout.ts';
import { headerParts, type HeaderParts } from '../../src/tar/pax-records.ts';
import type { RecordType, ZtocRecord } from './layout.ts';
import { encodeModTime } from './mod-time.ts';

// Tar entries as records of a zTOC (notes §2). A snapshotter reads the header of a file again before the file is read, with
// Go's archive/tar, and wants to find what the record says (§6.4). What it would not find so is told as a reason not to
// index the layer; headers of other entries it never looks at.

const TYPES = {
  file: 'reg',
  hardlink: 'hardlink',
  symlink: 'symlink',
  char: 'char',
  block: 'block',
  directory: 'dir',
  fifo: 'fifo',
} as const satisfies Record<TarEntry['type'], RecordType>;

/** Go reads no record (pax header, long name) of more bytes. */
const GO_RECORD_LIMIT = 1 << 20;
/** Mode bits by which Go takes an entry for something else than a file: directory, fifo, symlink, block, char, socket. */
const OTHER_TYPES: ReadonlySet<number> = new Set([0o040000, 0o010000, 0o120000, 0o060000, 0o020000, 0o140000]);

/** The record of an entry, or why the layer cannot be indexed because of it. */
export function tocRecord(entry: TarEntry): ZtocRecord | SkippedLayer {
  if (entry.sparse) return skip(entry, 'is a sparse file');
  const parts = headerParts(entry.header);
  const header = Buffer.from(entry.header.buffer, entry.header.byteOffset, entry.header.byteLength);
  const { block, pax } = parts;
  const modTime = encodeModTime(entry.mtime);
  const reason = entry.type === 'file' ? unreadable(entry, header, parts, modTime) : undefined;
  if (reason !== undefined) return skip(entry, reason);
  const devices = dialectOf(header, block) !== 'v7';
  return {
    name: entry.path,
    type: TYPES[entry.type],
    offset: entry.offset + header.length,
    // Other entries have no data, whatever their header says (§2.3).
    size: entry.type === 'file' ? entry.storedSize : 0,
    linkName: entry.linkName || linkName(header, parts),
    mode: entry.rawMode,
    uid: entry.uid,
    gid: entry.gid,
    userName: entry.userName,
    groupName: entry.groupName,
    modTime,
    major: devices ? deviceNumber(header, block, FIELD.major) : 0,
    minor: devices ? deviceNumber(header, block, FIELD.minor) : 0,
    pax,
  };
}

function skip(entry: TarEntry, reason: string): SkippedLayer {
  const path = entry.path.length > 200 ? `${entry.path.slice(0, 200)}…` : entry.path;
  return { skipped: `${JSON.stringify(path)} ${reason}, which soci-snapshotter cannot read` };
}

/** What a snapshotter would trip over when it reads the header of a file. */
function unreadable(entry: TarEntry, header: Buffer, { block, records, global, largest }: HeaderParts, modTime: string): string | undefined {
  if (global) return 'has a global pax header in front of it';
  if (largest > GO_RECORD_LIMIT) return 'has a header record of more than 1 MiB';
  if (modTime === '') return 'has a modification time outside the years 0 to 9999';
  if (OTHER_TYPES.has(entry.rawMode - entry.mode)) return 'has the mode of something else than a file';
  if (!readsInGo(header, block) || !records.every((at) => readsInGo(header, at))) return 'has a number in its header that Go does not accept';
  return undefined;
}

/** Of entries that are no links: their header may have a target all the same. */
function linkName(header: Buffer, { block, pax, longLink }: HeaderParts): string {
  if (longLink) return decodeName(longLink);
  const path = pax.get('linkpath');
  return path && path.length > 0 ? decodeName(path) : decodeText(header, block, FIELD.linkName);
}

/** From the block: Go does not know `SCHILY.devmajor`. */
function deviceNumber(header: Buffer, block: number, field: Field): number {
  const number = decodeNumber(header, block, field);
  return number >= 0 ? number : 0;
}

/** Whether Go parses all numbers of a header block; our reader looks at those it needs, and takes some more spellings. */
function readsInGo(header: Buffer, block: number): boolean {
  const dialect = dialectOf(header, block);
  return NUMBERS.every((field) => isGoNumber(header, block, field))
    && (dialect === 'v7' || DEVICES.every((field) => isGoNumber(header, block, field) && decodeNumber(header, block, field) >= 0))
    && (dialect !== 'star' || STAR_TIMES.every((field) => isGoNumber(header, block, field)));
}

const NUMBERS = [FIELD.mode, FIELD.uid, FIELD.gid, FIELD.size, FIELD.mtime, FIELD.checksum] as const;
const DEVICES = [FIELD.major, FIELD.minor] as const;
const STAR_TIMES = [FIELD.starAtime, FIELD.starCtime] as const;

/** Octal: spaces and NULs are cut off at both ends, then everything in front of the first NUL has to be digits. */
function isGoNumber(header: Buffer, block: number, field: Field): boolean {
  if (Number.isNaN(decodeNumber(header, block, field))) return false;
  let at = block + field.at;
  let end = at + field.size;
  if ((header[at] as number) >= 0x80) return true;
  while (end > at && isBlank(header[end - 1])) end -= 1;
  while (at < end && isBlank(header[at])) at += 1;
  for (; at < end && header[at] !== 0; at += 1) if (((header[at] as number) & 0xf8) !== 0x30) return false;
  return true;
}

function isBlank(byte: number | undefined): boolean {
  return byte === 0 || byte === 0x20;
}
