import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { digestOf } from '../../../src/core/digest.ts';
import { CountingSource } from '../../../src/core/source.ts';
import type { Descriptor, ImageStore } from '../../../src/core/types.ts';
import { ThreadPool } from '../../../src/codec/pool.ts';
import { zstdCompress } from '../../../src/codec/zstd.ts';
import { inspectImage } from '../../../src/image/inspect.ts';
import { openImage } from '../../../src/image/open.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import type { VerifyReport } from '../../../src/image/verify-report.ts';
import { parseIndex } from '../../../src/oci/documents.ts';
import { OCI } from '../../../src/oci/media-types.ts';
import { openMemory } from '../../../src/oci/memory.ts';
import { estargz } from '../../../formats/estargz/index.ts';
import { CONFIG_BLOB, encodeSociIndex } from '../../../formats/soci/index-manifest.ts';
import { soci } from '../../../formats/soci/index.ts';
import { ANNOTATION, INDEX_TYPE, ZTOC_MEDIA_TYPE, type Checkpoint, type Ztoc, type ZtocRecord } from '../../../formats/soci/layout.ts';
import { encodeZtoc } from '../../../formats/soci/ztoc.ts';
import { fetchAll, gzipInput } from '../../support/layers.ts';
import { LINUX, putBlob, putImage, putIndex, type LayerBlob } from '../../image/fixture.ts';
import { indexed } from './made-by-writer.ts';
import { sampleTar } from './sample-image.ts';

const FORMATS = [estargz, soci];
const TAR = sampleTar([100, 30_000, 0, 5000, 513, 40_000]);
const PACKED = Buffer.concat([gzipSync(TAR.subarray(0, 40_000), { memLevel: 1 }), gzipSync(TAR.subarray(40_000), { memLevel: 2 })]);

interface Indexed {
  readonly layer: LayerBlob;
  readonly ztoc?: Uint8Array;
}

const gzipped = (packed: Uint8Array, tar: Uint8Array): LayerBlob => ({ bytes: packed, diffId: digestOf(tar), mediaType: OCI.layerGzip });

/** An image tagged `app` in an index with its v2 SOCI index. */
async function put(store: ImageStore, layers: readonly Indexed[]): Promise<Descriptor> {
  const ztocs: Descriptor[] = [];
  for (const { layer, ztoc } of layers) {
    if (!ztoc) continue;
    const annotations = { [ANNOTATION.layerDigest]: digestOf(layer.bytes), [ANNOTATION.layerMediaType]: layer.mediaType, [ANNOTATION.spanSize]: '4000' };
    ztocs.push({ ...(await putBlob(store, ZTOC_MEDIA_TYPE, ztoc)), annotations });
  }
  await putBlob(store, INDEX_TYPE.v2, CONFIG_BLOB);
  const index = await putBlob(store, OCI.manifest, encodeSociIndex({ layers: ztocs }));
  const image = await putImage(store, { layers: layers.map(({ layer }) => layer), manifest: { annotations: { [ANNOTATION.indexDigest]: index.digest } } });
  return putIndex(store, [image, { ...index, platform: LINUX, artifactType: INDEX_TYPE.v2, annotations: { [ANNOTATION.imageDigest]: image.digest } }], 'app');
}

async function verify(layers: readonly Indexed[]): Promise<VerifyReport> {
  const store = openMemory();
  await put(store, layers);
  return verifyImage({ store, reference: 'app' }, FORMATS);
}

const messages = (report: VerifyReport): string => report.problems.map(({ code, path, message }) => `${code} ${path ?? '-'} ${message}`).join('\n');

