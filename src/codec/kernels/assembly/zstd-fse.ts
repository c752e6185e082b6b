// Finite state entropy (RFC 8878, 4.1): a state is a number in [size, 2 * size), size = 1 << log. A symbol with `n` of the
// `size` cells takes a state to one of its cells by shifting out as many low bits as bring it into [n, 2 * n): either k or one
// less, depending on whether the state is below n << k.
import { beginBits, endBits, put } from './zstd-bits';
import { FSE_LOG, FSE_STATES, FSE_TRANSITIONS, LOGARITHMS, SPREAD } from './zstd-map';

/** Costs are in parts of a bit. */
export const BIT: u32 = 256;
/** Cost of what cannot be written. */
export const IMPOSSIBLE: u32 = 0xffff_ffff;
const MIN_LOG: u32 = 5;

/** Fills LOGARITHMS; once per instance. */
export function prepareLogarithms(): void {
  store<u16>(LOGARITHMS, 0);
  for (let i: u32 = 1; i <= 512; i++) {
    // Digit by digit: squaring doubles the logarithm.
    let whole: u32 = 31 - clz(i);
    let x: f64 = <f64>i / <f64>(1 << whole);
    for (let digit = 0; digit < 8; digit++) {
      x *= x;
      whole <<= 1;
      if (x >= 2) {
        x /= 2;
        whole |= 1;
      }
    }
    store<u16>(LOGARITHMS + (i << 1), whole);
  }
}

// @inline
export function logOf(table: usize): u32 {
  return load<u32>(table + FSE_LOG);
}

// @inline
function cellsOf(table: usize, symbol: u32): i32 {
  return load<i16>(table + (symbol << 1));
}

/** Cost of symbols that occur as often as `counts` tells (u32 x `symbols`) with the counts that a table has. */
export function costWith(table: usize, counts: usize, symbols: u32): u32 {
  const log = logOf(table) << 8;
  let cost: u32 = 0;
  for (let s: u32 = 0; s < symbols; s++) {
    const n = load<u32>(counts + (s << 2));
    if (n == 0) continue;
    const cells = cellsOf(table, s);
    if (cells == 0) return IMPOSSIBLE;
    cost += n * (log - <u32>load<u16>(LOGARITHMS + (<usize>max(cells, 1) << 1)));
  }
  return cost;
}

/** The accuracy worth having for `total` symbols of `used` kinds. */
export function accuracyFor(total: u32, used: u32, limit: u32): u32 {
  const worth: i32 = 29 - clz<i32>(total);
  const needed: i32 = 32 - clz<i32>(used);
  return min<i32>(limit, max<i32>(MIN_LOG, max(worth, needed)));
}

/**
 * Shares out 1 << `log` cells among symbols by how often they occur: `total` times in all, more than one kind, and fewer kinds
 * than cells. Every symbol that occurs gets at least one.
 */
export function normalise(table: usize, counts: usize, symbols: u32, total: u32, log: u32): void {
  memory.fill(table, 0, 128);
  store<u32>(table + FSE_LOG, log);
  const scale: f32 = <f32>(1 << log) / <f32>total;
  let left: i32 = 1 << log;
  for (let s: u32 = 0; s < symbols; s++) {
    const n = load<u32>(counts + (s << 2));
    if (n == 0) continue;
    const share: f32 = <f32>n * scale;
    let cells = <i32>share;
    // One more saves more than it costs from the geometric mean on.
    if (share * share > <f32>(cells * (cells + 1))) cells++;
    if (cells == 0) cells = 1;
    store<i16>(table + (s << 1), <i16>cells);
    left -= cells;
  }
  // What is over or missing goes where it matters most or least: a cell more or less is worth its part of all cells.
  for (; left != 0; left += left > 0 ? -1 : 1) {
    const step = left > 0 ? 1 : -1;
    let best: u32 = 0;
    let bestWorth: f32 = left > 0 ? -1 : f32.MAX_VALUE;
    for (let s: u32 = 0; s < symbols; s++) {
      const cells = cellsOf(table, s);
      if (cells == 0 || cells + step == 0) continue;
      const between: i32 = 2 * cells + step;
      const worth: f32 = <f32>load<u32>(counts + (s << 2)) / <f32>between;
      if (step > 0 ? worth > bestWorth : worth < bestWorth) {
        best = s;
        bestWorth = worth;
      }
    }
    store<i16>(table + (best << 1), <i16>(cellsOf(table, best) + step));
  }
}

