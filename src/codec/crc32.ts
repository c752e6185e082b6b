import { crc32 } from 'node:zlib';

/** CRC-32 (RFC 1952, 8) of bytes, continued from `value`. */
export { crc32 };

/**
 * CRC-32 of A followed by B from the CRCs of both and the length of B in bytes, without looking at either again.
 * Appending n zero bits multiplies a CRC by x^n modulo the polynomial; B's own CRC is then added.
 */
export function crc32Combine(a: number, b: number, lengthB: number): number {
  let power = 0x0080_0000; // x^8, bit-reversed: one byte
  let product = a >>> 0;
  for (let left = lengthB; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) product = multiply(product, power);
    power = multiply(power, power);
  }
  return (product ^ b) >>> 0;
}

/** Product of two polynomials over GF(2) modulo the CRC-32 polynomial, all bit-reversed: x^0 is the highest bit. */
function multiply(a: number, b: number): number {
  let sum = 0;
  let shifted = b;
  for (let bit = 0x8000_0000; bit !== 0; bit >>>= 1) {
    if (a & bit) sum ^= shifted;
    shifted = shifted & 1 ? (shifted >>> 1) ^ 0xedb8_8320 : shifted >>> 1;
  }
  return sum >>> 0;
}
