import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { choose } from '../../../src/core/format.ts';
import type { ByteSource, ByteStream, Descriptor, ImageStore } from '../../../src/core/types.ts';
import { zstdCompress } from '../../../src/codec/zstd.ts';
import { convertImage } from '../../../src/image/convert.ts';
import { openImage, type OpenImage } from '../../../src/image/open.ts';
import { MountCache } from '../../../src/mount/data/cache.ts';
import { LocalIndexes } from '../../../src/mount/data/local-index.ts';
import { planMount } from '../../../src/mount/data/plan.ts';
import { openMemory } from '../../../src/oci/memory.ts';
import { estargz } from '../../../formats/estargz/index.ts';
import { mountIndex } from '../../../formats/mount-index/index.ts';
import { layerOf } from '../../formats/mount-index/indexed.ts';
import { putImage, tarOf, type Entry } from '../../image/fixture.ts';
import { noise } from '../../support/noise.ts';

const folder = mkdtempSync(join(tmpdir(), 'lazypull-local-index-'));
after(() => rmSync(folder, { recursive: true, force: true }));
let folders = 0;
const fresh = (): string => join(folder, String(folders++));

const BASE: Entry[] = Array.from({ length: 120 }, (_, i) => ({ path: `usr/f${i}`, content: noise(9000, i) }));
const TOP: Entry[] = [{ path: 'usr/f7', content: noise(40_000, 500) }, { path: 'etc/name', content: 'lazy' }];
const FORMATS = [estargz, mountIndex];
const OPTIONS = { formats: FORMATS, jobs: 1 };

interface Counted {
  readonly store: ImageStore;
  /** Bytes of blobs that have been read. */
  read(): number;
}

function counting(store: ImageStore): Counted {
  let bytes = 0;
  const open = (descriptor: Descriptor): ByteSource => {
    const source = store.open(descriptor);
    return {
      size: source.size,
      read: (offset, length, signal) => {
        bytes += length;
        return source.read(offset, length, signal);
      },
    };
  };
  async function* fetch(descriptor: Descriptor): ByteStream {
    for await (const part of store.fetch(descriptor)) {
      bytes += part.length;
      yield part;
    }
  }
  return {
    read: () => bytes,
    store: {
      location: store.location,
      resolve: (reference) => store.resolve(reference),
      tag: (descriptor, tag) => store.tag(descriptor, tag),
      has: (descriptor) => store.has(descriptor),
      open,
      fetch,
      push: (descriptor, source) => store.push(descriptor, source),
      ingest: (mediaType, produce) => store.ingest(mediaType, produce),
      close: () => store.close(),
    },
  };
}

async function image(): Promise<{ readonly counted: Counted; open(): Promise<OpenImage>; readonly size: number }> {
  const memory = openMemory();
  const [base, top] = [tarOf(BASE), tarOf(TOP)];
  const layers = [layerOf(gzipSync(base), base), layerOf(await zstdCompress(top, 3), top)];
  await putImage(memory, { layers }, 'app');
  const counted = counting(memory);
  return { counted, open: () => openImage({ store: counted.store, reference: 'app' }, FORMATS), size: layers.reduce((sum, { bytes }) => sum + bytes.length, 0) };
}

async function withCache<T>(dir: string, work: (cache: MountCache) => Promise<T>, maxBytes?: number): Promise<T> {
  const cache = await MountCache.open(dir, maxBytes === undefined ? {} : { maxBytes });
  try {
    return await work(cache);
  } finally {
    await cache.close();
  }
}

