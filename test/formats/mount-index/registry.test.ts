import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { choose } from '../../../src/core/format.ts';
import { collect } from '../../../src/core/stream.ts';
import { copyImage } from '../../../src/image/copy.ts';
import { indexImage } from '../../../src/image/index-image.ts';
import { inspectImage } from '../../../src/image/inspect.ts';
import { openImage } from '../../../src/image/open.ts';
import type { Place } from '../../../src/image/place.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import { parseManifest } from '../../../src/oci/documents.ts';
import { openMemory } from '../../../src/oci/memory.ts';
import { mountIndex } from '../../../formats/mount-index/index.ts';
import { soci } from '../../../formats/soci/index.ts';
import { gzipLayer, putImage, tarOf, type Entry } from '../../image/fixture.ts';
import { client } from '../../oci/scripted.ts';
import { noise } from '../../support/noise.ts';
import { startFaultRegistry, type FaultRegistry, type FaultRegistryOptions } from '../../support/fault-registry.ts';
import { layerOf } from './indexed.ts';
import { PARTS, withParts } from './sample.ts';

const BASE: Entry[] = Array.from({ length: 200 }, (_, i) => ({ path: `usr/lib/f${i}`, content: noise(12_000, i) }));
const TOP: Entry[] = [{ path: 'etc/hostname', content: 'lazy\n' }, { path: 'usr/lib/f7', content: noise(12_000, 1000) }];

async function withRegistry(faults: FaultRegistryOptions, body: (registry: FaultRegistry, place: () => Place) => Promise<void>): Promise<void> {
  const registry = await startFaultRegistry(faults);
  const stores: { close(): Promise<void> }[] = [];
  try {
    await body(registry, () => {
      const { store } = client(registry.host, 'app');
      stores.push(store);
      return { store, reference: 'latest' };
    });
  } finally {
    for (const store of stores) await store.close();
    await registry.close();
  }
}

async function publish({ store, reference }: Place): Promise<void> {
  const base = tarOf(BASE);
  const descriptor = await putImage(store, { layers: [layerOf(gzipSync(base), base), gzipLayer(TOP)] }, reference);
  assert.equal((await indexImage({ store, reference }, choose(mountIndex), { jobs: 1 })).images[0]?.digest, descriptor.digest, 'the image stays as it is');
}

