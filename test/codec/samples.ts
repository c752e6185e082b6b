import { createHash } from 'node:crypto';

/** Numbers in [0, 1) that are the same in every run. */
export function numbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 0x1_0000_0000;
  };
}

const WORDS = 'the of and return const import from self def class None True lambda yield if else for while in is not with as try except'.split(' ');

/** Something like source code. */
export function text(size: number, seed = 1): Uint8Array {
  const next = numbers(seed);
  let out = '';
  while (out.length < size) {
    const word = WORDS[Math.floor(next() * next() * WORDS.length)] ?? '';
    out += next() < 0.1 ? `${word}_${Math.floor(next() * 1000)}(${word});\n${' '.repeat(Math.floor(next() * 4) * 4)}` : `${word} `;
  }
  return Buffer.from(out.slice(0, size));
}

/** Something like tables in a binary: small numbers that grow, in records. */
export function records(size: number, seed = 2): Uint8Array {
  const next = numbers(seed);
  const bytes = Buffer.alloc(Math.ceil(size / 16) * 16);
  let address = 0x40_0000;
  for (let at = 0; at < bytes.length; at += 16) {
    address += Math.floor(next() * 4) * 8;
    bytes.writeUInt32LE(address, at);
    bytes.writeUInt16LE(Math.floor(next() * 12), at + 8);
    bytes.writeUInt8(Math.floor(next() * 256), at + 12);
  }
  return bytes.subarray(0, size);
}

export function noise(size: number, seed = 3): Uint8Array {
  const next = numbers(seed);
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = next() * 256;
  return bytes;
}

/** Symbols with Fibonacci frequencies: the deepest Huffman code there is for so much data. */
export function fibonacci(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  const next = numbers(4);
  let [a, b] = [1, 1];
  let total = 0;
  const limits: number[] = [];
  while (total < size) {
    total += a;
    limits.push(total);
    [a, b] = [b, a + b];
  }
  for (let i = 0; i < size; i++) {
    const pick = next() * total;
    bytes[i] = 7 * limits.findIndex((limit) => pick < limit);
  }
  return bytes;
}

/** Stretches of different kinds in a row, so that blocks differ. */
export function mixture(size: number): Uint8Array {
  const parts: Uint8Array[] = [];
  let total = 0;
  for (let i = 0; total < size; i++) {
    const length = 3000 + ((i * 7919) % 30_000);
    const part = [text, records, noise, (n: number) => new Uint8Array(n)][i % 4]?.(length, i) ?? new Uint8Array(0);
    parts.push(part);
    total += part.length;
  }
  return Buffer.concat(parts, total).subarray(0, size);
}

export interface Sample {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export const SAMPLES: readonly Sample[] = [
  { name: 'empty', bytes: new Uint8Array(0) },
  { name: 'one byte', bytes: Uint8Array.of(200) },
  { name: 'three bytes', bytes: Buffer.from('abc') },
  { name: 'zeros', bytes: new Uint8Array(100_000) },
  { name: 'short periods', bytes: Buffer.concat(Array.from({ length: 40 }, (_, n) => Buffer.alloc(700, Buffer.from(noise(n + 1, n))))) },
  { name: 'text', bytes: text(120_000) },
  { name: 'records', bytes: records(120_000) },
  { name: 'noise', bytes: noise(70_000) },
  { name: 'fibonacci', bytes: fibonacci(60_000) },
  { name: 'mixture', bytes: mixture(300_000) },
];

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Bytes in pieces of the sizes given, over and over. */
export function* pieces(bytes: Uint8Array, ...sizes: readonly number[]): Generator<Uint8Array> {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? bytes.length;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

/** A stream that overwrites what it lent before, as the contract allows it to. It lends Buffers, whose `slice` is no copy. */
export async function* lending(parts: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for (const part of parts) {
    const lent = Buffer.from(part);
    yield lent;
    lent.fill(0xee);
  }
}

/** Everything a stream lends, copied in time. */
export async function collected(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const bytes of stream) parts.push(new Uint8Array(bytes));
  return Buffer.concat(parts);
}
