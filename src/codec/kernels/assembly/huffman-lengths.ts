// Length-limited Huffman codes: how long each symbol's code is.
import { BUCKETS, LEAF_PARENTS, NODE_PARENTS, SORTED, WEIGHTS } from './huffman-map';

/**
 * Lengths of at most `limit` bits for `count` symbols (at most 512) from how often they occur (u32 at `counts`, below 2^23);
 * 0 for those that do not. Returns how many do; below two there is no code, and all lengths are 0.
 */
export function codeLengths(counts: usize, count: u32, limit: u32, lengths: usize): u32 {
  memory.fill(lengths, 0, count);
  const used = sortSymbols(counts, count);
  if (used < 2) return used;
  buildTree(used);
  countDepths(used, limit);
  // The rarest symbols get the longest codes.
  let at: usize = SORTED;
  for (let length = limit; length > 0; length--) {
    for (let n: u32 = load<u16>(BUCKETS + (length << 1)); n > 0; n--) {
      store<u8>(lengths + (load<u32>(at) & 511), length);
      at += 4;
    }
  }
  return used;
}

/** A number that grows with `n`, in steps of at most an eighth of `n`: at most 184 for n < 2^23. */
// @inline
function bucketOf(n: u32): u32 {
  const top: u32 = 31 - clz(n);
  return n < 8 ? n : ((top - 3) << 3) + (n >> (top - 3));
}

/** Puts `count << 9 | symbol` of every symbol that occurs into SORTED, rarest first; returns how many. */
function sortSymbols(counts: usize, count: u32): u32 {
  memory.fill(BUCKETS, 0, 512);
  let used: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const n = load<u32>(counts + (i << 2));
    if (n == 0) continue;
    const at = BUCKETS + (bucketOf(n) << 1);
    store<u16>(at, load<u16>(at) + 1);
    used++;
  }
  let offset: u32 = 0;
  for (let at = BUCKETS; at < BUCKETS + 512; at += 2) {
    const n = load<u16>(at);
    store<u16>(at, offset);
    offset += n;
  }
  for (let i: u32 = 0; i < count; i++) {
    const n = load<u32>(counts + (i << 2));
    if (n == 0) continue;
    const at = BUCKETS + (bucketOf(n) << 1);
    const place: u32 = load<u16>(at);
    store<u16>(at, place + 1);
    store<u32>(SORTED + (place << 2), (n << 9) | i);
  }
  // Nearly sorted now: only neighbours within a bucket may be out of order.
  for (let i: u32 = 1; i < used; i++) {
    const item = load<u32>(SORTED + (i << 2));
    let at = SORTED + (i << 2);
    while (at > SORTED && load<u32>(at - 4) > item) {
      store<u32>(at, load<u32>(at - 4));
      at -= 4;
    }
    store<u32>(at, item);
  }
  return used;
}

/** Huffman's algorithm on sorted leaves: inner nodes arise in order of weight, so the two lightest are always at hand. */
function buildTree(used: u32): void {
  let leaf: u32 = 0;
  let node: u32 = 0;
  for (let made: u32 = 0; made < used - 1; made++) {
    let weight: u32 = 0;
    for (let child = 0; child < 2; child++) {
      if (leaf < used && (node >= made || load<u32>(SORTED + (leaf << 2)) >> 9 <= load<u32>(WEIGHTS + (node << 2)))) {
        weight += load<u32>(SORTED + (leaf << 2)) >> 9;
        store<u16>(LEAF_PARENTS + (leaf << 1), made);
        leaf++;
      } else {
        weight += load<u32>(WEIGHTS + (node << 2));
        store<u16>(NODE_PARENTS + (node << 1), made);
        node++;
      }
    }
    store<u32>(WEIGHTS + (made << 2), weight);
  }
}

/** Leaves how many symbols get each length in BUCKETS (u16 by length), none above `limit`. */
function countDepths(used: u32, limit: u32): void {
  memory.fill(BUCKETS, 0, 64);
  // From the root downwards; weights are not needed any more and give way to depths.
  store<u32>(WEIGHTS + ((used - 2) << 2), 0);
  for (let i = <i32>used - 3; i >= 0; i--) {
    store<u32>(WEIGHTS + (i << 2), load<u32>(WEIGHTS + (<u32>load<u16>(NODE_PARENTS + (i << 1)) << 2)) + 1);
  }
  let sum: i32 = 0;
  for (let i: u32 = 0; i < used; i++) {
    const depth = min<u32>(limit, load<u32>(WEIGHTS + (<u32>load<u16>(LEAF_PARENTS + (i << 1)) << 2)) + 1);
    const at = BUCKETS + (depth << 1);
    store<u16>(at, load<u16>(at) + 1);
    sum += 1 << (limit - depth);
  }
  // Cutting at the limit may have left more codes than there is room for. One step: a leaf above the limit becomes a node
  // with itself and a leaf of the deepest level as children, which frees one place of the deepest level.
  for (; sum > 1 << limit; sum--) {
    let depth = limit - 1;
    while (load<u16>(BUCKETS + (depth << 1)) == 0) depth--;
    const at = BUCKETS + (depth << 1);
    store<u16>(at, load<u16>(at) - 1);
    store<u16>(at, load<u16>(at, 2) + 2, 2);
    store<u16>(BUCKETS + (limit << 1), load<u16>(BUCKETS + (limit << 1)) - 1);
  }
}