describe('mount index: in a registry', () => {
  for (const referrers of ['on', 'off', 'silent', 'no-filter'] as const) {
    it(`is found (referrers: ${referrers})`, async () => {
      await withRegistry({ referrers }, async (_registry, place) => {
        await publish(place());
        const image = await openImage(place(), [mountIndex]);
        assert.ok(Buffer.from(noise(12_000, 1000)).equals(await image.readFile('usr/lib/f7')));
        assert.ok(Buffer.from(noise(12_000, 8)).equals(await image.readFile('usr/lib/f8')));
      });
    });
  }

  it('is known by its type also to registries that list the one of its config', async () => {
    const store = openMemory();
    await publish({ store, reference: 'app' });
    const [referrer = assert.fail()] = await store.referrers(await store.resolve('app'));
    const { artifactType, config } = parseManifest(await collect(store.fetch(referrer), 1 << 20));
    assert.deepEqual([referrer.artifactType, artifactType, config.mediaType], [mountIndex.referrerType, mountIndex.referrerType, mountIndex.referrerType]);
  });

  it('costs a mount two reads of its own, and a file two more once its layer is open', async () => {
    await withRegistry({}, async (registry, place) => {
      await publish(place());
      const image = await openImage(place(), [mountIndex]);
      const [layer] = image.layers;
      const seen = (): string[] => registry.requests('GET').slice(from).map(({ target }) => target.replace(/sha256:[0-9a-f]+/, 'X'));
      let from = registry.requests('GET').length;
      const premade = await mountIndex.premade?.(layer?.stored.image ?? assert.fail());
      assert.deepEqual(seen(), ['/v2/app/referrers/X', '/v2/app/manifests/X', '/v2/app/blobs/X']);
      assert.equal(premade?.layers.length, 2);
      from = registry.requests('GET').length;
      const content = await layer?.openContent();
      assert.deepEqual(seen(), ['/v2/app/blobs/X'], 'the head of one layer');
      assert.equal(content?.vouch, premade?.vouches[0]);
      from = registry.requests('GET').length;
      assert.equal((await image.readFile('usr/lib/f150')).length, 12_000);
      assert.deepEqual(seen().length, 4, 'a tree, all of the other layer\'s index, a window and a piece');
      from = registry.requests('GET').length;
      assert.equal((await image.readFile('usr/lib/f60')).length, 12_000);
      assert.ok(seen().length <= 2, 'a window and a piece');
    });
  });

  it('travels with the image that it refers to', async () => {
    await withRegistry({ referrers: 'off' }, async (_registry, place) => {
      await publish(place());
      const target = { store: openMemory(), reference: 'copied' };
      await copyImage(place(), target, { referrers: true });
      const image = await openImage(target, [mountIndex]);
      assert.equal((await image.readFile('etc/hostname')).length, 5);
      assert.deepEqual((await verifyImage(target, [mountIndex])).problems, []);
    });
  });

  it('is left alone when there is one, and looked for behind other formats', async () => {
    const place = { store: openMemory(), reference: 'app' };
    await putImage(place.store, { layers: [gzipLayer(BASE)] }, 'app');
    const [first] = (await indexImage(place, choose(mountIndex), { jobs: 1 })).images;
    const [second] = (await indexImage(place, choose(mountIndex), { jobs: 1 })).images;
    assert.deepEqual([first?.action, second?.action, second?.artifact], ['indexed', 'exists', first?.artifact]);
    await indexImage(place, choose(soci, { minLayerSize: 0 }), { jobs: 1 });
    const report = await inspectImage(place, [soci, mountIndex]);
    assert.deepEqual(report.images[0]?.layers.map(({ format, formats }) => [format, formats]), [['soci', ['soci', 'erofs']]]);
    assert.deepEqual(report.problems, []);
    assert.deepEqual((await verifyImage(place, [soci, mountIndex])).problems, []);
  });
});

describe('mount index: what is wrong with it is told', () => {
  const problems = async (image: Parameters<NonNullable<typeof mountIndex.examine>>[0]): Promise<string> => (await mountIndex.examine?.(image))?.problems.join('\n') ?? 'nothing';

  it('nothing about a good one', async () => {
    assert.equal(await problems((await withParts({})).image), '');
  });

  it('a merged tree that has a file elsewhere', async () => {
    const merged = Buffer.from(PARTS.merged);
    // Chunk indexes of the first device: the largest file's first block is moved by one.
    const index = Buffer.alloc(8);
    for (let block = 0; ; block += 1) {
      assert.ok(block < 1000);
      index.writeUInt16LE(1, 2);
      index.writeUInt32LE(block, 4);
      const at = merged.indexOf(index, 1152);
      if (at < 0) continue;
      merged.writeUInt32LE(block + 1, at + 4);
      break;
    }
    assert.match(await problems((await withParts({ merged })).image), /somewhere else than it is/);
  });

  it('a merged tree that shows something else', async () => {
    const merged = Buffer.from(PARTS.merged);
    merged.write('link-7', merged.indexOf('link-5'));
    assert.match(await problems((await withParts({ merged })).image), /bin\/link-[57]/);
  });

  it('documents that are none', async () => {
    assert.match(await problems((await withParts({}, (text) => text.replace('"layers"', '"lairs"'))).image), /layers/);
    assert.match(await problems((await withParts({}, (text) => text.replace(/"subject":\{/, '"subject":{"x":1,'))).image), /^$/);
    const { layer } = await withParts({}, (text) => text.replace(/mount-index.head":"\d+/, 'mount-index.head":"57'));
    await assert.rejects(mountIndex.open(layer), /head/);
    assert.equal(await mountIndex.detect({ ...layer, descriptor: { ...layer.descriptor, digest: `sha256:${'0'.repeat(64)}` } }), false);
  });
});
