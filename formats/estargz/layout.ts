/**
 * eStargz in code: names, footers and TOC entries, encode and decode beside each other. Pure and without I/O.
 * Section numbers refer to the format notes listed in README.md of this folder.
 */
import { corrupt } from '../../src/core/errors.ts';

/** Tar entry that holds the TOC; always the last one, in a gzip member of its own. */
export const TOC_NAME = 'stargz.index.json';
/** Everything in front of this file's payload is worth fetching before it is asked for. */
export const PREFETCH_LANDMARK = '.prefetch.landmark';
/** Nothing is worth fetching before it is asked for; wins over the other landmark. */
export const NO_PREFETCH_LANDMARK = '.no.prefetch.landmark';
export const LANDMARK_CONTENT = Uint8Array.of(0x0f);
/** Root entries that the format adds to a layer; dropped from an input, hidden from a reader. */
export const RESERVED_NAMES: readonly string[] = [TOC_NAME, PREFETCH_LANDMARK, NO_PREFETCH_LANDMARK];

/** The media type of every eStargz layer: to an ordinary client it is a gzipped tar. */
export const LAYER_MEDIA_TYPE = 'application/vnd.oci.image.layer.v1.tar+gzip';

/** Annotations on a layer's descriptor. */
export const ANNOTATION = {
  /** sha256 of the uncompressed TOC JSON. */
  tocDigest: 'containerd.io/snapshot/stargz/toc.digest',
  /** Decimal length of the layer's plain tar. */
  uncompressedSize: 'io.containers.estargz.uncompressed-size',
  /** On a layer of an external TOC image: digest of the layer blob it describes. */
  layerDigest: 'containerd.io/snapshot/stargz/layer.digest',
} as const;

/** Tag suffix of the image that carries external TOCs. */
export const EXTERNAL_TOC_SUFFIX = '-esgztoc';
export const DEFAULT_CHUNK_SIZE = 4 << 20;

/** Bytes of the three footers. Each is an empty gzip member with an extra field. */
export const FOOTER_SIZE = { estargz: 51, legacy: 47, external: 46 } as const;
export type FooterKind = keyof typeof FOOTER_SIZE;

export interface Footer {
  readonly kind: FooterKind;
  /** Blob offset of the TOC's gzip member; absent when the TOC is external. */
  readonly tocOffset?: number;
}

/*
 * offset  bytes  footer (51 / 47 / 46 bytes in all)
 *      0     10  gzip header: 1f 8b 08, FLG = 04 (FEXTRA), MTIME 0, XFL 0, OS ff
 *     10      2  XLEN, LE16: 26 / 22 / 21
 *     12      4  subfield "SG" and its LE16 length: 22 / absent / 17
 *     16     22  16 hex digits of the TOC offset and "STARGZ" (legacy: at 12), or 17 bytes "STARGZEXTERNALTOC"
 *    -13      5  empty final stored block
 *     -8      8  CRC32 and ISIZE, zero
 */
const FOOTER_HEAD = [0x1f, 0x8b, 0x08, 0x04, 0, 0, 0, 0, 0, 0xff] as const;
const FOOTER_TAIL = [0x01, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0] as const;
const MAGIC = 'STARGZ';
const EXTERNAL_MAGIC = 'STARGZEXTERNALTOC';

export function encodeFooter(footer: Footer): Uint8Array {
  const payload = footer.kind === 'external' ? EXTERNAL_MAGIC : `${(footer.tocOffset ?? 0).toString(16).padStart(16, '0')}${MAGIC}`;
  const extra = footer.kind === 'legacy' ? Buffer.from(payload) : Buffer.concat([Buffer.from('SG'), Buffer.from([payload.length, 0]), Buffer.from(payload)]);
  return Buffer.concat([Buffer.from(FOOTER_HEAD), Buffer.from([extra.length, 0]), extra, Buffer.from(FOOTER_TAIL)]);
}

/**
 * Reads the footer at the end of `tail` (the blob's last bytes, at least 51 of them unless the blob is shorter).
 * Tried in the order 51, 47, 46 bytes; length, subfield and magic are all compared. Undefined when there is none.
 */
