import type { Time } from '../core/types.ts';
import type { SparseRun, TarEntry, TarType } from './entry.ts';
import { decodeNumber, decodeText, dialectOf, FIELD, type Dialect, type Field } from './layout.ts';
import { ID_LIMIT, type PaxAttributes } from './pax.ts';
import type { Place } from './place.ts';

/** What the records in front of a header block say about its entry. */
export interface Extension {
  readonly pax: PaxAttributes | undefined;
  /** GNU 'L' and 'K' records. */
  readonly longName: string | undefined;
  readonly longLink: string | undefined;
}

/** A decoded header block; the reader adds what only the stream tells. */
export interface Decoded {
  readonly entry: { -readonly [K in keyof TarEntry]: TarEntry[K] };
  readonly dialect: Dialect;
  /** 'S': the map continues in the block. */
  readonly oldSparse: boolean;
}

const EMPTY: ReadonlyMap<string, Uint8Array> = new Map();
const NO_HEADER = new Uint8Array(0);
const NO_RUNS: readonly SparseRun[] = [];

/** Decodes blocks of one archive. Owner names repeat from entry to entry, so the last one of each field is remembered. */
export class HeaderDecoder {
  readonly #place: Place;
  #userName = '';
  #groupName = '';

  constructor(place: Place) {
    this.#place = place;
  }

  decode(block: Buffer, base: number, { pax, longName, longLink }: Extension): Decoded {
    const dialect = dialectOf(block, base);
    let path = longName ?? pax?.path ?? '';
    if (path === '') path = decodeText(block, base, FIELD.name);
    this.#place.path = path;
    let atime: Time | undefined;
    let ctime: Time | undefined;
    let prefix = '';
    if (dialect === 'ustar') {
      prefix = decodeText(block, base, FIELD.prefix);
    } else if (dialect === 'gnu') {
      const accessed = optionalTime(block, base, FIELD.gnuAtime);
      const changed = optionalTime(block, base, FIELD.gnuCtime);
      // Archives by Go before 1.8 (old docker layers) have GNU's magic and yet a name prefix, which is no number. Go only
      // ever put ASCII there; anything else is neither.
      if (accessed === null || changed === null) {
        const text = decodeText(block, base, FIELD.prefix);
        if (isAscii(text)) prefix = text;
      } else {
        atime = accessed;
        ctime = changed;
      }
    } else if (dialect === 'star') {
      prefix = decodeText(block, base, FIELD.starPrefix);
      atime = optionalTime(block, base, FIELD.starAtime) ?? undefined;
      ctime = optionalTime(block, base, FIELD.starCtime) ?? undefined;
    }
    if (prefix !== '' && longName === undefined && pax?.path === undefined) {
      path = `${prefix}/${path}`;
      this.#place.path = path;
    }
    const flag = block[base + FIELD.typeflag.at] as number;
    const type = this.#type(flag, path);
    const oldSparse = flag === 0x53;
    if (oldSparse && dialect !== 'gnu') throw this.#place.error('UNSUPPORTED', `sparse file ('S') in ${dialect} format`);
    const rawMode = this.#number(block, base, FIELD.mode, 'mode');
    const uid = pax?.uid ?? this.#number(block, base, FIELD.uid, 'uid');
    const gid = pax?.gid ?? this.#number(block, base, FIELD.gid, 'gid');
    const device = type === 'char' || type === 'block';
    // Only files have a payload; links of old archives repeat the size of their target (POSIX, and what every reader does).
    const size = type === 'file' ? (pax?.size ?? this.#number(block, base, FIELD.size, 'size', Number.MAX_SAFE_INTEGER)) : 0;
    const linkName = type === 'hardlink' || type === 'symlink' ? (longLink ?? pax?.linkPath ?? decodeText(block, base, FIELD.linkName)) : '';
    const owned = dialect !== 'v7';
    const entry: Decoded['entry'] = {
      path,
      linkName,
      type,
      mode: rawMode & 0o7777,
      rawMode,
      uid,
      gid,
      userName: pax?.userName ?? (owned ? (this.#userName = repeatedText(block, base, FIELD.userName, this.#userName)) : ''),
      groupName: pax?.groupName ?? (owned ? (this.#groupName = repeatedText(block, base, FIELD.groupName, this.#groupName)) : ''),
      mtime: pax?.mtime ?? { seconds: this.#seconds(block, base), nanoseconds: 0 },
      major: device ? (pax?.major ?? this.#number(block, base, FIELD.major, 'device number')) : 0,
      minor: device ? (pax?.minor ?? this.#number(block, base, FIELD.minor, 'device number')) : 0,
      size,
      xattrs: pax?.xattrs ?? EMPTY,
      offset: 0,
      header: NO_HEADER,
      storedSize: size,
    };
    atime = pax?.atime ?? atime;
    ctime = pax?.ctime ?? ctime;
    if (atime) entry.atime = atime;
    if (ctime) entry.ctime = ctime;
    if (oldSparse) {
      entry.size = this.#number(block, base, FIELD.gnuRealSize, 'real size', Number.MAX_SAFE_INTEGER);
      entry.sparse = NO_RUNS;
    }
    return { entry, dialect, oldSparse };
  }

  #type(flag: number, path: string): TarType {
    switch (flag) {
      case 0x30:
      case 0x37:
      case 0x53:
        return 'file';
      case 0x35:
        return 'directory';
      case 0x32:
        return 'symlink';
      case 0x31:
        return 'hardlink';
      case 0:
        // Before POSIX there was no type for directories; only NUL, not '0', can mean one.
        return path.endsWith('/') ? 'directory' : 'file';
      case 0x33:
        return 'char';
      case 0x34:
        return 'block';
      case 0x36:
        return 'fifo';
      default:
        throw this.#place.error('UNSUPPORTED', `entries of type ${flag > 0x20 && flag < 0x7f ? `'${String.fromCharCode(flag)}'` : `0x${flag.toString(16)}`} are not supported`);
    }
  }

  #number(block: Uint8Array, base: number, field: Field, name: string, limit = ID_LIMIT): number {
    const value = decodeNumber(block, base, field);
    if (value >= 0 && value <= limit) return value;
    throw this.#place.corrupt(`${name} field ${Number.isNaN(value) ? 'is no number, or beyond 2^53' : `holds ${value}`}`);
  }

  #seconds(block: Uint8Array, base: number): number {
    const value = decodeNumber(block, base, FIELD.mtime);
    if (Number.isNaN(value)) throw this.#place.corrupt('mtime field is not a number');
    return value;
  }
}

/** A time that is there only when its field is not blank; null when the field holds something else. */
function optionalTime(block: Uint8Array, base: number, field: Field): Time | null | undefined {
  if (block[base + field.at] === 0) return undefined;
  const seconds = decodeNumber(block, base, field);
  return Number.isNaN(seconds) ? null : { seconds, nanoseconds: 0 };
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i += 1) if (text.charCodeAt(i) >= 0x80) return false;
  return true;
}

function repeatedText(block: Buffer, base: number, field: Field, last: string): string {
  const start = base + field.at;
  let i = 0;
  for (; i < last.length; i += 1) if (block[start + i] !== last.charCodeAt(i)) return decodeText(block, base, field);
  return i === field.size || block[start + i] === 0 ? last : decodeText(block, base, field);
}
