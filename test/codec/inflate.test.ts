import assert from 'node:assert/strict';
import { test } from 'node:test';
import { constants, deflateRawSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import * as pako from 'pako';
import { LazypullError } from '../../src/core/errors.ts';
import { Inflater, inflateRaw } from '../../src/codec/inflate.ts';
import { noise, numbers, pieces, records, SAMPLES, text } from './samples.ts';

/** Decodes a whole stream that arrives in pieces. */
function inflateAll(parts: Iterable<Uint8Array>, prepare?: (inflater: Inflater) => void): Uint8Array {
  const inflater = new Inflater();
  prepare?.(inflater);
  const out: Uint8Array[] = [];
  try {
    const drain = (): boolean => {
      for (;;) {
        const status = inflater.decode();
        out.push(inflater.take().slice());
        if (status !== 'output') return status === 'done';
      }
    };
    for (const part of parts) {
      for (let at = 0; at < part.length;) {
        at += inflater.push(part.subarray(at));
        if (drain()) return Buffer.concat(out);
      }
    }
    inflater.end();
    assert.ok(drain());
    return Buffer.concat(out);
  } finally {
    inflater.close();
  }
}

/** What zlib says: the content, or undefined when it refuses. */
function zlibVerdict(packed: Uint8Array): Uint8Array | undefined {
  try {
    return inflateRawSync(packed);
  } catch {
    return undefined;
  }
}

function ourVerdict(packed: Uint8Array): Uint8Array | undefined {
  try {
    return inflateAll([packed]);
  } catch (error) {
    assert.ok(error instanceof LazypullError, String(error));
    assert.equal(error.code, 'CORRUPT');
    assert.ok(error.offset !== undefined && error.offset >= 0 && error.offset <= packed.length, error.message);
    return undefined;
  }
}

function assertSameVerdict(packed: Uint8Array): void {
  const theirs = zlibVerdict(packed);
  const ours = ourVerdict(packed);
  assert.equal(ours === undefined, theirs === undefined, `zlib ${theirs ? 'accepts' : 'refuses'} ${Buffer.from(packed).toString('hex').slice(0, 200)}`);
  if (ours && theirs) assert.ok(Buffer.from(theirs).equals(ours));
}

const { Z_DEFAULT_STRATEGY, Z_FILTERED, Z_FIXED, Z_HUFFMAN_ONLY, Z_RLE } = constants;
const ENCODERS = [
  { level: 0 }, { level: 1 }, { level: 6 }, { level: 9 }, { level: 9, memLevel: 1 }, { level: 9, windowBits: 9 }, { level: 6, memLevel: 9 },
  ...[Z_FILTERED, Z_FIXED, Z_HUFFMAN_ONLY, Z_RLE].map((strategy) => ({ level: 6, strategy })),
  { level: 1, strategy: Z_DEFAULT_STRATEGY, memLevel: 2, windowBits: 10 },
];

for (const { name, bytes } of SAMPLES) {
  test(`inflates what zlib makes of ${name}`, () => {
    for (const options of ENCODERS) {
      const packed = deflateRawSync(bytes, options);
      assert.ok(Buffer.from(inflateRaw(packed, { size: bytes.length })).equals(bytes), JSON.stringify(options));
      assert.ok(Buffer.from(inflateAll(pieces(packed, 1, 700, 3, 70_000))).equals(bytes), JSON.stringify(options));
    }
  });
}

test('inflates what pako makes', () => {
  for (const { bytes } of SAMPLES) assert.ok(Buffer.from(inflateAll([pako.deflateRaw(bytes, { level: 8 })])).equals(bytes));
});

test('inflates byte by byte', () => {
  const bytes = text(20_000);
  for (const options of ENCODERS) assert.ok(Buffer.from(inflateAll(pieces(deflateRawSync(bytes, options), 1))).equals(bytes));
});

test('inflates flushed streams and empty blocks', () => {
  const parts: Uint8Array[] = [];
  const plain: Uint8Array[] = [];
  for (const [i, finishFlush] of [constants.Z_SYNC_FLUSH, constants.Z_FULL_FLUSH, constants.Z_PARTIAL_FLUSH, constants.Z_SYNC_FLUSH].entries()) {
    for (const size of [0, 1, 5000, 0]) {
      const bytes = text(size, i);
      if (finishFlush !== constants.Z_PARTIAL_FLUSH) {
        parts.push(deflateRawSync(bytes, { finishFlush }));
        plain.push(bytes);
      }
    }
  }
  // Fixed blocks with nothing in them, ten bits each, then a last one.
  parts.push(Uint8Array.of(0x02, 0x08, 0x20, 0x80, 0x00), Uint8Array.of(0x03, 0x00));
  assert.ok(Buffer.from(inflateAll([Buffer.concat(parts)])).equals(Buffer.concat(plain)));
  assert.ok(Buffer.from(inflateAll(pieces(Buffer.concat(parts), 1, 2))).equals(Buffer.concat(plain)));
});

test('output far larger than the window', () => {
  const bytes = Buffer.concat(Array.from({ length: 12 }, (_, i) => Buffer.concat([records(300_000, i), text(100_000, i)])));
  assert.ok(Buffer.from(inflateAll(pieces(deflateRawSync(bytes, { level: 1 }), 100_000))).equals(bytes));
  const zeros = Buffer.alloc(9_000_000);
  assert.ok(Buffer.from(inflateRaw(deflateRawSync(zeros), { size: zeros.length })).equals(zeros));
});

test('agrees with zlib on random bytes', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), assertSameVerdict), { numRuns: 4000 });
});

