// The literals of a block (RFC 8878, 3.1.1.3.1): raw, one byte repeated, or with a Huffman code of at most 11 bits, which is
// described in front or that of the block before.
import { codeLengths } from './huffman-lengths';
import { BUCKETS } from './huffman-map';
import { describeTree } from './zstd-tree';
import { LITERALS, LITERAL_CODES, LITERAL_COUNTS, LITERAL_TABLES, LITERAL_TABLE_SIZE } from './zstd-map';

const RAW: u32 = 0;
const SAME: u32 = 1;
const COMPRESSED: u32 = 2;
const TREELESS: u32 = 3;

const MAX_BITS: u32 = 11;
/** Below this many literals no code pays for its description; from this many on there are four streams. */
const MIN_DESCRIBED: u32 = 48;
const MIN_REPEATED: u32 = 8;
const FOUR_STREAMS: u32 = 256;

/** The code that decoders have from the block before, and the other one, in which the next is made. */
let former: usize = LITERAL_TABLES;
let fresh: usize = LITERAL_TABLES + LITERAL_TABLE_SIZE;
let hasFormer: bool = false;
let keepFresh: bool = false;

/** Begins a frame. */
export function forgetLiteralCode(): void {
  hasFormer = false;
}

/** Makes the code that the section just written has described the one of the block before: the block is written for good. */
export function settleLiteralCode(): void {
  if (!keepFresh) return;
  const table = former;
  former = fresh;
  fresh = table;
  hasFormer = true;
}

/** Writes the section for `size` bytes at LITERALS to `to`; returns its end. */
export function putLiterals(size: u32, to: usize): usize {
  keepFresh = false;
  if (size < MIN_REPEATED || (size < MIN_DESCRIBED && !hasFormer)) return putRaw(size, to);
  const most = count(size);
  if (most == size) return putSame(size, to);
  // Nothing to gain when all bytes occur about equally often.
  if (most <= (size >> 7) + 4) return putRaw(size, to);

  const repeated = hasFormer ? bitsWith(former) : 0xffff_ffff;
  const headerSize: u32 = size < 1024 ? 3 : size < 16384 ? 4 : 5;
  const streams: u32 = size < FOUR_STREAMS ? 1 : 4;
  const fixed = headerSize + (streams == 1 ? 0 : 6) + streams;
  let kind = TREELESS;
  let table = former;
  let bits = repeated;
  let at = to + headerSize;
  if (size >= MIN_DESCRIBED) {
    codeLengths(LITERAL_COUNTS, 256, MAX_BITS, fresh);
    const described = bitsWith(fresh);
    // A look at the description is only worth it when the code is the better one.
    if (described < repeated) {
      const end = describeTree(fresh, at);
      if (end != 0 && described + (<u32>(end - at) << 3) < repeated) {
        kind = COMPRESSED;
        table = fresh;
        bits = described;
        assignCodes(fresh);
        at = end;
      }
    }
  }
  if (bits == 0xffff_ffff || fixed + <u32>(at - to) - headerSize + (bits >> 3) + (size >> 6) >= size) return putRaw(size, to);

  const end = streams == 1 ? putStream(LITERALS, LITERALS + size, table, at) : putStreams(size, table, at);
  const packed = <u32>(end - to) - headerSize;
  if (packed + headerSize >= size) return putRaw(size, to);
  const sizes: u64 = <u64>size << 4;
  if (headerSize == 3) {
    const word: u32 = kind | (streams == 1 ? 0 : 4) | <u32>sizes | (packed << 14);
    store<u16>(to, word);
    store<u8>(to, word >> 16, 2);
  } else if (headerSize == 4) {
    store<u32>(to, kind | 8 | <u32>sizes | (packed << 18));
  } else {
    const word: u64 = <u64>kind | 12 | sizes | (<u64>packed << 22);
    store<u32>(to, <u32>word);
    store<u8>(to, <u32>(word >> 32), 4);
  }
  keepFresh = kind == COMPRESSED;
  return end;
}

function putHeader(kind: u32, size: u32, to: usize): usize {
  if (size < 32) {
    store<u8>(to, kind | (size << 3));
    return to + 1;
  }
  if (size < 4096) {
    store<u16>(to, kind | 4 | (size << 4));
    return to + 2;
  }
  store<u32>(to, kind | 12 | (size << 4));
  return to + 3;
}

function putRaw(size: u32, to: usize): usize {
  to = putHeader(RAW, size, to);
  memory.copy(to, LITERALS, size);
  return to + size;
}

function putSame(size: u32, to: usize): usize {
  to = putHeader(SAME, size, to);
  store<u8>(to, load<u8>(LITERALS));
  return to + 1;
}

