import { TABLE, TABLE_BITS } from './lz4-map';

export const MIN_MATCH: usize = 4;
const FARTHEST: u32 = 65535;
/** By the format's end rules the last bytes are literals, and no match begins among the last twelve. */
export const LAST_LITERALS: usize = 5;
export const LAST_START: usize = 12;
/** After so many positions without a match (as a power of two) the search steps farther, and farther still. */
const PATIENCE: u32 = 6;
const ALL_ONES: usize = 15;

/**
 * Position of the input's first byte. It grows from input to input by more than a distance can be, so that what the table
 * holds of earlier inputs is out of reach: the table need not be cleared, and the result does not depend on it.
 */
let base: u32 = 0;

// @inline
function slotOf(at: usize): usize {
  // Five bytes: fewer chance hits than with the four that must be equal, and longer matches.
  return TABLE + (<usize>(((load<u64>(at) << 24) * 0xb9_7f4a_7c15) >> (64 - TABLE_BITS)) << 2);
}

/** Compresses `size` bytes at `input` and returns the size of the block at `output`: at most size + size / 255 + 16. */
export function compress(input: usize, size: u32, output: usize): u32 {
  if (base == 0 || base > 0xffff_ffff - 2 * (FARTHEST + 1) - size) {
    memory.fill(TABLE, 0, 4 << TABLE_BITS);
    base = 0;
  }
  base += FARTHEST + 1;
  // Added to an address, makes a position of it.
  const shift = base - <u32>input;
  base += size;

  const end = input + size;
  let literals = input;
  let to = output;
  if (size > LAST_START) {
    const lastStart = end - LAST_START;
    const matchEnd = end - LAST_LITERALS;
    store<u32>(slotOf(input), <u32>input + shift);
    let at = input + 1;
    while (at <= lastStart) {
      let tries: u32 = 1 << PATIENCE;
      let from: usize = 0;
      for (;;) {
        const slot = slotOf(at);
        const position = <u32>at + shift;
        const candidate = load<u32>(slot);
        store<u32>(slot, position);
        if (position - candidate <= FARTHEST) {
          from = <usize>(candidate - shift);
          if (load<u32>(from) == load<u32>(at)) break;
        }
        at += tries++ >> PATIENCE;
        if (at > lastStart) return finish(literals, end, to, output);
      }
      while (at > literals && from > input && load<u8>(at - 1) == load<u8>(from - 1)) {
        at--;
        from--;
      }
      const token = to;
      const run = at - literals;
      to = putLiterals(literals, run, to);
      store<u16>(to, <u16>(at - from));
      to += 2;
      const matched = equalBytes(from + MIN_MATCH, at + MIN_MATCH, matchEnd);
      to = putMatchLength(token, matched, to);
      at += MIN_MATCH + matched;
      literals = at;
      if (at > lastStart) break;
      store<u32>(slotOf(at - 2), <u32>(at - 2) + shift);
    }
  }
  return finish(literals, end, to, output);
}

function finish(literals: usize, end: usize, to: usize, output: usize): u32 {
  return <u32>(putLiterals(literals, end - literals, to) - output);
}

/** Writes the token's upper half, the further length bytes and the literals; returns where the next byte goes. */
// @inline
export function putLiterals(from: usize, run: usize, to: usize): usize {
  if (run < ALL_ONES) {
    store<u8>(to, <u8>(run << 4));
    v128.store(to + 1, v128.load(from));
    return to + 1 + run;
  }
  store<u8>(to, <u8>(ALL_ONES << 4));
  to = putLength(run - ALL_ONES, to + 1);
  memory.copy(to, from, run);
  return to + run;
}

/** Adds the length of a match, less the 4 bytes it has at least, to its token; further length bytes go to `to`. Returns where the next byte goes. */
// @inline
export function putMatchLength(token: usize, more: usize, to: usize): usize {
  store<u8>(token, load<u8>(token) | <u8>min(more, ALL_ONES));
  return more < ALL_ONES ? to : putLength(more - ALL_ONES, to);
}

// @inline
function putLength(rest: usize, to: usize): usize {
  if (rest >= 255) {
    const full = rest / 255;
    memory.fill(to, 255, full);
    to += full;
    rest -= full * 255;
  }
  store<u8>(to, <u8>rest);
  return to + 1;
}

/** How many bytes are equal at both places, up to `end` of the second. */
// @inline
function equalBytes(a: usize, b: usize, end: usize): usize {
  const start = b;
  while (b + 8 <= end) {
    const difference = load<u64>(a) ^ load<u64>(b);
    if (difference) return b - start + <usize>(ctz(difference) >> 3);
    a += 8;
    b += 8;
  }
  while (b < end && load<u8>(a) == load<u8>(b)) {
    a++;
    b++;
  }
  return b - start;
}