export function decodeFooter(tail: Uint8Array): Footer | undefined {
  for (const kind of ['estargz', 'legacy', 'external'] as const) {
    if (tail.length < FOOTER_SIZE[kind]) continue;
    const bytes = Buffer.from(tail.subarray(tail.length - FOOTER_SIZE[kind]));
    if (kind === 'external') {
      if (bytes.equals(encodeFooter({ kind }))) return { kind };
      continue;
    }
    const digitsAt = kind === 'estargz' ? 16 : 12;
    const digits = bytes.toString('latin1', digitsAt, digitsAt + 16);
    if (!/^[0-9a-fA-F]{16}$/.test(digits)) continue;
    const tocOffset = Number.parseInt(digits, 16);
    if (!Number.isSafeInteger(tocOffset)) continue;
    // Hex digits of either case are read, everything else must be exactly what a writer of this footer writes.
    bytes.write(digits.toLowerCase(), digitsAt, 'latin1');
    if (bytes.equals(encodeFooter({ kind, tocOffset }))) return { kind, tocOffset };
  }
  return undefined;
}

export type TocType = 'dir' | 'reg' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo' | 'chunk';

/** One record of the TOC, field names and order as in the format. Absent means zero or empty. */
export interface TocEntry {
  name: string;
  type: TocType;
  size?: number;
  /** RFC 3339. */
  modtime?: string;
  linkName?: string;
  mode?: number;
  uid?: number;
  gid?: number;
  userName?: string;
  groupName?: string;
  /** Blob offset of the member that holds the payload. */
  offset?: number;
  /** Uncompressed offset of the payload inside that member. */
  innerOffset?: number;
  devMajor?: number;
  devMinor?: number;
  xattrs?: Readonly<Record<string, string>>;
  digest?: string;
  chunkOffset?: number;
  chunkSize?: number;
  chunkDigest?: string;
}

/** Every field in the order in which it is written, with the kind of value it must have. */
const FIELDS = [
  ['name', 'string'],
  ['type', 'string'],
  ['size', 'count'],
  ['modtime', 'string'],
  ['linkName', 'string'],
  ['mode', 'count'],
  ['uid', 'count'],
  ['gid', 'count'],
  ['userName', 'string'],
  ['groupName', 'string'],
  ['offset', 'count'],
  ['innerOffset', 'count'],
  ['devMajor', 'count'],
  ['devMinor', 'count'],
  ['xattrs', 'map'],
  ['digest', 'string'],
  ['chunkOffset', 'count'],
  ['chunkSize', 'count'],
  ['chunkDigest', 'string'],
] as const satisfies readonly (readonly [keyof TocEntry, 'string' | 'count' | 'map'])[];

const TYPES: ReadonlySet<string> = new Set<TocType>(['dir', 'reg', 'symlink', 'hardlink', 'char', 'block', 'fifo', 'chunk']);

/** What stands before, between and after the entries of a TOC document. */
export const TOC_HEAD = '{\n\t"version": 1,\n\t"entries": [';
export const TOC_TAIL = '\n\t]\n}';
/** The document without any entry. */
export const TOC_EMPTY = '{\n\t"version": 1,\n\t"entries": []\n}';

/** One entry as it stands in the document, the line break in front included; entries are joined by a comma. */
export function encodeTocEntry(entry: TocEntry): string {
  let text = `\n\t\t{\n\t\t\t"name": ${quote(entry.name)},\n\t\t\t"type": "${entry.type}"`;
  for (let i = 2; i < FIELDS.length; i++) {
    const [key, kind] = FIELDS[i] as (typeof FIELDS)[number];
    const value = entry[key];
    if (value === undefined || value === 0 || value === '') continue;
    text += `,\n\t\t\t"${key}": ${kind === 'count' ? String(value) : kind === 'string' ? quote(value as string) : encodeMap(value as Record<string, string>)}`;
  }
  return `${text}\n\t\t}`;
}

