// LZ77: finds matches and decides which to use.
//
// Positions whose next four bytes hash alike share a row, which remembers the 16 latest of them, newest first, and a tag
// of 8 further hash bits for each. One vector compare of the tags yields the candidates worth a look: no chain to walk.
// A second, plain table remembers the latest occurrence of three bytes, for matches of that length.
import { addLiterals, addMatch, countLiteral, endStretch, openLiterals } from './deflate-block';
import { ROW_BITS, ROWS, TRIPLE_BITS, TRIPLES } from './deflate-map';

const MAX_LENGTH: u32 = 258;
const MAX_DISTANCE: u32 = 32768;
/** Any odd number without pattern spreads well; this is 2^32 divided by the golden ratio. */
const MULTIPLIER: u32 = 0x9e37_79b1;
const HASH_SHIFT: u32 = 32 - ROW_BITS - 8;
const TRIPLE_SHIFT: u32 = 32 - TRIPLE_BITS;

// A match is one number, so that the better of two is the larger: length << 16 | 65535 - distance. The longer match wins,
// then the nearer one.
/** No match. Three bytes from further away than this are cheaper as literals, as a rule; sooner so in text. */
const NOTHING: u32 = ((3 << 16) | (65535 - 4096)) - 1;
const NOTHING_IN_TEXT: u32 = ((3 << 16) | (65535 - 1024)) - 1;

/** After so many bytes (2^8) without a match every second position is tried, then every third, and so on. */
const PATIENCE: u32 = 8;
const MAX_STEP: u32 = 32;
/** Bytes after which a stretch is complete, and the fewest literals that may end one. */
const STRETCH: usize = 4096;
const MIN_LITERALS: usize = 1024;

let binaryTries: u32 = 0;
let textTries: u32 = 0;
let goodMatch: u32 = 0;
let lazyMatch: u32 = 0;
let lazierMatch: u32 = 0;
let niceLength: u32 = 0;

/** Where the present stretch is complete, and how it is searched. */
let stretchEnd: usize = 0;
let tries: u32 = 0;
let nothing: u32 = 0;

/**
 * How hard to try. `binary`, `text`: candidates looked at per position, 1 to 16. `good`: a match of this length halves them
 * for the positions behind it. `lazy`: a match of this length is taken at once; a shorter one only if the next position
 * has none that beats it, and if shorter than `lazier`, neither has the one after. `nice`: a match of this length ends the
 * search.
 */
export function setEffort(binary: u32, text: u32, good: u32, lazy: u32, lazier: u32, nice: u32): void {
  binaryTries = binary;
  textTries = text;
  goodMatch = good << 16;
  lazyMatch = lazy << 16;
  lazierMatch = lazier << 16;
  niceLength = nice;
}

// @inline
function hashOf(four: u32): u32 {
  return (four * MULTIPLIER) >> HASH_SHIFT;
}

// @inline
function rowOf(hash: u32): usize {
  return ROWS + ((hash >> 8) << 6);
}

// @inline
function tripleOf(four: u32): usize {
  return TRIPLES + ((((four << 8) * MULTIPLIER) >> TRIPLE_SHIFT) << 1);
}

/** Makes `at` the newest position of a row; the oldest falls out. */
// @inline
function insert(row: usize, tags: v128, hash: u32, at: u32): void {
  const newer = v128.load(row, 16);
  const older = v128.load(row, 32);
  v128.store(row, v128.shuffle<i8>(i8x16.splat(<i8>hash), tags, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30));
  v128.store(row, v128.shuffle<i8>(i16x8.splat(<i16>at), newer, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29), 16);
  v128.store(row, v128.shuffle<i8>(newer, older, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29), 32);
}

/** Length of a match of which 16 bytes are known, up to `longest`. */
// @inline
export function extend(at: usize, distance: u32, longest: u32): u32 {
  const from = at - distance;
  let length: u32 = 16;
  while (length < longest) {
    const differs = load<u64>(from + length) ^ load<u64>(at + length);
    if (differs != 0) {
      length += <u32>(ctz(differs) >> 3);
      break;
    }
    length += 8;
  }
  return min(length, longest);
}

// @inline
function lengthOf(match: u32): u32 {
  return match >> 16;
}

// @inline
function distanceOf(match: u32): u32 {
  return 65535 - (match & 0xffff);
}

/**
 * Whether a match is worth the one literal more, or two when the earlier has `waited` once, that taking it instead of an
 * earlier one costs: four bits for each byte of length against the bits of the distances.
 */
// @inline
function beats(match: u32, earlier: u32, waited: u32): bool {
  if (lengthOf(match) <= lengthOf(earlier)) return false;
  return ((lengthOf(match) - lengthOf(earlier)) << 2) + <u32>clz(distanceOf(match)) > <u32>clz(distanceOf(earlier)) + 2 + (waited << 2);
}

/** Begins with the first stretch. What it is like is not known yet; small files are text more often than not. */
export function beginStretches(start: usize): void {
  stretchEnd = start + STRETCH;
  tries = textTries;
  nothing = NOTHING_IN_TEXT;
}

/** Ends the stretch at `at` if it is long enough; `at` is the end of a match or of literals that were added. */
// @inline
export function mayEndStretch(at: usize): void {
  if (at >= stretchEnd) nextStretch(at);
}

