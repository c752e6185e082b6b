import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { digestOf } from '../../../src/core/digest.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import type { Format } from '../../../src/core/format.ts';
import { MemorySource } from '../../../src/core/source.ts';
import { openErofs } from '../../../src/erofs/read.ts';
import { openImage, type OpenImage } from '../../../src/image/open.ts';
import { nodeAt } from '../../../src/layer/tree.ts';
import { openContent } from '../../../src/mount/data/content.ts';
import { planMount } from '../../../src/mount/data/plan.ts';
import type { MountCache } from '../../../src/mount/data/cache.ts';
import { soci } from '../../../formats/index.ts';
import { LINUX } from '../../image/fixture.ts';
import { noise } from '../../support/noise.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { file } from '../../support/tar-corpus.ts';
import { atEnd, indexed, openCache, scratch, type Opened, type Source } from './images.ts';

const TAR = archive(entries(file('a', noise(50_000)), file('b', 'b'.repeat(30_000)), file('c', noise(10_000, 3))));

/** SOCI as it is, or with files that need no proof. */
const formatOf = (proofs: boolean): Format<unknown> => ({
  ...(soci as Format<unknown>),
  async open(layer, signal) {
    const open = await soci.open(layer, signal);
    const { proof, ...rest } = open;
    return proofs || !proof ? open : rest;
  },
});

async function mount(t: TestContext, source: Source, cache: MountCache, proofs: boolean): Promise<Opened & { read(path: string): Promise<Buffer> }> {
  const formats = [formatOf(proofs)];
  const image = (): Promise<OpenImage> => openImage({ store: source.store, reference: source.reference }, formats, { platform: LINUX });
  const plan = await planMount(await image(), cache, { formats });
  const content = await openContent(plan, image, cache, { loadFormats: async () => formats });
  atEnd(t, () => content.close());
  const tree = await openErofs(new MemorySource(new Uint8Array(plan.metadata)));
  const read = async (path: string): Promise<Buffer> => {
    const node = nodeAt(tree.root, path);
    const chunk = node?.type === 'file' ? node.extents[0]?.chunk : undefined;
    assert.ok(chunk);
    return Buffer.from(await content.read({ device: chunk.blob - 1, address: chunk.offset, length: chunk.size }));
  };
  return { plan, content, tree, read };
}

const made = (spanSize: number, packed = true): Promise<Source> => indexed(soci, { minLayerSize: 0, spanSize }, packed)([TAR]);

for (const proofs of [false, true]) {
  test(`a layer that is here as a whole also serves another version of it${proofs ? ', once its files are proven' : ''}`, async (t) => {
    const dir = scratch(t);
    const first = await openCache(t, dir);
    const one = await mount(t, await made(9000), first.cache, proofs);
    await one.content.fill();
    const other = await made(20_000, false);
    const second = await openCache(t, dir);
    other.store.reads.length = 0;
    const two = await mount(t, other, second.cache, proofs);
    const planned = other.store.reads.length;
    assert.notEqual(two.plan.devices[0]?.key, one.plan.devices[0]?.key);
    assert.ok((await two.read('a')).equals(Buffer.from(noise(50_000))));
    assert.ok((await two.read('b')).equals(Buffer.alloc(30_000, 'b')));
    assert.equal(other.store.reads.length, planned, 'nothing of the content is fetched');
    await two.content.fill();
    assert.ok(two.content.complete());
    const files = readdirSync(join(dir, 'devices')).filter((name) => !name.endsWith('.pages')).map((name) => statSync(join(dir, 'devices', name)));
    assert.deepEqual([files.length, new Set(files.map(({ ino }) => ino)).size], [2, 1], 'two names of one file');
    const listed = await second.cache.list();
    assert.ok(listed.filter(({ kind }) => kind === 'content').every(({ sealed }) => sealed));
    await one.content.close();
    await first.cache.close();
    await second.cache.remove();
    assert.ok((await two.read('c')).equals(Buffer.from(noise(10_000, 3))), 'the one goes, the other stays');
    await two.content.close();
    await second.cache.close();
    // What is on disk says the same.
    const third = await openCache(t, dir);
    const again = await mount(t, other, third.cache, proofs);
    assert.ok((await again.read('b')).equals(Buffer.alloc(30_000, 'b')));
    assert.ok(again.content.devices[0]?.size);
  });
}

test('a layer whose config names another tar shares with nobody', async (t) => {
  const dir = scratch(t);
  const { cache } = await openCache(t, dir);
  const lying = await made(9000);
  const image = await lying.open();
  const wrong = digestOf(Buffer.from('another tar'));
  const changed = { ...lying, open: async (): Promise<OpenImage> => image };
  const formats = [formatOf(false)];
  const plan = await planMount(await openImage({ store: lying.store, reference: lying.reference }, formats, { platform: LINUX }), cache, { formats });
  const content = await openContent({ ...plan, layers: plan.layers.map((layer) => ({ ...layer, diffId: wrong })) }, () => openImage({ store: changed.store, reference: changed.reference }, formats, { platform: LINUX }), cache, { loadFormats: async () => formats });
  await content.fill();
  await content.close();
  assert.deepEqual(readdirSync(join(dir, 'plans')).filter((name) => name.endsWith('.tar.json')), []);
});

test('what is only partly here is not shared, and neither is what another process has open', async (t) => {
  const dir = scratch(t);
  const first = await openCache(t, dir);
  const one = await mount(t, await made(9000), first.cache, false);
  await one.content.fill();
  const other = await made(20_000);
  const second = await openCache(t, dir);
  const early = await mount(t, other, second.cache, false);
  await early.read('c');
  const third = await openCache(t, dir);
  const late = await mount(t, other, third.cache, false);
  assert.ok((await late.read('a')).equals(Buffer.from(noise(50_000))));
  await one.content.close();
  assert.ok((await first.cache.list()).length >= 2);
  // A bound that cannot be held does no harm to what is shared.
  const tight = await openCache(t, dir, { maxBytes: 4096 });
  await tight.cache.gc();
  assert.ok((await early.read('b')).equals(Buffer.alloc(30_000, 'b')));
  await assert.rejects(tight.cache.device('0'.repeat(63), 4096), (error) => error instanceof LazypullError);
});
