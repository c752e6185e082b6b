import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { estargz, type EstargzOptions } from '../../formats/estargz/index.ts';
import { tinyLayout } from '../../fixtures/pairs.ts';
import { digestOf, type Digest } from '../../src/core/digest.ts';
import { LazypullError, type ErrorCode } from '../../src/core/errors.ts';
import { choose } from '../../src/core/format.ts';
import { collect, streamOf } from '../../src/core/stream.ts';
import type { Descriptor, ImageStore } from '../../src/core/types.ts';
import { convertImage, type ConvertOptions, type ConvertReport } from '../../src/image/convert.ts';
import { openImage } from '../../src/image/open.ts';
import type { Place } from '../../src/image/place.ts';
import { verifyImage } from '../../src/image/verify.ts';
import { describe, encodeDocument, parseConfig, parseIndex, parseManifest } from '../../src/oci/documents.ts';
import { openLayout } from '../../src/oci/layout.ts';
import { DOCKER, OCI } from '../../src/oci/media-types.ts';
import { openMemory, type MemoryStore } from '../../src/oci/memory.ts';
import { archive, entries } from '../support/tar-blocks.ts';
import { directory, file } from '../support/tar-corpus.ts';

const PLATFORM = { os: 'linux', architecture: 'amd64' };

async function tiny(tag: string): Promise<Place> {
  return { store: await openLayout(tinyLayout), reference: tag };
}

function convert(source: Place, target: MemoryStore, { formatOptions = {}, ...options }: ConvertOptions & { readonly formatOptions?: EstargzOptions } = {}): Promise<ConvertReport> {
  return convertImage(source, { store: target, reference: 'out' }, choose(estargz, formatOptions), options);
}

async function json<T>(store: ImageStore, descriptor: Descriptor, parse: (bytes: Uint8Array) => T): Promise<T> {
  return parse(await collect(store.fetch(descriptor), 1 << 24));
}

/** Stores an image made of the given layers; what is said about them may be a lie. */
async function put(store: MemoryStore, layers: { blob: Uint8Array; mediaType?: string; diffId?: Digest; extra?: object }[], more: { manifest?: object; docker?: boolean } = {}): Promise<Descriptor> {
  const blobs: Descriptor[] = [];
  for (const { blob, mediaType, extra } of layers) {
    const descriptor = { ...describe(mediaType ?? OCI.layerGzip, blob), ...extra };
    await store.push(describe(descriptor.mediaType, blob), () => streamOf(blob)).catch(() => undefined);
    blobs.push(descriptor);
  }
  const diffIds = layers.map(({ blob, diffId }) => diffId ?? digestOf(blob[0] === 0x1f ? gunzipSync(blob) : blob));
  const configBytes = encodeDocument({ architecture: 'amd64', os: 'linux', 'vendor.field': [1, 'zwei'], rootfs: { type: 'layers', diff_ids: diffIds } });
  const config = describe(more.docker ? DOCKER.config : OCI.config, configBytes);
  await store.push(config, () => streamOf(configBytes));
  const mediaType = more.docker ? DOCKER.manifest : OCI.manifest;
  const bytes = encodeDocument({ schemaVersion: 2, mediaType, config, layers: blobs, ...more.manifest });
  const manifest = describe(mediaType, bytes);
  await store.push(manifest, () => streamOf(bytes));
  await store.tag(manifest, 'in');
  return manifest;
}

const tarOf = (name: string, body: string | Uint8Array = 'content'): Uint8Array => archive(entries(directory('d/'), file(`d/${name}`, body)));
const is = (code: ErrorCode, text = /./) => (error: unknown) => error instanceof LazypullError && error.code === code && text.test(error.message);

async function untouched(store: MemoryStore): Promise<void> {
  await assert.rejects(store.resolve('out'), is('NOT_FOUND'));
}

