import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { gunzip } from '../../src/codec/gzip.ts';
import { zstdCompress, zstdDecompress } from '../../src/codec/zstd.ts';
import { zstdEncode } from '../../src/codec/zstd-encode.ts';
import { knownOf } from './known.ts';
import { fibonacci, mixture, noise, numbers, pieces, records, SAMPLES, sha256, text } from './samples.ts';

const BLOCK = 128 << 10;
const LARGEST = 16 << 20;

async function assertRoundTrip(bytes: Uint8Array, known?: Uint32Array, what = `${bytes.length} bytes`): Promise<Uint8Array> {
  const packed = zstdEncode(bytes, known).slice();
  // Frame header, and a header for each block that is stored as it is.
  assert.ok(packed.length <= bytes.length + 9 + 3 * Math.max(1, Math.ceil(bytes.length / BLOCK)), `${what}: ${packed.length} bytes`);
  assert.ok(Buffer.from(await zstdDecompress(packed, bytes.length, what)).equals(bytes), what);
  return packed;
}

/** What the blocks of a frame make use of (RFC 8878, 3.1.1.2 and 3.1.1.3). */
function features(frame: Uint8Array): string[] {
  const found: string[] = [];
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  let at = 5 + 2 ** ((frame[4] as number) >> 6);
  for (let last = false; !last; ) {
    const header = view.getUint16(at, true) + 65536 * view.getUint8(at + 2);
    last = (header & 1) === 1;
    const type = (header >> 1) & 3;
    const size = header >> 3;
    found.push(`${['raw', 'rle', 'compressed'][type]} block`);
    if (type === 2) found.push(...blockFeatures(frame.subarray(at + 3, at + 3 + size)));
    at += 3 + (type === 1 ? 1 : size);
  }
  assert.equal(at, frame.length);
  return found;
}

function blockFeatures(block: Uint8Array): string[] {
  const first = block[0] as number;
  const type = first & 3;
  const form = (first >> 2) & 3;
  const found = [`${['raw', 'rle', 'compressed', 'treeless'][type]} literals`];
  const number = (bytes: number): number => block.subarray(0, bytes).reduceRight((sum, byte) => sum * 256 + byte, 0);
  let at: number;
  if (type < 2) {
    const head = form === 1 ? 2 : form === 3 ? 3 : 1;
    const size = Math.floor(number(head) / 2 ** (head === 1 ? 3 : 4));
    at = head + (type === 0 ? size : 1);
  } else {
    found.push(form === 0 ? '1 stream' : `4 streams, sizes of ${[0, 10, 14, 18][form]} bits`);
    const head = [3, 3, 4, 5][form] as number;
    at = head + Math.floor(number(head) / 2 ** (4 + ([10, 10, 14, 18][form] as number)));
    if (type === 2) found.push((block[head] as number) < 128 ? 'coded weights' : 'plain weights');
  }
  const count = block[at] as number;
  found.push(count === 0 ? 'no sequences' : count < 128 ? 'few sequences' : count < 255 ? 'many sequences' : 'very many sequences');
  at += count < 128 ? 1 : count < 255 ? 2 : 3;
  if (count > 0) {
    for (const [i, kind] of ['literal lengths', 'offsets', 'match lengths'].entries()) found.push(`${['predefined', 'rle', 'described', 'repeated'][((block[at] as number) >> (6 - 2 * i)) & 3]} ${kind}`);
  }
  return found;
}

for (const { name, bytes } of SAMPLES) test(`round trip of ${name}`, async () => void (await assertRoundTrip(bytes)));

test('every small size, and those around the edges of headers and blocks', async () => {
  for (const source of [text(1500), noise(1500), new Uint8Array(1500), records(1500), Buffer.alloc(1500, 'abc')]) {
    for (let size = 0; size < 1500; size += size < 70 ? 1 : size < 300 ? 7 : 41) await assertRoundTrip(source.subarray(0, size));
  }
  const long = mixture(3 * BLOCK);
  for (const edge of [256, 65_536, 65_536 + 256, BLOCK, 2 * BLOCK]) {
    for (const more of [-9, -2, -1, 0, 1, 2, 9]) await assertRoundTrip(long.subarray(0, edge + more));
  }
});

