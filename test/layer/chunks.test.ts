import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { digestOf } from '../../src/core/digest.ts';
import { corrupt, LazypullError, type ErrorCode } from '../../src/core/errors.ts';
import { CountingSource, MemorySource } from '../../src/core/source.ts';
import type { Chunk, FileProof, OpenLayer, RegularNode } from '../../src/core/types.ts';
import { ChunkCache } from '../../src/layer/cache.ts';
import { ChunkLoader } from '../../src/layer/chunks.ts';
import { LayerReader, type LayerReaderOptions } from '../../src/layer/reader.ts';
import { impliedDirectory } from '../../src/layer/tree.ts';
import { file } from './nodes.ts';

const fails = (code: ErrorCode, pattern = /./) => (error: unknown): boolean => error instanceof LazypullError && error.code === code && pattern.test(error.message);

/** A layer that is stored as it is: chunks are slices of it. What was inflated is noted. */
function layerOf(blob: Uint8Array, chunks: readonly Chunk[], proof?: OpenLayer['proof']): { layer: OpenLayer; source: CountingSource; inflated: Chunk[] } {
  const source = new CountingSource(new MemorySource(blob));
  const inflated: Chunk[] = [];
  const layer: OpenLayer = {
    format: 'test', index: { root: impliedDirectory(), chunks }, sources: [source], indexBytes: 0,
    inflate: async (chunk, packed) => {
      inflated.push(chunk);
      return packed.subarray(chunk.skip ?? 0, (chunk.skip ?? 0) + chunk.size);
    },
    ...(proof && { proof }),
  };
  return { layer, source, inflated };
}

function nodeOf(...parts: readonly (readonly [chunk: Chunk, from: number, to: number])[]): RegularNode {
  const { digest: _, ...rest } = file();
  const extents = extentsOf(...parts);
  return { ...rest, size: extents.reduce((sum, { length }) => sum + length, 0), extents };
}

function extentsOf(...parts: readonly (readonly [chunk: Chunk, from: number, to: number])[]): RegularNode['extents'] {
  let fileOffset = 0;
  return parts.map(([chunk, from, to]) => {
    const extent = { fileOffset, length: to - from, chunk, chunkOffset: from };
    fileOffset += to - from;
    return extent;
  });
}

const BLOB = Uint8Array.from({ length: 400 }, (_, i) => i % 251);
const span = (offset: number, length: number, changes: Partial<Chunk> = {}): Chunk =>
  ({ blob: 0, offset, length, size: length, packedDigest: digestOf(BLOB.subarray(offset, offset + length)), ...changes });

describe('digests of stored bytes', () => {
  it('are looked at before anything is inflated', async () => {
    const good = span(0, 100);
    const bad = span(100, 100, { packedDigest: digestOf(Buffer.from('other')) });
    const { layer, inflated } = layerOf(BLOB, [good, bad]);
    const reader = new LayerReader(layer);
    await assert.rejects(reader.readFile(nodeOf([bad, 0, 100]), 0, 9, { path: 'a/b' }), fails('DIGEST_MISMATCH', /100 stored bytes have digest sha256:.* \(a\/b at offset 100\)/));
    assert.deepEqual(inflated, []);
    assert.deepEqual([...await reader.readFile(nodeOf([good, 0, 100]), 3, 2)], [3, 4]);
    // Nothing is remembered of the bad one.
    await assert.rejects(reader.readFile(nodeOf([good, 0, 100], [bad, 0, 100]), 0, 200), fails('DIGEST_MISMATCH'));
  });

  it('vouch for no chunk of the same unit that has another one', async () => {
    const one = span(0, 100, { size: 40 });
    const two = span(0, 100, { size: 40, skip: 40, packedDigest: digestOf(Buffer.from('other')) });
    const { layer, inflated } = layerOf(BLOB, [one, two]);
    const reader = new LayerReader(layer);
    await reader.readFile(nodeOf([one, 0, 40]), 0, 40);
    assert.deepEqual(inflated, [one], 'the unit was not inflated as a whole');
    await assert.rejects(reader.readFile(nodeOf([two, 0, 40]), 0, 40), fails('DIGEST_MISMATCH'));
  });
});

describe('chunks that share stored bytes', () => {
  it('are read for themselves unless they say skip', async () => {
    const chunks = [span(0, 101), span(100, 100), span(199, 1, { size: 1 }), span(199, 101), span(299, 101)];
    const { layer, source, inflated } = layerOf(BLOB, chunks);
    const reader = new LayerReader(layer);
    const node = nodeOf(...chunks.map((chunk): readonly [Chunk, number, number] => [chunk, 0, chunk.size]));
    const wanted = chunks.flatMap(({ offset, length }) => [...BLOB.subarray(offset, offset + length)]);
    assert.deepEqual([...await reader.readFile(node, 0, node.size)], wanted);
    assert.deepEqual(new Set(inflated), new Set(chunks));
    assert.deepEqual([source.requests, source.bytes], [1, 400]);
  });

  it('come out of one inflation when they do', async () => {
    const one: Chunk = { blob: 0, offset: 0, length: 100, size: 40, digest: digestOf(BLOB.subarray(0, 40)) };
    const two: Chunk = { blob: 0, offset: 0, length: 100, size: 40, skip: 40, digest: digestOf(BLOB.subarray(40, 80)) };
    const { layer, inflated } = layerOf(BLOB, [one, two]);
    const reader = new LayerReader(layer);
    assert.deepEqual([...await reader.readFile(nodeOf([two, 0, 40]), 0, 2)], [40, 41]);
    assert.deepEqual([...await reader.readFile(nodeOf([one, 0, 40]), 0, 2)], [0, 1]);
    assert.equal(inflated.length, 1);
  });
});

