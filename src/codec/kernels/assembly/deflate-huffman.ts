// Huffman codes as deflate has them (RFC 1951, 3.2.2).
import { codeLengths } from './huffman-lengths';
import { BUCKETS, SORTED } from './huffman-map';

/**
 * Makes a code of at most `limit` bits for `count` symbols from how often they occur (u32 at `counts`, below 2^23). Writes
 * lengths (u8) and codes (u32: reversed code, length << 16). Even one symbol or none gives a complete code of two
 * symbols: not every decoder takes less.
 */
export function makeCode(counts: usize, count: u32, limit: u32, lengths: usize, codes: usize): void {
  const used = codeLengths(counts, count, limit, lengths);
  if (used < 2) {
    const only: u32 = used == 0 ? 0 : load<u32>(SORTED) & 511;
    store<u8>(lengths + only, 1);
    store<u8>(lengths + (only == 0 ? 1 : 0), 1);
  }
  assignCodes(count, lengths, codes);
}

/** Canonical codes from their lengths, bit-reversed as the stream wants them. */
export function assignCodes(count: u32, lengths: usize, codes: usize): void {
  memory.fill(BUCKETS, 0, 64);
  for (let i: u32 = 0; i < count; i++) {
    const at = BUCKETS + (<u32>load<u8>(lengths + i) << 2);
    store<u32>(at, load<u32>(at) + 1);
  }
  let next: u32 = 0;
  store<u32>(BUCKETS, 0);
  for (let length: u32 = 1; length < 16; length++) {
    const at = BUCKETS + (length << 2);
    const n = load<u32>(at);
    store<u32>(at, next);
    next = (next + n) << 1;
  }
  for (let i: u32 = 0; i < count; i++) {
    const length: u32 = load<u8>(lengths + i);
    let code: u32 = 0;
    if (length != 0) {
      const at = BUCKETS + (length << 2);
      code = load<u32>(at);
      store<u32>(at, code + 1);
      code = ((code & 0x5555) << 1) | ((code >> 1) & 0x5555);
      code = ((code & 0x3333) << 2) | ((code >> 2) & 0x3333);
      code = ((code & 0x0f0f) << 4) | ((code >> 4) & 0x0f0f);
      code = ((code & 0x00ff) << 8) | (code >> 8);
      code = (code >> (16 - length)) | (length << 16);
    }
    store<u32>(codes + (i << 2), code);
  }
}
