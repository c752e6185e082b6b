// Blocks: where one ends, in which of the three forms it is written, and its header (RFC 1951, 3.2.3 to 3.2.7).
import { put, putMatches, putStored, storedCost } from './deflate-bits';
import { assignCodes, makeCode } from './deflate-huffman';
import {
  BLOCK_COUNTS, CODES, DISTANCES, HEADER_LENGTHS, HEADER_SYMBOLS, LENGTH_INFO, LENGTHS, MATCHES, MAX_BLOCK, META_CODES, META_COUNTS, META_LENGTHS, RECENT_COUNTS, SYMBOLS,
} from './deflate-map';

const END_OF_BLOCK: u32 = 256;
/** What a header is reckoned to cost when stretches are compared, bits: so much, and so much per symbol in use. */
const HEADER_COST: u32 = 150;
const HEADER_COST_PER_SYMBOL: u32 = 3;

/** The open block: its first byte, and its likely size in bits. Its matches begin at MATCHES. */
let blockStart: usize = 0;
let blockCost: f32 = 0;
/** The stretch behind it that is not yet joined: its first byte and first match. */
let recentStart: usize = 0;
let recentMatches: usize = MATCHES;
/** Where the next match goes. */
let matchesEnd: usize = MATCHES;
/** First byte that neither a match nor literals have been added for. */
let open: usize = 0;

/** Fills LENGTH_INFO; once per instance. */
export function prepareLengths(): void {
  let base: u32 = 3;
  for (let i: u32 = 0; i < 28; i++) {
    const extra: u32 = i < 8 ? 0 : (i >> 2) - 1;
    for (let value: u32 = 0; value < <u32>1 << extra; value++) store<u32>(LENGTH_INFO + ((base + value) << 2), (257 + i) | (extra << 9) | (value << 16));
    base += 1 << extra;
  }
  store<u32>(LENGTH_INFO + (258 << 2), 285);
}

export function beginBlocks(start: usize): void {
  blockStart = recentStart = open = start;
  recentMatches = matchesEnd = MATCHES;
  memory.fill(RECENT_COUNTS, 0, SYMBOLS << 2);
}

// @inline
function increment(counter: usize): void {
  store<u32>(counter, load<u32>(counter) + 1);
}

/** Counts the byte at `at` as a literal. Literals are counted as they are decided upon, matches when they are added. */
// @inline
export function countLiteral(at: usize): void {
  increment(RECENT_COUNTS + (<u32>load<u8>(at) << 2));
}

/** Adds a match at `at`; what lies between it and the one before are literals. */
// @inline
export function addMatch(at: usize, length: u32, distance: u32): void {
  const d = distance - 1;
  const top: u32 = 31 - clz(d | 1);
  const symbol = select<u32>(d, (top << 1) + ((d >> (top - 1)) & 1), d < 2);
  store<u32>(matchesEnd, <u32>(at - open));
  open = at + length;
  store<u32>(matchesEnd, (length << 20) | (symbol << 15) | d, 4);
  matchesEnd += 8;
  increment(RECENT_COUNTS + ((load<u32>(LENGTH_INFO + (length << 2)) & 511) << 2));
  increment(RECENT_COUNTS + ((DISTANCES + symbol) << 2));
}

/** Literals up to `at` that were counted and not added yet. */
// @inline
export function openLiterals(at: usize): usize {
  return at - open;
}

/** Adds the literals up to `at` with no match behind them. */
export function addLiterals(at: usize): void {
  if (at == open) return;
  store<u32>(matchesEnd, <u32>(at - open));
  store<u32>(matchesEnd, 0, 4);
  matchesEnd += 8;
  open = at;
}

/** f * log2(f) for four counts: exact powers of two, off by at most 0.0012 * f between them; 0 for 0. */
// @inline
function fLogF(counts: v128): v128 {
  const f = f32x4.convert_i32x4_u(counts);
  const exponent = f32x4.convert_i32x4_s(i32x4.sub(i32x4.shr_u(f, 23), i32x4.splat(127)));
  const m = f32x4.sub(v128.or(v128.and(f, i32x4.splat(0x7f_ffff)), i32x4.splat(0x3f80_0000)), f32x4.splat(1));
  // log2(1 + m) = m + m * (1 - m) * (a + b * m), fitted.
  const bend = f32x4.mul(f32x4.mul(m, f32x4.sub(f32x4.splat(1), m)), f32x4.add(f32x4.splat(0.42), f32x4.mul(m, f32x4.splat(-0.155))));
  return f32x4.mul(f, f32x4.add(exponent, f32x4.add(m, bend)));
}

// @inline
function sumF(v: v128): f32 {
  return f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1) + f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3);
}

