// Makes use of the matches that the source's deflate stream had: its compressor had looked for them. The log of them comes in
// pieces of four words (first byte of the input that it tells about, bytes, entries, and bytes from there to where the
// first entry's literals begin, which may be negative), each followed by its entries as in inflate-map.ts. Matches are held
// against the bytes before they are used, so the output is right whatever the log says.
import { LONG_RUN } from './inflate-map';
import { equalBytes, extend } from './match';
import { SEQUENCE_SIZE } from './zstd-map';

const MIN_LENGTH: u32 = 3;
/** Deflate cuts matches to this. */
const MAX_LENGTH: u32 = 258;
const PIECE_HEADER: usize = 16;

/** What is left of the log: its next entry, the end of the open piece's entries, its end, and where the literals in front of the next entry's match begin. */
let entry: usize = 0;
let entriesEnd: usize = 0;
let logEnd: usize = 0;
let literalsStart: usize = 0;

/** Bytes of matches in what was replayed last. */
export let matched: u32 = 0;

/** Begins an input with a log of `size` bytes. */
export function beginReplay(log: usize, size: usize): void {
  entry = entriesEnd = log;
  logEnd = log + size;
}

/**
 * Writes the matches of the block `[done, end)` of the input that begins at `start` to `to`: three u32 each, literals in front,
 * distance, length. Those of three bytes from further away than `near` are left out; what reaches beyond `end` is cut there, and
 * its rest is the next block's. Returns the end of what was written. Blocks must come in order.
 */
export function replay(start: usize, done: usize, end: usize, near: u32, to: usize): usize {
  let at = entry;
  let literals = literalsStart;
  let bytes: u32 = 0;
  for (;;) {
    if (at >= entriesEnd) {
      if (logEnd - at < PIECE_HEADER) break;
      const entries = load<u32>(at, 8);
      literals = start + load<u32>(at) + load<u32>(at, 12);
      at += PIECE_HEADER;
      entriesEnd = at + min<usize>(<usize>entries << 2, logEnd - at);
      continue;
    }
    const word = load<u32>(at);
    const run = word >> 23;
    if (run == LONG_RUN) {
      literals += word & 0x7f_ffff;
      at += 4;
      continue;
    }
    const whole = ((word >> 15) & 255) + MIN_LENGTH;
    const distance = (word & 0x7fff) + 1;
    const next = literals + run + whole;
    // Not in front of `done`: the match before may have been longer than its log said.
    const from = max(literals + run, done);
    if (from + MIN_LENGTH > end) break;
    const longest = <i32>(min(next, end) - from);
    if (longest >= <i32>MIN_LENGTH && distance <= <u32>(from - start) && (longest > <i32>MIN_LENGTH || distance <= near)) {
      let length = equalBytes(from, distance);
      if (length >= <u32>longest) length = whole < MAX_LENGTH ? longest : extend(from, distance, longest, end);
      else if (length == 16) length = extend(from, distance, 16, from + longest);
      if (length > MIN_LENGTH || (length == MIN_LENGTH && distance <= near)) {
        store<u32>(to, <u32>(from - done));
        store<u32>(to, distance, 4);
        store<u32>(to, length, 8);
        to += SEQUENCE_SIZE;
        done = from + length;
        bytes += length;
      }
    }
    if (next > end) break;
    at += 4;
    literals = next;
  }
  entry = at;
  literalsStart = literals;
  matched = bytes;
  return to;
}
