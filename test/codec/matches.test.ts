import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { concat } from '../../src/core/bytes.ts';
import type { ByteStream, WorkerPool } from '../../src/core/types.ts';
import { DEFAULT_LEVEL, deflateRaw, usesKnownMatches } from '../../src/codec/deflate.ts';
import { gunzip } from '../../src/codec/gzip.ts';
import { matchesIn } from '../../src/codec/matches.ts';
import { MemberMemory } from '../../src/codec/member-memory.ts';
import { mixture, noise, records, text } from './samples.ts';

/** Literals of a log entry that stands for nothing else. */
const LONG_RUN = 511;
const CHUNK = 4 << 20;

async function* inPieces(bytes: Uint8Array, size: number): ByteStream {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

type Match = readonly [position: number, distance: number, length: number];

function decode({ entries, lead }: { readonly entries: Uint32Array; readonly lead: number }, position: number): Match[] {
  const matches: Match[] = [];
  let at = position + lead;
  for (const entry of entries) {
    const run = entry >>> 23;
    if (run === LONG_RUN) at += entry & 0x7f_ffff;
    else {
      const length = ((entry >>> 15) & 255) + 3;
      matches.push([at + run, (entry & 0x7fff) + 1, length]);
      at += run + length;
    }
  }
  return matches;
}

/** Inflates and gathers every match, asked for in views cut as told. */
async function gather(packed: Uint8Array, pieces: number, cut: number): Promise<{ plain: Uint8Array; matches: Match[] }> {
  const parts: Uint8Array[] = [];
  const matches: Match[] = [];
  let at = 0;
  for await (const bytes of gunzip(inPieces(packed, pieces))) {
    for (let from = 0; from < bytes.length; from += cut) {
      const part = bytes.subarray(from, from + cut);
      matches.push(...decode(matchesIn(part) ?? assert.fail('an inflater knows its own bytes'), at));
      parts.push(part.slice());
      at += part.length;
    }
  }
  return { plain: concat(parts), matches };
}

/** What a conversion makes of a gzip stream: members of 4 MiB at most, whose log is made as they fill. */
async function recompress(packed: Uint8Array, pieces: number, level = DEFAULT_LEVEL): Promise<Buffer[]> {
  const results: Buffer[] = [];
  const lender: WorkerPool = { jobs: 1, run: () => assert.fail('no job'), lease: async (size) => ({ memory: new SharedArrayBuffer(size), release: () => undefined }) };
  let memory = await MemberMemory.lease(lender, CHUNK);
  const flush = (): void => {
    const known = new Uint32Array(memory.lease.memory, memory.room, memory.known);
    const result = Buffer.from(deflateRaw(memory.bytes, level, true, known));
    assert.ok(inflateRawSync(result).equals(memory.bytes));
    results.push(result);
    memory.used = memory.known = 0;
  };
  for await (const bytes of gunzip(inPieces(packed, pieces))) {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + CHUNK - memory.used);
      memory.append(part, memory.used, true);
      at += part.length;
      if (memory.used === CHUNK) flush();
    }
  }
  flush();
  memory = await MemberMemory.lease(lender, 1);
  assert.equal(memory.append(new Uint8Array(1), 0, true), 0, 'of other bytes nothing is known');
  return results;
}

const long = Buffer.concat([text(1_500_000), noise(700_000), records(1_200_000), new Uint8Array(100_000), text(1_300_000, 9)]);

test('every match is a repetition, in order, and none is lost between windows', async () => {
  const { plain, matches } = await gather(gzipSync(long), 65_536, 100_000);
  assert.deepEqual(Buffer.from(plain), long);
  let end = 0;
  let covered = 0;
  for (const [position, distance, length] of matches) {
    assert.ok(position >= end && length <= 258 && distance <= 32_768 && distance <= position);
    assert.ok(long.subarray(position, position + length).equals(long.subarray(position - distance, position - distance + length)) || distance < length);
    for (let i = 0; i < length; i++) assert.ok(long[position + i] === long[position + i - distance]);
    end = position + length;
    covered += length;
  }
  assert.ok(covered > long.length * 0.6);
});

test('matches do not depend on how the input arrives or the output is cut', async () => {
  const packed = gzipSync(long.subarray(0, 3_000_000));
  const whole = (await gather(packed, 1 << 24, 1 << 24)).matches;
  for (const [pieces, cut] of [[1000, 4096], [77_777, 1 << 20], [1 << 20, 333]] as const) assert.deepEqual((await gather(packed, pieces, cut)).matches, whole);
});

