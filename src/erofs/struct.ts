import { corrupt, LazypullError } from '../core/errors.ts';

/** Offsets of a struct's fields by their widths in order. Widths that do not add up are found as soon as the file is loaded. */
export function struct<const F extends Readonly<Record<string, number>>>(size: number, widths: F): { readonly [K in keyof F]: number } {
  let at = 0;
  const offsets = Object.entries(widths).map(([name, width]) => [name, (at += width) - width] as const);
  if (at !== size) throw new LazypullError('INTERNAL', `struct of ${size} bytes has fields of ${at}`);
  return Object.fromEntries(offsets) as { readonly [K in keyof F]: number };
}

export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Writes a 64-bit number, negative ones in two's complement. */
export function write64(view: DataView, at: number, value: number): void {
  const high = Math.floor(value / 2 ** 32);
  view.setUint32(at, value - high * 2 ** 32, true);
  view.setInt32(at + 4, high, true);
}

/** CORRUPT above 2^53; `base` is where the bytes start in the image, for the message. */
export function readU64(bytes: Buffer, at: number, what: string, base: number): number {
  return exact(bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32, what, base + at);
}

/** The same in two's complement. */
export function readI64(bytes: Buffer, at: number, what: string, base: number): number {
  return exact(bytes.readUInt32LE(at) + bytes.readInt32LE(at + 4) * 2 ** 32, what, base + at);
}

function exact(value: number, what: string, offset: number): number {
  if (!Number.isSafeInteger(value)) throw corrupt(`${what} is beyond 2^53`, { offset });
  return value;
}
