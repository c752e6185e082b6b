import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { digestOf, type Digest } from '../../../src/core/digest.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import type { Chunk, DirectoryNode, Extent, OpenLayer, RegularNode } from '../../../src/core/types.ts';
import { mapRuns } from '../../../src/erofs/place.ts';
import { impliedDirectory } from '../../../src/layer/tree.ts';
import { LayerAddresses } from '../../../src/mount/data/addresses.ts';
import { landmarks } from '../../../src/mount/data/ahead.ts';
import { deviceKey, tarKey } from '../../../src/mount/data/keys.ts';

type Index = Pick<OpenLayer, 'index' | 'tiles'>;

function fileOf(extents: readonly Extent[]): RegularNode {
  const last = extents.at(-1);
  return { type: 'file', mode: 0o644, uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, xattrs: new Map(), size: last ? last.fileOffset + last.length : 0, extents };
}

function treeOf(files: readonly RegularNode[]): DirectoryNode {
  const root = impliedDirectory();
  files.forEach((node, i) => root.children.set(`f${String(i).padStart(3, '0')}`, node));
  return root;
}

/** What byte `at` of a chunk is. */
const contentOf = (number: number, at: number): number => (number * 31 + at * 7 + 1) % 251;

const sizes = fc.array(fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 1, max: 3 }).map((n) => n * 4096), fc.integer({ min: 1, max: 20_000 })), { minLength: 1, maxLength: 12 });

/** Chunks on two blobs, and files that are made of parts of them: whole ones in a row, or anything. */
const layers: fc.Arbitrary<Index> = fc.record({ sizes, blobs: fc.boolean(), tiles: fc.boolean(), files: fc.array(fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat()), { maxLength: 4 }), { maxLength: 8 }), inOrder: fc.boolean() }).map(({ sizes: all, blobs, tiles, files, inOrder }) => {
  const chunks = all.map((size, i): Chunk => ({ blob: blobs && i > all.length / 2 ? 1 : 0, offset: i * 100_000, length: size, size }));
  const usable = chunks.filter(({ size }) => size > 0);
  const nodes = files.map((parts) => {
    const extents: Extent[] = [];
    let fileOffset = 0;
    parts.forEach(([which, from, length], i) => {
      const chunk = inOrder ? usable[i] : usable[which % Math.max(1, usable.length)];
      if (!chunk) return;
      const chunkOffset = inOrder ? 0 : from % chunk.size;
      const own = inOrder ? chunk.size : 1 + (length % (chunk.size - chunkOffset));
      extents.push({ fileOffset, length: own, chunk, chunkOffset });
      fileOffset += own;
    });
    return fileOf(extents);
  });
  return { tiles, index: { root: treeOf(nodes), chunks } };
});

test('whatever the chunks are, every file has its bytes where its runs say, and the lookups agree', () => {
  fc.assert(fc.property(layers, (layer) => {
    const addresses = new LayerAddresses(layer);
    const memory = addresses.devices.map(({ size }) => new Uint8Array(size));
    const filled = addresses.devices.map(({ size }) => new Uint8Array(size));
    addresses.chunks.forEach((chunk, number) => {
      assert.equal(addresses.numberOf(chunk), number);
      for (const { device, address, chunkOffset, length, cover } of addresses.places(number)) {
        assert.ok(cover >= length && address + cover <= (memory[device] as Uint8Array).length);
        for (let i = 0; i < cover; i += 1) {
          assert.equal(filled[device]?.[address + i], 0, 'every byte is known by one place');
          (filled[device] as Uint8Array)[address + i] = 1;
          if (i < length) (memory[device] as Uint8Array)[address + i] = contentOf(number, chunkOffset + i);
        }
      }
    });
    for (const node of layer.index.root.children.values()) {
      if (node.type !== 'file' || node.size === 0) continue;
      const runs = addresses.runs(node, (device) => device);
      const align = layer.tiles ? 512 : 4096;
      assert.ok(runs.every(({ offset }) => offset % align === 0), 'runs begin at blocks');
      mapRuns(runs, align);
      const got = runs.flatMap(({ device, offset, length }) => [...(memory[device as number] as Uint8Array).subarray(offset, offset + length)]);
      const wanted = node.extents.flatMap(({ chunk, chunkOffset, length }) => Array.from({ length }, (_, i) => contentOf(addresses.numberOf(chunk) as number, chunkOffset + i)));
      assert.deepEqual(got, wanted);
    }
    addresses.devices.forEach(({ size }, device) => {
      for (const [from, to] of [[0, size], [100, 101], [size - 1, size], [4000, 9000]] as const) {
        if (from < 0 || to > size) continue;
        const wanted = addresses.chunks.flatMap((_, number) => [...addresses.places(number)].some((place) => place.device === device && place.address < to && place.address + place.length > from) ? [number] : []);
        assert.deepEqual([...new Set(addresses.chunksAt(device, from, to - from))].sort((a, b) => a - b), wanted);
      }
    });
  }));
});

