import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { deflateRawSync, gzipSync } from 'node:zlib';
import { concat } from '../../../src/core/bytes.ts';
import { LazypullError, type ErrorCode } from '../../../src/core/errors.ts';
import type { Chunk } from '../../../src/core/types.ts';
import { zstdCompress } from '../../../src/codec/zstd.ts';
import { crc32c } from '../../../src/erofs/crc32c.ts';
import { ChunkCache } from '../../../src/layer/cache.ts';
import { ChunkLoader } from '../../../src/layer/chunks.ts';
import { CHUNK_FLAG, encodeBatchContext, encodeZranContext, type ChunkInfo, type ContextHeader } from '../../../formats/nydus/context-layout.ts';
import { BLOB_FEATURE } from '../../../formats/nydus/layout.ts';
import type { BlobChunks } from '../../../formats/nydus/read-contexts.ts';
import { numbers } from '../../codec/samples.ts';
import { noise } from '../../support/noise.ts';
import { blockStarts, contextAt, info, openChunks, readTable, tableOf, type Table } from './made-contexts.ts';

/** Every chunk of a blob, loaded the way files are. */
async function load(found: BlobChunks, data: Uint8Array): Promise<Uint8Array[]> {
  const loaded = await new ChunkLoader(openChunks(found, data), {}, new ChunkCache(1 << 24)).load(found.chunks);
  return found.chunks.map((chunk) => loaded.get(chunk as Chunk) as Uint8Array);
}

