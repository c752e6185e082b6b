import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { LazypullError } from '../../src/core/errors.ts';
import { gunzip } from '../../src/codec/gzip.ts';
import { lz4Compress, lz4Decompress } from '../../src/codec/lz4.ts';
import { knownOf } from './known.ts';
import { lending, mixture, noise, numbers, pieces, records, SAMPLES, sha256, text } from './samples.ts';

interface Sequence {
  /** Where its match begins in the content, and how long it is; undefined for the last. */
  readonly match?: { readonly at: number; readonly length: number };
  readonly literals: number;
}

/** The block format by its description, a byte at a time; undefined for what is no block. */
function slowDecode(block: Uint8Array, size: number): { bytes: Uint8Array; sequences: Sequence[] } | undefined {
  const bytes = new Uint8Array(size);
  const sequences: Sequence[] = [];
  let at = 0;
  let to = 0;
  const extended = (half: number): number => {
    let length = half;
    for (let more = 255; half === 15 && more === 255; length += more) more = block[at++] ?? NaN;
    return length;
  };
  while (at < block.length) {
    const token = block[at++] as number;
    const literals = extended(token >> 4);
    if (!(at + literals <= block.length && to + literals <= size)) return undefined;
    bytes.set(block.subarray(at, at + literals), to);
    at += literals;
    to += literals;
    if (at === block.length) {
      sequences.push({ literals });
      return to === size ? { bytes, sequences } : undefined;
    }
    const distance = (block[at++] as number) + 256 * (block[at++] ?? NaN);
    const length = extended(token & 15) + 4;
    if (!(distance > 0 && distance <= to && to + length <= size)) return undefined;
    sequences.push({ literals, match: { at: to, length } });
    for (let i = 0; i < length; i++, to++) bytes[to] = bytes[to - distance] as number;
  }
  return undefined;
}

function assertRoundTrip(bytes: Uint8Array, known?: Uint32Array): void {
  const packed = lz4Compress(bytes, known).slice();
  assert.ok(packed.length <= bytes.length + bytes.length / 255 + 16, `${packed.length} bytes from ${bytes.length}`);
  assert.ok(Buffer.from(lz4Decompress(packed, bytes.length)).equals(bytes), `${bytes.length} bytes`);
  const slow = slowDecode(packed, bytes.length);
  assert.ok(slow && Buffer.from(slow.bytes).equals(bytes), `by the description, ${bytes.length} bytes`);
  // End rules: the last five bytes are literals, and no match begins among the last twelve.
  const last = slow.sequences.at(-1)?.literals ?? 0;
  assert.ok(slow.sequences.length === 1 || last >= 5, `${last} literals at the end`);
  for (const { match } of slow.sequences) assert.ok(!match || match.at <= bytes.length - 12, `a match at ${match?.at} of ${bytes.length}`);
}

/** Blocks in the frame format of old, which has no checksums: what the lz4 command takes without more ado. */
function legacyFrame(...blocks: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat([Buffer.from([0x02, 0x21, 0x4c, 0x18]), ...blocks.flatMap((block) => {
    const size = Buffer.alloc(4);
    size.writeUInt32LE(block.length);
    return [size, block];
  })]);
}

for (const { name, bytes } of SAMPLES) test(`round trip of ${name}`, () => assertRoundTrip(bytes));

test('every small size', () => {
  for (const source of [text(600), noise(600), new Uint8Array(600), records(600), Buffer.alloc(600, 'abc')]) {
    for (let size = 0; size < 600; size += size < 60 ? 1 : 13) assertRoundTrip(source.subarray(0, size));
  }
});

test('lengths around those where more length bytes begin', () => {
  const literals = noise(1000);
  for (const run of [14, 15, 16, 269, 270, 271, 524, 525, 526, 780]) {
    for (const match of [18, 19, 20, 272, 273, 274, 527, 528, 529]) {
      assertRoundTrip(Buffer.concat([literals.subarray(0, run), Buffer.alloc(match, 7), literals.subarray(0, 30)]));
      assertRoundTrip(Buffer.concat([literals, literals.subarray(100, 100 + match), literals.subarray(run, run + 20)]));
    }
  }
});

test('distances around the farthest', () => {
  for (const distance of [65_534, 65_535, 65_536, 65_537]) {
    const bytes = Buffer.from(noise(distance + 100));
    bytes.copyWithin(distance, 0, 60);
    assertRoundTrip(bytes);
  }
});

test('random structured input', () => {
  const pieceOf = fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 20 }), fc.integer({ min: 1, max: 100 })).map(([unit, times]) => Buffer.concat(Array.from({ length: times }, () => unit))),
  );
  const input = fc.array(fc.tuple(pieceOf, fc.integer({ min: 1, max: 4 })), { maxLength: 12 }).map((parts) => Buffer.concat(parts.flatMap(([piece, times]) => Array.from({ length: times }, () => piece))));
  fc.assert(fc.property(input, (bytes) => assertRoundTrip(bytes)), { numRuns: 1500 });
});

