// Describes a Huffman code (RFC 8878, 4.2.1): weights of all symbols but the last that occurs, which follows from the others.
// They are written with an FSE code of their own or, when that is not smaller, as they are, four bits each.
import { beginBits, endBits, put } from './zstd-bits';
import { accuracyFor, bitsOf, build, describe, firstState, logOf, nextState, normalise, transition } from './zstd-fse';
import { TREE_COUNTS, TREE_TABLE, TREE_WEIGHTS } from './zstd-map';

const MAX_WEIGHTS: u32 = 12;
const MAX_LOG: u32 = 6;
/** More weights cannot be written as they are. */
const MAX_PLAIN: u32 = 128;

/** Writes the description of code lengths (u8 x 256) to `to` and returns its end, or 0 when there is no way to do it. */
export function describeTree(lengths: usize, to: usize): usize {
  let last: u32 = 255;
  while (load<u8>(lengths + last) == 0) last--;
  let longest: u32 = 0;
  for (let i: u32 = 0; i <= last; i++) longest = max<u32>(longest, load<u8>(lengths + i));
  memory.fill(TREE_COUNTS, 0, 64);
  for (let i: u32 = 0; i < last; i++) {
    const length: u32 = load<u8>(lengths + i);
    const weight: u32 = length == 0 ? 0 : longest + 1 - length;
    store<u8>(TREE_WEIGHTS + i, weight);
    const counter = TREE_COUNTS + (weight << 2);
    store<u32>(counter, load<u32>(counter) + 1);
  }
  const plain = (last + 1) >> 1;
  const end = putCoded(last, to + 1);
  const coded: u32 = end == 0 ? 0 : <u32>(end - to) - 1;
  if (coded != 0 && coded < 128 && (coded < plain || last > MAX_PLAIN)) {
    store<u8>(to, coded);
    return end;
  }
  if (last > MAX_PLAIN) return 0;
  store<u8>(to, 127 + last);
  store<u8>(TREE_WEIGHTS + last, 0);
  for (let i: u32 = 0; i < plain; i++) {
    store<u8>(to + 1 + i, (load<u8>(TREE_WEIGHTS + 2 * i) << 4) | load<u8>(TREE_WEIGHTS + 2 * i + 1));
  }
  return to + 1 + plain;
}

/** Writes `count` weights with an FSE code; 0 when all are the same or too few. Two states take turns (4.2.1.2). */
function putCoded(count: u32, to: usize): usize {
  let kinds: u32 = 0;
  for (let i: u32 = 0; i < MAX_WEIGHTS; i++) kinds += <u32>(load<u32>(TREE_COUNTS + (i << 2)) != 0);
  if (kinds < 2 || count < 3) return 0;
  normalise(TREE_TABLE, TREE_COUNTS, MAX_WEIGHTS, count, accuracyFor(count, kinds, MAX_LOG));
  build(TREE_TABLE, MAX_WEIGHTS);
  beginBits(describe(TREE_TABLE, to));
  let at = count;
  let state = firstState(TREE_TABLE, load<u8>(TREE_WEIGHTS + --at));
  let other = firstState(TREE_TABLE, load<u8>(TREE_WEIGHTS + --at));
  while (at > 0) {
    const t = transition(TREE_TABLE, load<u8>(TREE_WEIGHTS + --at));
    const bits = bitsOf(t, state);
    put(state & ((1 << bits) - 1), bits);
    const next = nextState(TREE_TABLE, t, state, bits);
    state = other;
    other = next;
  }
  // The state of the first weight is read first, so it is written last. It is the one that was used last: `other`.
  const log = logOf(TREE_TABLE);
  put(state & ((1 << log) - 1), log);
  put(other & ((1 << log) - 1), log);
  put(1, 1);
  return endBits();
}