// @inline
function sumI(v: v128): u32 {
  return i32x4.extract_lane(v, 0) + i32x4.extract_lane(v, 1) + i32x4.extract_lane(v, 2) + i32x4.extract_lane(v, 3);
}

/**
 * Likely size in bits of a block with these counts, or with the sum of two sets: the entropy of both codes and a header.
 * Extra bits are left out, they are the same however the data is split.
 */
function cost(counts: usize, more: usize): f32 {
  let bits: f32 = 0;
  let used = i32x4.splat(0);
  let at: usize = 0;
  for (let end: usize = DISTANCES << 2; end <= SYMBOLS << 2; end += (SYMBOLS - DISTANCES) << 2) {
    let total = i32x4.splat(0);
    let sum = f32x4.splat(0);
    for (; at < end; at += 16) {
      let f = v128.load(counts + at);
      if (more) f = i32x4.add(f, v128.load(more + at));
      total = i32x4.add(total, f);
      used = i32x4.sub(used, i32x4.ne(f, i32x4.splat(0)));
      sum = f32x4.add(sum, fLogF(f));
    }
    bits += f32x4.extract_lane(fLogF(i32x4.splat(sumI(total))), 0) - sumF(sum);
  }
  return bits + <f32>(HEADER_COST + sumI(used) * HEADER_COST_PER_SYMBOL);
}

/** Whether few of the stretch's literals have their high bit set. */
function looksLikeText(): bool {
  let low = i32x4.splat(0);
  let high = i32x4.splat(0);
  for (let at: usize = 0; at < 512; at += 16) {
    low = i32x4.add(low, v128.load(RECENT_COUNTS + at));
    high = i32x4.add(high, v128.load(RECENT_COUNTS + at, 512));
  }
  return sumI(high) << 3 <= sumI(low);
}

/**
 * Ends a stretch at `end`: it joins the open block when both together are likely smaller than each on its own; otherwise
 * the block is written and the stretch becomes the open block. Returns whether the stretch looks like text.
 */
export function endStretch(end: usize): bool {
  const text = looksLikeText();
  if (recentStart == blockStart) {
    memory.copy(BLOCK_COUNTS, RECENT_COUNTS, SYMBOLS << 2);
    blockCost = cost(BLOCK_COUNTS, 0);
  } else {
    const own = cost(RECENT_COUNTS, 0);
    const joint = cost(BLOCK_COUNTS, RECENT_COUNTS);
    if (joint <= blockCost + own && end - blockStart <= MAX_BLOCK) {
      for (let at: usize = 0; at < SYMBOLS << 2; at += 16) {
        v128.store(BLOCK_COUNTS + at, i32x4.add(v128.load(BLOCK_COUNTS + at), v128.load(RECENT_COUNTS + at)));
      }
      blockCost = joint;
    } else {
      writeBlock(recentStart, recentMatches, false);
      memory.copy(MATCHES, recentMatches, matchesEnd - recentMatches);
      matchesEnd -= recentMatches - MATCHES;
      blockStart = recentStart;
      memory.copy(BLOCK_COUNTS, RECENT_COUNTS, SYMBOLS << 2);
      blockCost = own;
    }
  }
  recentStart = end;
  recentMatches = matchesEnd;
  memory.fill(RECENT_COUNTS, 0, SYMBOLS << 2);
  return text;
}

/** Writes what is left once everything is added; there may be nothing. */
export function endBlocks(end: usize, final: bool): void {
  endStretch(end);
  if (final || end != blockStart) writeBlock(end, matchesEnd, final);
}

// @inline
function lengthExtra(symbol: u32): u32 {
  return symbol < 265 || symbol == 285 ? 0 : (symbol - 261) >> 2;
}

// @inline
function distanceExtra(symbol: u32): u32 {
  return symbol < 4 ? 0 : (symbol >> 1) - 1;
}