test('agrees with zlib on random bytes behind every kind of block header', () => {
  const header = fc.constantFrom([0x05], [0x04], [0x03], [0x02], [0x00], [0x01], [0x05, 0xc0], [0xed, 0xfd], [0x04, 0xc0, 0x81, 0x08]);
  const bytes = fc.tuple(header, fc.uint8Array({ maxLength: 400 })).map(([head, rest]) => Uint8Array.from([...head, ...rest]));
  fc.assert(fc.property(bytes, assertSameVerdict), { numRuns: 4000 });
});

test('agrees with zlib on bit flips', () => {
  const next = numbers(5);
  for (const bytes of [text(3000), records(3000), Buffer.concat([text(500), noise(300), new Uint8Array(5000)])]) {
    for (const options of ENCODERS) {
      const packed = deflateRawSync(bytes, options);
      for (let i = 0; i < 60; i++) {
        const flipped = Uint8Array.from(packed);
        // Headers are where most can go wrong.
        const at = Math.floor((i % 2 === 0 ? next() : next() ** 4) * flipped.length);
        flipped[at] = (flipped[at] ?? 0) ^ (1 << Math.floor(next() * 8));
        assertSameVerdict(flipped);
      }
    }
  }
});

test('refuses every truncation', () => {
  for (const options of ENCODERS) {
    const packed = deflateRawSync(Buffer.concat([text(400), noise(80), new Uint8Array(400)]), options);
    for (let size = 0; size < packed.length; size++) {
      assert.throws(() => inflateAll([packed.subarray(0, size)]), { code: 'CORRUPT', offset: size, message: /ends early/ });
    }
  }
});

test('a fault is final', () => {
  const inflater = new Inflater();
  inflater.push(Uint8Array.of(7, 0, 0));
  inflater.end();
  assert.throws(() => inflater.decode(), { code: 'CORRUPT', message: /block type/ });
  assert.throws(() => inflater.decode(), { code: 'CORRUPT', message: /block type/ });
  inflater.skip(inflater.unread().length);
  inflater.push(deflateRawSync('good'));
  inflater.begin();
  assert.equal(inflater.decode(), 'done');
  assert.equal(Buffer.from(inflater.take()).toString(), 'good');
  inflater.close();
});

test('distances do not reach into earlier streams', () => {
  const dictionary = text(2000);
  const packed = deflateRawSync(dictionary, { dictionary });
  inflateRaw(deflateRawSync(dictionary), { size: 2000 });
  assert.throws(() => inflateRaw(packed, { size: 2000 }), { code: 'CORRUPT', message: /before the start/ });
  const inflater = new Inflater();
  inflater.push(Buffer.concat([deflateRawSync(dictionary), packed]));
  inflater.end();
  assert.equal(inflater.decode(), 'done');
  inflater.begin();
  assert.throws(() => inflater.decode(), /before the start/);
  inflater.close();
  assert.ok(Buffer.from(inflateAll([packed], (fresh) => fresh.resume({ bit: 0, out: 2000 }, dictionary))).equals(dictionary));
});

test('a part of a stream', () => {
  const bytes = Buffer.from(text(40_000));
  const packed = deflateRawSync(bytes, { level: 6 });
  fc.assert(fc.property(fc.nat(40_000), fc.nat(40_000), (a, b) => {
    const [skip, end] = a < b ? [a, b] : [b, a];
    assert.ok(bytes.subarray(skip, end).equals(inflateRaw(packed, { skip, size: end - skip })));
  }), { numRuns: 200 });
});

test('a part is not affected by what follows it', () => {
  const bytes = text(40_000);
  const packed = deflateRawSync(bytes, { level: 6 });
  packed.fill(0xff, packed.length >> 1);
  assert.ok(Buffer.from(bytes.subarray(1000, 3000)).equals(inflateRaw(packed, { skip: 1000, size: 2000 })));
});

test('a part that is not there', () => {
  const packed = deflateRawSync(text(40_000));
  assert.throws(() => inflateRaw(packed, { skip: 1, size: 40_000 }, 'chunk 7'), { code: 'CORRUPT', message: /chunk 7 inflates to 40000 bytes, 40001 are needed/ });
  assert.throws(() => inflateRaw(packed.subarray(0, 1000), { size: 40_000 }), { code: 'CORRUPT' });
  assert.throws(() => inflateRaw(packed, { size: 2 ** 40 }), { code: 'CORRUPT', message: /cannot inflate/ });
  assert.throws(() => inflateRaw(packed, { size: -1 }), { code: 'CORRUPT' });
  assert.throws(() => inflateRaw(packed, { size: Number.NaN }), { code: 'CORRUPT' });
  assert.throws(() => inflateRaw(new Uint8Array(0), { size: 1 }), { code: 'CORRUPT' });
  assert.equal(inflateRaw(new Uint8Array(0), { size: 0 }).length, 0);
});

test('many inflaters at the same time do not disturb each other', () => {
  const plain = Array.from({ length: 9 }, (_, i) => text(50_000, i));
  const inflaters = plain.map((bytes) => {
    const inflater = new Inflater();
    inflater.push(deflateRawSync(bytes));
    inflater.end();
    return inflater;
  });
  const parts = plain.map((): Uint8Array[] => []);
  for (let round = 0; round < 20; round++) {
    inflaters.forEach((inflater, i) => {
      inflater.decode(5000);
      parts[i]?.push(inflater.take().slice());
    });
  }
  plain.forEach((bytes, i) => assert.ok(Buffer.concat(parts[i] ?? []).equals(bytes)));
  for (const inflater of inflaters) inflater.close();
  assert.throws(() => inflaters[0]?.begin(), { code: 'INTERNAL' });
});