test('tiles have the addresses of the tar; other chunks begin at pages', () => {
  const chunks = [5000, 0, 100, 4096].map((size, i): Chunk => ({ blob: 0, offset: i, length: 1, size }));
  const starts = (tiles: boolean): number[] => {
    const addresses = new LayerAddresses({ tiles, index: { root: impliedDirectory(), chunks } });
    return chunks.map((_, i) => addresses.startOf(i));
  };
  assert.deepEqual(starts(true), [0, 5000, 5000, 5100]);
  assert.deepEqual(starts(false), [0, 8192, 8192, 12_288]);
});

test('a file whose chunks line up has no second place, one whose chunks do not has a region', () => {
  const chunks = Array.from({ length: 4 }, (_, i): Chunk => ({ blob: 0, offset: i * 8192, length: 8192, size: 8192 }));
  const [a, b, c, d] = chunks as [Chunk, Chunk, Chunk, Chunk];
  const extent = (fileOffset: number, chunk: Chunk, length = 8192): Extent => ({ fileOffset, length, chunk, chunkOffset: 0 });
  const lined = fileOf([extent(0, d), extent(8192, b), extent(16_384, a, 10)]);
  const torn = fileOf([extent(0, c, 100), extent(100, d)]);
  const plain = new LayerAddresses({ index: { root: treeOf([lined]), chunks } });
  assert.deepEqual(plain.devices, [{ blob: 0, size: 32_768, first: 0, end: 4, regions: 32_768 }]);
  const both = new LayerAddresses({ index: { root: treeOf([lined, torn]), chunks } });
  assert.deepEqual(both.devices, [{ blob: 0, size: 32_768 + 12_288, first: 0, end: 4, regions: 32_768 }]);
  assert.deepEqual(both.runs(torn, () => 1), [{ device: 1, offset: 32_768, length: 8292 }]);
  assert.deepEqual([...both.chunksAt(0, 32_768, 50)], [2]);
  assert.deepEqual([...both.chunksAt(0, 32_868, 50)], [3]);
});

test('an index that contradicts itself is CORRUPT, a layer too large to be true LIMIT', () => {
  const chunk: Chunk = { blob: 0, offset: 0, length: 10, size: 10 };
  const bad = (extents: readonly Extent[], size: number): Index => ({ index: { root: treeOf([{ ...fileOf(extents), size }]), chunks: [chunk] } });
  const code = (layer: Index): string => {
    try {
      new LayerAddresses(layer);
      return 'ok';
    } catch (error) {
      return error instanceof LazypullError ? error.code : String(error);
    }
  };
  assert.equal(code(bad([{ fileOffset: 0, length: 10, chunk, chunkOffset: 0 }], 10)), 'ok');
  assert.equal(code(bad([{ fileOffset: 0, length: 10, chunk, chunkOffset: 1 }], 10)), 'CORRUPT');
  assert.equal(code(bad([{ fileOffset: 1, length: 9, chunk, chunkOffset: 0 }], 10)), 'CORRUPT');
  assert.equal(code(bad([{ fileOffset: 0, length: 9, chunk, chunkOffset: 0 }], 10)), 'CORRUPT');
  assert.equal(code({ index: { root: impliedDirectory(), chunks: [{ ...chunk, size: 2 ** 41 }] } }), 'LIMIT');
  assert.equal(code({ index: { root: impliedDirectory(), chunks: [{ ...chunk, size: Number.NaN }] } }), 'CORRUPT');
});

