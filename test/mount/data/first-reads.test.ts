import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Format } from '../../../src/core/format.ts';
import type { ImageStore, RegularNode } from '../../../src/core/types.ts';
import { openImage } from '../../../src/image/open.ts';
import { nodeAt } from '../../../src/layer/tree.ts';
import { openContent } from '../../../src/mount/data/content.ts';
import { FileMap } from '../../../src/mount/data/file-map.ts';
import { prefetchRuns } from '../../../src/mount/data/prefetch.ts';
import { planMount } from '../../../src/mount/data/plan.ts';
import { openMemory } from '../../../src/oci/memory.ts';
import { OCI } from '../../../src/oci/media-types.ts';
import { estargz } from '../../../formats/index.ts';
import { LINUX, putImage } from '../../image/fixture.ts';
import { noise } from '../../support/noise.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { directory, file } from '../../support/tar-corpus.ts';
import { atEnd, FORMATS, gzipLayers, mounted, openCache, readThrough, rewritten, WAYS } from './images.ts';

const TARS = [archive(entries(directory('d/'), file('d/large', noise(160_000)), file('d/b', noise(9000, 2)), file('d/a', noise(9000, 3)), file('d/c', noise(9000, 5)), file('d/e', noise(9000, 6)))), archive(entries(file('top', noise(5000, 4))))];

for (const name of ['estargz', 'nydus', 'soci', 'mount index'] as const) {
  test(`${name}: what the plan was made from is not read again for the content`, async (t) => {
    const source = await (WAYS[name] as (typeof WAYS)[string])(TARS);
    const { cache } = await openCache(t);
    const image = await source.open();
    const plan = await planMount(image, cache, { formats: FORMATS });
    const content = await openContent(plan, async () => image, cache, { loadFormats: async () => FORMATS });
    atEnd(t, () => content.close());
    for (const [device, { size }] of plan.devices.entries()) await content.read({ device, address: 0, length: Math.min(size, 4096) });
    const seen = source.store.reads.map(({ digest, offset, length }) => `${digest} ${offset}+${length}`);
    assert.deepEqual(seen.filter((read, i) => seen.indexOf(read) !== i), []);
  });
}

test('what lies between chunks of one request has come as well, and is kept', async (t) => {
  const source = await rewritten(estargz, {})(TARS);
  const { cache } = await openCache(t);
  const opened = await mounted(t, source, cache);
  const node = (path: string): RegularNode => {
    const found = nodeAt(opened.tree.root, path);
    assert.ok(found?.type === 'file', path);
    return found;
  };
  await readThrough(opened, node('d/large'));
  source.store.reads.length = 0;
  await opened.content.prefetch({ landmarks: false, paths: ['d/c', 'd/b'] });
  assert.equal(source.store.reads.length, 1);
  assert.ok(Buffer.from(await readThrough(opened, node('d/a'))).equals(Buffer.from(noise(9000, 3))));
  assert.equal(source.store.reads.length, 1);
  await readThrough(opened, node('d/e'));
  assert.equal(source.store.reads.length, 2, 'what is behind them was not asked for');
});

test('files of a list come in its order; lines are tried as globs where they can be ones', async (t) => {
  const source = await rewritten(estargz, {})(TARS);
  const { cache } = await openCache(t);
  const { plan } = await mounted(t, source, cache);
  const map = await FileMap.of(plan.metadata, plan.devices.length);
  let looked = 0;
  const prefetched = (...lines: readonly string[]): ReturnType<typeof prefetchRuns> => prefetchRuns(plan, { landmarks: false, paths: lines }, async () => ((looked += 1), map));
  const named = async (...lines: readonly string[]): Promise<readonly unknown[]> => {
    const { runs, unmatched } = await prefetched(...lines);
    return [runs.map(({ device, address }) => map.find(device, address)?.path), unmatched];
  };
  assert.deepEqual(await named('top', 'd/b', 'd/a'), [['top', 'd/b', 'd/a'], []]);
  assert.deepEqual(await named('d/a', 'd/*', 'none', 'd/a'), [['d/a', 'd/large', 'd/b', 'd/c', 'd/e'], ['none']]);
  assert.deepEqual(await named('d/?', 'd/a'), [['d/b', 'd/c', 'd/e', 'd/a'], []]);
  assert.deepEqual(await named('top', ''), [['top', 'd/large', 'd/b', 'd/a', 'd/c', 'd/e'], []]);
  looked = 0;
  assert.deepEqual(await named('top', '/d/../d/a', 'none/of/them', 'top/below'), [['top', 'd/a'], ['none/of/them', 'top/below']]);
  assert.equal(looked, 0, 'for paths nobody looks at the whole tree');

  const [whole] = (await prefetched('d/large')).runs;
  assert.ok(whole);
  const parts = async (line: string): Promise<readonly (readonly [number, number])[]> => (await prefetched(line)).runs.map(({ address, length }) => [address - whole.address, length]);
  assert.deepEqual(await parts('d/large\t0-4095'), [[0, 4096]]);
  assert.deepEqual(await parts(' /d/large\t8192-8192,100-199'), [[8192, 1], [100, 100]]);
  assert.deepEqual(await parts(`d/large\t${whole.length - 1}-${whole.length + 9},999999999-999999999`), [[whole.length - 1, 1]], 'what is behind the end is nothing');
  assert.deepEqual((await prefetched('d/large\t9-1', 'd\t0-1')).unmatched, ['d/large\t9-1']);
});

test('what refers to an image is asked while its config is on its way, and formats may come last', async () => {
  const memory = openMemory();
  await putImage(memory, { layers: gzipLayers(TARS) }, 'app');
  let asked = (): void => undefined;
  const referrersAsked = new Promise<string>((resolve) => (asked = () => resolve('asked')));
  let times = 0;
  const store: ImageStore = Object.assign(Object.create(memory) as ImageStore, {
    location: memory.location,
    resolve: memory.resolve.bind(memory),
    open: memory.open.bind(memory),
    async *fetch(...[descriptor, signal]: Parameters<ImageStore['fetch']>) {
      if (descriptor.mediaType === OCI.config) assert.equal(await Promise.race([referrersAsked, sleep(5000, 'one after the other')]), 'asked');
      yield* memory.fetch(descriptor, signal);
    },
    async referrers(...of: Parameters<NonNullable<ImageStore['referrers']>>) {
      times += 1;
      asked();
      return (await memory.referrers?.(...of)) ?? [];
    },
  });
  const image = await openImage({ store, reference: 'app' }, referrersAsked.then(() => FORMATS as readonly Format<unknown>[]), { platform: LINUX, referrers: true });
  assert.equal(await image.layers[0]?.format(), undefined);
  assert.equal(await image.layers[1]?.format(), undefined);
  assert.equal(times, 1, 'the answer is every format\'s');
});
