import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import type { Lease } from '../../src/core/types.ts';
import { type ChunkPacker, type ChunkRange, type ChunkUnit, compressChunks, digestChunks, type PackOptions, packsKnownMatches } from '../../src/codec/chunk-jobs.ts';
import { CHUNK_DIGEST_SIZE, chunkDigester } from '../../src/codec/blake3.ts';
import { gunzip } from '../../src/codec/gzip.ts';
import { lz4Compress } from '../../src/codec/lz4.ts';
import { ThreadPool } from '../../src/codec/pool.ts';
import { unpackChunk } from '../../src/codec/unpack-chunk.ts';
import { zstdEncode } from '../../src/codec/zstd-encode.ts';
import { knownOf } from './known.ts';
import { lending, mixture, noise, numbers, records, sha256, text } from './samples.ts';

const PACKERS: readonly ChunkPacker[] = ['zstd', 'lz4', 'none'];
const pool = new ThreadPool(2);
after(() => pool.close());

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Leased memory that begins with the parts, and where they are. */
async function leased(parts: readonly Uint8Array[]): Promise<{ lease: Lease; ranges: ChunkRange[] }> {
  const ranges: ChunkRange[] = [];
  let offset = 0;
  for (const { length } of parts) {
    ranges.push({ offset, length });
    offset += length;
  }
  const lease = await pool.lease(offset);
  const memory = new Uint8Array(lease.memory);
  for (const [i, part] of parts.entries()) memory.set(part, ranges[i]?.offset);
  return { lease, ranges };
}

/** Unpacks every unit and holds it against the plain bytes; returns a copy of what is stored. */
async function packedAndChecked(lease: Lease, units: readonly ChunkUnit[], options: PackOptions): Promise<{ bytes: Uint8Array; compressed: boolean[]; sizes: number[] }> {
  const before = new Uint8Array(lease.memory).slice();
  const plain = units.map((unit) => Buffer.concat(unit.map(({ offset, length }) => before.subarray(offset, offset + length))));
  const { bytes, units: packed } = await compressChunks(pool, lease, units, options);
  assert.equal(packed.length, units.length);
  const { align = 1 } = options;
  let end = 0;
  for (const [i, { offset, size, compressed }] of packed.entries()) {
    const wanted = plain[i] as Buffer;
    assert.equal(offset, Math.ceil(end / align) * align);
    assert.ok(bytes.subarray(end, offset).every((byte) => byte === 0), 'padding');
    assert.ok(compressed ? size < wanted.length : size === wanted.length);
    const stored = bytes.slice(offset, offset + size);
    assert.ok(wanted.equals(await unpackChunk(compressed ? options.compressor : 'none', stored, wanted.length, `unit ${i}`)), `unit ${i}`);
    end = offset + size;
  }
  assert.equal(bytes.length, Math.ceil(end / align) * align);
  assert.ok(bytes.subarray(end).every((byte) => byte === 0), 'padding at the end');
  return { bytes: bytes.slice(), compressed: packed.map(({ compressed }) => compressed), sizes: packed.map(({ size }) => size) };
}

test('digests are those of the chunks, and the bytes stay', async () => {
  const parts = [text(5000), noise(70_000), new Uint8Array(0), text(1), mixture(300_000)];
  const { lease, ranges } = await leased(parts);
  const blake3 = await chunkDigester('blake3');
  const digests = await digestChunks(pool, lease, ranges, 'blake3');
  assert.equal(hex(digests), hex(Buffer.concat(parts.map((part) => blake3(part)))));
  const backwards = await digestChunks(pool, lease, ranges.toReversed(), 'sha256');
  assert.equal(hex(backwards), parts.toReversed().map((part) => createHash('sha256').update(part).digest('hex')).join(''));
  assert.equal(CHUNK_DIGEST_SIZE * parts.length, digests.length);
  assert.equal((await digestChunks(pool, lease, [], 'blake3')).length, 0);
  assert.ok(Buffer.concat(parts).equals(new Uint8Array(lease.memory, 0, parts.reduce((sum, { length }) => sum + length, 0))));
  lease.release();
});

test('chunks are compressed, or stored when that makes them no smaller', async () => {
  const parts = [text(50_000), noise(50_000), Uint8Array.of(1), records(10_000), new Uint8Array(0), new Uint8Array(1 << 20)];
  for (const compressor of PACKERS) {
    const { lease, ranges } = await leased(parts);
    const { compressed } = await packedAndChecked(lease, ranges.map((range) => [range]), { compressor });
    assert.deepEqual(compressed, compressor === 'none' ? parts.map(() => false) : [true, false, false, true, false, true], compressor);
    lease.release();
  }
});

test('only some, in another order, and several as one', async () => {
  const parts = Array.from({ length: 40 }, (_, i) => text(300 + 17 * i, i + 1));
  for (const compressor of PACKERS) {
    const { lease, ranges } = await leased(parts);
    const [a, b, c, d, e] = ranges as [ChunkRange, ChunkRange, ChunkRange, ChunkRange, ChunkRange];
    const { sizes } = await packedAndChecked(lease, [[e], [a, b], [d, a, c], ranges.filter((_, i) => i % 3 !== 1), [b]], { compressor });
    if (compressor !== 'none') assert.ok((sizes[1] as number) < a.length + b.length);
    lease.release();
    const empty = await leased(parts);
    const nothing = await compressChunks(pool, empty.lease, [], { compressor, align: 4096 });
    assert.deepEqual([nothing.bytes.length, nothing.units], [0, []]);
    empty.lease.release();
  }
});

