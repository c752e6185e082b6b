import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestOf } from '../../../src/core/digest.ts';
import { corrupt, LazypullError } from '../../../src/core/errors.ts';
import type { Format } from '../../../src/core/format.ts';
import type { RegularNode } from '../../../src/core/types.ts';
import { openImage } from '../../../src/image/open.ts';
import { nodeAt } from '../../../src/layer/tree.ts';
import { walk } from '../../../src/layer/walk.ts';
import { openContent } from '../../../src/mount/data/content.ts';
import { planMount } from '../../../src/mount/data/plan.ts';
import { estargz, nydus, soci } from '../../../formats/index.ts';
import { LINUX } from '../../image/fixture.ts';
import { expectedTree } from '../../formats/nydus/images.ts';
import { noise } from '../../support/noise.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { directory, file } from '../../support/tar-corpus.ts';
import { FORMATS, indexed, mounted, openCache, readThrough, rewritten, WAYS, type Opened } from './images.ts';

const TARS = [
  archive(entries(directory('bin/'), file('bin/sh', noise(40_000)), file('bin/ls', noise(20_000, 2)), directory('lib/'), file('lib/libc.so', noise(90_000, 3)), file('gone', noise(30_000, 4)))),
  archive(entries(file('.wh.gone'), file('bin/app', noise(50_000, 5)))),
];
const codeOf = (code: string) => (error: unknown): boolean => error instanceof LazypullError && error.code === code;

function fileAt({ tree }: Pick<Opened, 'tree'>, path: string): RegularNode {
  const node = nodeAt(tree.root, path);
  assert.ok(node?.type === 'file', path);
  return node;
}

async function assertAllRight(opened: Opened): Promise<void> {
  for (const { path, node } of walk(await expectedTree(TARS))) {
    if (node.type === 'file') assert.equal(digestOf(await readThrough(opened, fileAt(opened, path))), node.digest, path);
  }
}

for (const [name, make] of Object.entries(WAYS)) {
  test(`${name}: filled, everything is local, and what no file shows has not been fetched`, async (t) => {
    const source = await make(TARS);
    const { cache } = await openCache(t);
    const opened = await mounted(t, source, cache);
    const done = opened.content.whenComplete();
    assert.equal(opened.content.complete(), false);
    await opened.content.fill();
    assert.ok(opened.content.complete());
    await done;
    const { layers, complete } = opened.content.stats();
    assert.ok(complete && layers.every(({ localBytes, bytes }) => localBytes === bytes));
    source.store.reads.length = 0;
    await opened.content.fill();
    await assertAllRight(opened);
    assert.deepEqual(source.store.reads, []);
    const files = await opened.content.seal();
    assert.equal(files.length, opened.plan.devices.length);
    const sh = fileAt(opened, 'bin/sh').extents[0]?.chunk;
    assert.ok(sh && readFileSync(files[sh.blob - 1] as string).subarray(sh.offset, sh.offset + 40_000).equals(Buffer.from(noise(40_000))), 'the file itself is the device');
  });
}

test('an image that does not fit into the cache is not filled, and reads go on', async (t) => {
  const { cache } = await openCache(t, undefined, { maxBytes: 100_000 });
  const opened = await mounted(t, await rewritten(nydus, {})(TARS), cache);
  await assert.rejects(opened.content.fill(), codeOf('LIMIT'));
  await assert.rejects(opened.content.seal(), codeOf('IO'));
  await assertAllRight(opened);
  assert.equal(opened.content.complete(), false);
});

test('nothing can be kept: reads are right, and pieces of one chunk are fetched once', async (t) => {
  const { cache, problems } = await openCache(t, '/proc/lazypull');
  assert.deepEqual([cache.keeps, problems.length], [false, 1]);
  const source = await rewritten(estargz, {})(TARS);
  const opened = await mounted(t, source, cache);
  assert.equal(opened.plan.metadataFile, undefined);
  await assertAllRight(opened);
  source.store.reads.length = 0;
  await readThrough(opened, fileAt(opened, 'lib/libc.so'), 4096);
  assert.ok(source.store.reads.length <= 1, `${source.store.reads.length} requests`);
  await assert.rejects(opened.content.fill(), codeOf('LIMIT'));
});

