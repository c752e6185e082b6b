// What sequences are made of (RFC 8878, 3.1.1.3.2.1): a literal length, an offset and a match length, each a code and extra bits.
import {
  CODE_COUNTS, CODE_COUNTS_END, KIND_COUNTS, LITERAL_LENGTH_BITS, LITERAL_LENGTH_CODES, LITERALS, MATCH_LENGTH_BITS, MATCH_LENGTH_CODES, SEQUENCE_SIZE, SEQUENCES,
} from './zstd-map';

const MIN_MATCH: u32 = 3;
const LITERAL_LENGTHS = memory.data<u8>([1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
const MATCH_LENGTHS = memory.data<u8>([1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

/** The latest three offsets of the blocks before, and those behind the present one. */
let first: u32 = 1;
let second: u32 = 4;
let third: u32 = 8;
let nextFirst: u32 = 1;
let nextSecond: u32 = 4;
let nextThird: u32 = 8;

/** Fills in the tables of length codes; once per instance. */
export function prepareCodes(): void {
  prepareLengths(LITERAL_LENGTH_CODES, 64, LITERAL_LENGTH_BITS, 16, LITERAL_LENGTHS, 20);
  prepareLengths(MATCH_LENGTH_CODES, 128, MATCH_LENGTH_BITS, 32, MATCH_LENGTHS, 21);
}

/** Codes 0 to `plain` - 1 are lengths themselves; the `more` that follow have extra bits, as many as `bits` says. Lengths below `small` get their code. */
function prepareLengths(codes: usize, small: u32, extra: usize, plain: u32, bits: usize, more: u32): void {
  for (let i: u32 = 0; i < plain; i++) {
    store<u8>(codes + i, i);
    store<u8>(extra + i, 0);
  }
  let length = plain;
  for (let i: u32 = 0; i < more; i++) {
    const n: u32 = load<u8>(bits + i);
    store<u8>(extra + plain + i, n);
    for (const end = length + (1 << n); length < end; length++) {
      if (length < small) store<u8>(codes + length, plain + i);
    }
  }
}

/** Begins a frame. */
export function forgetOffsets(): void {
  first = 1;
  second = 4;
  third = 8;
}

/** The block is written as it was coded: decoders have its offsets. */
export function settleOffsets(): void {
  first = nextFirst;
  second = nextSecond;
  third = nextThird;
}

// @inline
function increment(counter: usize): void {
  store<u32>(counter, load<u32>(counter) + 1);
}

/**
 * Codes the sequences of the block `[from, blockEnd)`, which lie at SEQUENCES up to `end` (u32 each: literals in front, distance,
 * length): extra bits (u64) and codes (u8 each, and the number of extra bits) take their place. Counts the codes, and
 * gathers the literals at LITERALS, whose end it returns. An offset that comes again soon has a value from 1 to 3 (3.1.1.5).
 */
export function codeSequences(from: usize, blockEnd: usize, end: usize): usize {
  memory.fill(CODE_COUNTS, 0, CODE_COUNTS_END - CODE_COUNTS);
  let to = LITERALS;
  let a = first;
  let b = second;
  let c = third;
  for (let at: usize = SEQUENCES; at < end; at += SEQUENCE_SIZE) {
    const literals = load<u32>(at);
    const distance = load<u32>(at, 4);
    const length = load<u32>(at, 8);
    v128.store(to, v128.load(from));
    for (let copied: usize = 16; copied < literals; copied += 16) v128.store(to + copied, v128.load(from + copied));
    to += literals;
    from += literals + length;

    const isFirst = (distance == a) & (literals != 0);
    const isSecond = distance == b;
    // Right behind a match its own offset cannot come: each value stands for the next one, and 3 for one less than the first.
    const behind = <u32>(literals == 0);
    let offset = select<u32>(3, distance + 3, distance == select<u32>(a - 1, c, behind));
    offset = select<u32>(3 - behind, offset, distance == c);
    offset = select<u32>(2 - behind, offset, isSecond);
    offset = select<u32>(1, offset, isFirst);
    c = select<u32>(c, b, isFirst | isSecond);
    b = select<u32>(b, a, isFirst);
    a = distance;

    const rest = length - MIN_MATCH;
    const offsetCode: u32 = 31 - clz(offset);
    let extra: u64 = offset & ((1 << offsetCode) - 1);
    let bits = offsetCode;
    let literalCode = literals;
    let matchCode = rest;
    // Lengths with extra bits are rare.
    if (literals >= 16 || rest >= 32) {
      literalCode = literals < 64 ? load<u8>(LITERAL_LENGTH_CODES + literals) : 50 - clz(literals);
      matchCode = rest < 128 ? load<u8>(MATCH_LENGTH_CODES + rest) : 67 - clz(rest);
      const literalBits: u32 = load<u8>(LITERAL_LENGTH_BITS + literalCode);
      const matchBits: u32 = load<u8>(MATCH_LENGTH_BITS + matchCode);
      // Read in the order offset, match length, literal length, backwards.
      extra = (((extra << matchBits) | (rest & ((1 << matchBits) - 1))) << literalBits) | (literals & ((1 << literalBits) - 1));
      bits += literalBits + matchBits;
    }
    increment(CODE_COUNTS + (literalCode << 2));
    increment(CODE_COUNTS + KIND_COUNTS + (offsetCode << 2));
    increment(CODE_COUNTS + 2 * KIND_COUNTS + (matchCode << 2));
    store<u64>(at, extra);
    store<u32>(at, literalCode | (offsetCode << 8) | (matchCode << 16) | (bits << 24), 8);
  }
  nextFirst = a;
  nextSecond = b;
  nextThird = c;
  memory.copy(to, from, blockEnd - from);
  return to + (blockEnd - from);
}