test('aligned units, also where they find no room in the lease', async () => {
  const { lease, ranges } = await leased([text(9000), noise(4096), text(10), noise(5000)]);
  await packedAndChecked(lease, ranges.map((range) => [range]), { compressor: 'zstd', align: 4096 });
  lease.release();
  const small = Array.from({ length: 5000 }, (_, i) => text(20, i));
  const many = await leased(small);
  const { bytes } = await packedAndChecked(many.lease, many.ranges.map((range) => [range]), { compressor: 'lz4', align: 4096 });
  assert.equal(bytes.length, 5000 * 4096);
  assert.ok(bytes.length > many.lease.memory.byteLength);
  many.lease.release();
});

test('levels', async () => {
  const sizes: number[] = [];
  for (const level of [1, 3, 19]) {
    const { lease, ranges } = await leased([mixture(200_000)]);
    sizes.push(...(await packedAndChecked(lease, [ranges], { compressor: 'zstd', level })).sizes);
    lease.release();
  }
  const [fast = 0, usual = 0, best = 0] = sizes;
  assert.ok(fast > usual && usual > best, sizes.join(' '));
  const { lease, ranges } = await leased([text(10)]);
  for (const level of [0, 23, 2.5, NaN]) await assert.rejects(compressChunks(pool, lease, [ranges], { compressor: 'zstd', level }), { code: 'USAGE' });
  lease.release();
});

test('known matches of a chunk are made use of, those of chunks that are put together are not', async () => {
  const parts = [text(70_000), mixture(90_000), records(60_000)];
  const logs = await Promise.all(parts.map(async (part) => (await knownOf(gunzip(lending([gzipSync(part)])))).known));
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  for (const compressor of ['zstd', 'lz4'] as const) {
    const { lease, ranges } = await leased([...parts, ...logs.map(({ buffer }) => new Uint8Array(buffer))]);
    assert.equal(ranges[3]?.offset, size);
    const known = parts.map((_, i) => ({ ...(ranges[i] as ChunkRange), known: ranges[3 + i] as ChunkRange }));
    const [a, b, c] = known as [(typeof known)[0], (typeof known)[0], (typeof known)[0]];
    const pack = compressor === 'zstd' ? zstdEncode : lz4Compress;
    const wanted = [pack(parts[0] as Uint8Array, logs[0]).slice(), pack(Buffer.concat([parts[1] as Uint8Array, parts[2] as Uint8Array])).slice()];
    const { bytes, sizes } = await packedAndChecked(lease, [[a], [b, c]], { compressor });
    assert.ok(Buffer.concat(wanted).equals(bytes));
    assert.notEqual(sizes[0], pack(parts[0] as Uint8Array).length);
    lease.release();
  }
  assert.deepEqual([{ compressor: 'zstd' }, { compressor: 'zstd', level: 3 }, { compressor: 'lz4' }, { compressor: 'zstd', level: 4 }, { compressor: 'none' }].map((options) => packsKnownMatches(options as PackOptions)), [true, true, true, false, false]);
});

test('output bytes are the same everywhere, whatever thread and whatever came before', async () => {
  const wanted: Record<ChunkPacker, string> = { zstd: '9833e586', lz4: '9c1fe4ed', none: '4cd98c59' };
  const next = numbers(5);
  const parts = Array.from({ length: 60 }, (_, i) => mixture(20_000 + 900 * i).subarray(0, Math.floor(next() * 20_000) + 10));
  const single = new ThreadPool(1);
  for (const compressor of PACKERS) {
    const digests = await Promise.all([pool, pool, single, pool].map(async (workers, turn) => {
      const { lease, ranges } = await leased(parts);
      if (turn > 0) await digestChunks(workers, lease, ranges, 'sha256');
      const { bytes } = await compressChunks(workers, lease, ranges.map((range) => [range]), { compressor });
      const digest = sha256(bytes).slice(0, 8);
      lease.release();
      return digest;
    }));
    assert.deepEqual(digests, digests.map(() => wanted[compressor]), compressor);
  }
  await single.close();
});

test('any chunks, in any units', async () => {
  const chunk = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 9 }), fc.integer({ min: 1, max: 200 })).map(([unit, times]) => Buffer.concat(Array.from({ length: times }, () => unit))),
  );
  const input = fc.record({ chunks: fc.array(chunk, { minLength: 1, maxLength: 12 }), units: fc.array(fc.array(fc.nat(11), { minLength: 1, maxLength: 5 }), { maxLength: 10 }), compressor: fc.constantFrom(...PACKERS), align: fc.constantFrom(1, 512, 4096) });
  await fc.assert(fc.asyncProperty(input, async ({ chunks, units, compressor, align }) => {
    const { lease, ranges } = await leased(chunks);
    try {
      await packedAndChecked(lease, units.map((unit) => unit.map((i) => ranges[i % ranges.length] as ChunkRange)), { compressor, align });
    } finally {
      lease.release();
    }
  }), { numRuns: 150 });
});
