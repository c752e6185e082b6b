import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { concat } from '../../src/core/bytes.ts';
import type { ByteStream } from '../../src/core/types.ts';
import { gunzip } from '../../src/codec/gzip.ts';
import { matchesIn } from '../../src/codec/inflate.ts';

async function* inPieces(bytes: Uint8Array, size: number): ByteStream {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** Inflates and gathers (absolute position, distance, length) of every match, asked for in views cut as told. */
async function gather(packed: Uint8Array, pieces: number, cut: number): Promise<{ plain: Uint8Array; matches: [number, number, number][] }> {
  const parts: Uint8Array[] = [];
  const matches: [number, number, number][] = [];
  let at = 0;
  for await (const bytes of gunzip(inPieces(packed, pieces))) {
    for (let from = 0; from < bytes.length; from += cut) {
      const part = bytes.subarray(from, from + cut);
      const { pairs, start } = matchesIn(part) ?? assert.fail('an inflater knows its own bytes');
      for (let i = 0; i < pairs.length; i += 2) {
        const word = pairs[i + 1] as number;
        matches.push([at + (pairs[i] as number) - start, word & 0xffff, word >>> 16]);
      }
      parts.push(part.slice());
      at += part.length;
    }
  }
  return { plain: concat(parts), matches };
}

function sample(size: number): Uint8Array {
  const words = ['lazy', 'pull', 'layer', '\0\0\0\0', 'chunk', ' of ', 'bytes', '\n'];
  let state = 7;
  const parts: Buffer[] = [];
  for (let length = 0; length < size; ) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const part = Buffer.from((words[state >>> 29] as string).repeat(1 + ((state >>> 8) & 3)) + String.fromCharCode((state >>> 16) & 0x7f));
    parts.push(part);
    length += part.length;
  }
  return concat(parts);
}

test('every match is a repetition, in order, and none is lost between windows', async () => {
  const plain = sample(3_500_000);
  const { plain: got, matches } = await gather(gzipSync(plain), 65_536, 100_000);
  assert.deepEqual(Buffer.from(got), Buffer.from(plain));
  let end = 0;
  let covered = 0;
  for (const [position, distance, length] of matches) {
    assert.ok(position >= end && length >= 3 && length <= 258 && distance >= 1 && distance <= 32_768 && distance <= position);
    for (let i = 0; i < length; i++) assert.equal(plain[position + i], plain[position + i - distance]);
    end = position + length;
    covered += length;
  }
  assert.ok(covered > plain.length / 2);
});

test('matches do not depend on how the input arrives or the output is cut', async () => {
  const packed = gzipSync(sample(2_300_000));
  const whole = (await gather(packed, 1 << 24, 1 << 24)).matches;
  for (const [pieces, cut] of [[1000, 4096], [77_777, 1 << 20], [1 << 20, 333]] as const) {
    assert.deepEqual((await gather(packed, pieces, cut)).matches, whole);
  }
});

test('many members, stored blocks and short streams', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.record({ size: fc.nat(5000), level: fc.constantFrom(0, 1, 9) }), { maxLength: 5 }), fc.integer({ min: 1, max: 3000 }), async (members, cut) => {
      const plain = members.map(({ size }) => sample(size + 1));
      const packed = concat(members.map(({ level }, i) => gzipSync(plain[i] as Uint8Array, { level })));
      if (packed.length === 0) return;
      const { plain: got, matches } = await gather(packed, 1 << 20, cut);
      assert.deepEqual(Buffer.from(got), Buffer.from(concat(plain)));
      for (const [position, distance, length] of matches) for (let i = 0; i < length; i++) assert.equal(got[position + i], got[position + i - distance]);
    }),
    { numRuns: 60 },
  );
});

test('bytes that are no inflater’s have no matches to tell', () => {
  assert.equal(matchesIn(new Uint8Array(10)), undefined);
});
