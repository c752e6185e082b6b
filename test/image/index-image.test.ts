import assert from 'node:assert/strict';
import { test } from 'node:test';
import { choose } from '../../src/core/format.ts';
import { indexImage } from '../../src/image/index-image.ts';
import { openMemory } from '../../src/oci/memory.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { ARM, gzipLayer, LINUX, putImage, putIndex } from './fixture.ts';
import { TEST_REFERRER, testIndexing } from './indexing-format.ts';

const layer = gzipLayer([{ path: 'a', content: 'content' }]);
const other = gzipLayer([{ path: 'b', content: 'content' }]);

test('every image of an index gets an artifact that refers to it; the image stays as it is', async () => {
  const store = openMemory();
  const images = [await putImage(store, { layers: [layer, other] }), await putImage(store, { layers: [other], platform: ARM })];
  const root = await putIndex(store, images, 'app');
  const { format, heard } = testIndexing();
  const place = { store, reference: 'app' };
  const report = await indexImage(place, choose(format), { jobs: 2 });
  assert.equal(heard.length, 2, 'a layer of two images is followed once');
  assert.equal((await store.resolve('app')).digest, root.digest);
  assert.deepEqual(report.images.map(({ platform, action, digest }) => [platform, action, digest]), [[LINUX, 'indexed', images[0]?.digest], [ARM, 'indexed', images[1]?.digest]]);
  for (const [i, { artifact }] of report.images.entries()) {
    const found = await store.referrers(images[i] as never);
    assert.deepEqual(found.map(({ digest, artifactType }) => [digest, artifactType]), [[artifact, TEST_REFERRER]]);
  }
  assert.deepEqual([report.totals.layers, report.totals.indexedLayers], [2, 2]);
});

test('what is there already is left, unless told otherwise', async () => {
  const store = openMemory();
  const image = await putImage(store, { layers: [layer] }, 'app');
  const { format, heard } = testIndexing();
  const place = { store, reference: 'app' };
  const first = await indexImage(place, choose(format));
  const again = await indexImage(place, choose(format));
  assert.deepEqual(again.images.map(({ action, artifact }) => [action, artifact]), [['exists', first.images[0]?.artifact]]);
  assert.equal(heard.length, 1);
  const same = await indexImage(place, choose(format), { force: true });
  assert.equal(same.images[0]?.action, 'unchanged');
  assert.deepEqual(same.warnings, []);
  const more = await indexImage(place, choose(format, { salt: 'other' }), { force: true });
  assert.equal(more.images[0]?.action, 'indexed');
  assert.match(more.warnings.join(), /2 listening indexes/);
  assert.equal((await store.referrers(image)).length, 2);
});

test('only some platforms, a dry run, nothing to index, nothing to repack', async () => {
  const store = openMemory();
  const images = [await putImage(store, { layers: [layer] }), await putImage(store, { layers: [other], platform: ARM })];
  await putIndex(store, images, 'app');
  const { format, heard } = testIndexing();
  const place = { store, reference: 'app' };
  const dry = await indexImage(place, choose(format), { platforms: [ARM], dryRun: true });
  assert.deepEqual(dry.images.map(({ platform }) => platform), [ARM]);
  assert.equal(heard.length, 1);
  assert.deepEqual(await store.referrers(images[1] as never), []);
  const none = await indexImage(place, choose(format, { leaveOut: 'gzip' }));
  assert.deepEqual(none.images.map(({ action, artifact }) => [action, artifact]), [['nothing', null], ['nothing', null]]);
  const repack = await indexImage(place, choose(format, { repack: 'gzip' }));
  assert.match(repack.images[0]?.layers[0]?.indexes[0]?.skipped ?? '', /convert it instead/);
});

test('layers are named as the manifest has them, whatever a conversion would make of their types', async () => {
  const store = openMemory();
  const docker = { ...layer, mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip' };
  await putImage(store, { layers: [docker] }, 'app');
  const { format } = testIndexing();
  const types: string[] = [];
  const describeImage: typeof format.describeImage = async (image, options) => {
    types.push(...image.layers.flatMap((one) => one?.descriptor.mediaType ?? []));
    return format.describeImage(image, options);
  };
  await indexImage({ store, reference: 'app' }, choose({ ...format, describeImage }));
  assert.deepEqual(types, [docker.mediaType]);
});

test('says that a lone image is not for the platform that was asked for', async () => {
  const store = openMemory();
  await putImage(store, { layers: [layer] }, 'app');
  const report = await indexImage({ store, reference: 'app' }, choose(testIndexing().format), { platforms: [ARM] });
  assert.match(report.warnings.join(), /is an image for linux\/amd64, not for linux\/arm64/);
});

test('of wishes that an image had nothing for, only those are told that all images share', async () => {
  const store = openMemory();
  await putIndex(store, [await putImage(store, { layers: [layer] }), await putImage(store, { layers: [other], platform: ARM })], 'app');
  const { format } = testIndexing();
  let images = 0;
  const describeImage: typeof format.describeImage = async (image, options) => {
    images += 1;
    const artifact = await format.describeImage(image, options);
    return artifact && { ...artifact, unused: ['nothing for both', `nothing for ${images}`] };
  };
  const report = await indexImage({ store, reference: 'app' }, choose({ ...format, describeImage }));
  assert.equal(images, 2);
  assert.deepEqual(report.warnings, ['nothing for both']);
});

test('an artifact is no image', async () => {
  const store = openMemory();
  await putImage(store, { layers: [layer], manifest: { config: { mediaType: OCI.empty, digest: layer.diffId, size: 2 } } }, 'app');
  await assert.rejects(indexImage({ store, reference: 'app' }, choose(testIndexing().format)), { code: 'UNSUPPORTED' });
});
