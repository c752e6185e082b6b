import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import * as pako from 'pako';
import { DEFAULT_LEVEL, deflateRaw } from '../../src/codec/deflate.ts';
import { inflateRaw } from '../../src/codec/inflate.ts';
import { fibonacci, mixture, noise, records, SAMPLES, sha256, text } from './samples.ts';

const LEVELS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
/** What a level's segments are in the kernel, bytes. */
const SEGMENT = 1 << 20;

function assertRoundTrip(bytes: Uint8Array, level: number): void {
  const packed = Buffer.from(deflateRaw(bytes, level));
  assert.ok(inflateRawSync(packed).equals(bytes), `zlib, level ${level}, ${bytes.length} bytes`);
  if (bytes.length > 0) assert.ok(Buffer.from(inflateRaw(packed, { size: bytes.length })).equals(bytes), `own inflate, level ${level}`);
  assert.ok(packed.length <= bytes.length + bytes.length / 4096 + 16, `${packed.length} bytes from ${bytes.length}`);
}

for (const { name, bytes } of SAMPLES) {
  test(`others inflate what every level makes of ${name}`, () => {
    for (const level of LEVELS) {
      assertRoundTrip(bytes, level);
      assert.ok(Buffer.from(pako.inflateRaw(deflateRaw(bytes, level).slice())).equals(bytes), `pako, level ${level}`);
    }
  });
}

test('every small size', () => {
  const sources = [text(600), noise(600), new Uint8Array(600), records(600)];
  for (let size = 0; size < 600; size += size < 40 ? 1 : 37) {
    for (const source of sources) for (const level of [0, 1, 6, 9]) assertRoundTrip(source.subarray(0, size), level);
  }
});

test('sizes around those where positions and segments wrap', () => {
  const bytes = Buffer.concat([text(700_000), records(800_000), noise(100_000), text(800_000)]);
  for (const size of [65_535 - 64, 65_536 - 64, 65_537 - 64, 65_536, SEGMENT - 1, SEGMENT, SEGMENT + 1, SEGMENT + 3, 2 * SEGMENT, 2 * SEGMENT + 12_345]) {
    for (const level of [0, 1, 6]) assertRoundTrip(bytes.subarray(0, size), level);
  }
});

test('matches reach over the seam of two segments', () => {
  const unit = noise(20_000);
  const bytes = Buffer.concat(Array.from({ length: 110 }, () => unit));
  assert.ok(deflateRaw(bytes, 6).length < 40_000);
});

test('random structured input', () => {
  const pieceOf = fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 5 }), fc.integer({ min: 1, max: 400 })).map(([unit, times]) => Buffer.concat(Array.from({ length: times }, () => unit))),
    fc.string({ maxLength: 80 }).map((value) => Buffer.from(value)),
  );
  const input = fc.array(fc.tuple(pieceOf, fc.integer({ min: 1, max: 4 })), { maxLength: 12 }).map((parts) => Buffer.concat(parts.flatMap(([piece, times]) => Array.from({ length: times }, () => piece))));
  fc.assert(fc.property(input, fc.integer({ min: 0, max: 9 }), assertRoundTrip), { numRuns: 1500 });
});

test('all distances and lengths', () => {
  for (const distance of [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 255, 256, 257, 4095, 4096, 4097, 32_767, 32_768, 32_769]) {
    const start = noise(distance, distance);
    const parts: Uint8Array[] = [start];
    for (const length of [3, 4, 5, 8, 15, 16, 17, 31, 32, 33, 257, 258, 259, 260, 1000]) {
      const before = Buffer.concat(parts);
      const copy = Buffer.alloc(length);
      for (let i = 0; i < length; i++) copy[i] = i < distance ? (before[before.length - distance + i] ?? 0) : (copy[i - distance] ?? 0);
      parts.push(copy, noise(3, length));
    }
    assertRoundTrip(Buffer.concat(parts), 6);
  }
});

