// Compresses with what is known of the bytes. Where they come out of a deflate stream, that stream's matches are used again:
// its compressor had looked for them with the same window. Where nothing is known, or a match is out of reach now, there
// is a search. Matches are held against the bytes before they are used, so the output is right whatever the log says.
//
// The log: pieces of four words (first byte of the input that it tells about, bytes, entries, and bytes from there to where
// the first entry's literals begin, which may be negative), each followed by its entries as in inflate-map.ts.
import { addLiterals, addMatch, beginBlocks, endBlocks } from './deflate-block';
import { HISTORY, KNOWN } from './deflate-map';
import { beginStretches, extend, literalsEnd, mayEndStretch, remember, search } from './deflate-match';

const MIN_LENGTH: u32 = 3;
/** An entry that stands for literals alone. */
const LONG_RUN: u32 = 511;
const PIECE_HEADER: usize = 16;

/** What is at hand of the log. */
export let knownAt: usize = KNOWN;
let knownEnd: usize = KNOWN;
/** The piece that is open: its end, entries left of it, and where the literals of the next begin. Positions in the input. */
let pieceEnd: u32 = 0;
let entriesLeft: u32 = 0;
let runStart: u32 = 0;

/** Begins an input of which nothing is known. */
export function forget(): void {
  knownAt = knownEnd = KNOWN;
  pieceEnd = entriesLeft = 0;
}

/** Says that `size` bytes of log are at KNOWN. They go on where `knownAt` stood at the end of the segment before. */
export function setKnown(size: u32): void {
  knownAt = KNOWN;
  knownEnd = KNOWN + size;
}

/** Compresses `[start, end)` of an input whose first byte is, or was, at `origin`; matches may reach back to `oldest`. */
export function compressRange(origin: usize, oldest: usize, start: usize, end: usize, final: bool): void {
  beginBlocks(start);
  beginStretches(start);
  let at = start;
  while (at < end) {
    if (<u32>(at - origin) >= pieceEnd) at = search(oldest, at, openPiece(origin, at, end), end);
    if (<u32>(at - origin) < pieceEnd) at = replay(origin, oldest, at, end);
  }
  addLiterals(end);
  endBlocks(end, final);
}

/** Opens the piece that `at` lies in and returns `at`; if it lies in none, returns where the next one begins, at most `end`. */
function openPiece(origin: usize, at: usize, end: usize): usize {
  while (<u32>(at - origin) >= pieceEnd) {
    // A match may have gone beyond the piece before: what is left of it is of no use.
    knownAt += min<usize>(entriesLeft << 2, knownEnd - knownAt);
    entriesLeft = 0;
    if (knownEnd - knownAt < PIECE_HEADER) return end;
    const start = load<u32>(knownAt);
    if (<u32>(at - origin) < start) return at + min(start - (at - origin), end - at);
    pieceEnd = start + load<u32>(knownAt, 4);
    entriesLeft = load<u32>(knownAt, 8);
    runStart = start + load<u32>(knownAt, 12);
    knownAt += PIECE_HEADER;
  }
  return at;
}

/**
 * Adds bytes of the open piece, from `start` up to its end or `end`; the last match may go beyond the piece. Returns the first
 * byte not covered. Where one piece ends and the next goes on must not show in the output: it depends on how the
 * stream came in.
 */
function replay(origin: usize, oldest: usize, start: usize, end: usize): usize {
  const until = start + min(pieceEnd - (start - origin), end - start);
  // So far the matches may reach in front of the input, and a search in their place needs to know what was passed over.
  const settled = origin + HISTORY;
  let at = start;
  let literals = origin + runStart;
  let entry = knownAt;
  const entriesEnd = entry + min<usize>(entriesLeft << 2, knownEnd - entry);
  for (; entry < entriesEnd; entry += 4) {
    const word = load<u32>(entry);
    const run = word >> 23;
    if (run == LONG_RUN) {
      literals += word & 0x7f_ffff;
      continue;
    }
    const from = max(literals + run, at);
    if (from >= until) break;
    const next = literals + run + ((word >> 15) & 255) + MIN_LENGTH;
    const to = min(next, end);
    if (to >= from + MIN_LENGTH) {
      if (at < settled) remember(at, min(from, settled), end);
      at = literalsEnd(at, from);
      at = reuse(oldest, at, <u32>(to - at), (word & 0x7fff) + 1, settled, end);
    }
    // The rest of this match is for the next segment.
    if (next > end) break;
    literals = next;
  }
  entriesLeft -= <u32>(entry - knownAt) >> 2;
  knownAt = entry;
  runStart = <u32>(literals - origin);
  if (at < until) {
    if (at < settled) remember(at, min(until, settled), end);
    at = literalsEnd(at, until);
  }
  return at;
}

/** Adds a known match if it holds and is in reach, or else searches in its place; returns the first byte not covered. */
// @inline
function reuse(oldest: usize, at: usize, length: u32, distance: u32, settled: usize, end: usize): usize {
  if (distance > <u32>(at - oldest)) return search(oldest, at, at + length, end);
  let same: u32 = ctz(~i8x16.bitmask(i8x16.eq(v128.load(at), v128.load(at - distance))));
  if (same == 16 && length > 16) same = extend(at, distance, length);
  same = min(same, length);
  if (same < MIN_LENGTH) return at;
  addMatch(at, same, distance);
  const next = at + same;
  if (at < settled) remember(at, min(next, settled), end);
  mayEndStretch(next);
  return next;
}