/** Counts the literals at LITERAL_COUNTS (u32 x 256); returns how often the most frequent occurs. */
function count(size: u32): u32 {
  memory.fill(LITERAL_COUNTS, 0, 4096);
  let at: usize = LITERALS;
  const end = at + (size & ~7);
  for (; at < end; at += 8) {
    const eight = load<u64>(at);
    increment(0, <u32>eight & 255);
    increment(1024, <u32>(eight >> 8) & 255);
    increment(2048, <u32>(eight >> 16) & 255);
    increment(3072, <u32>(eight >> 24) & 255);
    increment(0, <u32>(eight >> 32) & 255);
    increment(1024, <u32>(eight >> 40) & 255);
    increment(2048, <u32>(eight >> 48) & 255);
    increment(3072, <u32>(eight >> 56));
  }
  for (; at < LITERALS + size; at++) increment(0, load<u8>(at));
  let most = i32x4.splat(0);
  for (let i: usize = LITERAL_COUNTS; i < LITERAL_COUNTS + 1024; i += 16) {
    const sum = i32x4.add(i32x4.add(v128.load(i), v128.load(i, 1024)), i32x4.add(v128.load(i, 2048), v128.load(i, 3072)));
    v128.store(i, sum);
    most = i32x4.max_u(most, sum);
  }
  return max(max<u32>(i32x4.extract_lane(most, 0), i32x4.extract_lane(most, 1)), max<u32>(i32x4.extract_lane(most, 2), i32x4.extract_lane(most, 3)));
}

// @inline
function increment(counters: usize, byte: u32): void {
  const counter = LITERAL_COUNTS + (<usize>byte << 2);
  store<u32>(counter + counters, load<u32>(counter + counters) + 1);
}

/** Bits that the literals need with a table's code; all ones when it has none for some of them. */
function bitsWith(table: usize): u32 {
  let bits: u32 = 0;
  let missing: u32 = 0;
  for (let i: u32 = 0; i < 256; i++) {
    const n = load<u32>(LITERAL_COUNTS + (i << 2));
    const length: u32 = load<u8>(table + i);
    bits += n * length;
    missing |= select<u32>(n, 0, length == 0);
  }
  return missing != 0 ? 0xffff_ffff : bits;
}

/** Gives codes to a table's lengths: the longest come first, equal ones in the order of their bytes (4.2.1.3). */
function assignCodes(table: usize): void {
  memory.fill(BUCKETS, 0, 64);
  for (let i: u32 = 0; i < 256; i++) {
    const at = BUCKETS + (<u32>load<u8>(table + i) << 2);
    store<u32>(at, load<u32>(at) + 1);
  }
  let next: u32 = 0;
  for (let length: u32 = MAX_BITS; length > 0; length--) {
    const at = BUCKETS + (length << 2);
    const n = load<u32>(at);
    store<u32>(at, next);
    next = (next + n) >> 1;
  }
  for (let i: u32 = 0; i < 256; i++) {
    const length: u32 = load<u8>(table + i);
    if (length == 0) continue;
    const at = BUCKETS + (length << 2);
    const code = load<u32>(at);
    store<u32>(at, code + 1);
    store<u64>(table + LITERAL_CODES + (i << 3), (<u64>code << (64 - length)) | length);
  }
}

/** Four streams of a quarter each, the last of what is left, behind the sizes of the first three (3.1.1.3.1.6). */
function putStreams(size: u32, table: usize, to: usize): usize {
  const quarter: usize = (size + 3) >> 2;
  let from: usize = LITERALS;
  let at = to + 6;
  for (let i: usize = 0; i < 3; i++, from += quarter) {
    const end = putStream(from, from + quarter, table, at);
    store<u16>(to + 2 * i, <u32>(end - at));
    at = end;
  }
  return putStream(from, LITERALS + size, table, at);
}

/**
 * Writes bytes as one stream, the last one first. Bits are held in the top of a word: to append a code, what is there goes down
 * and the code, which lies in the top bits of its entry, comes on top. The shift is the low six bits of the entry,
 * and what they leave behind at the bottom is shifted out before it matters: no more than 51 bits are ever held.
 */
function putStream(from: usize, end: usize, table: usize, to: usize): usize {
  const codes = table + LITERAL_CODES;
  let held: u64 = 0;
  let bits: u64 = 0;
  let entry: u64;
  let at = end;
  for (let odd = (end - from) & 3; odd > 0; odd--) {
    entry = load<u64>(codes + (<usize>load<u8>(--at) << 3));
    held = (held >> entry) | entry;
    bits += entry;
  }
  bits &= 63;
  if (bits != 0) {
    store<u64>(to, held >> (64 - bits));
    to += <usize>(bits >> 3);
    bits &= 7;
  }
  while (at > from) {
    at -= 4;
    const four = load<u32>(at);
    entry = load<u64>(codes + (<usize>(four >> 24) << 3));
    held = (held >> entry) | entry;
    bits += entry;
    entry = load<u64>(codes + (<usize>((four >> 16) & 255) << 3));
    held = (held >> entry) | entry;
    bits += entry;
    entry = load<u64>(codes + (<usize>((four >> 8) & 255) << 3));
    held = (held >> entry) | entry;
    bits += entry;
    entry = load<u64>(codes + (<usize>(four & 255) << 3));
    held = (held >> entry) | entry;
    bits = (bits + entry) & 63;
    store<u64>(to, held >> (64 - bits));
    to += <usize>(bits >> 3);
    bits &= 7;
  }
  // The one at the end.
  const last: u64 = bits == 0 ? 0 : held >> (64 - bits);
  store<u8>(to, <u32>(last | (<u64>1 << bits)));
  return to + 1;
}
