// Comparisons that all match finders make.

/** How many of the 16 bytes at `at` and at `distance` in front are equal from the first on. */
// @inline
export function equalBytes(at: usize, distance: u32): u32 {
  return ctz<u32>(~i8x16.bitmask(i8x16.eq(v128.load(at), v128.load(at - distance))));
}

/** Length of a match whose first `known` bytes are equal, up to `end`. Up to 7 bytes beyond are read. */
// @inline
export function extend(at: usize, distance: u32, known: u32, end: usize): u32 {
  let next = at + known;
  while (next < end) {
    const differs = load<u64>(next) ^ load<u64>(next - distance);
    if (differs != 0) {
      next += <usize>(ctz(differs) >> 3);
      break;
    }
    next += 8;
  }
  return <u32>(min(next, end) - at);
}
