import { type ContentSlot, MARK_STEP, type SlotLog } from './content-ring.ts';
import { type Matches, matchesIn } from './matches.ts';

/** Literals of an entry that stands for no match. */
const LONG_RUN = 511;

/** What an inflater knows of bytes that it lends, for a slot. Lent like the bytes. */
export function slotLog(bytes: Uint8Array): SlotLog | undefined {
  const marks: number[] = [];
  let first: Matches | undefined;
  let count = 0;
  for (let at = 0; at < bytes.length; at += MARK_STEP) {
    const matches = matchesIn(bytes.subarray(at, at + MARK_STEP));
    if (!matches) return undefined;
    first ??= matches;
    marks.push(count, at + matches.lead);
    count += matches.entries.length;
  }
  return first && { entries: new Uint32Array(first.entries.buffer, first.entries.byteOffset, count), marks: Int32Array.from(marks) };
}

/** Answers `matchesIn` for views of the slot that is being read, as the inflater would have. */
export class SlotMatches {
  #slot: ContentSlot | undefined;
  /** Where the last search ended: an entry, and the byte of the slot that its literals begin at. */
  #entry = 0;
  #at = 0;

  /** Another slot is read, or none. */
  read(slot: ContentSlot | undefined): void {
    this.#slot = slot;
    this.#at = Infinity;
  }

  lookUp = (view: Uint8Array): Matches | undefined => {
    const { bytes, log } = this.#slot ?? {};
    if (!bytes || !log) return undefined;
    const from = view.byteOffset - bytes.byteOffset;
    if (from < 0 || from + view.length > bytes.length) return undefined;
    const first = this.#seek(log, from, bytes.length);
    const lead = this.#at - from;
    return { entries: log.entries.subarray(first, this.#seek(log, from + view.length, bytes.length)), lead };
  };

  /** The first entry of a match that begins at `place` of so many bytes or behind it. */
  #seek({ entries, marks }: SlotLog, place: number, size: number): number {
    const mark = 2 * Math.floor(Math.min(place, size - 1) / MARK_STEP);
    let entry = this.#entry;
    let at = this.#at;
    // As near in front as is known.
    if (at > place || entry < (marks[mark] as number)) [entry, at] = [marks[mark] as number, marks[mark + 1] as number];
    for (; entry < entries.length; entry++) {
      const word = entries[entry] as number;
      const run = word >>> 23;
      if (run === LONG_RUN) at += word & 0x7f_ffff;
      else if (at + run >= place) break;
      else at += run + ((word >>> 15) & 255) + 3;
    }
    this.#entry = entry;
    this.#at = at;
    return entry;
  }
}