test('literal and match lengths around every code', async () => {
  const literalEdges = [16, 18, 20, 22, 24, 28, 32, 40, 48, ...Array.from({ length: 11 }, (_, i) => 64 << i)];
  const matchEdges = [3, 4, 35, 37, 39, 41, 43, 47, 51, 59, 67, 83, 99, ...Array.from({ length: 10 }, (_, i) => 3 + (128 << i))];
  const source = noise(200_000);
  const part = (at: number, size: number): Uint8Array => source.subarray(at % 60_000, (at % 60_000) + size);
  for (const more of [-1, 0, 1]) {
    const lengths = literalEdges.map((edge, i) => [edge + more, Math.max(4, (matchEdges[i % matchEdges.length] as number) + more)] as const);
    const others = matchEdges.map((edge, i) => [i % 19, Math.max(4, edge + more)] as const);
    for (const list of [lengths, others]) {
      const parts: Uint8Array[] = [source];
      for (const [i, [literals, match]] of list.entries()) parts.push(noise(literals, 1000 + i), part(7919 * i, match));
      await assertRoundTrip(Buffer.concat(parts));
      for (const one of list) await assertRoundTrip(Buffer.concat([source.subarray(0, one[1] + 9), noise(one[0], 77), source.subarray(5, 5 + one[1])]));
    }
  }
});

test('offsets near and far, and those that come again', async () => {
  const unit = noise(40, 5);
  for (const distance of [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 255, 256, 65_535, 65_536, 1 << 20, (1 << 20) + 3, LARGEST - 50]) {
    const bytes = new Uint8Array(distance + 50);
    bytes.set(unit);
    bytes.fill(1, 40);
    bytes.set(unit.subarray(0, Math.min(40, bytes.length - distance)), distance);
    await assertRoundTrip(bytes, undefined, `distance ${distance}`);
  }
  // Records that repeat at three distances in turn, with and without literals between them.
  const next = numbers(8);
  const parts: Buffer[] = [Buffer.from(noise(3000, 6))];
  for (let i = 0; i < 4000; i++) {
    const all = Buffer.concat(parts.slice(-100));
    const from = all.length - ([811, 1203, 2500][Math.floor(next() * 3)] as number);
    parts.push(all.subarray(Math.max(0, from), Math.max(0, from) + 5 + Math.floor(next() * 9)), Buffer.from(noise(i % 3, i)));
  }
  await assertRoundTrip(Buffer.concat(parts));
});

test('literal codes of every number of symbols, flat, steep and deep', async () => {
  for (let symbols = 1; symbols <= 256; symbols += symbols < 20 || symbols > 120 ? 1 : 9) {
    const next = numbers(symbols);
    for (const power of [1, 3]) {
      for (const size of [60, 300, 5000]) {
        const bytes = Uint8Array.from({ length: size }, () => 255 - Math.floor(next() ** power * symbols));
        await assertRoundTrip(bytes, undefined, `${symbols} symbols`);
      }
    }
  }
  // Deeper than 11 bits unless cut; all weights equal; only the first and the last byte there is.
  await assertRoundTrip(fibonacci(120_000));
  const shuffled = (values: Uint8Array): Uint8Array => {
    const next = numbers(3);
    return values.map((_, i) => values[Math.floor(next() * values.length + i) % values.length] as number);
  };
  for (const kinds of [2, 64, 128, 255, 256]) await assertRoundTrip(shuffled(Uint8Array.from({ length: 20_000 }, (_, i) => i % kinds)));
  await assertRoundTrip(shuffled(Uint8Array.from({ length: 9000 }, (_, i) => (i % 5 === 0 ? 255 : 0))));
});