test('the log can be asked out of order', async () => {
  for await (const bytes of gunzip(inPieces(gzipSync(text(50_000)), 1 << 16))) {
    const late = decode(matchesIn(bytes.subarray(30_000)) ?? assert.fail(), 30_000);
    const early = decode(matchesIn(bytes.subarray(0, 30_000)) ?? assert.fail(), 0);
    assert.deepEqual([...early, ...late], decode(matchesIn(bytes) ?? assert.fail(), 0));
  }
});

test('many members and short streams', async () => {
  const member = fc.record({ size: fc.nat(5000), level: fc.constantFrom(2, 6, 9) });
  await fc.assert(
    fc.asyncProperty(fc.array(member, { minLength: 1, maxLength: 5 }), fc.integer({ min: 1, max: 3000 }), async (members, cut) => {
      const plain = members.map(({ size }) => text(size + 1));
      const { plain: got, matches } = await gather(concat(members.map(({ level }, i) => gzipSync(plain[i] as Uint8Array, { level }))), 1 << 20, cut);
      assert.deepEqual(Buffer.from(got), Buffer.concat(plain));
      for (const [position, distance, length] of matches) for (let i = 0; i < length; i++) assert.equal(got[position + i], got[position + i - distance]);
    }),
    { numRuns: 60, seed: 1 },
  );
});

test('bytes that are no inflater’s have no matches to tell', () => {
  assert.equal(matchesIn(new Uint8Array(10)), undefined);
});

test('what is made of a stream does not depend on how it arrives', async () => {
  const packed = gzipSync(long);
  const [first = [], ...others] = await Promise.all([1 << 24, 999, 65_536, 777_777].map((pieces) => recompress(packed, pieces)));
  assert.equal(first.length, 2);
  for (const other of others) assert.deepEqual(other, first);
});

test('known matches are as good as those that a search finds; levels above the default search', async () => {
  const packed = gzipSync(long, { level: 9 });
  const size = async (level: number): Promise<number> => (await recompress(packed, 1 << 20, level)).reduce((sum, { length }) => sum + length, 0);
  const searched = [long.subarray(0, CHUNK), long.subarray(CHUNK)].reduce((sum, bytes) => sum + deflateRaw(bytes).length, 0);
  assert.ok((await size(DEFAULT_LEVEL)) < searched * 1.01);
  assert.ok(usesKnownMatches(1) && usesKnownMatches(DEFAULT_LEVEL) && !usesKnownMatches(0) && !usesKnownMatches(DEFAULT_LEVEL + 1));
  assert.deepEqual((await recompress(packed, 1 << 20, 9))[0], Buffer.from(deflateRaw(long.subarray(0, CHUNK), 9)));
});

test('matches that were found in haste, or never looked for, are not used', async () => {
  const plain = text(300_000);
  for (const level of [0, 1]) {
    for (const pieces of [1, 1 << 20]) assert.deepEqual(await recompress(gzipSync(plain, { level }), pieces), [Buffer.from(deflateRaw(plain))]);
  }
  assert.notDeepEqual(await recompress(gzipSync(plain), 1 << 20), [Buffer.from(deflateRaw(plain))]);
});

test('whatever the log says, the output is right', () => {
  const word = fc.oneof(fc.nat(0xffff_ffff), fc.nat(40), fc.constant(0xffff_ffff), fc.integer({ min: 0, max: 0xffff }).map((n) => (3 << 23) | n));
  fc.assert(
    fc.property(fc.array(word, { maxLength: 300 }), fc.nat(100_000), (words, size) => {
      const bytes = mixture(size);
      assert.ok(inflateRawSync(deflateRaw(bytes, 6, true, Uint32Array.from(words))).equals(bytes));
      const piece = Uint32Array.of(0, size, words.length, 0, ...words);
      assert.ok(inflateRawSync(deflateRaw(bytes, 6, true, piece)).equals(bytes));
    }),
    { numRuns: 100, seed: 1 },
  );
});

test('a log that belongs to other bytes, or is cut short, does no harm', async () => {
  const packed = gzipSync(long);
  for await (const bytes of gunzip(inPieces(packed, 1 << 20))) {
    const { entries, lead } = matchesIn(bytes) ?? assert.fail();
    const log = Uint32Array.of(0, bytes.length, entries.length, lead, ...entries);
    for (const plain of [long.subarray(7, bytes.length), long.subarray(2_000_000)]) assert.ok(inflateRawSync(deflateRaw(plain, 6, true, log)).equals(plain));
    for (const length of [1, 3, 4, 5, log.length - 1]) {
      assert.ok(inflateRawSync(deflateRaw(bytes, 6, true, log.subarray(0, length))).equals(bytes));
    }
    break;
  }
});