function encodeMap(map: Readonly<Record<string, string>>): string {
  const keys = Object.keys(map).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return `{${keys.map((key) => `\n\t\t\t\t${quote(key)}: ${quote(map[key] as string)}`).join(',')}\n\t\t\t}`;
}

// oxlint-disable-next-line no-control-regex -- the characters that a JSON string cannot hold as they are
const SPECIAL = /[\u0000-\u001f"\\<>&\u2028\u2029]/;

/** A JSON string; `<`, `>`, `&` and the two line separators are escaped too, as the reference writer does. */
function quote(text: string): string {
  if (!SPECIAL.test(text)) return `"${text}"`;
  return JSON.stringify(text).replace(/[<>&\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/**
 * Parses a TOC document: one JSON value, any formatting, unknown keys ignored. Types of all known fields are checked;
 * what the values mean is checked by the reader.
 */
export function decodeToc(json: Uint8Array): TocEntry[] {
  let document: unknown;
  try {
    document = JSON.parse(Buffer.from(json.buffer, json.byteOffset, json.byteLength).toString('utf8'));
  } catch (cause) {
    throw corrupt('TOC is not JSON', { path: TOC_NAME, cause });
  }
  const { version, entries } = (document ?? {}) as { version?: unknown; entries?: unknown };
  if (version !== 1) throw corrupt(`TOC has version ${JSON.stringify(version)?.slice(0, 40)}, not 1`, { path: TOC_NAME });
  // Go writes an empty list as null.
  if (entries === null || entries === undefined) return [];
  if (!Array.isArray(entries)) throw corrupt('TOC has no list of entries', { path: TOC_NAME });
  entries.forEach(checkTocEntry);
  return entries as TocEntry[];
}

function checkTocEntry(entry: unknown, index: number): void {
  if (typeof entry !== 'object' || entry === null) throw corrupt(`TOC entry ${index} is not an object`, { path: TOC_NAME });
  const record = entry as Record<string, unknown>;
  const name = typeof record['name'] === 'string' ? record['name'] : `entry ${index}`;
  if (typeof record['name'] !== 'string' || typeof record['type'] !== 'string') throw corrupt(`TOC entry ${index} lacks a name or a type`, { path: TOC_NAME });
  if (!TYPES.has(record['type'])) throw corrupt(`TOC entry has unknown type ${JSON.stringify(record['type'].slice(0, 40))}`, { path: name });
  for (const [key, kind] of FIELDS) {
    const value = record[key];
    if (value === undefined || value === null) {
      if (value === null) delete record[key];
      continue;
    }
    const good = kind === 'string' ? typeof value === 'string' : kind === 'count' ? Number.isSafeInteger(value) && (value as number) >= 0 : isTextMap(value);
    if (!good) throw corrupt(`TOC field ${key} is not a ${kind === 'count' ? 'whole number from 0 to 2^53-1' : kind === 'map' ? 'map of strings' : 'string'}`, { path: name });
  }
}

function isTextMap(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && Object.values(value).every((v) => typeof v === 'string');
}

/** Whole seconds, rounded to nearest, as the TOC writes them. Undefined when RFC 3339 cannot express the time. */
export function encodeModtime(seconds: number, nanoseconds: number): string | undefined {
  const rounded = nanoseconds >= 500_000_000 ? seconds + 1 : seconds;
  // Years 0 to 9999.
  if (rounded < -62_167_219_200 || rounded > 253_402_300_799) return undefined;
  return `${new Date(rounded * 1000).toISOString().slice(0, 19)}Z`;
}

const RFC3339 = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)$/;

export function decodeModtime(text: string, name: string): { seconds: number; nanoseconds: number } {
  const match = RFC3339.exec(text);
  const milliseconds = match ? Date.parse(`${match[1]}${match[3]}`) : Number.NaN;
  if (!match || Number.isNaN(milliseconds)) throw corrupt(`modtime ${JSON.stringify(text.slice(0, 60))} is not an RFC 3339 time`, { path: name });
  return { seconds: milliseconds / 1000, nanoseconds: Number((match[2] ?? '').padEnd(9, '0')) };
}