test('everything that the format offers is made use of', async () => {
  const found = new Set<string>();
  const flat = noise(3000).map((byte) => byte >> 4);
  const inputs = [
    ...SAMPLES.map(({ bytes }) => bytes),
    text(600_000),
    noise(200).map((byte) => byte >> 5),
    flat,
    Buffer.concat([Buffer.from('a'.repeat(5)), noise(20_000).map((byte) => byte & 127), mixture(900_000)]),
    Buffer.concat(Array.from({ length: 30_000 }, (_, i) => Buffer.of(1 + (i % 7), 0, 0, 9, i, i >> 8, 77, 78, 79, 80))),
    Buffer.concat([noise(200), ...Array.from({ length: 60 }, (_, i) => Buffer.concat([Buffer.alloc(i + 1, 65), noise(200)]))]),
  ];
  for (const bytes of inputs) for (const feature of features(await assertRoundTrip(bytes))) found.add(feature);
  for (const { bytes, known } of [shortMatches(), oneLiteral()]) for (const feature of features(await assertRoundTrip(bytes, known))) found.add(feature);
  const kinds = ['literal lengths', 'offsets', 'match lengths'];
  const wanted = [
    'raw block', 'compressed block', 'raw literals', 'rle literals', 'compressed literals', 'treeless literals', 'coded weights', 'plain weights',
    '1 stream', '4 streams, sizes of 10 bits', '4 streams, sizes of 14 bits', '4 streams, sizes of 18 bits', 'no sequences', 'few sequences', 'many sequences', 'very many sequences',
    ...['predefined', 'rle', 'described', 'repeated'].flatMap((mode) => kinds.map((kind) => `${mode} ${kind}`)),
  ];
  assert.deepEqual(wanted.filter((feature) => !found.has(feature)), []);
});

/** A block in which the only literals are equal ones, each alone between two copies of what is at the end of the block before. */
function oneLiteral(): { bytes: Uint8Array; known: Uint32Array } {
  const next = numbers(16);
  const source = noise(3000, 17);
  const parts: Uint8Array[] = [new Uint8Array(BLOCK - source.length), source];
  const entries: number[] = [];
  let at = BLOCK;
  for (let i = 0; i < 500; i++) {
    const from = Math.floor(next() * 2900);
    const length = 20 + Math.floor(next() * 60);
    parts.push(Uint8Array.of(0x51), source.subarray(from, from + length));
    entries.push((1 << 23) | ((length - 3) << 15) | (at + 1 - (BLOCK - source.length + from) - 1));
    at += 1 + length;
  }
  return { bytes: Buffer.concat(parts), known: Uint32Array.of(0, at, entries.length + 1, 0, (511 << 23) | BLOCK, ...entries) };
}

/** Nothing but matches of three bytes: more than 32,512 in a block. */
function shortMatches(): { bytes: Uint8Array; known: Uint32Array } {
  const next = numbers(15);
  const bytes = Buffer.alloc(BLOCK);
  const entries: number[] = [];
  noise(600).forEach((byte, i) => (bytes[i] = byte));
  for (let at = 600; at + 3 <= bytes.length; at += 3) {
    const distance = 3 + Math.floor(next() * 590);
    bytes.copyWithin(at, at - distance, at - distance + 3);
    entries.push(distance - 1);
  }
  return { bytes, known: Uint32Array.of(0, bytes.length, entries.length + 1, 0, (511 << 23) | 600, ...entries) };
}

test('random structured input', async () => {
  const pieceOf = fc.oneof(
    fc.uint8Array({ maxLength: 80 }),
    fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 20 }), fc.integer({ min: 1, max: 100 })).map(([unit, times]) => Buffer.concat(Array.from({ length: times }, () => unit))),
    fc.tuple(fc.integer({ min: 1, max: 3000 }), fc.nat(50), fc.integer({ min: 0, max: 7 })).map(([size, seed, bits]) => noise(size, seed).map((byte) => byte >> bits)),
  );
  const input = fc.array(fc.tuple(pieceOf, fc.integer({ min: 1, max: 4 })), { maxLength: 12 }).map((parts) => Buffer.concat(parts.flatMap(([piece, times]) => Array.from({ length: times }, () => piece))));
  await fc.assert(fc.asyncProperty(input, async (bytes) => void (await assertRoundTrip(bytes))), { numRuns: 1000 });
});

test('known matches: right, and the same however the stream came in', async () => {
  for (const plain of [mixture(1_000_000), text(700_000), records(300_000), Buffer.concat([new Uint8Array(200_000), noise(100_000), new Uint8Array(400_000)])]) {
    for (const level of [6, 9]) {
      const packed = gzipSync(plain, { level });
      const results = new Set<string>();
      for (const sizes of [[packed.length], [1000, 1], [70_001]]) {
        const { bytes, known } = await knownOf(gunzip(streamOf(pieces(packed, ...sizes))));
        assert.ok(Buffer.from(bytes).equals(plain));
        const frame = await assertRoundTrip(plain, known);
        results.add(sha256(frame));
        assert.ok(frame.length < 1.03 * zstdEncode(plain).length, `${frame.length} bytes with ${level}, ${zstdEncode(plain).length} without`);
      }
      assert.equal(results.size, 1);
    }
  }
});