/** The same behind a literal: a row of them is added once it is long. */
// @inline
function mayEndStretchInLiterals(at: usize): void {
  if (at >= stretchEnd && openLiterals(at) >= MIN_LITERALS) {
    addLiterals(at);
    nextStretch(at);
  }
}

/** Adds literals; returns their end. Stretches end at the same bytes however a row of literals is handed over. */
export function literalsEnd(start: usize, end: usize): usize {
  let at = start;
  while (at < end) {
    const next = min(end, max(at + 1, max(stretchEnd, at - openLiterals(at) + MIN_LITERALS)));
    for (; at < next; at++) countLiteral(at);
    mayEndStretchInLiterals(at);
  }
  return at;
}

function nextStretch(at: usize): void {
  const text = endStretch(at);
  tries = text ? textTries : binaryTries;
  nothing = text ? NOTHING_IN_TEXT : NOTHING;
  stretchEnd = at + STRETCH;
}

/** Enters `[start, until)` into the tables without a search. Nothing at `end` or behind it is looked at. */
export function remember(start: usize, until: usize, end: usize): void {
  const stop = min(until, end - 3);
  for (let at = start; at < stop; at++) {
    const four = load<u32>(at);
    const hash = hashOf(four);
    const row = rowOf(hash);
    insert(row, v128.load(row), hash, <u32>at);
    store<u16>(tripleOf(four), <u32>at);
  }
}

/**
 * Adds the bytes from `start` up to `until`; the last match may go beyond, up to `end`. Matches may reach back to `oldest`.
 * Returns the first byte not covered. Up to 24 bytes beyond `end` are read, so they should be the same for the same input.
 */
export function search(oldest: usize, start: usize, until: usize, end: usize): usize {
  let at = start;
  /** Where the search began to be in vain. */
  let quiet = start;
  /** The match that waits for a better one, 0 when there is none: it was found one position before `at`, or two if `waited`. */
  let waiting: u32 = 0;
  let waited: u32 = 0;
  const hashEnd = end - start < 4 ? start : min(until, end - 3);
  while (at < hashEnd) {
    const four = load<u32>(at);
    const hash = hashOf(four);
    const row = rowOf(hash);
    const tags = v128.load(row);
    let candidates: u32 = i8x16.bitmask(i8x16.eq(tags, i8x16.splat(<i8>hash)));
    const triple = tripleOf(four);
    const last = (<u32>at - <u32>load<u16>(triple)) & 0xffff;
    store<u16>(triple, <u32>at);
    const reach = min<u32>(MAX_DISTANCE, <u32>(at - oldest));
    const here = v128.load(at);
    let best: u32 = nothing;
    if (last - 1 < reach) {
      const same: u32 = ctz(~i8x16.bitmask(i8x16.eq(here, v128.load(at - last))));
      best = max<u32>(best, (same << 16) + 65535 - last);
    }
    if (candidates != 0) {
      let triesLeft = select<u32>((tries + 1) >> 1, tries, waiting >= goodMatch);
      do {
        const distance = (<u32>at - <u32>load<u16>(row + (ctz(candidates) << 1), 16)) & 0xffff;
        candidates &= candidates - 1;
        // Positions beyond reach are left over from earlier data; what follows in the row is older still.
        if (distance - 1 >= reach) break;
        let same: u32 = ctz(~i8x16.bitmask(i8x16.eq(here, v128.load(at - distance))));
        if (same == 16) {
          const longest = min<u32>(MAX_LENGTH, <u32>(end - at));
          same = extend(at, distance, longest);
          best = max<u32>(best, (same << 16) + 65535 - distance);
          if (same >= niceLength || same == longest) break;
        } else best = max<u32>(best, (same << 16) + 65535 - distance);
      } while (candidates != 0 && --triesLeft != 0);
    }
    insert(row, tags, hash, <u32>at);
    const left = <u32>(end - at);
    if (lengthOf(best) > left) best = (left << 16) | (best & 0xffff);

    let inserted = at + 1;
    if (waiting != 0) {
      if (beats(best, waiting, waited)) {
        countLiteral(at - 1);
        if (waited != 0) countLiteral(at - 2);
        waited = 0;
        waiting = best;
        if (best < lazyMatch) {
          at++;
          continue;
        }
      } else if (waited == 0 && waiting < lazierMatch) {
        waited = 1;
        at++;
        continue;
      } else {
        at -= 1 + waited;
        waited = 0;
      }
    } else if (best > nothing) {
      waiting = best;
      if (best < lazyMatch) {
        at++;
        continue;
      }
    } else {
      const next = min(at + min<u32>(MAX_STEP, 1 + (<u32>(at - quiet) >> PATIENCE)), end);
      do {
        countLiteral(at);
        at++;
      } while (at < next);
      mayEndStretchInLiterals(at);
      continue;
    }

    addMatch(at, lengthOf(waiting), distanceOf(waiting));
    at += lengthOf(waiting);
    quiet = at;
    waiting = 0;
    remember(inserted, min(at, hashEnd), end);
    mayEndStretch(at);
  }
  if (waiting != 0) {
    at -= 1 + waited;
    addMatch(at, lengthOf(waiting), distanceOf(waiting));
    at += lengthOf(waiting);
  }
  for (; at < until; at++) countLiteral(at);
  return at;
}