test('keys: what the plain bytes vouch for is shared, what only the layer or the image does is not', () => {
  const sha = (text: string): Digest => digestOf(Buffer.from(text));
  const layerOf = (chunks: readonly Chunk[], more: Partial<OpenLayer> = {}): OpenLayer => ({ format: 'f', index: { root: impliedDirectory(), chunks }, sources: [], inflate: () => Promise.reject(new Error('no')), indexBytes: 0, ...more });
  const keyOf = (open: OpenLayer, layer = 'a', scope = 's', format = 'f'): string => deviceKey(open, new LayerAddresses(open), 0, { layer: sha(layer), format, scope });
  const strong: Chunk = { blob: 0, offset: 0, length: 5, size: 9, digest: sha('x') };
  const weak: Chunk = { blob: 0, offset: 0, length: 5, size: 9 };
  assert.equal(keyOf(layerOf([strong]), 'a', 's'), keyOf(layerOf([{ ...strong, offset: 77, length: 6 }]), 'b', 't', 'g'), 'the same bytes at the same addresses, whoever stores them');
  assert.notEqual(keyOf(layerOf([strong])), keyOf(layerOf([{ ...strong, digest: sha('y') }])));
  assert.notEqual(keyOf(layerOf([strong])), keyOf(layerOf([{ ...strong, size: 10 }])));
  assert.notEqual(keyOf(layerOf([strong])), keyOf(layerOf([strong, strong])));
  const blake = { strongDigest: () => 'blake3:00' };
  assert.equal(keyOf(layerOf([weak], blake), 'a', 's'), keyOf(layerOf([weak], blake), 'b', 't'));
  assert.notEqual(keyOf(layerOf([weak], blake)), keyOf(layerOf([weak], { strongDigest: () => 'blake3:01' })));
  assert.notEqual(keyOf(layerOf([weak]), 'a', 's'), keyOf(layerOf([weak]), 'a', 't'), 'nothing vouches for it: not beyond the image');
  assert.notEqual(keyOf(layerOf([{ ...weak, packedDigest: sha('p') }])), keyOf(layerOf([{ ...weak, packedDigest: sha('q') }])));
  const vouched = layerOf([weak], { tiles: true, vouch: sha('index') });
  assert.equal(keyOf(vouched, 'a', 's'), keyOf(vouched, 'a', 't'));
  assert.equal(keyOf(vouched, 'a'), tarKey({ layer: sha('a'), format: 'f' }, sha('index'), 4096));
  assert.notEqual(keyOf(vouched, 'a'), keyOf(vouched, 'b'));
  assert.notEqual(keyOf(vouched, 'a', 's', 'f'), keyOf(vouched, 'a', 's', 'g'), 'one document read as two formats');
  assert.notEqual(keyOf(vouched), keyOf(layerOf([weak], { tiles: true, vouch: sha('other') })));
  // What is proven of the index is not proven of another one.
  assert.notEqual(keyOf(layerOf([strong], { proof: () => undefined }), 'a', 's'), keyOf(layerOf([strong], { proof: () => undefined }), 'a', 't'));
});

test('what a layer wants fetched first is where its chunks are', () => {
  const chunks = [100, 8192, 50, 60].map((size, i): Chunk => ({ blob: i === 3 ? 1 : 0, offset: i * 10, length: 10, size }));
  const layer: Index = { index: { root: impliedDirectory(), chunks, prefetch: [{ offset: 5, end: 25 }, { offset: 30, end: 31, blob: 1 }] } };
  const addresses = new LayerAddresses(layer);
  assert.deepEqual(landmarks(layer, addresses, 0), [[4096, 8242]]);
  assert.deepEqual(landmarks(layer, addresses, 1), [[0, 60]]);
});
