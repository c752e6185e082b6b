import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { crc32, crc32Combine } from '../../src/codec/crc32.ts';

test('the check value of the standard', () => {
  assert.equal(crc32(Buffer.from('123456789')), 0xcbf4_3926);
});

test('combining equals computing over both', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), fc.uint8Array({ maxLength: 3000 }), (a, b) => {
    assert.equal(crc32Combine(crc32(a), crc32(b), b.length), crc32(b, crc32(a)));
  }));
});

test('combining over lengths beyond 32 bits', () => {
  // Zeros of 2^33 bytes, put together from halves.
  let length = 4096;
  let crc = crc32(new Uint8Array(length));
  const all = [{ length, crc }];
  while (length < 2 ** 33) {
    crc = crc32Combine(crc, crc, length);
    length *= 2;
    all.push({ length, crc });
  }
  assert.equal(all[8]?.crc, crc32(new Uint8Array(4096 * 256)));
  const [last, before] = [all.at(-1), all.at(-2)];
  assert.ok(last && before);
  const tail = crc32(Buffer.from('tail'));
  assert.equal(crc32Combine(last.crc, tail, 4), crc32(Buffer.from('tail'), last.crc));
  assert.equal(crc32Combine(before.crc, crc32Combine(before.crc, tail, 4), before.length + 4), crc32Combine(last.crc, tail, 4));
});