describe('local index', () => {
  it('makes an image readable, and all of it local, by fetching it once', async () => {
    const { counted, open, size } = await image();
    const dir = fresh();
    await withCache(dir, async (cache) => {
      const indexes = new LocalIndexes(cache);
      const opened = await open();
      const before = counted.read();
      const done = await indexes.complete(opened, OPTIONS);
      const read = counted.read() - before;
      assert.ok(read >= size && read < size + 4000, `${read} for ${size}`);
      assert.equal(done.descriptor.digest, opened.descriptor.digest);
      const plan = await planMount(done, cache, { formats: FORMATS });
      assert.deepEqual(plan.layers.map(({ format }) => format), ['erofs', 'erofs']);
      const devices = await cache.devices(plan.devices);
      for (const [i, tar] of [tarOf(BASE), tarOf(TOP)].entries()) {
        const bytes = await devices[i]?.read(0, tar.length);
        assert.ok(bytes && Buffer.from(bytes).equals(tar), `device ${i} holds the tar`);
      }
      assert.equal(Buffer.from(await done.readFile('etc/name')).toString(), 'lazy');
      assert.ok(Buffer.from(noise(40_000, 500)).equals(await done.readFile('usr/f7')));
      await cache.release(plan.devices);
    });
    await withCache(dir, async (cache) => {
      const before = counted.read();
      const again = await new LocalIndexes(cache).complete(await open(), OPTIONS);
      assert.ok(counted.read() - before < 4000, 'only documents');
      const plan = await planMount(again, cache, { formats: FORMATS });
      for (const device of await cache.devices(plan.devices)) assert.ok(device.has(0, device.size), 'still there');
    });
    assert.deepEqual(readdirSync(join(dir, 'devices')).filter((name) => name.endsWith('.tmp')), []);
  });

  it('is made by one of those who need it at the same time, also of several processes; the others wait for it', async () => {
    const { counted, open, size } = await image();
    const dir = fresh();
    // Each with its own view of the folder, as processes have.
    const before = counted.read();
    const done = await Promise.all([0, 1, 2].map(() => withCache(dir, async (cache) => {
      const made = await new LocalIndexes(cache).complete(await open(), OPTIONS);
      return planMount(made, cache, { formats: FORMATS });
    })));
    assert.equal(new Set(done.map(({ metadataFile }) => metadataFile)).size, 1);
    const read = counted.read() - before;
    assert.ok(read >= size && read < size + 20_000, `${read} bytes for ${size}`);
    assert.deepEqual(readdirSync(dir).filter((name) => name.endsWith('.lock')), []);
    await withCache(dir, async (cache) => {
      const kinds = (await cache.list()).map(({ kind }) => kind);
      assert.deepEqual([kinds.filter((kind) => kind === 'content').length, kinds.filter((kind) => kind === 'tree').length], [2, 1], 'documents of the index are not trees');
      const indexes = (await cache.list()).filter(({ kind }) => kind === 'index');
      assert.ok(indexes.length >= 4 && indexes.filter(({ layer }) => layer !== undefined).length === 2, JSON.stringify(indexes));
      assert.ok(indexes.filter(({ manifests }) => manifests.includes(done[0]?.digest as string)).length >= 2);
      assert.ok(indexes.some(({ images }) => images.length > 0), 'by the names of the images');
    });
  });

  it('leaves an image alone that is in a format', async () => {
    const memory = openMemory();
    const tar = tarOf(BASE);
    await putImage(memory, { layers: [layerOf(gzipSync(tar), tar)] }, 'app');
    await convertImage({ store: memory, reference: 'app' }, { store: memory, reference: 'lazy' }, [choose(estargz)], { jobs: 1 });
    await withCache(fresh(), async (cache) => {
      const lazy = await openImage({ store: memory, reference: 'lazy' }, FORMATS);
      assert.equal(await new LocalIndexes(cache).complete(lazy, OPTIONS), lazy);
    });
  });

  it('fetches a layer once for all images that have it', async () => {
    const memory = openMemory();
    const [base, top] = [tarOf(BASE), tarOf(TOP)];
    const shared = layerOf(gzipSync(base), base);
    await putImage(memory, { layers: [shared] }, 'base');
    const other = layerOf(gzipSync(top), top);
    await putImage(memory, { layers: [shared, other] }, 'app');
    const { store, ...counted } = counting(memory);
    const dir = fresh();
    await withCache(dir, async (cache) => void (await new LocalIndexes(cache).complete(await openImage({ store, reference: 'base' }, FORMATS), OPTIONS)));
    await withCache(dir, async (cache) => {
      const opened = await openImage({ store, reference: 'app' }, FORMATS);
      const before = counted.read();
      const done = await new LocalIndexes(cache).complete(opened, OPTIONS);
      assert.ok(counted.read() - before < other.bytes.length + 4000, `${counted.read() - before} bytes`);
      const plan = await planMount(done, cache, { formats: FORMATS });
      for (const device of await cache.devices(plan.devices)) assert.ok(device.has(0, device.size), 'all of it is here');
      assert.equal((await done.readFile('usr/f3')).length, 9000);
    });
  });

  it('leaves an image to fail as it would, where no format can help', async () => {
    const { open } = await image();
    await withCache(fresh(), async (cache) => {
      const opened = await open();
      assert.equal(await new LocalIndexes(cache).complete(opened, { ...OPTIONS, formats: [estargz] }), opened);
    });
  });

  it('does without what of the cache is broken or too small', async () => {
    const { open } = await image();
    const dir = fresh();
    const read = async (cache: MountCache): Promise<void> => {
      const done = await new LocalIndexes(cache).complete(await open(), OPTIONS);
      assert.equal(Buffer.from(await done.readFile('etc/name')).toString(), 'lazy');
    };
    await withCache(dir, read, 1 << 20);
    const trees = join(dir, 'trees');
    const names = readdirSync(trees).filter((name) => name.endsWith('.index'));
    assert.ok(names.length > 2);
    for (const name of names) writeFileSync(join(trees, name), Buffer.alloc(statSync(join(trees, name)).size));
    await withCache(dir, read);
  });

  it('keeps nothing of an image that is not what its digests say', async () => {
    const memory = openMemory();
    const tar = tarOf(BASE);
    await putImage(memory, { layers: [{ ...layerOf(gzipSync(tar), tar), diffId: `sha256:${'0'.repeat(64)}` }] }, 'app');
    const dir = fresh();
    await withCache(dir, async (cache) => {
      await assert.rejects(new LocalIndexes(cache).complete(await openImage({ store: memory, reference: 'app' }, FORMATS), OPTIONS), /diffID/);
    });
    assert.deepEqual([readdirSync(join(dir, 'devices')), readdirSync(join(dir, 'trees'))], [[], []]);
  });
});
