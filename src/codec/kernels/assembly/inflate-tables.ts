// Huffman decoding tables (RFC 1951, 3.2.2 and 3.2.7).
//
// A table entry is one u32:
//   bits 0-5    bits to consume in all: code plus extra bits (bits 6-7 are zero, so the low byte can be subtracted whole)
//   bits 8-11   bits of the code alone, counted from where this table was indexed (bits 12-13 are zero: shift counts
//               are taken modulo 64, so `entry >> 8` is a shift count without masking)
//   bit 13-15   EXCEPTION and its kinds, below
//   bits 16-30  literal byte, base length, base distance, or index of the sub-table's first entry
//   bit 31      literal
import {
  CODE_TABLE, COUNTS, DISTANCE_BITS, DISTANCE_MEANING, DISTANCE_TABLE, LENS, LITERAL_BITS, LITERAL_MEANING, LITERAL_TABLE, OFFSETS, PLAIN_MEANING, SORTED,
} from './inflate-map';

export const LITERAL: u32 = 0x8000_0000;
/** Not a literal, length or distance: look closer. */
export const EXCEPTION: u32 = 0x8000;
/** The entry points to a sub-table: bits 8-11 are its index width. */
export const SUBTABLE: u32 = 0x4000;
export const END_OF_BLOCK: u32 = 0x2000;
/** A bit pattern without meaning: unassigned, or a symbol that must not occur. */
const INVALID: u32 = EXCEPTION;

/** Fills the meaning of every symbol; once per instance. */
export function prepareMeanings(): void {
  for (let i: u32 = 0; i < 256; i++) store<u32>(LITERAL_MEANING + (i << 2), LITERAL | (i << 16));
  store<u32>(LITERAL_MEANING + (256 << 2), EXCEPTION | END_OF_BLOCK);
  // Lengths: eight codes without extra bits, then groups of four with one bit more each; 285 is 258 without extra bits.
  let base: u32 = 3;
  for (let i: u32 = 0; i < 28; i++) {
    const extra: u32 = i < 8 ? 0 : (i >> 2) - 1;
    store<u32>(LITERAL_MEANING + ((257 + i) << 2), (base << 16) | extra);
    base += 1 << extra;
  }
  store<u32>(LITERAL_MEANING + (285 << 2), 258 << 16);
  store<u32>(LITERAL_MEANING + (286 << 2), INVALID);
  store<u32>(LITERAL_MEANING + (287 << 2), INVALID);
  base = 1;
  for (let i: u32 = 0; i < 30; i++) {
    const extra: u32 = i < 4 ? 0 : (i >> 1) - 1;
    store<u32>(DISTANCE_MEANING + (i << 2), (base << 16) | extra);
    base += 1 << extra;
  }
  store<u32>(DISTANCE_MEANING + (30 << 2), INVALID);
  store<u32>(DISTANCE_MEANING + (31 << 2), INVALID);
  for (let i: u32 = 0; i < 19; i++) store<u32>(PLAIN_MEANING + (i << 2), i << 16);
}

/**
 * Builds a table from `count` code lengths at `lens`. Over-subscribed sets are refused; incomplete ones too, except
 * (`lenient`) the empty set and a single code of one bit, whose unassigned patterns fail when they are met.
 */