/** Writes the open block in whichever form is smallest; it ends at byte `end` and match `matches`. */
function writeBlock(end: usize, matches: usize, final: bool): void {
  const size = <u32>(end - blockStart);
  increment(BLOCK_COUNTS + (END_OF_BLOCK << 2));
  makeCode(BLOCK_COUNTS, 286, 14, LENGTHS, CODES);
  makeCode(BLOCK_COUNTS + (DISTANCES << 2), 30, 15, LENGTHS + DISTANCES, CODES + (DISTANCES << 2));
  let literals: u32 = 286;
  while (literals > 257 && load<u8>(LENGTHS + literals - 1) == 0) literals--;
  let distances: u32 = 30;
  while (distances > 1 && load<u8>(LENGTHS + DISTANCES + distances - 1) == 0) distances--;
  const symbolsEnd = planHeader(literals, distances);
  const order = memory.data<u8>([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]);
  let metas: u32 = 19;
  while (metas > 4 && load<u8>(META_LENGTHS + load<u8>(order + metas - 1)) == 0) metas--;

  let dynamicCost: u32 = 17 + metas * 3;
  let fixedCost: u32 = 3;
  let extra: u32 = 0;
  for (let i: u32 = 0; i < 19; i++) dynamicCost += load<u32>(META_COUNTS + (i << 2)) * (load<u8>(META_LENGTHS + i) + metaExtra(i));
  for (let i: u32 = 0; i < 286; i++) {
    const n = load<u32>(BLOCK_COUNTS + (i << 2));
    dynamicCost += n * load<u8>(LENGTHS + i);
    fixedCost += n * fixedLength(i);
    if (i > END_OF_BLOCK) extra += n * lengthExtra(i);
  }
  for (let i: u32 = 0; i < 30; i++) {
    const n = load<u32>(BLOCK_COUNTS + ((DISTANCES + i) << 2));
    dynamicCost += n * load<u8>(LENGTHS + DISTANCES + i);
    fixedCost += n * 5;
    extra += n * distanceExtra(i);
  }
  dynamicCost += extra;
  fixedCost += extra;
  if (size > 0 && storedCost(size) <= min(dynamicCost, fixedCost)) {
    putStored(blockStart, size, final);
    return;
  }
  if (fixedCost <= dynamicCost) {
    put(final ? 3 : 2, 3);
    for (let i: u32 = 0; i < 288; i++) store<u8>(LENGTHS + i, fixedLength(i));
    memory.fill(LENGTHS + DISTANCES, 5, 32);
    assignCodes(288, LENGTHS, CODES);
    assignCodes(32, LENGTHS + DISTANCES, CODES + (DISTANCES << 2));
  } else {
    put(final ? 5 : 4, 3);
    put((literals - 257) | ((distances - 1) << 5) | ((metas - 4) << 10), 14);
    for (let i: u32 = 0; i < metas; i++) put(load<u8>(META_LENGTHS + load<u8>(order + i)), 3);
    for (let at = HEADER_SYMBOLS; at < symbolsEnd; at += 2) {
      const symbol: u32 = load<u8>(at);
      const code = load<u32>(META_CODES + (symbol << 2));
      const length = code >> 16;
      put((code & 0xffff) | (<u32>load<u8>(at, 1) << length), length + metaExtra(symbol));
    }
  }
  putMatches(MATCHES, matches, blockStart, CODES, CODES + (DISTANCES << 2), LENGTH_INFO);
  const code = load<u32>(CODES + (END_OF_BLOCK << 2));
  put(code & 0xffff, code >> 16);
}

// @inline
function fixedLength(symbol: u32): u32 {
  return symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8;
}

/** Extra bits of the code length code's repeat symbols. */
// @inline
function metaExtra(symbol: u32): u32 {
  return symbol < 16 ? 0 : symbol == 16 ? 2 : symbol == 17 ? 3 : 7;
}

/**
 * Turns the code lengths into run-length symbols (symbol, extra value) and makes the code for these; returns their end.
 */
function planHeader(literals: u32, distances: u32): usize {
  memory.copy(HEADER_LENGTHS, LENGTHS, literals);
  memory.copy(HEADER_LENGTHS + literals, LENGTHS + DISTANCES, distances);
  const total = literals + distances;
  memory.fill(META_COUNTS, 0, 76);
  let to: usize = HEADER_SYMBOLS;
  for (let i: u32 = 0; i < total;) {
    const length: u32 = load<u8>(HEADER_LENGTHS + i);
    let n: u32 = 1;
    while (i + n < total && load<u8>(HEADER_LENGTHS + i + n) == length) n++;
    i += n;
    if (length == 0) {
      while (n >= 11) {
        const times = min<u32>(n, 138);
        to = putMeta(to, 18, times - 11);
        n -= times;
      }
      if (n >= 3) {
        to = putMeta(to, 17, n - 3);
        n = 0;
      }
    } else if (n >= 4) {
      to = putMeta(to, length, 0);
      n--;
      while (n >= 3) {
        const times = min<u32>(n, 6);
        to = putMeta(to, 16, times - 3);
        n -= times;
      }
    }
    for (; n > 0; n--) to = putMeta(to, length, 0);
  }
  makeCode(META_COUNTS, 19, 7, META_LENGTHS, META_CODES);
  return to;
}

// @inline
function putMeta(to: usize, symbol: u32, extra: u32): usize {
  store<u8>(to, symbol);
  store<u8>(to, extra, 1);
  increment(META_COUNTS + (symbol << 2));
  return to + 2;
}
