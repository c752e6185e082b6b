import { concat } from '../../src/core/bytes.ts';
import { inflatePart } from '../../src/codec/resume.ts';
import type { ZranWindow } from './read-contexts.ts';

/** The first `size` bytes that a zran context inflates to (§10). Bytes that cannot deliver what is wanted are CORRUPT. */
export function inflateWindow(context: ZranWindow, packed: Uint8Array, size: number, what: string): Uint8Array {
  const { bits, byte, dictionary, inOffset } = context;
  const whole = bits > 0 ? concat([Uint8Array.of(byte), packed]) : packed;
  return inflatePart({ start: { bit: inOffset * 8 - bits, out: dictionary.length }, window: dictionary, packed: whole, size, what });
}