test('codes that want more bits than there are', () => {
  // Fibonacci frequencies in an order without matches would need 20 bits and more.
  const bytes = fibonacci(400_000);
  for (const level of [1, 6, 9]) assertRoundTrip(bytes, level);
});

test('the result does not depend on what was compressed before', () => {
  const inputs = [text(700), records(5000), mixture(60_000), noise(300), text(90_000), new Uint8Array(40_000), records(30)];
  const alone = inputs.map((bytes) => {
    // Big enough to make the kernel start afresh.
    deflateRaw(noise(70_000), 6);
    return sha256(deflateRaw(bytes, 6));
  });
  for (let round = 0; round < 60; round++) {
    const i = (round * 5 + (round >> 3)) % inputs.length;
    if (round % 4 === 0) deflateRaw(text(round * 40, round), round % 10);
    assert.equal(sha256(deflateRaw(inputs[i] as Uint8Array, 6)), alone[i]);
  }
});

test('output bytes are what they were when images were last converted', () => {
  // A change here changes the digests of converted images: say so in the changelog.
  const input = Buffer.concat([mixture(1_500_000), text(100_000), records(100_000)]);
  assert.equal(sha256(input), '28ac1ef453da3b6e61a42455d82e3041fd50387be1503aa8e9adfb9d7252e3d0');
  assert.deepEqual(Object.fromEntries(LEVELS.map((level) => [level, sha256(deflateRaw(input, level)).slice(0, 16)])), {
    0: 'e945ab05333a2e9a',
    1: '50fda279c800c6f5',
    2: '7f776cafea7dc899',
    3: 'b26b3a4e249e39ee',
    4: '708f2ecceb82ce6a',
    5: '5f36eb95d21adb9e',
    6: 'fc940f6d997fd82d',
    7: 'd50f03933c72a4ef',
    8: 'b2787bf1c55a8859',
    9: 'cbe7d1989e93abd5',
  });
});

test('pieces without an end are continued by others', () => {
  const parts = [text(50_000), new Uint8Array(0), noise(1000), records(SEGMENT + 5), new Uint8Array(3)];
  for (const level of [0, 1, 6, 9]) {
    const packed = parts.map((bytes) => deflateRaw(bytes, level, false).slice());
    packed.push(deflateRaw(new Uint8Array(0), level).slice());
    assert.ok(inflateRawSync(Buffer.concat(packed)).equals(Buffer.concat(parts)), `level ${level}`);
    for (const part of packed.slice(0, -1)) assert.deepEqual([...part.subarray(-4)], [0, 0, 255, 255]);
  }
  assert.deepEqual([...deflateRaw(new Uint8Array(0), 6)], [3, 0]);
});

test('the result is lent until the next call', () => {
  const first = deflateRaw(text(1000), 6);
  const copy = first.slice();
  deflateRaw(records(1000), 6);
  assert.ok(!Buffer.from(first).equals(copy));
});

test('input may be shared memory', () => {
  const shared = new Uint8Array(new SharedArrayBuffer(5000));
  shared.set(text(5000));
  assert.ok(inflateRawSync(deflateRaw(shared, 6)).equals(shared));
});

test('higher levels are smaller, or nearly so, and the default is smaller than level 9 of zlib', () => {
  const bytes = mixture(1_000_000);
  const sizes = LEVELS.map((level) => deflateRaw(bytes, level).length);
  for (const [level, size] of sizes.entries()) if (level > 0) assert.ok(size <= (sizes[level - 1] ?? 0) * 1.005, `level ${level}: ${sizes.join(' ')}`);
  assert.ok((sizes[DEFAULT_LEVEL] ?? 0) <= deflateRawSync(bytes, { level: 9 }).length);
});

test('what cannot be compressed is stored', () => {
  const bytes = noise(500_000);
  assert.ok(deflateRaw(bytes, 6).length < bytes.length + 100);
});

test('unknown levels', () => {
  for (const level of [-1, 10, 1.5, Number.NaN]) assert.throws(() => deflateRaw(new Uint8Array(1), level), { code: 'USAGE' });
});
