import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { digestOf } from '../../src/core/digest.ts';
import { corrupt, LazypullError, type ErrorCode } from '../../src/core/errors.ts';
import { CountingSource, MemorySource } from '../../src/core/source.ts';
import type { Chunk, OpenLayer, RegularNode } from '../../src/core/types.ts';
import { ChunkCache } from '../../src/layer/cache.ts';
import { impliedDirectory } from '../../src/layer/tree.ts';
import { LayerReader } from '../../src/layer/reader.ts';
import { file } from './nodes.ts';

/** A layer whose stored units are raw deflate streams, each holding the given payloads behind one another. */
class Fixture {
  readonly parts: Uint8Array[] = [];
  readonly chunks: Chunk[] = [];
  inflations = 0;
  #size = 0;

  /** Stores one unit; gives one chunk per payload. */
  unit(...payloads: Uint8Array[]): Chunk[] {
    const stored = deflateRawSync(Buffer.concat(payloads));
    let skip = 0;
    const made = payloads.map((payload): Chunk => {
      const chunk = { blob: 0, offset: this.#size, length: stored.length, size: payload.length, ...(skip ? { skip } : {}), digest: digestOf(payload) };
      skip += payload.length;
      return chunk;
    });
    this.parts.push(stored);
    this.#size += stored.length;
    this.chunks.push(...made);
    return made;
  }

  open(): { layer: OpenLayer; source: CountingSource; blob: Buffer } {
    const blob = Buffer.concat(this.parts);
    const source = new CountingSource(new MemorySource(blob));
    const layer: OpenLayer = {
      format: 'test', index: { root: impliedDirectory(), chunks: this.chunks }, sources: [source], indexBytes: 0,
      inflate: async (chunk, packed) => {
        this.inflations += 1;
        let all: Buffer;
        try {
          all = inflateRawSync(packed);
        } catch (cause) {
          throw corrupt('bad deflate data', { cause });
        }
        const skip = chunk.skip ?? 0;
        return all.subarray(skip, skip + chunk.size);
      },
    };
    return { layer, source, blob };
  }
}

function nodeOf(chunks: readonly Chunk[], changes: Partial<RegularNode> = {}): RegularNode {
  let at = 0;
  const extents = chunks.map((chunk) => {
    const extent = { fileOffset: at, length: chunk.size, chunk, chunkOffset: 0 };
    at += chunk.size;
    return extent;
  });
  const { digest: _, ...rest } = file();
  return { ...rest, size: at, extents, ...changes };
}

function bytes(length: number, seed: number): Uint8Array {
  const out = new Uint8Array(length);
  let state = seed + 1;
  for (let i = 0; i < length; i++) {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    out[i] = state % 251;
  }
  return out;
}

const fails = (code: ErrorCode, pattern = /./) => (error: unknown): boolean =>
  error instanceof LazypullError && error.code === code && pattern.test(error.message);

async function join(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(new Uint8Array(part));
  return Buffer.concat(parts);
}

describe('LayerReader', () => {
  it('reads any range of any file, as a model would', async () => {
    const range = fc.record({ file: fc.nat(), offset: fc.nat(5000), length: fc.nat(5000) });
    const files = fc.array(fc.array(fc.integer({ min: 1, max: 1000 }), { maxLength: 5 }), { minLength: 1, maxLength: 4 });
    const options = fc.record({ gap: fc.nat(500), maxRequest: fc.integer({ min: 1, max: 2000 }), cacheBytes: fc.nat(3000) });
    await fc.assert(fc.asyncProperty(files, fc.array(range, { maxLength: 6 }), options, async (sizes, reads, limits) => {
      const fixture = new Fixture();
      const contents: Buffer[] = [];
      const nodes = sizes.map((chunkSizes, f) => {
        const payloads = chunkSizes.map((size, c) => bytes(size, f * 10 + c));
        contents.push(Buffer.concat(payloads));
        return nodeOf(payloads.flatMap((payload) => fixture.unit(payload)));
      });
      const reader = new LayerReader(fixture.open().layer, limits);
      await Promise.all(reads.map(async (read) => {
        const at = read.file % nodes.length;
        const want = contents[at]?.subarray(read.offset, read.offset + read.length);
        assert.deepEqual(Buffer.from(await reader.readFile(nodes[at] as RegularNode, read.offset, read.length)), want);
      }));
      for (const [at, node] of nodes.entries()) assert.deepEqual(await join(reader.stream(node)), contents[at]);
    }), { numRuns: 50 });
  });

  it('fetches one chunk for a small read, and nothing the second time', async () => {
    const fixture = new Fixture();
    const node = nodeOf([0, 1, 2, 3].flatMap((n) => fixture.unit(bytes(200_000, n))));
    const { layer, source } = fixture.open();
    const reader = new LayerReader(layer, { gap: 0 });
    const first = await reader.readFile(node, 450_000, 4096);
    assert.equal(first.length, 4096);
    assert.equal(source.requests, 1);
    assert.equal(source.bytes, fixture.chunks[2]?.length);
    await reader.readFile(node, 500_000, 10);
    assert.equal(source.requests, 1);
  });

  it('fetches neighbouring chunks with one request', async () => {
    const fixture = new Fixture();
    const node = nodeOf([0, 1, 2, 3].flatMap((n) => fixture.unit(bytes(50_000, n))));
    const { layer, source } = fixture.open();
    await new LayerReader(layer).readFile(node, 0, node.size);
    assert.equal(source.requests, 1);
  });

  it('shares one request between concurrent reads of a chunk', async () => {
    const fixture = new Fixture();
    const node = nodeOf(fixture.unit(bytes(1000, 1)));
    const { layer, source } = fixture.open();
    const reader = new LayerReader(layer);
    await Promise.all(Array.from({ length: 10 }, (_, i) => reader.readFile(node, i * 10, 10)));
    assert.equal(source.requests, 1);
    assert.equal(fixture.inflations, 1);
  });

  it('inflates a unit that several files share once for all of them', async () => {
    const fixture = new Fixture();
    const payloads = [1, 2, 3, 4].map((n) => bytes(n * 100, n));
    const nodes = fixture.unit(...payloads).map((chunk) => nodeOf([chunk]));
    const { layer, source } = fixture.open();
    const reader = new LayerReader(layer);
    for (const [at, node] of nodes.entries()) {
      assert.deepEqual(Buffer.from(await reader.readFile(node, 0, node.size)), Buffer.from(payloads[at] as Uint8Array));
    }
    assert.deepEqual([source.requests, fixture.inflations], [1, 1]);
  });

  it('reads a file of a shared unit although a neighbour lies about itself', async () => {
    const fixture = new Fixture();
    const [good, bad] = fixture.unit(bytes(100, 1), bytes(100, 2)) as [Chunk, Chunk];
    const liar = { ...bad, size: 5000 };
    fixture.chunks[1] = liar;
    const reader = new LayerReader(fixture.open().layer);
    assert.equal((await reader.readFile(nodeOf([good]), 0, 100)).length, 100);
    await assert.rejects(reader.readFile(nodeOf([liar]), 0, 100), fails('CORRUPT', /inflates to 100 bytes instead of 5000/));
  });

  it('reports wrong content with path and offset, and does not keep it', async () => {
    const fixture = new Fixture();
    fixture.unit(bytes(50, 9));
    const [chunk] = fixture.unit(bytes(100, 1)) as [Chunk];
    const node = nodeOf([{ ...chunk, digest: digestOf(bytes(100, 2)) }]);
    const reader = new LayerReader(fixture.open().layer);
    for (let i = 0; i < 2; i++) {
      await assert.rejects(reader.readFile(node, 0, 10, { path: 'etc/x' }), (error: unknown) =>
        fails('DIGEST_MISMATCH')(error) && (error as LazypullError).path === 'etc/x' && (error as LazypullError).offset === chunk.offset);
    }
  });

  it('checks sha512 digests too', async () => {
    const fixture = new Fixture();
    const [chunk] = fixture.unit(bytes(100, 1)) as [Chunk];
    const wrong = nodeOf([{ ...chunk, digest: `sha512:${'0'.repeat(128)}` }]);
    await assert.rejects(new LayerReader(fixture.open().layer).readFile(wrong, 0, 1), fails('DIGEST_MISMATCH', /sha512/));
  });

  it('holds a whole file against its digest when its chunks have none', async () => {
    const fixture = new Fixture();
    const content = [bytes(100, 1), bytes(100, 2)];
    const chunks = content.flatMap((part) => fixture.unit(part)).map(({ blob, offset, length, size }) => ({ blob, offset, length, size }));
    const reader = new LayerReader(fixture.open().layer);
    const right = nodeOf(chunks, { digest: digestOf(...content) });
    assert.equal((await reader.readFile(right, 0, 200)).length, 200);
    const wrong = nodeOf(chunks, { digest: digestOf(bytes(3, 3)) });
    await assert.rejects(reader.readFile(wrong, 0, 200, { path: 'p' }), fails('DIGEST_MISMATCH', /p/));
    await assert.rejects(join(reader.stream(wrong)), fails('DIGEST_MISMATCH'));
    assert.equal((await reader.readFile(wrong, 0, 100)).length, 100);
    const single = nodeOf(chunks.slice(0, 1), { digest: digestOf(bytes(3, 3)) });
    await assert.rejects(reader.readFile(single, 0, 100), fails('DIGEST_MISMATCH'));
  });

  it('refuses an index that leaves holes, overlaps itself or points outside', async () => {
    const fixture = new Fixture();
    const [a, b] = [...fixture.unit(bytes(100, 1)), ...fixture.unit(bytes(100, 2))] as [Chunk, Chunk];
    const { layer, blob } = fixture.open();
    const reader = new LayerReader(layer);
    const extent = (fileOffset: number, chunk: Chunk, changes = {}) => ({ fileOffset, length: chunk.size, chunk, chunkOffset: 0, ...changes });
    const bad: RegularNode[] = [
      nodeOf([], { size: 10 }),
      nodeOf([a], { size: 150 }),
      nodeOf([], { size: 250, extents: [extent(0, a), extent(150, b)] }),
      nodeOf([], { size: 200, extents: [extent(100, b)] }),
      nodeOf([], { size: 200, extents: [extent(0, a), extent(100, b, { chunkOffset: 50 })] }),
      nodeOf([], { size: 200, extents: [extent(0, a), extent(100, b, { chunkOffset: -1 })] }),
      nodeOf([], { size: 200, extents: [extent(0, a), extent(100, b, { length: 0 })] }),
      nodeOf([{ ...a, offset: blob.length }]),
      nodeOf([{ ...a, length: 1e15 }]),
      nodeOf([{ ...a, offset: -5 }]),
      nodeOf([{ ...a, blob: 3 }]),
    ];
    for (const [at, node] of bad.entries()) {
      await assert.rejects(reader.readFile(node, 0, node.size, { path: 'file' }), fails('CORRUPT', /file/), `case ${at}`);
    }
  });

  it('refuses sizes that cannot be kept in memory, without allocating them', async () => {
    const fixture = new Fixture();
    const [chunk] = fixture.unit(bytes(100, 1)) as [Chunk];
    const reader = new LayerReader(fixture.open().layer);
    const huge = nodeOf([{ ...chunk, size: 2 ** 40 }]);
    await assert.rejects(reader.readFile(huge, 0, 10), fails('LIMIT'));
    await assert.rejects(reader.readFile(huge, 0, huge.size), fails('LIMIT', /stream/));
    await assert.rejects(join(reader.stream(huge)), fails('LIMIT'));
    await assert.rejects(reader.readFile(huge, -1, 1), fails('USAGE'));
    await assert.rejects(reader.readFile(huge, 0, 0.5), fails('USAGE'));
  });

  it('is cancelled by its signal, and a reader that only borrowed the request goes on', async () => {
    const fixture = new Fixture();
    const node = nodeOf(fixture.unit(bytes(100, 1)));
    const { layer, source } = fixture.open();
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => { open = resolve; });
    const slow: OpenLayer = { ...layer, sources: [{ size: source.size, read: async (offset, length, signal) => {
      await gate;
      return source.read(offset, length, signal);
    } }] };
    const reader = new LayerReader(slow);
    await assert.rejects(reader.readFile(node, 0, 1, { signal: AbortSignal.abort() }), fails('CANCELLED'));
    const controller = new AbortController();
    const first = reader.readFile(node, 0, 10, { signal: controller.signal });
    const second = reader.readFile(node, 0, 10);
    controller.abort();
    open();
    await assert.rejects(first, fails('CANCELLED'));
    assert.equal((await second).length, 10);
  });

  it('streams a long file with bounded look-ahead and stops fetching when left', async () => {
    const fixture = new Fixture();
    const node = nodeOf(Array.from({ length: 40 }, (_, n) => fixture.unit(bytes(10_000, n))).flat());
    const { layer, source } = fixture.open();
    const reader = new LayerReader(layer, { maxRequest: 20_000, gap: 0, cacheBytes: 0 });
    let taken = 0;
    for await (const part of reader.stream(node)) {
      taken += part.length;
      if (taken >= 50_000) break;
    }
    const atBreak = source.bytes;
    assert.ok(atBreak < 150_000, `${atBreak} bytes were fetched for 50000`);
    await new Promise((resolve) => { setImmediate(resolve); });
    assert.equal(source.bytes, atBreak);
  });
});