describe('verify of images with a SOCI index', () => {
  it('finds nothing wrong, reads every layer once, and says what a snapshotter does', async () => {
    const store = openMemory();
    const { bytes: ztoc, ztoc: { spanDigests, spans } } = await indexed(PACKED, { spanSize: 4000 });
    assert.ok(spans.algorithm === 'gzip' && spans.checkpoints.filter(({ bits }) => bits > 0).length > 3, 'spans share bytes');
    const plain = await indexed(TAR, { spanSize: 4000 });
    await put(store, [
      { layer: gzipped(PACKED, TAR), ztoc },
      { layer: { bytes: TAR, diffId: digestOf(TAR), mediaType: OCI.layer }, ztoc: plain.bytes },
      { layer: gzipped(gzipSync(TAR), TAR) },
      { layer: { bytes: await zstdCompress(TAR, 3), diffId: digestOf(TAR), mediaType: OCI.layerZstd } },
    ]);
    const sources: CountingSource[] = [];
    const fetched: string[] = [];
    const watched: ImageStore = {
      ...store, location: store.location, resolve: (...a) => store.resolve(...a), tag: (...a) => store.tag(...a), has: (...a) => store.has(...a),
      push: (...a) => store.push(...a), ingest: (...a) => store.ingest(...a), close: () => store.close(), referrers: (...a) => store.referrers?.(...a) ?? Promise.resolve([]),
      open(descriptor) {
        const source = new CountingSource(store.open(descriptor));
        sources.push(source);
        return source;
      },
      fetch(descriptor, signal) {
        fetched.push(descriptor.digest);
        return store.fetch(descriptor, signal);
      },
    };
    const report = await verifyImage({ store: watched, reference: 'app' }, [soci]);
    assert.deepEqual(report.problems, []);
    assert.deepEqual(report.images[0]?.layers.map(({ format, formats, chunks, files }) => [format, formats, chunks, files]), [
      ['soci', ['soci'], spanDigests.length, 6], ['soci', ['soci'], plain.ztoc.spanDigests.length, 6], [null, [], 0, 6], [null, [], 0, 6],
    ]);
    assert.equal(report.notes.filter((note) => /mounts this image lazily .*2 of 4 layers/.test(note)).length, 1, report.notes.join('\n'));
    assert.equal(sources.reduce((sum, { requests }) => sum + requests, 0), 0, 'nothing is read by ranges');
    assert.equal(fetched.filter((digest) => digest === digestOf(PACKED)).length, 1);
  });

  it('takes a layer for everything that it is', async () => {
    const workers = new ThreadPool(1);
    const store = openMemory();
    try {
      const made = await estargz.convert(gzipInput(PACKED, TAR), { workers, ingest: (type, produce) => store.ingest(type, produce) }, { chunkSize: 3000 });
      const bytes = await fetchAll(store, made.descriptor);
      const layer: LayerBlob = { bytes, diffId: made.diffId, mediaType: made.descriptor.mediaType, annotations: { ...made.descriptor.annotations } };
      const { bytes: ztoc, ztoc: content } = await indexed(bytes, { spanSize: 10_000 });
      const report = await verify([{ layer, ztoc }]);
      assert.equal(messages(report), '');
      const [verified] = report.images[0]?.layers ?? [];
      assert.deepEqual([verified?.format, verified?.formats], ['estargz', ['estargz', 'soci']]);
      assert.ok((verified?.chunks ?? 0) > content.spanDigests.length + 20);
      const broken = await verify([{ layer, ztoc: encodeZtoc(changed(content, 'uid', 99)) }]);
      assert.match(messages(broken), /DIFFERENT bin\/file-1 .*uid: the tar has 1, the soci index has 99/);
    } finally {
      await workers.close();
    }
  });

  it('notes what old snapshotters cannot read', async () => {
    const layer = gzipped(PACKED, TAR);
    for (const upstreamCheckpoints of [true, false]) {
      const { bytes: ztoc } = await indexed(PACKED, { spanSize: 10_000, upstreamCheckpoints });
      const report = await verify([{ layer, ztoc }]);
      assert.equal(report.ok, true);
      assert.equal(report.notes.filter((note) => /gzip members begin inside 1 of \d+ spans/.test(note)).length, upstreamCheckpoints ? 1 : 0);
    }
  });

  it('finds what a zTOC says wrong', async () => {
    const layer = gzipped(PACKED, TAR);
    const { ztoc } = await indexed(PACKED, { spanSize: 4000 });
    assert.ok(ztoc.spans.algorithm === 'gzip');
    const { checkpoints } = ztoc.spans;
    const spans = { ...ztoc.spans, checkpoints: checkpoints.map((one, i): Checkpoint => (i === 4 ? { ...one, window: new Uint8Array(one.window.length).fill(7) } : one)) };
    const cases: [Ztoc, RegExp][] = [
      [changed(ztoc, 'mode', 0o600), /DIFFERENT bin\/file-1 [^\n]*mode[^\n]*\n?(?:.*\n)*.*/],
      [changed(ztoc, 'mode', 0o600), /CORRUPT \.\/bin\/file-1 tar header has the mode 4755, the zTOC says 600/],
      [changed(ztoc, 'name', './bin/other'), /DIFFERENT bin\/other .*extra/],
      [{ ...ztoc, spans }, /DIGEST_MISMATCH bin\/file-\d content is sha256:\w+ by the index/],
      [{ ...ztoc, spanDigests: ztoc.spanDigests.map((digest, i) => (i === 2 ? digestOf(Buffer.from('x')) : digest)) }, /^DIGEST_MISMATCH bin\/file-1 \d+ stored bytes have digest [^\n]*$/],
      [{ ...ztoc, records: ztoc.records.slice(0, -1) }, /DIFFERENT .*missing/],
      [{ ...ztoc, tarSize: ztoc.tarSize + 1024 }, /CORRUPT .*the gzip data ends before all of it is inflated/],
      [changed(ztoc, 'modTime', ''), /has no modification time: a snapshotter refuses to read the file/],
    ];
    for (const [wrong, pattern] of cases) {
      const report = await verify([{ layer, ztoc: encodeZtoc(wrong) }]);
      assert.equal(report.ok, false, String(pattern));
      assert.match(messages(report), pattern);
    }
  });

  it('reports what formats say about the image, in inspect as well, where nothing is pulled', async () => {
    const store = openMemory();
    const { bytes: ztoc } = await indexed(PACKED, { spanSize: 4000 });
    await put(store, [{ layer: gzipped(PACKED, TAR), ztoc }, { layer: gzipped(gzipSync(TAR), TAR) }]);
    const report = await inspectImage({ store, reference: 'app' }, [soci]);
    assert.deepEqual(report.problems, []);
    assert.equal(report.notes.length, 1);
    const [first, second] = report.images[0]?.layers ?? [];
    assert.deepEqual([first?.format, first?.formats, first?.eager, first?.lazy?.indexBytes], ['soci', ['soci'], null, ztoc.length]);
    assert.deepEqual([second?.format, second?.lazy, second?.problem, second?.eager], ['soci', null, null, 'the SOCI index has no zTOC for it']);
    assert.deepEqual(report.read, { requests: 2, bytes: ztoc.length + CONFIG_BLOB.length });
    const image = await openImage({ store, reference: 'app' }, FORMATS, { platform: LINUX });
    assert.equal((await image.readFile('/bin/hard-2')).length, 0);
    assert.equal((await image.readFile('/bin/link-1')).length, 30_000);
  });

  it('tells of platforms that have none, where others have one', async () => {
    const store = openMemory();
    const { bytes: ztoc } = await indexed(PACKED, { spanSize: 4000 });
    const layer = gzipped(PACKED, TAR);
    const index = parseIndex(await fetchAll(store, await put(store, [{ layer, ztoc }])));
    const other = await putImage(store, { layers: [layer], config: { architecture: 'arm64' } });
    const plain = await putImage(store, { layers: [layer] });
    await putIndex(store, [...index.manifests, { ...other, platform: { os: 'linux', architecture: 'arm64' } }], 'both');
    await putIndex(store, [{ ...plain, platform: LINUX }, { ...other, platform: { os: 'linux', architecture: 'arm64' } }], 'neither');
    const notes = async (reference: string): Promise<readonly string[]> => {
      const report = await verifyImage({ store, reference }, FORMATS);
      assert.deepEqual(report.problems, []);
      return report.notes.filter((note) => /no soci index/.test(note));
    };
    assert.deepEqual(await notes('both'), ['linux/arm64: there is no soci index about this image, so nothing is lazy by it']);
    assert.deepEqual(await notes('app'), []);
    assert.deepEqual(await notes('neither'), []);
  });

  it('tells of a SOCI index that is not there', async () => {
    const store = openMemory();
    await putImage(store, { layers: [gzipped(PACKED, TAR)], manifest: { annotations: { [ANNOTATION.indexDigest]: digestOf(Buffer.from('gone')) } } }, 'app');
    const verified = await verifyImage({ store, reference: 'app' }, FORMATS);
    assert.match(messages(verified), /CORRUPT .*which is not in the repository/);
    assert.match((await inspectImage({ store, reference: 'app' }, FORMATS)).problems.join(), /which is not in the repository/);
  });
});

/** One field of one file's record. */
function changed<K extends keyof ZtocRecord>(ztoc: Ztoc, key: K, value: ZtocRecord[K]): Ztoc {
  return { ...ztoc, records: ztoc.records.map((record) => (record.name.endsWith('bin/file-1') ? { ...record, [key]: value } : record)) };
}
