import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { OpenLayer } from '../../../src/core/types.ts';
import { zstdCompress } from '../../../src/codec/zstd.ts';
import { compareTrees } from '../../../src/layer/compare.ts';
import { LayerReader } from '../../../src/layer/reader.ts';
import { walk } from '../../../src/layer/walk.ts';
import { scanTar } from '../../../src/image/scan.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import { mountIndex } from '../../../formats/mount-index/index.ts';
import { numbers } from '../../codec/samples.ts';
import { gzipLayouts } from '../../support/gzip-layouts.ts';
import { noise } from '../../support/noise.ts';
import { inPieces } from '../../support/tar-read.ts';
import { tarOf as tarWith } from '../../image/fixture.ts';
import { sampleTar } from '../soci/sample-image.ts';
import { indexed, layerOf, tarOf } from './indexed.ts';

const SPAN = 32 << 10;
const SIZES = [10, 5000, 40_000, 0, 1, 512, 170_000, 513, 3, 9000, 2, 133_000];
const TAR = Buffer.from(sampleTar(SIZES));

async function check(packed: Uint8Array, tar: Uint8Array, what: string): Promise<OpenLayer> {
  const { place, layers } = await indexed([layerOf(packed, tar)], { spanSize: SPAN });
  const [stored] = layers;
  assert.ok(stored && (await mountIndex.detect(stored)), what);
  const layer = await mountIndex.open(stored);
  assert.equal(layer.tarSize, tar.length, what);
  assert.ok((await tarOf(layer)).equals(tar), `${what}: chunks are the tar`);
  const scanned = await scanTar(inPieces(tar, [50_000]), { what });
  assert.deepEqual([...compareTrees(scanned.root, layer.index.root, { names: true })], [], what);
  // Every window is looked at, by a decoder that did not make it.
  assert.deepEqual((await verifyImage(place, [mountIndex])).problems, [], what);
  return layer;
}

describe('mount index: round trips', () => {
  it('gzip in any layout', async () => {
    for (const { name, packed, tar } of gzipLayouts(TAR, { count: 48, seed: 5 })) await check(packed, tar, name);
  });

  it('random parts of files are those of the tar', async () => {
    const files = [3_000_000, 5, 70_000, 1_234_567].map((size, i) => ({ path: `f${i}`, content: Buffer.concat([noise(size / 3, i), Buffer.from('all work and no play '.repeat(size / 20)), noise(size / 5, i)]) }));
    const tar = tarWith(files);
    const { layers: [stored] } = await indexed([layerOf(gzipSync(tar, { memLevel: 8 }), tar)]);
    assert.ok(stored);
    const random = numbers(3);
    for (let round = 0; round < 2; round += 1) {
      const layer = await mountIndex.open(stored);
      const reader = new LayerReader(layer, { cacheBytes: 0 });
      for (let i = 0; i < 60; i += 1) {
        const { path, content } = files[Math.floor(random() * files.length)] as (typeof files)[number];
        const node = [...walk(layer.index.root)].find((one) => one.path === path)?.node;
        assert.ok(node?.type === 'file');
        const from = Math.floor(random() * content.length);
        const length = Math.floor(random() * Math.min(200_000, content.length - from));
        assert.ok(content.subarray(from, from + length).equals(await reader.readFile(node, from, length)), `${path} ${from} ${length}`);
      }
    }
  });

  it('a plain tar, whatever follows its end', async () => {
    const layer = await check(TAR, TAR, 'plain');
    assert.equal(layer.facts?.['compression'], 'none');
    assert.ok(layer.index.chunks.length > 5);
    const padded = Buffer.concat([TAR, new Uint8Array(100_001)]);
    await check(padded, padded, 'padded');
  });

  it('zstd in several frames, skippable ones between them', async () => {
    const cuts = [0, 20_000, 21_000, 90_000, 160_000, 160_512, 300_000, TAR.length];
    const parts: Uint8Array[] = [];
    for (let i = 1; i < cuts.length; i += 1) {
      parts.push(await zstdCompress(TAR.subarray(cuts[i - 1], cuts[i]), 3));
      if (i % 2 === 0) parts.push(Buffer.from('502a4d1805000000aabbccddee', 'hex'));
    }
    const layer = await check(Buffer.concat(parts), TAR, 'frames');
    assert.deepEqual([layer.facts?.['compression'], layer.facts?.['access']], ['zstd', 'random']);
    const places = new Set(layer.index.chunks.map(({ offset }) => offset));
    assert.ok(places.size >= 4, `${places.size} places to begin at`);
    assert.equal(layer.sequential, undefined);
  });

  it('zstd in one small frame is one unit', async () => {
    const layer = await check(await zstdCompress(TAR, 3), TAR, 'one frame');
    assert.equal(layer.facts?.['access'], 'random');
    assert.equal(new Set(layer.index.chunks.map(({ offset }) => offset)).size, 1);
  });

  it('gzip with large blocks has units of several pieces', async () => {
    // Long matches: a block of 16 383 of them is 4 MiB.
    const tar = tarWith([{ path: 'a', content: noise(50_000) }, { path: 'b', content: Buffer.alloc(6_000_000, 'b') }, { path: 'c', content: noise(50_000, 2) }]);
    const { index: { chunks } } = await check(gzipSync(tar), tar, 'large blocks');
    assert.ok(chunks.some(({ skip }) => skip === 1 << 20) && new Set(chunks.map(({ offset }) => offset)).size > 2);
  });

  it('a layer without anything in it', async () => {
    const empty = new Uint8Array(0);
    await check(gzipSync(empty), empty, 'no bytes');
    await check(gzipSync(Buffer.alloc(1024)), Buffer.alloc(1024), 'no entries');
  });

  it('the same layer gives the same blob, whoever made it', async () => {
    const tar = tarWith([{ path: 'a', content: noise(300_000) }, { path: 'b', content: 'text '.repeat(100_000) }]);
    const layer = layerOf(gzipSync(tar), tar);
    const other = layerOf(gzipSync(TAR), TAR);
    const blobs = async (layers: Parameters<typeof indexed>[0], jobs: number): Promise<readonly unknown[]> => (await indexed(layers, {}, jobs)).report.images.flatMap((image) => image.layers.map(({ indexes }) => indexes[0]?.blob));
    const [alone] = await blobs([layer], 1);
    assert.ok(alone);
    assert.deepEqual(await blobs([other, layer], 3), [(await blobs([other], 1))[0], alone]);
  });
});