test('a multi-arch index is converted whole, attestations carried along and pointed at the new manifests', async () => {
  const source = await tiny('app');
  const target = openMemory();
  const report = await convert(source, target);
  const before = await json(source.store, await source.store.resolve('app'), parseIndex);
  const root = await target.resolve('out');
  assert.equal(root.digest, report.digest);
  const after = await json(target, root, parseIndex);
  assert.equal(after.manifests.length, before.manifests.length);
  const moved = new Map(before.manifests.map((entry, i) => [entry.digest, after.manifests[i] as Descriptor]));
  for (const [i, entry] of before.manifests.entries()) {
    const now = after.manifests[i] as Descriptor;
    assert.deepEqual(now.platform, entry.platform);
    const about = entry.annotations?.['vnd.docker.reference.digest'];
    if (about) {
      assert.equal(now.digest, entry.digest, 'an attestation keeps its bytes');
      assert.equal(now.annotations?.['vnd.docker.reference.digest'], moved.get(about as Digest)?.digest);
      await json(target, now, parseManifest);
      continue;
    }
    assert.notEqual(now.digest, entry.digest);
    const manifest = await json(target, now, parseManifest);
    const config = await json(target, manifest.config, parseConfig);
    assert.equal(config.rootfs.diff_ids.length, manifest.layers.length);
    for (const layer of manifest.layers) assert.ok(layer.annotations?.['containerd.io/snapshot/stargz/toc.digest']);
  }
  assert.equal(report.platforms.length, 2);
  // Layers that both platforms have are converted once.
  const all = report.platforms.flatMap(({ layers }) => layers.map((layer) => layer.source.digest));
  assert.ok(new Set(all).size < all.length);
  const verified = await verifyImage({ store: target, reference: 'out' }, [estargz], { against: source });
  assert.deepEqual(verified.problems, []);
  assert.ok(verified.ok);
});

test('--platform narrows to one image and its attestation', async () => {
  const target = openMemory();
  await convert(await tiny('app'), target, { platforms: [PLATFORM] });
  const index = await json(target, await target.resolve('out'), parseIndex);
  assert.deepEqual(index.manifests.map(({ platform }) => platform?.architecture), ['amd64', 'unknown']);
  await assert.rejects(convert(await tiny('app'), openMemory(), { platforms: [{ os: 'linux', architecture: 's390x' }] }), is('NOT_FOUND', /s390x/));
});

test('Docker media types become OCI ones, in manifest, config and layers', async () => {
  const target = openMemory();
  await convert(await tiny('docker'), target);
  const root = await target.resolve('out');
  assert.equal(root.mediaType, OCI.manifest);
  const manifest = await json(target, root, parseManifest);
  assert.deepEqual([manifest.mediaType, manifest.config.mediaType], [OCI.manifest, OCI.config]);
  assert.ok(manifest.layers.every((layer) => layer.mediaType === OCI.layerGzip));
  assert.ok((await verifyImage({ store: target, reference: 'out' }, [estargz], { against: await tiny('docker') })).ok);
});

test('gzip, zstd and plain tar layers all become gzip layers', async () => {
  const target = openMemory();
  await convert(await tiny('mixed'), target);
  const manifest = await json(target, await target.resolve('out'), parseManifest);
  assert.ok(manifest.layers.length > 2 && manifest.layers.every((layer) => layer.mediaType === OCI.layerGzip));
  assert.ok((await verifyImage({ store: target, reference: 'out' }, [estargz], { against: await tiny('mixed') })).ok);
});

test('converting again changes nothing: layers pass through, manifests keep their bytes', async () => {
  const once = openMemory();
  const first = await convert(await tiny('app'), once);
  const twice = openMemory();
  const second = await convert({ store: once, reference: 'out' }, twice);
  assert.equal(second.digest, first.digest);
  assert.ok(second.platforms.every(({ layers }) => layers.every(({ action }) => action === 'passed-through')));
});

test('unknown fields survive, and the old blob is not spoken of', async () => {
  const source = openMemory();
  const blob = gzipSync(tarOf('a'));
  await put(source, [{ blob, extra: { annotations: { 'org.example': 'kept', 'io.github.containers.zstd-chunked.manifest-checksum': 'gone' }, urls: ['https://example.com/old'] } }], { manifest: { annotations: { note: 'x' }, 'vendor.thing': { a: 1 } } });
  const target = openMemory();
  await convert({ store: source, reference: 'in' }, target);
  const manifest = await json(target, await target.resolve('out'), parseManifest);
  assert.deepEqual([manifest.annotations, manifest['vendor.thing']], [{ note: 'x' }, { a: 1 }]);
  assert.deepEqual(Object.keys(manifest.layers[0]?.annotations ?? {}).sort(), ['containerd.io/snapshot/stargz/toc.digest', 'io.containers.estargz.uncompressed-size', 'org.example']);
  assert.equal(manifest.layers[0]?.urls, undefined);
  assert.deepEqual((await json(target, manifest.config, parseConfig))['vendor.field'], [1, 'zwei']);
});

