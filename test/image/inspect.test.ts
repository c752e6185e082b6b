import assert from 'node:assert/strict';
import { it } from 'node:test';
import { digestOf } from '../../src/core/digest.ts';
import { LazypullError } from '../../src/core/errors.ts';
import type { Format } from '../../src/core/format.ts';
import { inspectImage } from '../../src/image/inspect.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { openMemory } from '../../src/oci/memory.ts';
import { ARM, gzipLayer, lazyLayer, LINUX, putAttestation, putImage, putIndex, testFormat, type Entry } from './fixture.ts';

const entries: Entry[] = [
  { path: 'd/' }, { path: 'd/big', content: 'b'.repeat(200) }, { path: 'd/hard', type: 'hardlink', linkName: 'd/big' }, { path: 'implied/small', content: 's' },
];

it('inspectImage tells what each layer is and what reading it lazily costs', async () => {
  const store = openMemory();
  const lazy = lazyLayer(entries);
  const gzip = gzipLayer(entries);
  await putImage(store, { layers: [lazy, gzip], manifest: { annotations: { a: 'b' } } }, 'app');
  const report = await inspectImage({ store, reference: 'app' }, [testFormat]);
  const [image] = report.images;
  const [first, second] = image?.layers ?? [];
  const indexBytes = first?.lazy?.indexBytes ?? 0;
  assert.ok(indexBytes > 100);
  assert.deepEqual(first, {
    digest: digestOf(lazy.bytes), mediaType: OCI.layer, size: lazy.bytes.length, diffId: lazy.diffId, annotations: lazy.annotations, format: 'test', formats: ['test'], eager: null, problem: null,
    lazy: {
      // d, d/big, d/hard, implied/small: the directory that nobody describes is none.
      entries: 4, files: 2, chunks: 6, contentBytes: 201, indexBytes, overheadPercent: Math.round((indexBytes / lazy.bytes.length) * 10_000) / 100,
      prefetchBytes: 512, firstReadBytes: indexBytes + 512, details: { chunkSize: 64 },
    },
  });
  assert.deepEqual([second?.format, second?.lazy, second?.problem], [null, null, null]);
  assert.deepEqual(image?.totals, { layers: 2, lazyLayers: 1, size: lazy.bytes.length + gzip.bytes.length, entries: 4, files: 2, chunks: 6, indexBytes, firstReadBytes: indexBytes + 512 + gzip.bytes.length });
  assert.deepEqual([image?.platform, image?.annotations], [LINUX, { a: 'b' }]);
  assert.deepEqual(report.read, { requests: 2, bytes: indexBytes }, 'nothing but the index is read');
  assert.deepEqual(JSON.parse(JSON.stringify(report)), report, 'the report is plain JSON');
});

it('inspectImage shows all platforms of an index, or one, and counts shared layers once', async () => {
  const store = openMemory();
  const lazy = lazyLayer(entries);
  const amd = await putImage(store, { layers: [lazy] });
  const arm = await putImage(store, { layers: [lazy, gzipLayer([])], platform: ARM });
  await putIndex(store, [amd, arm, await putAttestation(store, amd)], 'app');
  const report = await inspectImage({ store, reference: 'app' }, [testFormat]);
  assert.deepEqual(report.images.map(({ platform }) => platform), [LINUX, ARM]);
  assert.deepEqual([report.totals.layers, report.totals.lazyLayers, report.others.length], [2, 1, 1]);
  assert.equal(report.read.requests, 2);
  const one = await inspectImage({ store, reference: 'app' }, [testFormat], { platform: ARM });
  assert.deepEqual(one.images.map(({ digest }) => digest), [arm.digest]);
});

it('inspectImage shows what is wrong instead of failing, unless it is the network', async () => {
  const store = openMemory();
  const broken = { ...lazyLayer(entries), annotations: { 'test.lazypull.index': digestOf() } };
  await putImage(store, { layers: [broken], config: { history: [{}, {}] } }, 'app');
  const report = await inspectImage({ store, reference: 'app' }, [testFormat]);
  assert.equal(report.images[0]?.layers[0]?.problem, 'test index has the wrong digest');
  assert.match(report.problems.join(), /history/);
  const down: Format<unknown> = { ...testFormat, open: () => Promise.reject(new LazypullError('NETWORK', 'down')) };
  await assert.rejects(inspectImage({ store, reference: 'app' }, [down]), (error: unknown) => error instanceof LazypullError && error.code === 'NETWORK');
});
