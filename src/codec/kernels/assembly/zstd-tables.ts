// The FSE tables of a block's sequences (RFC 8878, 3.1.1.3.2.1): for literal lengths, offsets and match lengths one each, which is
// predefined, or that of the block before, or stands for one code alone, or is described.
import { accuracyFor, BIT, build, buildSingle, costWith, describe, IMPOSSIBLE, normalise } from './zstd-fse';
import { CODE_COUNTS, FSE_LOG, FSE_TABLE_SIZE, FSE_TABLES, KIND_COUNTS } from './zstd-map';

/** What tables are for, in the order in which they come in a block. */
export const LITERAL_LENGTH: u32 = 0;
export const OFFSET: u32 = 1;
export const MATCH_LENGTH: u32 = 2;

/** Modes. */
const SINGLE: u32 = 1;
const DESCRIBED: u32 = 2;
const REPEATED: u32 = 3;

/** Codes of a kind at most, and accuracy at most. */
const SYMBOLS = memory.data<u8>([36, 32, 53]);
const LIMITS = memory.data<u8>([9, 8, 9]);
/** Predefined distributions (3.1.1.3.2.2). */
const LITERAL_LENGTH_CELLS = memory.data<i8>([4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1]);
const OFFSET_CELLS = memory.data<i8>([1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1]);
const MATCH_LENGTH_CELLS = memory.data<i8>([
  1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
]);

/**
 * A bit for each kind. Of its three tables the first is predefined; the other two take turns: one is that of the block before,
 * in the other the next is made. `formerIsThird`: which of them is which. `hasFormer`: there is one, and it is not the predefined.
 */
let formerIsThird: u32 = 0;
let hasFormer: u32 = 0;
/** What the present block has made of both. */
let nextIsThird: u32 = 0;
let nextHasFormer: u32 = 0;
/** The block's modes so far, as they are written. */
export let modes: u32 = 0;
/** Where the description ends that `chooseTable` may have written. */
export let described: usize = 0;

/** Makes the predefined tables; once per instance. */
export function prepareTables(): void {
  preparePredefined(LITERAL_LENGTH, LITERAL_LENGTH_CELLS, 36, 6);
  preparePredefined(OFFSET, OFFSET_CELLS, 29, 5);
  preparePredefined(MATCH_LENGTH, MATCH_LENGTH_CELLS, 53, 6);
}

function preparePredefined(kind: u32, cells: usize, symbols: u32, log: u32): void {
  const table = tableOf(kind, 0);
  memory.fill(table, 0, FSE_TABLE_SIZE);
  for (let s: u32 = 0; s < symbols; s++) store<i16>(table + (s << 1), load<i8>(cells + s));
  store<u32>(table + FSE_LOG, log);
  build(table, symbols);
}

function tableOf(kind: u32, which: u32): usize {
  return FSE_TABLES + <usize>(kind * 3 + which) * FSE_TABLE_SIZE;
}

/** Begins a frame. */
export function forgetTables(): void {
  hasFormer = 0;
}

/** Begins a block. */
export function beginTables(): void {
  nextIsThird = formerIsThird;
  nextHasFormer = hasFormer;
  modes = 0;
}

/** The block is written as it was coded: decoders have its tables. */
export function settleTables(): void {
  formerIsThird = nextIsThird;
  hasFormer = nextHasFormer;
}

/** Chooses the cheapest table for `count` codes, whose description, if it needs one, is written to `to` and ends at `described`. */
export function chooseTable(kind: u32, count: u32, to: usize): usize {
  const counts = CODE_COUNTS + <usize>kind * KIND_COUNTS;
  const bit: u32 = 1 << kind;
  const isThird: u32 = (formerIsThird >> kind) & 1;
  const former = tableOf(kind, 1 + isThird);
  const fresh = tableOf(kind, 2 - isThird);
  described = to;
  let used: u32 = 0;
  let symbols: u32 = 0;
  for (let s: u32 = 0; s < load<u8>(SYMBOLS + kind); s++) {
    if (load<u32>(counts + (s << 2)) == 0) continue;
    used++;
    symbols = s + 1;
  }
  const byDefault = costWith(tableOf(kind, 0), counts, symbols);
  const byFormer = (hasFormer & bit) != 0 ? costWith(former, counts, symbols) : IMPOSSIBLE;
  const least = min(byDefault, byFormer);
  if (used == 1) {
    if (least > 8 * BIT) {
      buildSingle(fresh, symbols - 1);
      store<u8>(to, symbols - 1);
      return adopt(kind, SINGLE, fresh, to + 1);
    }
  } else if (least > used * 4 * BIT) {
    // A description takes some four bits per code: few sequences cannot pay for it.
    normalise(fresh, counts, symbols, count, accuracyFor(count, used, load<u8>(LIMITS + kind)));
    const own = costWith(fresh, counts, symbols);
    if (own < least) {
      const end = describe(fresh, to);
      if (own + (<u32>(end - to) << 3) * BIT < least) {
        build(fresh, symbols);
        return adopt(kind, DESCRIBED, fresh, end);
      }
    }
  }
  if (least == byDefault) {
    // It is also what a block behind would repeat.
    nextHasFormer &= ~bit;
    return tableOf(kind, 0);
  }
  modes |= REPEATED << modeShift(kind);
  return former;
}

/** Makes a new table the one that the next block may repeat. */
function adopt(kind: u32, mode: u32, table: usize, end: usize): usize {
  const bit: u32 = 1 << kind;
  modes |= mode << modeShift(kind);
  nextIsThird ^= bit;
  nextHasFormer |= bit;
  described = end;
  return table;
}

function modeShift(kind: u32): u32 {
  return 6 - 2 * kind;
}
