import assert from 'node:assert/strict';
import { readdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { digestOf, type Digest } from '../../../src/core/digest.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import type { Format, PremadeTree } from '../../../src/core/format.ts';
import { MemorySource } from '../../../src/core/source.ts';
import { openErofs } from '../../../src/erofs/read.ts';
import { openImage } from '../../../src/image/open.ts';
import { compareTrees } from '../../../src/layer/compare.ts';
import { nodeAt } from '../../../src/layer/tree.ts';
import { openContent } from '../../../src/mount/data/content.ts';
import { knownPlan, planMount } from '../../../src/mount/data/plan.ts';
import { estargz, nydus, soci } from '../../../formats/index.ts';
import { LINUX, lazyLayer, putImage, testFormat } from '../../image/fixture.ts';
import { expectedTree } from '../../formats/nydus/images.ts';
import { noise } from '../../support/noise.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { directory, file, hardlink, symlink, xattrs as withXattrs } from '../../support/tar-corpus.ts';
import { openMemory } from '../../../src/oci/memory.ts';
import { CountingStore, FORMATS, mounted, openCache, readThrough, rewritten, indexed, scratch, WAYS, type Source } from './images.ts';

const TARS = [
  archive(entries(directory('d/'), file('d/a', noise(30_000)), file('d/gone', 'x'), hardlink('d/b', 'd/a'), symlink('l', 'd/a'), directory('opaque/'), file('opaque/old', 'y'))),
  archive(entries(file('d/.wh.gone'), directory('opaque/'), file('opaque/.wh..wh..opq'), file('opaque/new', noise(10_000, 2)))),
  archive(entries({ path: 'null', type: 'char', mode: 0o666, major: 1, minor: 3 }, { path: 'disk', type: 'block', mode: 0o660, major: 7, minor: 70_000 }, { path: 'pipe', type: 'fifo', mode: 0o600 })),
  withXattrs(),
];

const codeOf = (code: string) => (error: unknown): boolean => error instanceof LazypullError && error.code === code;

for (const way of ['estargz', 'soci', 'nydus', 'nydus zran'] as const) {
  test(`${way}: the tree of the plan is the merged tree, with every attribute`, async (t) => {
    const source = await (WAYS[way] as (typeof WAYS)[string])(TARS);
    const { cache } = await openCache(t);
    const { tree, plan } = await mounted(t, source, cache);
    const differences = [...compareTrees(await expectedTree(TARS), tree.root)].filter(({ kind }) => (kind as string) !== 'implied');
    assert.deepEqual(differences.map((difference) => JSON.stringify(difference)), []);
    assert.equal(plan.blockSize, way === 'soci' ? 512 : 4096);
    assert.deepEqual(tree.devices.map(({ tag }) => tag), plan.devices.map(({ key }) => key));
    assert.ok(plan.devices.every(({ size }) => size % 4096 === 0));
    assert.equal(JSON.parse(Buffer.from(plan.config).toString()).rootfs.type, 'layers');
  });
}

test('a plan is made once: the next mount looks at no layer, and offline it needs nothing at all', async (t) => {
  const dir = scratch(t);
  const source = await (WAYS['estargz'] as (typeof WAYS)[string])(TARS);
  const first = await openCache(t, dir);
  const opened = await mounted(t, source, first.cache);
  await opened.content.fill();
  await opened.content.close();
  await first.cache.close();
  source.store.reads.length = 0;
  const second = await openCache(t, dir);
  const plan = await planMount(await source.open(), second.cache, { formats: FORMATS });
  assert.deepEqual(source.store.reads, [], 'the index of no layer is read');
  assert.deepEqual({ ...plan, metadata: 0, metadataFile: 0, config: 0 }, { ...opened.plan, metadata: 0, metadataFile: 0, config: 0 });
  assert.ok(Buffer.from(plan.metadata).equals(Buffer.from(opened.plan.metadata)));
  await second.cache.close();

  const third = await openCache(t, dir);
  const place = { location: source.store.location, reference: source.reference };
  const known = await knownPlan(third.cache, place, { formats: FORMATS });
  assert.equal(known?.digest, plan.digest);
  assert.equal(await knownPlan(third.cache, { ...place, reference: 'other' }, { formats: FORMATS }), undefined);
  assert.equal(await knownPlan(third.cache, place, { formats: FORMATS, platform: LINUX }), undefined, 'under a platform it has not been asked for');
  assert.equal(await knownPlan(third.cache, place, { formats: [soci] as never }), undefined, 'without its format');
  const offline = (): Promise<never> => Promise.reject(new LazypullError('NETWORK', 'no network'));
  const content = await openContent(known as never, offline, third.cache, { loadFormats: offline });
  const tree = await openErofs(new MemorySource(new Uint8Array((known as { metadata: SharedArrayBuffer }).metadata)));
  const node = nodeAt(tree.root, 'd/a');
  assert.ok(node?.type === 'file');
  assert.ok(Buffer.from(await readThrough({ content }, node)).equals(Buffer.from(noise(30_000))));
  await content.whenComplete();
  assert.deepEqual((await third.cache.list()).map(({ images, users }) => [images, users]), (await third.cache.list()).map(() => [[`${source.store.location} lazy`], 1]));
  assert.equal((await third.cache.remove()).removed, 0);
  await content.close();
});

test('a tree or plan that is damaged is made again', async (t) => {
  const dir = scratch(t);
  const source = await (WAYS['soci'] as (typeof WAYS)[string])(TARS);
  const { cache } = await openCache(t, dir);
  const plan = await planMount(await source.open(), cache, { formats: FORMATS });
  const tree = readdirSync(join(dir, 'trees'))[0] as string;
  const spoil = [
    (): void => unlinkSync(join(dir, 'trees', tree)),
    (): void => writeFileSync(join(dir, 'trees', tree), Buffer.alloc(plan.metadata.byteLength)),
    (): void => writeFileSync(join(dir, 'trees', tree), 'short'),
    (): void => readdirSync(join(dir, 'plans')).forEach((name) => writeFileSync(join(dir, 'plans', name), '{"version":1}')),
  ];
  for (const [n, damage] of spoil.entries()) {
    damage();
    assert.equal(await knownPlan(cache, { location: source.store.location, reference: source.reference }, { formats: FORMATS }), undefined, `damage ${n}`);
    const again = await planMount(await source.open(), cache, { formats: FORMATS });
    assert.ok(Buffer.from(again.metadata).equals(Buffer.from(plan.metadata)), `damage ${n}`);
  }
});

test('images share what is provably the same: base layers, and equal layers of one image', async (t) => {
  const base = archive(entries(file('base', noise(50_000))));
  const [one, two] = [archive(entries(file('one', 'one'))), archive(entries(file('two', 'two')))];
  const { cache } = await openCache(t);
  for (const make of [rewritten(estargz, {}), indexed(soci, { minLayerSize: 0 })]) {
    const plans = await Promise.all([[base, one], [base, two]].map(async (tars) => planMount(await (await make(tars)).open(), cache, { formats: FORMATS })));
    const [a, b] = plans.map(({ devices }) => devices.map(({ key }) => key));
    assert.equal(a?.[0], b?.[0]);
    assert.notEqual(a?.[1], b?.[1]);
  }
  const twice = await planMount(await (await rewritten(estargz, {})([base, archive(entries(file('.wh.base'))), base])).open(), cache, { formats: FORMATS });
  assert.equal(twice.devices.length, 1);
  // Nothing but the blob's own digest vouches for these.
  const store = openMemory();
  const bare = lazyLayer([{ path: 'f', content: 'f' }], { noChunkDigests: true });
  await putImage(store, { layers: [bare] }, 'a');
  await putImage(store, { layers: [bare, lazyLayer([{ path: 'g', content: 'g' }])] }, 'b');
  const keys = await Promise.all(['a', 'b'].map(async (reference) => (await planMount(await openImage({ store, reference }, FORMATS, { platform: LINUX }), cache, { formats: FORMATS })).devices[0]?.key));
  assert.notEqual(keys[0], keys[1]);
});

test('layers without content, and images without layers, are mounted too', async (t) => {
  const { cache } = await openCache(t);
  const empty = await mounted(t, await rewritten(estargz, {})([archive(entries(directory('d/'), file('d/empty'))), archive(entries(file('e', 'e')))]), cache);
  assert.deepEqual(empty.plan.devices.map(({ layer }) => layer), [1]);
  const store = openMemory();
  await putImage(store, { layers: [] }, 'lazy');
  const source: Source = { store: new CountingStore(store), reference: 'lazy', open: () => openImage({ store, reference: 'lazy' }, FORMATS, { platform: LINUX }) };
  const none = await mounted(t, source, cache);
  assert.deepEqual([none.plan.devices, [...none.tree.root.children]], [[], []]);
  await none.content.fill();
  assert.ok(none.content.complete());
});

test('an image in no lazy format says so', async (t) => {
  const { cache } = await openCache(t);
  const source = await rewritten(estargz, {})(TARS);
  const image = await openImage({ store: source.store, reference: source.reference }, [nydus] as never, { platform: LINUX });
  await assert.rejects(planMount(image, cache, { formats: [nydus] as never }), codeOf('UNSUPPORTED'));
});

test('an index that has been exchanged since is noticed, and the next mount is planned anew', async (t) => {
  let chunkSize = 64;
  const changing: Format<unknown> = {
    ...testFormat,
    async open(layer, signal) {
      const open = await testFormat.open(layer, signal);
      return chunkSize === 64 ? open : { ...open, index: { ...open.index, chunks: open.index.chunks.map((chunk) => ({ ...chunk, digest: digestOf(Buffer.from('other')) })) } };
    },
  };
  const store = openMemory();
  await putImage(store, { layers: [lazyLayer([{ path: 'f', content: noise(1000) }])] }, 'app');
  const open = (): ReturnType<typeof openImage> => openImage({ store, reference: 'app' }, [changing], { platform: LINUX });
  const { cache } = await openCache(t);
  const plan = await planMount(await open(), cache, { formats: [changing] });
  const content = await openContent(plan, open, cache, { loadFormats: async () => [changing] });
  chunkSize = 128;
  await assert.rejects(content.read({ device: 0, address: 4096, length: 10 }), (error) => error instanceof LazypullError && error.code === 'CORRUPT' && /no longer the one that it was mounted with/.test(error.message));
  await content.close();
  const again = await planMount(await open(), cache, { formats: [changing] });
  assert.notEqual(again.devices[0]?.key, plan.devices[0]?.key);
});

/** SOCI, with its tree published. */
function publishing(premade: PremadeTree, opened: string[]): Format<unknown> {
  return {
    ...(soci as Format<unknown>),
    premade: async () => premade,
    async open(layer, signal) {
      opened.push(layer.descriptor.digest);
      const { proof, ...open } = await soci.open(layer, signal);
      void proof;
      return open;
    },
  };
}

test('a tree that was made beforehand: no layer is opened before something of it is read', async (t) => {
  const tars = [archive(entries(directory('d/'), file('d/a', noise(30_000)))), archive(entries(file('b', noise(20_000, 2))))];
  const source = await indexed(soci, { minLayerSize: 0, spanSize: 9000 })(tars);
  const { cache } = await openCache(t);
  const own = await planMount(await source.open(), cache, { formats: FORMATS });
  const layers = (await source.open()).layers;
  const vouches = await Promise.all(layers.map(async (layer) => (await layer.open()).vouch as Digest));
  const opened: string[] = [];
  const format = publishing({ metadata: new Uint8Array(own.metadata), layers: [0, 1], vouches }, opened);
  const formats = [format];
  const image = (): ReturnType<typeof openImage> => openImage({ store: source.store, reference: source.reference }, formats, { platform: LINUX });
  const fresh = await openCache(t);
  source.store.reads.length = 0;
  const plan = await planMount(await image(), fresh.cache, { formats });
  assert.deepEqual([opened, source.store.reads], [[], []]);
  assert.deepEqual(plan.devices.map(({ size, layer, tree }) => [size, layer, tree]), own.devices.map(({ size, layer }) => [size, layer, false]));
  const content = await openContent(plan, image, fresh.cache, { loadFormats: async () => formats });
  const tree = await openErofs(new MemorySource(new Uint8Array(plan.metadata)));
  const read = async (path: string): Promise<Buffer> => {
    const node = nodeAt(tree.root, path);
    assert.ok(node?.type === 'file');
    return Buffer.from(await readThrough({ content }, node));
  };
  assert.ok((await read('b')).equals(Buffer.from(noise(20_000, 2))));
  assert.deepEqual(opened, [layers[1]?.descriptor.digest]);
  assert.ok((await read('d/a')).equals(Buffer.from(noise(30_000))));
  await content.fill();
  assert.ok(content.complete());
  await content.close();
  const wrong = publishing({ metadata: new Uint8Array(own.metadata), layers: [0, 7], vouches }, opened);
  const elsewhere = await openCache(t);
  await assert.rejects(planMount(await openImage({ store: source.store, reference: source.reference }, [wrong], { platform: LINUX }), elsewhere.cache, { formats: [wrong] }), codeOf('CORRUPT'));
  const fewer = publishing({ metadata: new Uint8Array(own.metadata), layers: [0], vouches: vouches.slice(0, 1) }, opened);
  await assert.rejects(planMount(await openImage({ store: source.store, reference: source.reference }, [fewer], { platform: LINUX }), elsewhere.cache, { formats: [fewer] }), codeOf('CORRUPT'));
});
