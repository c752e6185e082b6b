import { decodeNumber, FIELD, paddingOf, TAR_BLOCK } from './layout.ts';
import { recordAt } from './pax.ts';
import { Place } from './place.ts';

/** The parts of an entry's header bytes: one block, and what may stand in front of it. */
export interface HeaderParts {
  /** Where the entry's own header block is, behind all records. */
  readonly block: number;
  /** Where the header blocks of the records are. */
  readonly records: readonly number[];
  /** There are global headers ('g') among the records. */
  readonly global: boolean;
  /** Bytes of the largest record. */
  readonly largest: number;
  /** All pax records that are about this entry, also those that nobody here understands; values are copies. Of equal keys the last counts. */
  readonly pax: ReadonlyMap<string, Uint8Array>;
  /** Content of the GNU long link record ('K') up to its first NUL; undefined when there is none, or an empty one. */
  readonly longLink?: Uint8Array;
}

const NONE: readonly number[] = [];
const NO_PAX: ReadonlyMap<string, Uint8Array> = new Map();
const PLAIN: HeaderParts = { block: 0, records: NONE, global: false, largest: 0, pax: NO_PAX };

/** Takes apart `TarEntry.header` of an entry that is no sparse file. */
export function headerParts(header: Uint8Array): HeaderParts {
  if (header.length === TAR_BLOCK) return PLAIN;
  const bytes = Buffer.from(header.buffer, header.byteOffset, header.byteLength);
  const place = new Place('header of a tar entry');
  const records: number[] = [];
  let pax = NO_PAX;
  let longLink: Uint8Array | undefined;
  let global = false;
  let largest = 0;
  let at = 0;
  for (; at + TAR_BLOCK < bytes.length; ) {
    const flag = bytes[at + FIELD.typeflag.at];
    const size = decodeNumber(bytes, at, FIELD.size);
    const start = at + TAR_BLOCK;
    if (!(size >= 0 && start + size <= bytes.length)) throw place.corrupt('a record reaches outside');
    records.push(at);
    largest = Math.max(largest, size);
    // As the reader has it: two in a row do not add up, and a global header is an entry of its own to what comes before it.
    if (flag === 0x78) pax = paxRecords(bytes, start, start + size, place);
    else if (flag === 0x4b) longLink = upToNul(bytes.subarray(start, start + size));
    else if (flag === 0x67) {
      global = true;
      pax = NO_PAX;
      longLink = undefined;
    }
    at = start + size + paddingOf(size);
  }
  return { block: at, records, global, largest, pax, ...(longLink && { longLink }) };
}

function paxRecords(bytes: Buffer, start: number, end: number, place: Place): Map<string, Uint8Array> {
  const records = new Map<string, Uint8Array>();
  for (let at = start; at < end; ) {
    const record = recordAt(bytes, at, end, place);
    records.set(record.key, new Uint8Array(bytes.subarray(record.start, record.end)));
    at = record.end + 1;
  }
  return records;
}

/** A copy; undefined for nothing. */
function upToNul(bytes: Uint8Array): Uint8Array | undefined {
  const nul = bytes.indexOf(0);
  const text = nul < 0 ? bytes : bytes.subarray(0, nul);
  return text.length === 0 ? undefined : new Uint8Array(text);
}
