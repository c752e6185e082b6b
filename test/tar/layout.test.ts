import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { checksumOf, decodeNumber, decodeTextRange, dialectOf, encodeChecksum, encodeOctal, FIELD, octalLimit, signedChecksumOf, sumWords, TAR_BLOCK } from '../../src/tar/layout.ts';
import { base256, bytesOf, GNU, rawHeader, USTAR, V7 } from '../support/tar-blocks.ts';

const number = (text: string | Uint8Array, size = 12): number => {
  const bytes = new Uint8Array(size + 2).fill(0x37);
  bytes.fill(0, 1, size + 1);
  bytes.set(bytesOf(text), 1);
  return decodeNumber(bytes, 0, { at: 1, size });
};

describe('fields', () => {
  it('lie side by side over the block', () => {
    const ustar = Object.entries(FIELD).filter(([name]) => !/^(gnu|star)/.test(name)).map(([, field]) => field);
    let at = 0;
    for (const field of ustar) {
      assert.equal(field.at, at);
      at += field.size;
    }
    assert.equal(at, 500);
    for (const { at: start, size } of Object.values(FIELD)) assert.ok(start + size <= TAR_BLOCK);
  });
  it('tell the dialect', () => {
    const of = (magic: string, tail: string | Uint8Array = ''): string => dialectOf(rawHeader({ name: 'a', magic, tail }), 0);
    assert.deepEqual([of(USTAR), of(GNU), of(V7), of('ustar\0 \0'), of('ustar 00'), of('ustarx00'), of('USTAR\x0000')], ['ustar', 'gnu', 'v7', 'ustar', 'v7', 'v7', 'v7']);
    const tail = new Uint8Array(167);
    tail.set(bytesOf('tar\0'), 163);
    assert.equal(of(USTAR, tail), 'star');
  });
});

describe('numbers', () => {
  it('are octal between spaces and NULs', () => {
    const cases: [string, number][] = [['', 0], ['\0\0', 0], ['            ', 0], ['0000644\0', 0o644], ['  644 \0', 0o644], ['644', 0o644], ['\0 7', 7], ['777777777777', 8 ** 12 - 1], ['17 \0junk', 15], ['5\0' + '9999', 5]];
    for (const [text, value] of cases) assert.equal(number(text), value, JSON.stringify(text));
  });
  it('are nothing else', () => {
    for (const text of ['8', '64x', '6 4', '-1', '+1', '0x1', '12.', '\x01', '1 \x012']) assert.ok(Number.isNaN(number(text)), JSON.stringify(text));
  });
  it('are base-256 when the first bit is set, of either sign', () => {
    const exact = fc.bigInt({ min: BigInt(Number.MIN_SAFE_INTEGER), max: BigInt(Number.MAX_SAFE_INTEGER) });
    fc.assert(fc.property(exact, (value) => assert.equal(number(base256(value, 12)), Number(value))));
    for (const value of [0, -1, 2 ** 53 - 1, -(2 ** 53 - 1), -5, 2 ** 31, 2 ** 32]) assert.equal(number(base256(value, 12)), value);
    assert.equal(number(base256(-1, 8), 8), -1);
    for (const value of [2n ** 53n, -(2n ** 53n), 2n ** 90n, -(2n ** 90n), 2n ** 62n]) assert.ok(Number.isNaN(number(base256(value, 12))), String(value));
  });
  it('written are numbers read', () => {
    fc.assert(fc.property(fc.constantFrom(FIELD.mode, FIELD.size), fc.integer({ min: 0, max: 0o7777777 }), (field, value) => {
      const block = new Uint8Array(TAR_BLOCK);
      encodeOctal(block, field, value);
      assert.equal(decodeNumber(block, 0, field), value);
      assert.equal(block[field.at + field.size - 1], 0);
    }));
    assert.deepEqual([octalLimit(FIELD.uid), octalLimit(FIELD.size)], [0o7777777, 0o77777777777]);
  });
});

describe('text and checksums', () => {
  it('ends at the first NUL or with its field', () => {
    const block = Buffer.from('abc\0def');
    assert.deepEqual([decodeTextRange(block, 0, 7), decodeTextRange(block, 0, 2), decodeTextRange(block, 3, 4), decodeTextRange(block, 4, 3)], ['abc', 'ab', '', 'def']);
    assert.equal(decodeTextRange(Buffer.from([0x61, 0xff, 0xc3, 0xa9]), 0, 4), 'a\udcffé');
  });
  it('sums words as it would bytes', () => {
    fc.assert(fc.property(fc.uint8Array({ minLength: 1024, maxLength: 1024 }), (bytes) => {
      const words = new Uint32Array(bytes.slice().buffer);
      assert.equal(sumWords(words, 128), bytes.subarray(512).reduce((a, b) => a + b, 0));
    }), { numRuns: 50 });
    assert.equal(sumWords(new Uint32Array(128).fill(0xffff_ffff), 0), 512 * 255);
  });
  it('checks what it writes', () => {
    fc.assert(fc.property(fc.uint8Array({ minLength: 512, maxLength: 512 }), (block) => {
      encodeChecksum(block);
      const sum = block.reduce((a, b) => a + b, 0);
      assert.equal(decodeNumber(block, 0, FIELD.checksum), checksumOf(block, 0, sum));
      const signed = new Int8Array(block.buffer).reduce((a, b, i) => a + (i >= 148 && i < 156 ? 0x20 : b), 0);
      assert.equal(signedChecksumOf(block, 0, checksumOf(block, 0, sum)), signed);
    }), { numRuns: 50 });
  });
});