test('foreign layers are left alone, and need not be there', async () => {
  const source = openMemory();
  const foreign = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip';
  const missing = gzipSync('elsewhere');
  await put(source, [{ blob: gzipSync(tarOf('a')) }]);
  const layers = [{ ...describe(foreign, missing), urls: ['https://example.com/layer'] }, describe(OCI.layerGzip, gzipSync(tarOf('a')))];
  const configBytes = encodeDocument({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [digestOf(missing), digestOf(tarOf('a'))] } });
  const config = describe(DOCKER.config, configBytes);
  await source.push(config, () => streamOf(configBytes));
  const bytes = encodeDocument({ schemaVersion: 2, mediaType: DOCKER.manifest, config, layers });
  await source.push(describe(DOCKER.manifest, bytes), () => streamOf(bytes));
  await source.tag(describe(DOCKER.manifest, bytes), 'foreign');
  const target = openMemory();
  const report = await convert({ store: source, reference: 'foreign' }, target);
  assert.deepEqual(report.platforms[0]?.layers.map(({ action }) => action), ['foreign', 'converted']);
  const manifest = await json(target, await target.resolve('out'), parseManifest);
  assert.deepEqual([manifest.layers[0]?.digest, manifest.layers[0]?.urls], [digestOf(missing), ['https://example.com/layer']]);
});

test('an external TOC goes into an image of its own, and readers find it', async () => {
  const target = openMemory();
  const report = await convert(await tiny('app'), target, { formatOptions: { keepDiffId: true } });
  assert.deepEqual(report.extraTags, ['out-esgztoc']);
  const image = await openImage({ store: target, reference: 'out' }, [estargz], { platform: PLATFORM });
  const text = await collect(image.streamFile('etc/os-release'), 1 << 20);
  assert.ok(text.length > 0);
  const tocs = await json(target, await target.resolve('out-esgztoc'), parseManifest);
  assert.equal(tocs.layers.length, new Set(report.platforms.flatMap(({ layers }) => layers.map((layer) => layer.target.digest))).size);
  const source = await tiny('app');
  const config = async (store: ImageStore, tag: string): Promise<unknown> => {
    const index = await json(store, await store.resolve(tag), parseIndex);
    return (await json(store, (await json(store, index.manifests[0] as Descriptor, parseManifest)).config, parseConfig)).rootfs.diff_ids;
  };
  assert.deepEqual(await config(target, 'out'), await config(source.store, 'app'), 'diffIDs are kept');
});

test('a dry run tells the digests of the real one and stores nothing', async () => {
  const target = openMemory();
  const dry = await convert(await tiny('app'), target, { dryRun: true });
  await untouched(target);
  const wet = await convert(await tiny('app'), target);
  assert.equal(dry.digest, wet.digest);
  assert.deepEqual(dry.platforms.map(({ digest }) => digest), wet.platforms.map(({ digest }) => digest));
});

test('lies of a manifest are told apart, and nothing is tagged', async () => {
  const good = gzipSync(tarOf('a'));
  const cases: [string, Parameters<typeof put>[1], ErrorCode, RegExp][] = [
    ['a wrong diffID', [{ blob: good, diffId: digestOf(Buffer.from('x')) }], 'DIGEST_MISMATCH', /diffID/],
    ['a cut layer', [{ blob: good.subarray(0, good.length - 30), diffId: digestOf(tarOf('a')) }], 'CORRUPT', /layer sha256/],
    ['no tar inside', [{ blob: gzipSync('x'.repeat(2000)) }], 'CORRUPT', /tar/],
    ['garbage behind', [{ blob: Buffer.concat([good, Buffer.from('garbage')]), diffId: digestOf(tarOf('a')) }], 'CORRUPT', /garbage|gzip/],
    ['no gzip in spite of its type', [{ blob: Buffer.from('neither'), diffId: digestOf(Buffer.from('neither')) }], 'CORRUPT', /./],
    ['more diffIDs than layers', [], 'CORRUPT', /./],
  ];
  for (const [what, layers, code, text] of cases) {
    const source = openMemory();
    const target = openMemory();
    if (layers.length > 0) await put(source, layers);
    else {
      const configBytes = encodeDocument({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [digestOf()] } });
      await source.push(describe(OCI.config, configBytes), () => streamOf(configBytes));
      const bytes = encodeDocument({ schemaVersion: 2, mediaType: OCI.manifest, config: describe(OCI.config, configBytes), layers: [] });
      await source.push(describe(OCI.manifest, bytes), () => streamOf(bytes));
      await source.tag(describe(OCI.manifest, bytes), 'in');
    }
    await assert.rejects(convert({ store: source, reference: 'in' }, target), (error) => is(code, text)(error) || assert.fail(`${what}: ${String(error)}`), what);
    await untouched(target);
  }
});