/** Writes a table's description (4.1.1) to `to` and returns its end. */
export function describe(table: usize, to: usize): usize {
  const log = logOf(table);
  beginBits(to);
  put(log - MIN_LOG, 4);
  let left: i32 = 1 << log;
  for (let s: u32 = 0; left > 0;) {
    const cells = cellsOf(table, s++);
    // A value up to left + 1, in as few bits as that needs; the lowest values do with one less.
    const value: u32 = cells + 1;
    const bits: u32 = 32 - clz<u32>(left + 1);
    const short: u32 = (1 << bits) - 2 - left;
    const half: u32 = 1 << (bits - 1);
    if (value < short) put(value, bits - 1);
    else put(value < half ? value : value + short, bits);
    left -= cells < 0 ? 1 : cells;
    if (cells != 0) continue;
    let zeros: u32 = 0;
    while (cellsOf(table, s) == 0) {
      s++;
      zeros++;
    }
    for (; zeros >= 3; zeros -= 3) put(3, 2);
    put(zeros, 2);
  }
  return endBits();
}

/** Fills in states and symbols of a table from its counts; a count of -1 is one cell at the end (4.1.1). */
export function build(table: usize, symbols: u32): void {
  const log = logOf(table);
  const size: u32 = 1 << log;
  let high = size - 1;
  for (let s: u32 = 0; s < symbols; s++) {
    if (cellsOf(table, s) < 0) store<u8>(SPREAD + high--, s);
  }
  const step = (size >> 1) + (size >> 3) + 3;
  let at: u32 = 0;
  for (let s: u32 = 0; s < symbols; s++) {
    for (let n = cellsOf(table, s); n > 0; n--) {
      store<u8>(SPREAD + at, s);
      do at = (at + step) & (size - 1);
      while (at > high);
    }
  }
  // Each symbol's cells lie in a row; `next` is where the next of them goes.
  let first: u32 = 0;
  for (let s: u32 = 0; s < symbols; s++) {
    const n: u32 = abs(cellsOf(table, s));
    if (n == 0) continue;
    store<u16>(table + FSE_TRANSITIONS + (s << 3), first, 6);
    first += n;
  }
  for (let cell: u32 = 0; cell < size; cell++) {
    const symbol = table + FSE_TRANSITIONS + (<u32>load<u8>(SPREAD + cell) << 3);
    const next: u32 = load<u16>(symbol, 6);
    store<u16>(symbol, next + 1, 6);
    store<u16>(table + FSE_STATES + (next << 1), size + cell);
  }
  first = 0;
  for (let s: u32 = 0; s < symbols; s++) {
    const n: u32 = abs(cellsOf(table, s));
    if (n == 0) continue;
    const k = log - (31 - clz(n));
    const symbol = table + FSE_TRANSITIONS + (s << 3);
    // (state + bits) >> 16 is k, or k - 1 below n << k; (state >> that) + base is the index of a cell.
    const edge: u32 = n << k;
    store<u32>(symbol, (k << 16) - edge);
    store<i32>(symbol, <i32>first - <i32>n, 4);
    first += n;
  }
}

/** A table of one symbol, which takes no bits at all. */
export function buildSingle(table: usize, symbol: u32): void {
  memory.fill(table, 0, 128);
  store<u32>(table + FSE_LOG, 0);
  store<i16>(table + (symbol << 1), 1);
  store<u64>(table + FSE_TRANSITIONS + (symbol << 3), 0);
  store<i32>(table + FSE_TRANSITIONS + (symbol << 3), -1, 4);
  store<u16>(table + FSE_STATES, 1);
}

/** What a table does with a symbol: low half for the number of bits, high half for the cell. */
// @inline
export function transition(table: usize, symbol: u32): u64 {
  return load<u64>(table + FSE_TRANSITIONS + (symbol << 3));
}

/** A state in which `symbol` has been written first: any of its cells will do. */
// @inline
export function firstState(table: usize, symbol: u32): u32 {
  const t = transition(table, symbol);
  const cells: u32 = abs(cellsOf(table, symbol));
  return load<u16>(table + FSE_STATES + (<usize>(<i32>(t >> 32) + <i32>cells) << 1));
}

// @inline
export function bitsOf(t: u64, state: u32): u32 {
  return (state + <u32>t) >> 16;
}

// @inline
export function nextState(table: usize, t: u64, state: u32, bits: u32): u32 {
  return load<u16>(table + FSE_STATES + (<usize>((state >> bits) + <u32>(t >> 32)) << 1));
}
