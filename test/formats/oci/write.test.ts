import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { estargz } from '../../../formats/estargz/index.ts';
import { oci } from '../../../formats/oci/index.ts';
import { soci } from '../../../formats/soci/index.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { choose, type FormatChoice } from '../../../src/core/format.ts';
import { collect } from '../../../src/core/stream.ts';
import type { Descriptor } from '../../../src/core/types.ts';
import { zstdCompress } from '../../../src/codec/zstd.ts';
import { convertImage, type ConvertReport } from '../../../src/image/convert.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import { parseIndex, parseManifest } from '../../../src/oci/documents.ts';
import { isIndexType, OCI } from '../../../src/oci/media-types.ts';
import { openMemory, type MemoryStore } from '../../../src/oci/memory.ts';
import { putImage, type LayerBlob } from '../../image/fixture.ts';
import { noise } from '../../support/noise.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { directory, file, hardlink, symlink, xattrs } from '../../support/tar-corpus.ts';

const TAR = archive(entries(directory('data/'), file('data/noise', noise(2_500_000)), file('data/words', 'words '.repeat(50_000)), hardlink('data/link', 'data/words'), symlink('data/to', 'words')), xattrs().subarray(0, -1024));
const gzipped: LayerBlob = { bytes: gzipSync(TAR), diffId: digestOf(TAR), mediaType: OCI.layerGzip };

async function stored(...layers: LayerBlob[]): Promise<MemoryStore> {
  const store = openMemory();
  await putImage(store, { layers }, 'app');
  return store;
}

/** Converts `app` in place of itself, one format after another. */
async function through(store: MemoryStore, ...steps: (FormatChoice | readonly FormatChoice[])[]): Promise<ConvertReport> {
  const place = { store, reference: 'app' };
  let report: ConvertReport | undefined;
  for (const step of steps) report = await convertImage(place, place, step, { jobs: 2, readers: async () => [estargz, soci], bindings: [soci.binding] });
  return report as ConvertReport;
}

async function layersOf(store: MemoryStore): Promise<readonly Descriptor[]> {
  let root = await store.resolve('app');
  if (isIndexType(root.mediaType)) root = parseIndex(await collect(store.fetch(root), 1 << 20)).manifests[0] as Descriptor;
  return parseManifest(await collect(store.fetch(root), 1 << 20)).layers;
}

async function tarOf(store: MemoryStore): Promise<Buffer> {
  const [layer] = await layersOf(store);
  return gunzipSync(await collect(store.fetch(layer as Descriptor), 1 << 24));
}

test('an ordinary gzip layer stays the same blob', async () => {
  const store = await stored(gzipped);
  const report = await through(store, choose(oci));
  assert.equal(report.platforms[0]?.layers[0]?.action, 'kept');
  assert.equal((await layersOf(store))[0]?.digest, digestOf(gzipped.bytes));
});

test('a plain tar and zstd become gzip, byte for byte the same tar', async () => {
  for (const layer of [{ ...gzipped, bytes: TAR, mediaType: OCI.layer }, { ...gzipped, bytes: await zstdCompress(TAR, 3), mediaType: OCI.layerZstd }]) {
    const store = await stored(layer);
    await through(store, choose(oci));
    const [made] = await layersOf(store);
    assert.equal(made?.mediaType, OCI.layerGzip);
    assert.ok((await tarOf(store)).equals(TAR));
  }
});

test('of eStargz the TOC and the landmarks go, and the tree stays', async () => {
  const original = await stored(gzipped);
  for (const options of [{}, { prefetch: ['data/words'] }, { chunkSize: 100_000 }]) {
    const store = await stored(gzipped);
    const report = await through(store, choose(estargz, options), choose(oci));
    assert.equal(report.platforms[0]?.layers[0]?.action, 'converted');
    const [layer] = await layersOf(store);
    assert.equal(layer?.annotations, undefined);
    const tar = await tarOf(store);
    assert.ok(!/stargz|landmark/.test(tar.toString('latin1')));
    assert.equal((await estargz.detect({ descriptor: layer as Descriptor, source: store.open(layer as Descriptor) })), false);
    const verified = await verifyImage({ store, reference: 'app' }, [estargz], { against: { store: original, reference: 'app' } });
    assert.deepEqual(verified.problems, []);
  }
});

test('a layer whose diffID was kept gives the first tar back', async () => {
  const store = await stored(gzipped);
  await through(store, choose(estargz, { keepDiffId: true }), choose(oci));
  assert.ok((await tarOf(store)).equals(TAR));
});

test('artifacts and annotations of SOCI are left behind, the layers are the same blobs', async () => {
  const store = await stored(gzipped);
  const before = await store.resolve('app');
  await through(store, choose(soci, { minLayerSize: 0 }));
  assert.ok(isIndexType((await store.resolve('app')).mediaType));
  await through(store, choose(oci));
  const root = await store.resolve('app');
  const { manifests } = parseIndex(await collect(store.fetch(root), 1 << 20));
  assert.deepEqual(manifests.map(({ digest }) => digest), [before.digest], 'the manifest is what it was');
});

test('an index of the new layers can be made in the same run', async () => {
  const store = await stored(gzipped);
  await through(store, choose(estargz), [choose(oci), choose(soci, { minLayerSize: 0 })]);
  const verified = await verifyImage({ store, reference: 'app' }, [estargz, soci]);
  assert.deepEqual(verified.problems, []);
  assert.equal(verified.images[0]?.layers[0]?.format, 'soci');
});

test('the bytes depend on tar and level only', async () => {
  const digests = new Set<string>();
  for (const jobs of [1, 3]) {
    const store = await stored({ ...gzipped, bytes: TAR, mediaType: OCI.layer });
    const place = { store, reference: 'app' };
    await convertImage(place, place, choose(oci, { level: 3 }), { jobs });
    digests.add((await layersOf(store))[0]?.digest ?? '');
  }
  assert.equal(digests.size, 1);
  await assert.rejects(through(await stored(gzipped, { ...gzipped, bytes: TAR, mediaType: OCI.layer }), choose(oci, { level: 10 })), { code: 'USAGE' });
});