test('known matches: right, and the same however the stream came in', async () => {
  for (const plain of [mixture(500_000), text(300_000), records(100_000), Buffer.concat([new Uint8Array(200_000), noise(100_000), new Uint8Array(400_000)])]) {
    const packed = gzipSync(plain, { level: 9 });
    const results = new Set<string>();
    for (const sizes of [[packed.length], [1000, 1], [70_001]]) {
      const { bytes, known } = await knownOf(gunzip(lending(pieces(packed, ...sizes))));
      assert.ok(Buffer.from(bytes).equals(plain));
      assertRoundTrip(plain, known);
      results.add(sha256(lz4Compress(plain, known)));
      const [withKnown, without] = [lz4Compress(plain, known).length, lz4Compress(plain).length];
      assert.ok(withKnown <= 1.1 * without, `${withKnown} bytes, ${without} without`);
    }
    assert.equal(results.size, 1);
  }
});

test('known matches near the end, which may not be used there', async () => {
  for (let size = 0; size < 80; size++) {
    const plain = Buffer.concat([noise(size >> 1, size), Buffer.alloc(size, 'abcdefg'), noise(size % 13)]);
    const { known } = await knownOf(gunzip(lending([gzipSync(plain)])));
    assertRoundTrip(plain, known);
  }
});

test('who has not looked for matches is not believed', async () => {
  const plain = text(100_000);
  const { known } = await knownOf(gunzip(lending([gzipSync(plain, { strategy: 2 })])));
  assert.ok(Buffer.from(lz4Compress(plain, known)).equals(lz4Compress(plain).slice()));
});

test('a log that is wrong does no harm', async () => {
  const plain = mixture(100_000);
  const { known } = await knownOf(gunzip(lending([gzipSync(plain)])));
  const next = numbers(21);
  for (let i = 0; i < 60; i++) {
    let wrong = known.slice();
    for (let n = 0; n < 1 + i; n++) wrong[Math.floor(next() ** (1 + (i % 3)) * wrong.length)] = i % 2 === 0 ? next() * 2 ** 32 : (wrong[n] ?? 0) ^ (1 << (n % 32));
    if (i % 4 === 3) wrong = wrong.subarray(Math.floor(next() * 1000), Math.floor(next() * wrong.length));
    assertRoundTrip(plain.subarray(i % 2 === 0 ? 0 : i, plain.length - Math.floor(next() * 60_000)), wrong);
  }
  // A piece that begins anew far back, with more matches than a stretch can have.
  const again = new Uint32Array(150_000).fill(1 << 15);
  assertRoundTrip(new Uint8Array(600_000), Uint32Array.from([0, 600_000, 1, 0, (511 << 23) | 500_000, 0, 600_000, again.length, 0, ...again]));
  const log = fc.uint32Array({ maxLength: 60 });
  fc.assert(fc.property(log, fc.nat(3000), (words, size) => assertRoundTrip(plain.subarray(0, size), Uint32Array.of(0, size, words.length, 0, ...words))), { numRuns: 500 });
});

test('output bytes are the same everywhere, whatever came before', async () => {
  const { bytes, known } = await knownOf(gunzip(lending([gzipSync(text(50_000), { level: 6 })])));
  assert.equal(sha256(lz4Compress(bytes, known)).slice(0, 16), '214382d1972ab5fa');
  const wanted = '4149863bc177efef';
  const input = Buffer.concat([mixture(300_000), text(50_000)]);
  assert.equal(sha256(lz4Compress(input)).slice(0, 16), wanted);
  assert.equal(sha256(lz4Compress(input)).slice(0, 16), wanted);
  lz4Compress(input.subarray(1000));
  assert.equal(sha256(lz4Compress(input)).slice(0, 16), wanted);
  // Positions of all inputs together run past 2^32.
  for (let i = 0; i < 70_000; i++) lz4Compress(input.subarray(0, 20));
  assert.equal(sha256(lz4Compress(input)).slice(0, 16), wanted);
});

test('blocks that need more memory than others', () => {
  const large = Buffer.alloc(40 << 20, mixture(1 << 20));
  const packed = lz4Compress(large).slice();
  assert.ok(large.equals(lz4Decompress(packed, large.length)));
  assertRoundTrip(text(5000));
  assert.throws(() => lz4Compress(new Uint8Array((128 << 20) + 1)), { code: 'LIMIT' });
  assert.throws(() => lz4Decompress(new Uint8Array(1 << 20), (128 << 20) + 1), { code: 'LIMIT' });
});