function buildTable(lens: usize, count: u32, table: usize, tableBits: u32, meaning: usize, lenient: bool): bool {
  memory.fill(COUNTS, 0, 64);
  for (let i: u32 = 0; i < count; i++) {
    const at = COUNTS + (<u32>load<u8>(lens + i) << 2);
    store<u32>(at, load<u32>(at) + 1);
  }
  let longest: u32 = 15;
  while (longest > 0 && load<u32>(COUNTS + (longest << 2)) == 0) longest--;
  let left: i32 = 1;
  let offset: u32 = 0;
  for (let length: u32 = 1; length <= 15; length++) {
    const n = load<u32>(COUNTS + (length << 2));
    left = (left << 1) - n;
    if (left < 0) return false;
    store<u32>(OFFSETS + (length << 2), offset);
    offset += n;
  }
  if (left > 0) {
    if (!lenient || longest > 1) return false;
    const size: u32 = 4 << tableBits;
    for (let at: u32 = 0; at < size; at += 4) store<u32>(table + at, INVALID | 1);
    if (longest == 0) return true;
    // One code of one bit, `0`: every even index.
    let symbol: u32 = 0;
    while (load<u8>(lens + symbol) == 0) symbol++;
    const entry = load<u32>(meaning + (symbol << 2)) + 0x101;
    for (let at: u32 = 0; at < size; at += 8) store<u32>(table + at, entry);
    return true;
  }
  for (let symbol: u32 = 0; symbol < count; symbol++) {
    const length: u32 = load<u8>(lens + symbol);
    if (length == 0) continue;
    const at = OFFSETS + (length << 2);
    const place = load<u32>(at);
    store<u32>(at, place + 1);
    store<u16>(SORTED + (place << 1), symbol);
  }

  // Codes are taken in canonical order and kept bit-reversed, as the stream has them. While they fit the table, it is
  // grown by doubling: what is settled for n bits holds for n + 1 bits with either value of the new bit.
  let code: u32 = 0;
  let next: usize = SORTED;
  let length: u32 = 1;
  const direct = min(longest, tableBits);
  for (; length <= direct; length++) {
    if (length > 1) memory.copy(table + (4 << (length - 1)), table, 4 << (length - 1));
    for (let n = load<u32>(COUNTS + (length << 2)); n > 0; n--) {
      store<u32>(table + (code << 2), load<u32>(meaning + (<u32>load<u16>(next) << 2)) + length * 0x101);
      next += 2;
      code = successor(code, length);
    }
  }
  for (let bits = direct; bits < tableBits; bits++) memory.copy(table + (4 << bits), table, 4 << bits);

  // Longer codes share sub-tables by their first `tableBits` bits.
  const mask: u32 = (1 << tableBits) - 1;
  let end: u32 = 1 << tableBits;
  let prefix: u32 = 0xffff_ffff;
  let start: u32 = 0;
  let subBits: u32 = 0;
  for (; length <= longest; length++) {
    for (let n = load<u32>(COUNTS + (length << 2)); n > 0; n--) {
      if ((code & mask) != prefix) {
        prefix = code & mask;
        start = end;
        // As wide as the codes that begin here need: widen until the remaining codes fill it.
        subBits = length - tableBits;
        let room: i32 = (1 << subBits) - n;
        while (room > 0 && subBits + tableBits < longest) {
          subBits++;
          room = (room << 1) - load<u32>(COUNTS + ((subBits + tableBits) << 2));
        }
        end += 1 << subBits;
        store<u32>(table + (prefix << 2), (start << 16) | EXCEPTION | SUBTABLE | (subBits << 8) | tableBits);
      }
      const entry = load<u32>(meaning + (<u32>load<u16>(next) << 2)) + (length - tableBits) * 0x101;
      const step: u32 = 1 << (length - tableBits);
      for (let at = code >> tableBits; at < <u32>1 << subBits; at += step) store<u32>(table + ((start + at) << 2), entry);
      next += 2;
      code = successor(code, length);
    }
  }
  return true;
}

/** The next canonical code of the same length, both bit-reversed. */
// @inline
function successor(code: u32, length: u32): u32 {
  let bit: u32 = 1 << (length - 1);
  while (code & bit) {
    code ^= bit;
    bit >>= 1;
  }
  return code | bit;
}

export function buildCodeTable(lens: usize): bool {
  return buildTable(lens, 19, CODE_TABLE, 7, PLAIN_MEANING, false);
}

export function buildLiteralTable(count: u32): bool {
  return buildTable(LENS, count, LITERAL_TABLE, LITERAL_BITS, LITERAL_MEANING, true);
}

export function buildDistanceTable(lens: usize, count: u32): bool {
  return buildTable(lens, count, DISTANCE_TABLE, DISTANCE_BITS, DISTANCE_MEANING, true);
}

/** The codes of RFC 1951, 3.2.6. */
export function buildFixedTables(): void {
  memory.fill(LENS, 8, 144);
  memory.fill(LENS + 144, 9, 112);
  memory.fill(LENS + 256, 7, 24);
  memory.fill(LENS + 280, 8, 8);
  buildLiteralTable(288);
  memory.fill(LENS, 5, 32);
  buildDistanceTable(LENS, 32);
}