test('one thing at a time: the background waits while somebody reads', async (t) => {
  const source = await rewritten(estargz, { chunkSize: 4096 })(TARS);
  const { cache } = await openCache(t);
  const opened = await mounted(t, source, cache);
  await readThrough(opened, fileAt(opened, 'bin/ls'));
  const order: string[] = [];
  const place = fileAt(opened, 'bin/app').extents[0]?.chunk as { blob: number; offset: number };
  const reads = Array.from({ length: 12 }, async (_, i) => {
    await sleep(i * 5);
    await opened.content.read({ device: place.blob - 1, address: place.offset + i * 4096, length: 100 });
    order.push('demand');
  });
  source.store.change = async (bytes) => {
    await sleep(5);
    return bytes;
  };
  const filling = opened.content.fill().then(() => order.push('filled'));
  await Promise.all(reads);
  assert.ok(!order.includes('filled') || order.indexOf('filled') === 12);
  await filling;
  assert.ok(opened.content.complete());
});

test('a fill that is stopped stops, and one that fails says why and has tried the rest', async (t) => {
  const source = await rewritten(estargz, {})(TARS);
  const { cache } = await openCache(t);
  const opened = await mounted(t, source, cache);
  await assert.rejects(opened.content.fill(AbortSignal.abort()), codeOf('CANCELLED'));
  const upper = opened.plan.layers[1]?.digest;
  source.store.change = (bytes, { digest, length }) => (digest === upper && length > 40_000 ? Promise.reject(new LazypullError('NETWORK', 'gone')) : bytes);
  await assert.rejects(opened.content.fill(), codeOf('NETWORK'));
  const { layers } = opened.content.stats();
  assert.equal(layers[0]?.localBytes, layers[0]?.bytes);
  source.store.change = (bytes) => bytes;
  await opened.content.fill();
  await assertAllRight(opened);
});

test('closing ends what is under way', async (t) => {
  const source = await rewritten(estargz, {})(TARS);
  const { cache } = await openCache(t);
  const opened = await mounted(t, source, cache);
  await readThrough(opened, fileAt(opened, 'bin/ls'));
  source.store.change = () => new Promise(() => undefined);
  const place = fileAt(opened, 'bin/sh').extents[0]?.chunk as { blob: number; offset: number };
  const reading = opened.content.read({ device: place.blob - 1, address: place.offset, length: 100 });
  const filling = opened.content.fill();
  const waiting = opened.content.whenComplete();
  const ends = Promise.allSettled([reading, filling, waiting]);
  await sleep(80);
  await opened.content.close();
  assert.ok((await ends).every((end) => end.status === 'rejected' && codeOf('CANCELLED')(end.reason)), JSON.stringify(await ends));
});

test('prefetch: what the layers name, what a list names, and what nothing matches', async (t) => {
  for (const make of [rewritten(estargz, { prefetch: ['lib/*'] }), indexed(soci, { minLayerSize: 0, spanSize: 9000, prefetch: ['lib/*'] }), rewritten(nydus, { prefetch: ['lib/*'] })]) {
    const source = await make(TARS);
    const { cache } = await openCache(t);
    const opened = await mounted(t, source, cache);
    const report = await opened.content.prefetch();
    assert.ok(report.bytes >= 90_000 && report.unmatched.length === 0, JSON.stringify(report));
    source.store.reads.length = 0;
    await readThrough(opened, fileAt(opened, 'lib/libc.so'));
    assert.deepEqual(source.store.reads, []);
    assert.equal((await opened.content.prefetch()).fetched, 0);
    assert.deepEqual(await opened.content.prefetch({ landmarks: false }), { bytes: 0, fetched: 0, unmatched: [] });
    const listed = await opened.content.prefetch({ landmarks: false, paths: ['/bin/', 'nowhere/*', ' ./bin/../bin/l? '] });
    assert.deepEqual([listed.bytes, listed.unmatched], [110_000, ['nowhere/*']]);
    await readThrough(opened, fileAt(opened, 'bin/sh'));
    await readThrough(opened, fileAt(opened, 'bin/app'));
    source.store.reads.length = 0;
    await readThrough(opened, fileAt(opened, 'bin/ls'));
    assert.deepEqual(source.store.reads, []);
    const all = await opened.content.prefetch({ landmarks: false, paths: ['/'] });
    assert.equal(all.bytes, 200_000);
    assert.ok(opened.content.complete());
  }
});

/** An image by a format that has been changed. */
async function changed(t: TestContext, change: (format: Format<unknown>) => Format<unknown>, options: object, tars = TARS): Promise<Opened> {
  const source = await indexed(soci, { minLayerSize: 0, spanSize: 9000, ...options })(tars);
  const format = change(soci as Format<unknown>);
  const image = (): ReturnType<typeof openImage> => openImage({ store: source.store, reference: source.reference }, [format], { platform: LINUX });
  const { cache } = await openCache(t);
  const plan = await planMount(await image(), cache, { formats: [format] });
  const content = await openContent(plan, image, cache, { loadFormats: async () => [format] });
  t.after(() => content.close());
  const { tree } = await mounted(t, source, (await openCache(t)).cache);
  return { plan, content, tree };
}