test('the lz4 command takes our blocks, and we take those it makes', (t) => {
  const plain = Buffer.concat([...SAMPLES.map(({ bytes }) => bytes), mixture(3_000_000)]);
  const { stdout, error } = spawnSync('lz4', ['-d', '-c'], { input: legacyFrame(lz4Compress(plain).slice()), maxBuffer: 1 << 26 });
  if (error) {
    t.skip('no lz4 command here');
    return;
  }
  assert.ok(stdout.equals(plain));
  for (const { name, bytes } of SAMPLES) {
    if (bytes.length > 0) assert.ok(spawnSync('lz4', ['-d', '-c'], { input: legacyFrame(lz4Compress(bytes).slice()) }).stdout.equals(bytes), name);
  }
  for (const level of ['-1', '-9', '-12']) {
    const frame = spawnSync('lz4', ['-l', level, '-c'], { input: plain, maxBuffer: 1 << 26 }).stdout;
    assert.equal(frame.readUInt32LE(4), frame.length - 8, 'one block');
    assert.ok(plain.equals(lz4Decompress(frame.subarray(8), plain.length)), level);
  }
  const reference = spawnSync('lz4', ['-l', '-1', '-c'], { input: plain, maxBuffer: 1 << 26 }).stdout.length - 8;
  assert.ok(lz4Compress(plain).length <= reference * 1.01, `${lz4Compress(plain).length} bytes, ${reference} by the lz4 command`);
});

test('every truncation is found', () => {
  const plain = Buffer.concat([text(900), noise(400), new Uint8Array(700)]);
  const packed = lz4Compress(plain).slice();
  for (let size = 0; size < packed.length; size++) {
    assert.throws(() => lz4Decompress(packed.subarray(0, size), plain.length, 'chunk 3'), (error) => error instanceof LazypullError && error.code === 'CORRUPT' && error.message.startsWith('chunk 3'), `${size}`);
  }
  assert.throws(() => lz4Decompress(packed, plain.length - 1), { code: 'CORRUPT', message: /more than it should/ });
  assert.throws(() => lz4Decompress(packed, plain.length + 1), { code: 'CORRUPT', message: /less than it should/, offset: packed.length });
  assert.throws(() => lz4Decompress(Buffer.concat([packed, Uint8Array.of(0)]), plain.length), { code: 'CORRUPT' });
});

test('sizes that cannot be, and length bytes without end', () => {
  for (const size of [-1, 0.5, NaN, Infinity, 2 ** 53, 2 ** 40, 256]) assert.throws(() => lz4Decompress(Uint8Array.of(0), size), { code: 'CORRUPT' }, `${size}`);
  assert.equal(lz4Decompress(Uint8Array.of(0), 0).length, 0);
  assert.throws(() => lz4Decompress(new Uint8Array(0), 0), { code: 'CORRUPT' });
  const literals = new Uint8Array(20_000_000).fill(255);
  assert.throws(() => lz4Decompress(literals, 1000), { code: 'CORRUPT', message: /more than/, offset: 5 });
  assert.throws(() => lz4Decompress(literals, 100_000_000), { code: 'CORRUPT' });
  const match = Buffer.concat([Buffer.from([0x1f, 7, 1, 0]), literals]);
  assert.throws(() => lz4Decompress(match, 1000), { code: 'CORRUPT', message: /more than/ });
});

test('matches in front of the block', () => {
  for (const distance of [0, 2, 65_535]) {
    assert.throws(() => lz4Decompress(Buffer.from([0x10, 65, distance & 255, distance >> 8, 0x50, 1, 2, 3, 4, 5]), 10), { code: 'CORRUPT', offset: 2, message: /in front of/ });
  }
});

test('mutations give CORRUPT or what the description says', () => {
  const next = numbers(12);
  const plains = [text(1500), records(1500), mixture(9000), Buffer.concat([noise(300), new Uint8Array(3000)]), text(40)];
  const blocks = plains.map((plain) => lz4Compress(plain).slice());
  let good = 0;
  for (let i = 0; i < 6000; i++) {
    const which = i % blocks.length;
    const size = (plains[which] as Uint8Array).length + (i % 7 === 0 ? Math.floor(next() * 40) - 20 : 0);
    let block = Uint8Array.from(blocks[which] as Uint8Array);
    for (let n = 0; n <= i % 3; n++) {
      const at = Math.floor(next() ** (i % 4 === 0 ? 4 : 1) * block.length);
      if (i % 5 === 4) block = Buffer.concat([block.subarray(0, at), block.subarray(Math.floor(next() * block.length))]);
      else block[at] = i % 2 === 0 ? (block[at] ?? 0) ^ (1 << Math.floor(next() * 8)) : Math.floor(next() * 256);
    }
    const wanted = slowDecode(block, size);
    try {
      const got = lz4Decompress(block, size);
      assert.ok(wanted && Buffer.from(wanted.bytes).equals(got), `mutation ${i}`);
      good += 1;
    } catch (error) {
      assert.ok(error instanceof LazypullError && error.code === 'CORRUPT', String(error));
      assert.ok((error.offset ?? 0) <= block.length, error.message);
      assert.equal(wanted, undefined, `mutation ${i}: ${error.message}`);
    }
  }
  assert.ok(good > 100, `${good} mutations were still blocks`);
});
