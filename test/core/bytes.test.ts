import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { concat, copyInto, decodeName, encodeName, equalBytes, isUtf8Name, readU64LE, roundUp } from '../../src/core/bytes.ts';
import { LazypullError } from '../../src/core/errors.ts';

test('any bytes are exactly one name and back', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      assert.deepEqual(new Uint8Array(encodeName(decodeName(bytes))), bytes);
    }),
    { numRuns: 3000 },
  );
  // Sequences that are almost UTF-8 are where decoders disagree.
  const near = fc.array(fc.constantFrom(0x41, 0x80, 0xbf, 0xc0, 0xc2, 0xe0, 0xa0, 0xed, 0x9f, 0xef, 0xbf, 0xbd, 0xf0, 0x90, 0xf4, 0x8f, 0xf5, 0xff), { maxLength: 12 });
  fc.assert(
    fc.property(near, (values) => {
      const bytes = Uint8Array.from(values);
      assert.deepEqual(new Uint8Array(encodeName(decodeName(bytes))), bytes);
    }),
    { numRuns: 3000 },
  );
});

test('valid UTF-8 is decoded as such, the replacement character included; other bytes are lone surrogates', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => assert.equal(decodeName(Buffer.from(text)), text)));
  assert.equal(decodeName(Buffer.from('\ufffd')), '\ufffd');
  assert.equal(decodeName(Uint8Array.of(0x61, 0xff, 0x62)), 'a\udcffb');
  assert.equal(decodeName(Uint8Array.of(0xed, 0xa0, 0x80)), '\udced\udca0\udc80');
});

test('isUtf8Name tells the two apart', () => {
  assert.ok(isUtf8Name('größe \u{1f40b} \ufffd'));
  assert.ok(!isUtf8Name('a\udcff'));
});

test('concat, equalBytes, roundUp', () => {
  assert.deepEqual(concat([Uint8Array.of(1), new Uint8Array(0), Uint8Array.of(2, 3)]), Uint8Array.of(1, 2, 3));
  assert.equal(concat([]).length, 0);
  assert.ok(equalBytes(Uint8Array.of(1, 2), Buffer.from([1, 2])) && !equalBytes(Uint8Array.of(1), Uint8Array.of(1, 2)));
  assert.deepEqual([roundUp(0, 512), roundUp(1, 512), roundUp(512, 512), roundUp(2 ** 40 + 1, 512)], [0, 512, 512, 2 ** 40 + 512]);
});

test('64 bit numbers above 2^53-1 are refused', () => {
  const bytes = (value: bigint): Uint8Array => new Uint8Array(new BigUint64Array([value]).buffer);
  assert.equal(readU64LE(bytes(2n ** 53n - 1n), 0), Number.MAX_SAFE_INTEGER);
  assert.throws(() => readU64LE(bytes(2n ** 53n), 0, 'offset'), (error) => error instanceof LazypullError && error.code === 'CORRUPT' && /offset/.test(error.message));
});

test('bytes are copied whatever the alignment and whoever shares the memory', () => {
  const memories = [(size: number) => new ArrayBuffer(size), (size: number) => new SharedArrayBuffer(size)];
  for (const from of memories) {
    for (const to of memories) {
      for (const length of [0, 1, 511, 512, 513, 16_383, 16_384, 16_385, 50_001]) {
        for (const [start, base, at] of [[0, 0, 0], [1, 0, 0], [0, 0, 3], [5, 2, 9], [7, 3, 4], [3, 1, 2]] as const) {
          const source = new Uint8Array(from(start + length + 3), start, length).map((_, i) => i * 31 + (i >> 8));
          const view = new Uint8Array(from(start + length + 3), start, length);
          view.set(source);
          const target = new Uint8Array(to(base + at + length + 20), base).fill(0xee);
          copyInto(target, view, at);
          const wanted = new Uint8Array(target.length).fill(0xee);
          wanted.set(source, at);
          assert.ok(equalBytes(Buffer.from(target), wanted), `${length} bytes from ${start} to ${base} + ${at}`);
        }
      }
    }
  }
  assert.throws(() => copyInto(new Uint8Array(new SharedArrayBuffer(1000)), new Uint8Array(999).subarray(1), 3), RangeError);
});
