import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openImage } from '../../../src/image/open.ts';
import type { Descriptor } from '../../../src/core/types.ts';
import { isManifestEndpoint } from '../../../src/oci/manifests.ts';
import { openContent } from '../../../src/mount/data/content.ts';
import { KeptReads } from '../../../src/mount/data/kept-reads.ts';
import { planMount } from '../../../src/mount/data/plan.ts';
import { estargz, nydus, soci } from '../../../formats/index.ts';
import { noise } from '../../support/noise.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { directory, file } from '../../support/tar-corpus.ts';
import { LINUX } from '../../image/fixture.ts';
import { FORMATS, indexed, openCache, rewritten } from './images.ts';

const TARS = [archive(entries(directory('d/'), file('d/a', noise(200_000)))), archive(entries(file('b', noise(90_000, 2))))];

for (const [name, make] of Object.entries({ estargz: rewritten(estargz, {}), nydus: rewritten(nydus, {}), soci: indexed(soci, { minLayerSize: 0, spanSize: 30_000 }) })) {
  test(`${name}: what was read of indexes to plan a mount is not asked for again to read content`, async (t) => {
    const source = await make(TARS);
    const reads = new KeptReads();
    const place = { store: reads.over(source.store), reference: source.reference };
    const open = (): ReturnType<typeof openImage> => openImage(place, FORMATS, { platform: LINUX });
    const { cache } = await openCache(t);
    const plan = await planMount(await open(), cache, { formats: FORMATS });
    const planned = source.store.reads.map(({ digest, offset }) => `${digest} ${offset}`);
    reads.stop();
    source.store.reads.length = 0;
    const image = await open();
    const fetched: Descriptor[] = [];
    const fetch = source.store.fetch.bind(source.store);
    source.store.fetch = (descriptor, signal) => (fetched.push(descriptor), fetch(descriptor, signal));
    const content = await openContent(plan, async () => image, cache, { loadFormats: async () => FORMATS });
    t.after(() => content.close());
    for (const [number, { size }] of plan.devices.entries()) await content.read({ device: number, address: 0, length: Math.min(size, 4096) });
    assert.deepEqual(source.store.reads.filter(({ digest, offset }) => planned.includes(`${digest} ${offset}`)), [], 'an index was read twice');
    assert.ok(source.store.reads.length > 0);
    assert.deepEqual(fetched.filter(({ mediaType }) => !isManifestEndpoint(mediaType)), [], 'nor are its blobs fetched again');
  });
}

test('what is kept is a copy, handed out once when it is no longer kept, and not at all when it was wrong', async () => {
  const source = await rewritten(estargz, {})(TARS);
  const reads = new KeptReads();
  const { layers } = await openImage({ store: reads.over(source.store), reference: source.reference }, FORMATS, { platform: LINUX });
  // A memory that is nobody else's, as of what comes from a registry.
  source.store.change = (bytes) => new Uint8Array(bytes);
  const blob = (layers[0] as (typeof layers)[number]).stored.source;
  const first = await blob.read(10, 20);
  const right = Buffer.from(first);
  first.fill(0);
  const again = await blob.read(10, 20);
  assert.deepEqual(Buffer.from(again), right);
  again.fill(0);
  await blob.read(100, 20);
  assert.equal(source.store.reads.length, 2);
  assert.equal(blob.distrust?.(100, 20), false);
  await blob.read(10, 20);
  assert.equal(source.store.reads.length, 3, 'nothing of a blob that was wrong');
  reads.stop();
  assert.deepEqual(Buffer.from(await blob.read(10, 20)), right);
  assert.equal(source.store.reads.length, 3);
  await blob.read(10, 20);
  assert.equal(source.store.reads.length, 4, 'content is asked for');
});

for (const [name, make] of Object.entries({ estargz: rewritten(estargz, { prefetch: ['d/a', 'b'] }), nydus: rewritten(nydus, { prefetch: ['d/a'] }), soci: indexed(soci, { minLayerSize: 0, spanSize: 30_000, prefetch: ['d/a'] }) })) {
  test(`${name}: what is to be read first is on its way while the rest is planned, once, and not when it is here`, async (t) => {
    const source = await make(TARS);
    const { cache } = await openCache(t);
    const mount = async (): Promise<{ planned: number; prefetched: number; fetched: number }> => {
      source.store.reads.length = 0;
      const reads = new KeptReads();
      const image = await openImage({ store: reads.over(source.store), reference: source.reference }, FORMATS, { platform: LINUX });
      const plan = await planMount(image, cache, { formats: FORMATS, ahead: true, anew: true });
      const planned = source.store.bytes;
      reads.stop();
      const content = await openContent(plan, async () => image, cache, { loadFormats: async () => FORMATS });
      const { fetched } = await content.prefetch();
      const prefetched = source.store.bytes - planned;
      await content.close();
      reads.close();
      return { planned, prefetched, fetched };
    };
    const first = await mount();
    assert.ok(first.fetched >= 200_000, `${first.fetched}`);
    assert.ok(first.prefetched < 1000, `all of it had been asked for: ${first.prefetched}`);
    const second = await mount();
    assert.equal(second.fetched, 0);
    // What is left of it is what reading the indexes takes. Noise does not become smaller.
    const content = first.planned + first.prefetched - second.planned;
    assert.ok(content >= first.fetched && content < first.fetched * 1.02, `${content} bytes came for ${first.fetched}: nothing comes twice`);
    assert.equal(second.prefetched, 0);
  });
}