test('who has not looked for matches is not believed', async () => {
  const plain = text(400_000);
  const { known } = await knownOf(gunzip(streamOf([gzipSync(plain, { strategy: 2 })])));
  assert.ok((await assertRoundTrip(plain, known)).length < 1.01 * zstdEncode(plain).length);
});

test('a log that is wrong does no harm', async () => {
  const plain = mixture(300_000);
  const { known } = await knownOf(gunzip(streamOf([gzipSync(plain)])));
  const next = numbers(21);
  for (let i = 0; i < 300; i++) {
    let wrong = known.slice();
    for (let n = 0; n < 1 + i; n++) wrong[Math.floor(next() ** (1 + (i % 3)) * wrong.length)] = i % 2 === 0 ? next() * 2 ** 32 : (wrong[n] ?? 0) ^ (1 << (n % 32));
    if (i % 4 === 3) wrong = wrong.subarray(Math.floor(next() * 1000), Math.floor(next() * wrong.length));
    await assertRoundTrip(plain.subarray(i % 2 === 0 ? 0 : i, plain.length - Math.floor(next() * 200_000)), wrong, `log ${i}`);
  }
  // A piece that begins anew far back, with more matches than a block can have.
  const again = new Uint32Array(150_000);
  await assertRoundTrip(new Uint8Array(600_000), Uint32Array.from([0, 600_000, 1, 0, (511 << 23) | 500_000, 0, 600_000, again.length, 0, ...again]));
  const log = fc.uint32Array({ maxLength: 60 });
  await fc.assert(fc.asyncProperty(log, fc.nat(3000), async (words, size) => void (await assertRoundTrip(plain.subarray(0, size), Uint32Array.of(0, size, words.length, 0, ...words)))), { numRuns: 500 });
});

test('output bytes are the same everywhere, whatever came before', async () => {
  const wanted = 'fb291bddb5833548';
  const wantedWithKnown = '9edf703743fbe8de';
  const input = Buffer.concat([mixture(300_000), text(50_000)]);
  const { known } = await knownOf(gunzip(streamOf([PACKED])));
  assert.equal(sha256(zstdEncode(input)).slice(0, 16), wanted);
  zstdEncode(input.subarray(1000));
  assert.equal(sha256(zstdEncode(input)).slice(0, 16), wanted);
  assert.equal(sha256(zstdEncode(text(50_000), known)).slice(0, 16), wantedWithKnown);
  // Positions of all inputs together run past 2^32.
  const large = new Uint8Array(LARGEST);
  for (let i = 0; i < 257; i++) zstdEncode(large);
  assert.equal(sha256(zstdEncode(input)).slice(0, 16), wanted);
});

test('sizes are those of the reference, or nearly', async () => {
  const inputs = [text(1 << 20), records(1 << 20), mixture(1 << 20), text(30_000), records(5000), fibonacci(60_000)];
  for (const bytes of inputs) {
    const reference = (await zstdCompress(bytes, 3)).length;
    assert.ok(zstdEncode(bytes).length <= 1.02 * reference, `${zstdEncode(bytes).length} bytes of ${bytes.length}, ${reference} by the library`);
  }
});

test('the zstd command takes our frames', (t) => {
  for (const bytes of [...SAMPLES.map((sample) => sample.bytes), mixture(3_000_000)]) {
    const { stdout, error, status } = spawnSync('zstd', ['-d', '-c'], { input: zstdEncode(bytes).slice(), maxBuffer: 1 << 26 });
    if (error) {
      t.skip('no zstd command here');
      return;
    }
    assert.equal(status, 0);
    assert.ok(stdout.equals(bytes));
  }
});

test('large inputs', async () => {
  await assertRoundTrip(Buffer.alloc(LARGEST, mixture(3 << 20)));
  await assertRoundTrip(text(3000));
  assert.throws(() => zstdEncode(new Uint8Array(LARGEST + 1)), { code: 'LIMIT' });
});

const PACKED = gzipSync(text(50_000), { level: 6 });

async function* streamOf(parts: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* parts;
}