describe('ChunkCache', () => {
  const chunk = (): Chunk => ({ blob: 0, offset: 0, length: 1, size: 1 });

  it('drops what was used longest ago', () => {
    const cache = new ChunkCache(30);
    const [a, b, c, d] = [chunk(), chunk(), chunk(), chunk()] as [Chunk, Chunk, Chunk, Chunk];
    for (const key of [a, b, c]) cache.set(key, new Uint8Array(10));
    cache.get(a);
    cache.set(d, new Uint8Array(10));
    assert.deepEqual([a, b, c, d].map((key) => cache.get(key) !== undefined), [true, false, true, true]);
    assert.equal(cache.bytes, 30);
  });

  it('never holds more than its bytes, and counts a chunk set twice once', () => {
    const cache = new ChunkCache(10);
    const key = chunk();
    cache.set(key, new Uint8Array(11));
    assert.equal(cache.get(key), undefined);
    cache.set(key, new Uint8Array(6));
    cache.set(key, new Uint8Array(4));
    assert.equal(cache.bytes, 4);
  });

  it('copies a small view of a large buffer', () => {
    const cache = new ChunkCache(100);
    const key = chunk();
    for (const large of [new Uint8Array(1_000_000), Buffer.alloc(1_000_000)]) {
      cache.set(key, large.subarray(5, 10));
      assert.equal(cache.get(key)?.buffer.byteLength, 5);
    }
  });
});