describe('context tables', () => {
  it('give plain and compressed chunks of both versions', async () => {
    const contents = [noise(5000), Buffer.alloc(9000, 'words '), noise(10)];
    for (const features of [BLOB_FEATURE.aligned, BLOB_FEATURE.aligned | BLOB_FEATURE.chunkInfoV2]) {
      const parts: Uint8Array[] = [];
      const infos: ChunkInfo[] = [];
      let [at, address] = [0, 0];
      for (const content of contents) {
        const packed = content.length > 8000 ? await zstdCompress(content, 3) : content;
        const v2 = (features & BLOB_FEATURE.chunkInfoV2) !== 0;
        infos.push(info({ flags: (packed === content ? 0 : CHUNK_FLAG.compressed) | (v2 ? CHUNK_FLAG.hasCrc : 0), uncompressedOffset: address, uncompressedSize: content.length, compressedOffset: at, compressedSize: packed.length, low: v2 ? crc32c(content) : 0 }));
        parts.push(packed);
        at += packed.length;
        address += Math.ceil(content.length / 4096) * 4096;
      }
      const data = concat(parts);
      assert.deepEqual((await load(readTable(tableOf(infos, features), data.length), data)).map((bytes) => Buffer.from(bytes)), contents.map((bytes) => Buffer.from(bytes)));
    }
  });

  it('hold chunks against their CRC when there is no digest', async () => {
    const content = Buffer.from(noise(300));
    const right = info({ flags: CHUNK_FLAG.hasCrc, uncompressedSize: 300, compressedSize: 300, low: crc32c(content) });
    const features = BLOB_FEATURE.aligned | BLOB_FEATURE.chunkInfoV2;
    assert.equal((await load(readTable(tableOf([right], features), 300), content))[0]?.length, 300);
    content[7] = (content[7] as number) ^ 1;
    await assert.rejects(load(readTable(tableOf([right], features), 300), content), (error) => error instanceof LazypullError && error.code === 'DIGEST_MISMATCH');
  });

  it('give chunks out of batches, read with one request', async () => {
    const members = [Buffer.from('one '.repeat(100)), Buffer.from('two'), Buffer.from(noise(700))];
    const packed = await zstdCompress(concat(members), 3);
    const infos: ChunkInfo[] = [];
    let low = 0;
    for (const [i, member] of members.entries()) {
      infos.push(info({ flags: CHUNK_FLAG.compressed | CHUNK_FLAG.batch, uncompressedOffset: i * 4096, uncompressedSize: member.length, compressedSize: 0, low }));
      low += member.length;
    }
    const features = BLOB_FEATURE.aligned | BLOB_FEATURE.chunkInfoV2 | BLOB_FEATURE.batch;
    const table = tableOf(infos, features, [encodeBatchContext({ compressedSize: packed.length, uncompressedSize: low })]);
    assert.deepEqual((await load(readTable(table, packed.length), packed)).map((bytes) => Buffer.from(bytes)), members);
    // One that did not become smaller.
    const plain = tableOf(infos, features, [encodeBatchContext({ compressedSize: low, uncompressedSize: low })]);
    assert.deepEqual((await load(readTable(plain, low), concat(members))).map((bytes) => Buffer.from(bytes)), members);
  });

  it('give chunks of a gzip layer, from contexts inside of its blocks', async () => {
    const random = numbers(5);
    const text = Buffer.from(Array.from({ length: 60_000 }, () => `${(random() * 400) | 0} `).join(''));
    // Small blocks, and two members.
    const cut = 150_000;
    const packed = Buffer.concat([gzipSync(text.subarray(0, cut), { memLevel: 1 }), gzipSync(text.subarray(cut), { memLevel: 1, level: 9 })]);
    const starts = await blockStarts(packed);
    assert.ok(starts.length > 20 && new Set(starts.map(({ bit }) => bit % 8)).size > 5, 'blocks begin at all bits');
    const second = starts.findLast(({ first }) => first)?.out ?? 0;
    assert.equal(second, cut);
    const contexts: Uint8Array[] = [];
    const dictionaries: Uint8Array[] = [];
    const infos: ChunkInfo[] = [];
    const wanted: Buffer[] = [];
    let dictOffset = 0;
    for (const [i, start] of starts.entries()) {
      const { out, window, first } = start;
      const memberEnd = out < cut ? cut : text.length;
      const end = Math.min(memberEnd, out + 40_000);
      const next = starts.find((other) => other.out >= end && (other.out < cut || out >= cut));
      const dictionary = first || window.length === 0 ? new Uint8Array(0) : window.subarray(Math.max(0, window.length - (out < cut ? out : out - cut)));
      contexts.push(contextAt(packed, start, dictionary, dictOffset, end, next ? Math.ceil(next.bit / 8) : packed.length));
      dictionaries.push(dictionary);
      dictOffset += dictionary.length;
      // Two chunks of each, the second with what is in front of it.
      for (const [low, size] of [[0, 1], [Math.min(11, end - out - 1), end - out - Math.min(11, end - out - 1)]] as const) {
        infos.push(info({ flags: CHUNK_FLAG.compressed | CHUNK_FLAG.zran, uncompressedOffset: infos.length * 65_536, uncompressedSize: size, compressedOffset: 0, compressedSize: 1, low, high: i }));
        wanted.push(text.subarray(out + low, out + low + size));
      }
    }
    const features = BLOB_FEATURE.aligned | BLOB_FEATURE.chunkInfoV2 | BLOB_FEATURE.zran | BLOB_FEATURE.separate;
    const found = readTable(tableOf(infos, features, contexts, concat(dictionaries)), packed.length);
    const got = await load(found, packed);
    for (const [i, bytes] of got.entries()) assert.deepEqual(Buffer.from(bytes), wanted[i], `chunk ${i}`);
  });

  it('give chunks of contexts that reach across gzip members, as nydus-image makes them', async () => {
    const parts = [Buffer.from('first '.repeat(900)), noise(600_000), Buffer.alloc(300_000, 'last ')].map((bytes) => Buffer.from(bytes));
    const packed = Buffer.concat(parts.map((bytes) => gzipSync(bytes)));
    const text = Buffer.concat(parts);
    const context = encodeZranContext({ inOffset: 10, outOffset: 0, dictOffset: 0, inSize: packed.length - 10, outSize: text.length, dictSize: 0, byte: 0, bits: 0 });
    const places = [[0, 100], [5000, 2000], [605_000, 1000], [text.length - 9, 9]] as const;
    const infos = places.map(([low, size], i) => info({ flags: 3, uncompressedOffset: i * 4096, uncompressedSize: size, low }));
    const features = BLOB_FEATURE.aligned | BLOB_FEATURE.chunkInfoV2 | BLOB_FEATURE.zran;
    const got = await load(readTable(tableOf(infos, features, [context]), packed.length), packed);
    assert.deepEqual(got.map((bytes) => Buffer.from(bytes)), places.map(([low, size]) => text.subarray(low, low + size)));
  });

  it('are refused when their numbers do not fit', () => {
    const zran = BLOB_FEATURE.aligned | BLOB_FEATURE.chunkInfoV2 | BLOB_FEATURE.zran;
    const batch = BLOB_FEATURE.aligned | BLOB_FEATURE.chunkInfoV2 | BLOB_FEATURE.batch;
    const v2 = BLOB_FEATURE.aligned | BLOB_FEATURE.chunkInfoV2;
    const context = { inOffset: 10, outOffset: 0, dictOffset: 0, inSize: 50, outSize: 90, dictSize: 0, byte: 0, bits: 0 };
    const ofZran = (low: number, size: number, changes: Partial<typeof context> = {}, high = 0): Table =>
      tableOf([info({ flags: 3, uncompressedSize: size, low, high })], zran, [encodeZranContext({ ...context, ...changes })]);
    const ofBatch = (low: number, size: number, high: number, compressedSize = 50): Table =>
      tableOf([info({ flags: 5, uncompressedSize: size, compressedSize: 0, low, high })], batch, [encodeBatchContext({ compressedSize, uncompressedSize: 90 })]);
    const header = (table: Table, changes: Partial<ContextHeader>): Table => ({ ...table, header: { ...table.header, ...changes } });
    const cases: readonly (readonly [string, Table, ErrorCode])[] = [
      ['a chunk behind the blob', tableOf([info({ compressedOffset: 99, compressedSize: 5, uncompressedSize: 5 })], v2), 'CORRUPT'],
      ['a chunk of no stored bytes', tableOf([info({ flags: 1, compressedSize: 0, uncompressedSize: 5 })], v2), 'CORRUPT'],
      ['a plain chunk of two sizes', tableOf([info({ compressedSize: 5, uncompressedSize: 6 })], v2), 'CORRUPT'],
      ['a chunk above the chunk size', tableOf([info({ flags: 1, compressedSize: 5, uncompressedSize: (1 << 20) + 1 })], v2), 'CORRUPT'],
      ['chunks out of order', tableOf([info({ uncompressedOffset: 4096 }), info({ uncompressedOffset: 4096 })], v2), 'CORRUPT'],
      ['a chunk behind the address space', tableOf([info({ uncompressedOffset: 2 ** 41 })], v2), 'CORRUPT'],
      ['an encrypted chunk', tableOf([info({ flags: 8 })], v2), 'UNSUPPORTED'],
      ['a zran context that is not there', ofZran(0, 10, {}, 1), 'CORRUPT'],
      ['a chunk behind its zran context', ofZran(85, 10), 'CORRUPT'],
      ['a zran context behind the layer', ofZran(0, 10, { inOffset: 60 }), 'CORRUPT'],
      ['a zran context without its dictionary', ofZran(0, 10, { dictSize: 1 }), 'CORRUPT'],
      ['a dictionary that is too long', ofZran(0, 10, { dictSize: 40_000 }), 'CORRUPT'],
      ['a zran context of nine bits', ofZran(0, 10, { bits: 9 }), 'CORRUPT'],
      ['bits in front of the layer', ofZran(0, 10, { bits: 3, inOffset: 0 }), 'CORRUPT'],
      ['a zran context of gigabytes', ofZran(0, 10, { outSize: 0xffff_ffff }), 'LIMIT'],
      ['a batch that is not there', ofBatch(0, 10, 1), 'CORRUPT'],
      ['a chunk behind its batch', ofBatch(85, 10, 0), 'CORRUPT'],
      ['a batch behind the blob', ofBatch(0, 10, 0, 101), 'CORRUPT'],
      ['more contexts than chunks', header(ofBatch(0, 10, 0), { contexts: 2 }), 'CORRUPT'],
      ['contexts elsewhere', header(ofBatch(0, 10, 0), { contextsOffset: 16 }), 'CORRUPT'],
      ['contexts behind the table', header(ofBatch(0, 10, 0), { contextsSize: 2 ** 52 }), 'CORRUPT'],
      ['fewer bytes than chunks', { ...tableOf([info({})], v2), table: new Uint8Array(23) }, 'CORRUPT'],
      ['an encrypted blob', tableOf([info({})], v2 | BLOB_FEATURE.encrypted), 'UNSUPPORTED'],
    ];
    readTable(ofZran(80, 10), 100);
    readTable(ofBatch(80, 10, 0), 100);
    for (const [name, table, code] of cases) assert.throws(() => readTable(table, 100), (error) => error instanceof LazypullError && error.code === code, name);
  });

  it('whose units inflate to less than they say are told, not waited for', async () => {
    const features = BLOB_FEATURE.aligned | BLOB_FEATURE.chunkInfoV2 | BLOB_FEATURE.zran;
    const deflated = deflateRawSync(Buffer.alloc(1000, 'ab'));
    for (const [data, outSize] of [[deflated, 5000], [deflated.subarray(0, 4), 900], [Buffer.from([7, 7, 7, 7, 7]), 900]] as const) {
      const context = encodeZranContext({ inOffset: 0, outOffset: 0, dictOffset: 0, inSize: data.length, outSize, dictSize: 0, byte: 0, bits: 0 });
      const found = readTable(tableOf([info({ flags: 3, uncompressedSize: outSize })], features, [context]), data.length);
      await assert.rejects(load(found, data), (error) => error instanceof LazypullError && error.code === 'CORRUPT');
    }
  });
});