test('a file that cannot be proven is not handed out; its neighbours are', async (t) => {
  let asked = 0;
  const opened = await changed(t, (format) => ({
    ...format,
    async open(layer, signal) {
      const open = await format.open(layer, signal);
      const bad = nodeAt(open.index.root, 'bin/ls');
      return {
        ...open,
        proof(node) {
          const proof = open.proof?.(node);
          asked += 1;
          return proof && { ...proof, check: (bytes) => (node === bad ? Promise.reject(corrupt('tar header has another name')) : proof.check(bytes)) };
        },
      };
    },
  }), {});
  const ls = fileAt(opened, 'bin/ls').extents[0]?.chunk as { blob: number; offset: number };
  await assert.rejects(opened.content.read({ device: ls.blob - 1, address: ls.offset + 9000, length: 100 }), (error) => error instanceof LazypullError && error.code === 'CORRUPT' && error.path === '/bin/ls' && /another name/.test(error.message));
  for (const path of ['bin/sh', 'lib/libc.so', 'bin/app']) {
    const bytes = await readThrough(opened, fileAt(opened, path), 5000);
    const { size } = fileAt(opened, path);
    assert.ok(Buffer.from(bytes).equals(Buffer.from(noise(size, { 'bin/sh': 1, 'lib/libc.so': 3, 'bin/app': 5 }[path]))), path);
  }
  await assert.rejects(opened.content.read({ device: ls.blob - 1, address: ls.offset, length: 100 }), codeOf('CORRUPT'));
  await assert.rejects(opened.content.fill());
  assert.equal(opened.content.complete(), false);
  assert.ok(asked > 0);
});

test('the middle of a large file is handed out once its header has been looked at', async (t) => {
  const opened = await changed(t, (format) => format, {});
  const libc = fileAt(opened, 'lib/libc.so').extents[0]?.chunk as { blob: number; offset: number };
  const bytes = await opened.content.read({ device: libc.blob - 1, address: libc.offset + 70_000, length: 100 });
  assert.ok(Buffer.from(bytes).equals(Buffer.from(noise(90_000, 3).subarray(70_000, 70_100))));
  const before = opened.content.stats().layers[0]?.requests ?? 0;
  await opened.content.read({ device: libc.blob - 1, address: libc.offset + 70_050, length: 200 });
  assert.equal(opened.content.stats().layers[0]?.requests, before, 'it is kept then');
});

test('a layer that can only be read from its start is read once, whatever is wanted of it', async (t) => {
  let streams = 0;
  const opened = await changed(t, (format) => ({
    ...format,
    async open(layer, signal) {
      const { proof, ...open } = await format.open(layer, signal);
      void proof;
      return {
        ...open,
        sources: open.sources.map(({ size }) => ({ size, read: () => Promise.reject(new LazypullError('INTERNAL', 'not by ranges')) })),
        async *sequential() {
          streams += 1;
          const source = open.sources[0] as (typeof open.sources)[number];
          for (const chunk of open.index.chunks) {
            const plain = await open.inflate(chunk, await source.read(chunk.offset, chunk.length));
            for (let at = 0; at < plain.length; at += 5000) yield plain.subarray(at, at + 5000);
          }
        },
      };
    },
  }), {});
  const whole = async (path: string): Promise<Buffer> => Buffer.from(await readThrough(opened, fileAt(opened, path)));
  const [libc, sh] = await Promise.all([whole('lib/libc.so'), whole('bin/sh')]);
  assert.ok(libc.equals(Buffer.from(noise(90_000, 3))) && sh.equals(Buffer.from(noise(40_000))));
  await whole('bin/ls');
  assert.equal(streams, 1);
  await whole('bin/app');
  await opened.content.fill();
  assert.equal(streams, 2, 'one for each layer');
});

test('a planned mount whose image has changed says so', async (t) => {
  const source = await rewritten(estargz, {})(TARS);
  const other = await rewritten(estargz, {})([TARS[1] as Uint8Array]);
  const { cache } = await openCache(t);
  const plan = await planMount(await source.open(), cache, { formats: FORMATS });
  const content = await openContent(plan, other.open, cache, { loadFormats: async () => FORMATS });
  t.after(() => content.close());
  await assert.rejects(content.read({ device: 0, address: 0, length: 1 }), codeOf('INTERNAL'));
  await assert.rejects(content.read({ device: 9, address: 0, length: 1 }), codeOf('INTERNAL'));
  await assert.rejects(content.read({ device: 0, address: 2 ** 40, length: 1 }), codeOf('INTERNAL'));
});