test('a manifest that calls itself an index is refused', async () => {
  const source = openMemory();
  const good = await put(source, [{ blob: gzipSync(tarOf('a')) }]);
  const bytes = encodeDocument({ ...(await json(source, good, parseManifest)), mediaType: OCI.index });
  const lie = describe(OCI.manifest, bytes);
  const store = Object.assign(Object.create(source) as MemoryStore, {
    location: source.location,
    resolve: async () => lie,
    fetch: (descriptor: Descriptor) => (descriptor.digest === lie.digest ? streamOf(bytes) : source.fetch(descriptor)),
  });
  const target = openMemory();
  await assert.rejects(convert({ store, reference: 'in' }, target), is('CORRUPT', /calls itself/));
  await untouched(target);
});

test('a bomb is stopped at --max-layer-size', async () => {
  const source = openMemory();
  await put(source, [{ blob: gzipSync(tarOf('bomb', new Uint8Array(8 << 20))) }]);
  const target = openMemory();
  await assert.rejects(convert({ store: source, reference: 'in' }, target, { maxLayerSize: 1 << 20 }), is('LIMIT', /1048576/));
  await untouched(target);
});

test('the first failure of one layer ends the others and is the one that is told', async () => {
  const source = openMemory();
  const good = gzipSync(tarOf('a', Buffer.alloc(3_000_000, 'abc')));
  await put(source, [{ blob: good }, { blob: gzipSync('no tar, but long enough for a header block. '.repeat(50)) }, { blob: gzipSync(tarOf('b')) }]);
  const target = openMemory();
  await assert.rejects(convert({ store: source, reference: 'in' }, target), is('CORRUPT'));
  await untouched(target);
});

test('cancelling is CANCELLED, and nothing is tagged', async () => {
  const target = openMemory();
  const stop = new AbortController();
  const source = openMemory();
  await put(source, [{ blob: gzipSync(tarOf('a', Buffer.alloc(5_000_000, 'abc'))) }]);
  const converting = convert({ store: source, reference: 'in' }, target, { signal: stop.signal, progress: (event) => event.type === 'bytes' && stop.abort() });
  await assert.rejects(converting, is('CANCELLED'));
  await untouched(target);
});

test('a line of the prefetch list that no layer matches is warned about, one that some layer matches is not', async () => {
  const report = await convert(await tiny('app'), openMemory(), { formatOptions: { prefetch: ['etc/os-release', 'no/such/file', '*.none'] } });
  assert.deepEqual(report.warnings.filter((text) => /prefetch/.test(text)), ['nothing matches "no/such/file" of the prefetch list', 'nothing matches "*.none" of the prefetch list']);
});

test('a layer whose upload breaks is made once more, and not a third time', async () => {
  const source = openMemory();
  await put(source, [{ blob: gzipSync(tarOf('a', Buffer.alloc(2_000_000, 'abc'))) }]);
  const breaking = (target: MemoryStore, times: number): ImageStore => ({
    location: target.location,
    resolve: (reference) => target.resolve(reference),
    tag: (descriptor, tag) => target.tag(descriptor, tag),
    has: (descriptor) => target.has(descriptor),
    open: (descriptor) => target.open(descriptor),
    fetch: (descriptor) => target.fetch(descriptor),
    push: (descriptor, open) => target.push(descriptor, open),
    close: () => target.close(),
    ingest: (mediaType, produce) =>
      target.ingest(mediaType, async (sink, soFar) => {
        await produce(async (bytes) => {
          if (times-- > 0) throw new LazypullError('NETWORK', 'connection reset');
          await sink(bytes);
        }, soFar);
      }),
  });
  const target = openMemory();
  const run = (times: number): Promise<ConvertReport> => convertImage({ store: source, reference: 'in' }, { store: breaking(target, times), reference: 'out' }, choose(estargz));
  await assert.rejects(run(2), is('NETWORK', /reset/));
  await untouched(target);
  await run(1);
  assert.ok((await verifyImage({ store: target, reference: 'out' }, [estargz], { against: { store: source, reference: 'in' } })).ok);
});

test('a digest is no target', async () => {
  const target = openMemory();
  await assert.rejects(convertImage(await tiny('app'), { store: target, reference: digestOf() }, choose(estargz)), is('USAGE', /tag/));
});

test('progress adds up to the bytes of all layers, and names each layer once', async () => {
  let packed = 0;
  let total = 0;
  const done: string[] = [];
  await convert(await tiny('app'), openMemory(), {
    progress(event) {
      if (event.type === 'total') total = event.bytes;
      else if (event.type === 'bytes') packed += event.packed;
      else if (event.phase !== 'start') done.push(event.digest);
    },
  });
  assert.equal(packed, total);
  assert.equal(new Set(done).size, done.length);
});
