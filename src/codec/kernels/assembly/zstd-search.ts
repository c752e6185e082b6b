// Finds matches where nobody has told of any. Two tables remember where eight bytes and where five bytes that hash alike were
// seen last: the first finds long matches, however far away, the second the short ones in between.
import { extend } from './match';
import { LONG_BITS, LONG_TABLE, SEQUENCE_SIZE, SHORT_BITS, SHORT_TABLE } from './zstd-map';

/** Bytes that are hashed; none begin among the last seven. */
const LONG: usize = 8;
/** 2^64 divided by the golden ratio: any odd number without pattern spreads well. */
const MULTIPLIER: u64 = (<u64>0x9e37_79b9 << 32) | 0x7f4a_7c15;
/** After so many literals (2^7) only every second position is looked at, then every third, and so on. */
const PATIENCE: u32 = 7;

/**
 * Position of the input's first byte in the tables. It grows from input to input, so what they hold of earlier ones shows by
 * its number: they need not be cleared, and the result does not depend on it.
 */
let base: u32 = 0;
/** Added to an address, makes a position of it. */
let shift: u32 = 0;
/** Distances of the last two matches, 0 when there is none. */
let first: u32 = 0;
let second: u32 = 0;

/** Begins an input. */
export function beginSearch(input: usize, size: u32): void {
  if (base == 0 || base > 0xffff_ffff - size) {
    memory.fill(LONG_TABLE, 0, (4 << LONG_BITS) + (4 << SHORT_BITS));
    base = 1;
  }
  shift = base - <u32>input;
  base += size;
  first = second = 0;
}

// @inline
function longSlot(eight: u64): usize {
  return LONG_TABLE + (<usize>((eight * MULTIPLIER) >> (64 - LONG_BITS)) << 2);
}

// @inline
function shortSlot(eight: u64): usize {
  return SHORT_TABLE + (<usize>(((eight << 24) * MULTIPLIER) >> (64 - SHORT_BITS)) << 2);
}

// @inline
function remember(at: usize): void {
  const eight = load<u64>(at);
  const position = <u32>at + shift;
  store<u32>(longSlot(eight), position);
  store<u32>(shortSlot(eight), position);
}

// @inline
function putMatch(to: usize, literals: usize, distance: u32, length: u32): usize {
  store<u32>(to, <u32>literals);
  store<u32>(to, distance, 4);
  store<u32>(to, length, 8);
  return to + SEQUENCE_SIZE;
}

/** Writes the matches of `[done, blockEnd)` of the input that begins at `start` to `to` like `replay`; returns their end. */
export function search(start: usize, done: usize, blockEnd: usize, to: usize): usize {
  const oldest = <u32>start + shift;
  const lastStart = blockEnd - min(blockEnd - done, LONG);
  let at = done;
  while (at < lastStart) {
    const eight = load<u64>(at);
    const position = <u32>at + shift;
    const long = longSlot(eight);
    const short = shortSlot(eight);
    const far = load<u32>(long);
    const near = load<u32>(short);
    store<u32>(long, position);
    store<u32>(short, position);
    let distance = first;
    let length: u32;
    if (first != 0 && load<u32>(at + 1) == load<u32>(at + 1 - first)) {
      // The offset of the last match costs next to nothing to write.
      at++;
      length = extend(at, first, 4, blockEnd);
    } else {
      if (far >= oldest && load<u64>(<usize>(far - shift)) == eight) {
        distance = position - far;
        length = extend(at, distance, 8, blockEnd);
      } else if (near >= oldest && load<u32>(<usize>(near - shift)) == <u32>eight) {
        // A long match at the next byte is better.
        const next = load<u64>(at + 1);
        const nextLong = longSlot(next);
        const further = load<u32>(nextLong);
        store<u32>(nextLong, position + 1);
        if (further >= oldest && load<u64>(<usize>(further - shift)) == next) {
          at++;
          distance = position + 1 - further;
          length = extend(at, distance, 8, blockEnd);
        } else {
          distance = position - near;
          length = extend(at, distance, 4, blockEnd);
        }
      } else {
        at += 1 + ((at - done) >> PATIENCE);
        continue;
      }
      while (at > done && at - distance > start && load<u8>(at - 1) == load<u8>(at - 1 - distance)) {
        at--;
        length++;
      }
      second = first;
      first = distance;
    }
    to = putMatch(to, at - done, distance, length);
    const began = at;
    at += length;
    done = at;
    if (at >= lastStart) break;
    // Some of what was passed over, for later.
    remember(began + 2);
    remember(at - 2);
    while (second != 0 && load<u32>(at) == load<u32>(at - second)) {
      distance = second;
      second = first;
      first = distance;
      length = extend(at, distance, 4, blockEnd);
      remember(at);
      to = putMatch(to, 0, distance, length);
      at += length;
      done = at;
      if (at >= lastStart) break;
    }
  }
  return to;
}