describe('proofs of files', () => {
  interface Setting {
    readonly check: (bytes: Uint8Array) => Promise<void>;
    readonly extents?: FileProof['extents'];
    readonly options?: LayerReaderOptions;
  }
  const chunks = [span(0, 100), span(100, 100), span(200, 100), span(300, 100)];
  const [first, second, third] = chunks as [Chunk, Chunk, Chunk, Chunk];
  const node = nodeOf([first, 60, 100], [second, 0, 100], [third, 0, 10]);
  function setting({ check, extents = extentsOf([first, 50, 60]), options = {} }: Setting): { reader: LayerReader; source: CountingSource } {
    const { layer, source } = layerOf(BLOB, chunks, (asked) => (asked === node ? { extents, check } : undefined));
    return { reader: new LayerReader(layer, options), source };
  }

  it('come before the first byte, once, and with it in one request', async () => {
    const seen: number[][] = [];
    const { reader, source } = setting({ check: async (bytes) => void seen.push([...bytes]) });
    assert.deepEqual([...await reader.readFile(node, 145, 2)], [205, 206]);
    assert.deepEqual(seen, [[50, 51, 52, 53, 54, 55, 56, 57, 58, 59]]);
    assert.deepEqual([source.requests, source.bytes], [1, 300]);
    await reader.readFile(node, 0, 150);
    assert.equal(seen.length, 1);
    await reader.readFile(nodeOf([second, 0, 1]), 0, 1);
    assert.equal(seen.length, 1, 'files without one need none');
  });

  it('keep everything back when they fail, and are tried again', async () => {
    let failing = true;
    let tried = 0;
    const { reader } = setting({
      options: { maxRequest: 1 },
      check: async () => {
        tried += 1;
        if (failing) throw corrupt('not what it says');
      },
    });
    const given: Uint8Array[] = [];
    for (let i = 0; i < 2; i++) await assert.rejects(async () => { for await (const part of reader.stream(node)) given.push(part); }, fails('CORRUPT', /not what it says/));
    assert.deepEqual([given.length, tried], [0, 2]);
    failing = false;
    for await (const part of reader.stream(node)) given.push(part);
    assert.deepEqual([given.length, tried], [3, 3]);
  });

  it('may span chunks, and have to be there', async () => {
    const seen: number[] = [];
    const { reader } = setting({ extents: extentsOf([first, 98, 100], [second, 0, 2]), check: async (bytes) => void seen.push(...bytes) });
    await reader.readFile(node, 0, 1);
    assert.deepEqual(seen, [98, 99, 100, 101]);
    const outside = setting({ extents: extentsOf([first, 98, 103]), check: () => Promise.reject(new Error('not to be asked')) });
    await assert.rejects(outside.reader.readFile(node, 0, 1), fails('CORRUPT', /outside its chunk/));
  });

  it('are not asked for when nothing is read', async () => {
    const { reader, source } = setting({ check: () => Promise.reject(new Error('not to be asked')) });
    assert.equal((await reader.readFile(node, node.size, 5)).length, 0);
    assert.equal(source.requests, 0);
  });
});

describe('chunks that are handed on one by one', () => {
  const plain = [span(0, 100), span(100, 100), span(200, 100)];
  const [first, second, third] = plain as [Chunk, Chunk, Chunk];

  it('come as soon as each is right, and the time of the line is told without that of inflating', async () => {
    const { layer, source } = layerOf(BLOB, plain);
    const seen: string[] = [];
    const noting: OpenLayer = { ...layer, inflate: (chunk, packed) => (seen.push(`inflates ${chunk.offset}`), layer.inflate(chunk, packed)) };
    const loader = new ChunkLoader(noting, {}, new ChunkCache(0));
    await loader.pass(plain, { take: ({ offset }) => void seen.push(`takes ${offset}`), onFetched: (bytes) => void seen.push(`fetched ${bytes}`) });
    assert.deepEqual(seen, ['fetched 300', 'inflates 0', 'takes 0', 'inflates 100', 'takes 100', 'inflates 200', 'takes 200']);
    assert.equal(source.requests, 1);
  });

  it('stop at one that is wrong: those in front of it have been handed on, those behind it not', async () => {
    const wrong = span(100, 100, { packedDigest: digestOf(Buffer.from('other')) });
    const { layer } = layerOf(BLOB, [first, wrong, third]);
    const taken: number[] = [];
    await assert.rejects(new ChunkLoader(layer, {}, new ChunkCache(0)).pass([first, wrong, third], { take: ({ offset }) => void taken.push(offset) }), fails('DIGEST_MISMATCH'));
    assert.deepEqual(taken, [0]);
  });

  it('wait for who takes them', async () => {
    const { layer, inflated } = layerOf(BLOB, plain);
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    const passing = new ChunkLoader(layer, {}, new ChunkCache(0)).pass(plain, { take: (chunk) => (chunk === second ? gate : undefined) });
    for (let i = 0; i < 10; i += 1) await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(inflated, [first, second]);
    go();
    await passing;
    assert.deepEqual(inflated, plain);
  });

  it('belong to who takes them, whatever is kept', async () => {
    const { layer } = layerOf(BLOB, plain);
    const own: OpenLayer = { ...layer, inflate: async (chunk, packed) => new Uint8Array(await layer.inflate(chunk, packed)) };
    const loader = new ChunkLoader(own, {}, new ChunkCache(1000));
    for (let times = 0; times < 3; times += 1) {
      await loader.pass([first], {
        take: (_, bytes) => {
          assert.equal(bytes[7], 7);
          bytes.fill(255);
        },
      });
    }
  });
});
