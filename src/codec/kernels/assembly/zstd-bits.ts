// Bits are written from the lowest of each byte on. What is read backwards, from its last bit (RFC 8878, 4.1 and 4.2), begins
// with what is read last and ends with a one, behind which zeros fill the byte.

/** Next byte of output, and the bits that do not fill one yet: at most 7 between calls. */
export let bitsAt: usize = 0;
let pending: u64 = 0;
let pendingBits: u64 = 0;

export function beginBits(at: usize): void {
  bitsAt = at;
  pending = 0;
  pendingBits = 0;
}

/** Appends `count` bits, at most 57. */
// @inline
export function put(bits: u64, count: u64): void {
  pending |= bits << pendingBits;
  pendingBits += count;
  store<u64>(bitsAt, pending);
  bitsAt += <usize>(pendingBits >> 3);
  pending >>= pendingBits & 56;
  pendingBits &= 7;
}

/** Fills up the last byte with zeros; returns the end. */
export function endBits(): usize {
  if (pendingBits != 0) bitsAt++;
  return bitsAt;
}
