import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { digestOf } from '../../../src/core/digest.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import { ThreadPool } from '../../../src/codec/pool.ts';
import { openMemory } from '../../../src/oci/memory.ts';
import { nydus, type NydusOptions } from '../../../formats/nydus/index.ts';
import { writeNydus } from '../../../formats/nydus/write.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { directory, file, hardlink, symlink, tarCases } from '../../support/tar-corpus.ts';
import { convertTar, gzipInput, tarInput } from '../../support/layers.ts';
import { noise } from '../../support/noise.ts';
import { mixture, records, text } from '../../codec/samples.ts';
import { assertShows, convertTars, layersOf } from './images.ts';

const WAYS: Readonly<Record<string, NydusOptions>> = {
  default: {},
  'small chunks': { chunkSize: 4096 },
  'lz4, sha256': { compressor: 'lz4', digester: 'sha256', chunkSize: 8192 },
  'aligned and stored': { compressor: 'none', aligned: true },
  'aligned and compressed': { aligned: true, chunkSize: 65_536 },
  batches: { batchSize: 65_536, chunkSize: 16_384 },
  'batches of lz4': { batchSize: 4096, compressor: 'lz4' },
};

/** What the corpus has that no tree can show. */
const REFUSED: Readonly<Record<string, string>> = {
  hardLinkOutOfLayer: 'CORRUPT',
  // Numbers beyond those of Linux.
  devices: 'CORRUPT',
};

test('every archive of the corpus shows as it is, or is refused', async () => {
  for (const { name, bytes, expected } of tarCases()) {
    const code = expected === 'ok' ? REFUSED[name] : expected;
    const converting = convertTars([bytes], { batchSize: 4096 }, { jobs: 1 });
    if (code) {
      await assert.rejects(converting, (error) => error instanceof LazypullError && error.code === code, `${name} must be ${code}`);
      continue;
    }
    const { image } = await converting.catch((error: unknown) => assert.fail(`${name}: ${String(error)}`));
    await assertShows(image, [bytes], name);
  }
});

const words = (size: number): Uint8Array => Buffer.from('all work and no play makes a dull image '.repeat(Math.ceil(size / 40))).subarray(0, size);
const sample = (): Uint8Array =>
  archive(entries(
    directory('data/'), file('data/noise', noise(600_000, 7)), file('data/text', words(700_000)), file('data/one', 'x'), file('data/empty'), hardlink('data/link', 'data/one'), symlink('data/to', 'text'),
    { path: 'data/null', type: 'char', mode: 0o666, major: 1, minor: 3 }, { path: 'data/disk', type: 'block', mode: 0o660, major: 259, minor: 70_000 }, { path: 'data/pipe', type: 'fifo', mode: 0o600 },
    file('data/caps', 'x', { xattrs: new Map([['security.capability', noise(20)], ['user.a', new Uint8Array(0)]]), mode: 0o4755, mtime: { seconds: -5, nanoseconds: 123_456_789 } }),
    ...Array.from({ length: 300 }, (_, i) => file(`data/small-${i}`, words(10 + i * 7))), file('data/block', noise(4096)), file('data/chunk', noise(1 << 16, 3)), file('data/over', noise((1 << 20) + 1, 4)),
  ));

/** Blob and bootstrap layer of the sample. Any change here changes every image that is converted again. */
const GOLDEN: Readonly<Record<string, readonly string[]>> = {
  default: ['a306f52d2c791bd0', '459ea3358161bb62'],
  'small chunks': ['61641575f9471aae', 'd0c79ad1362e8ce4'],
  'lz4, sha256': ['4d0de544e773a9b9', 'da93f4bea27f7a47'],
  'aligned and stored': ['1a233edb21060615', '08fddabf1826291c'],
  'aligned and compressed': ['657788d83b4ab234', '210bba14fde318e1'],
  batches: ['3217ae6f9620fe36', 'ea79a464b5282514'],
  'batches of lz4': ['e42dda0a3093fcaa', '7639ef9c3f707a17'],
};

test('files of all sizes, in all ways of writing; and what is written stays the same', async () => {
  const digests: Record<string, string[]> = {};
  for (const [name, options] of Object.entries(WAYS)) {
    const { image } = await convertTars([sample()], options);
    await assertShows(image, [sample()], name);
    digests[name] = layersOf(image).map(({ digest }) => digest.slice(7, 23));
  }
  assert.deepEqual(digests, GOLDEN);
});

test('the bytes depend on input and options alone: not on threads, nor on how the input is cut', async () => {
  const tar = sample();
  const packed = gzipSync(tar);
  for (const name of ['default', 'small chunks', 'lz4, sha256', 'batches']) {
    const options = WAYS[name] as NydusOptions;
    // Out of gzip the blob is another one than out of the plain tar: the matches of the stream are used again.
    for (const inputs of [[tarInput(tar), tarInput(tar, 1000)], [gzipInput(packed, tar), gzipInput(packed, tar, 1000), gzipInput(packed, tar, 7)]]) {
      const digests = await Promise.all(inputs.map(async (input, i) => (await convertTar(nydus, input, options, 1 + i)).layer.descriptor.digest));
      assert.deepEqual(digests, digests.map(() => digests[0]), name);
    }
  }
});

test('out of gzip, blobs are right and no larger', async () => {
  const tar = archive(entries(...['src/a.ts', 'src/b.ts'].map((path, i) => file(path, text(300_000, i + 1))), file('bin/x', records(400_000)), file('bin/y', mixture(2_500_000)), ...Array.from({ length: 50 }, (_, i) => file(`doc/${i}`, text(100 * i, i)))));
  const packed = gzipSync(tar);
  for (const options of [{}, { compressor: 'lz4' as const }, { batchSize: 65_536 }]) {
    const { image } = await convertTars([tar], options, { layers: [{ bytes: packed, diffId: digestOf(tar), mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip' }] });
    await assertShows(image, [tar], JSON.stringify(options));
    const [searched, replayed] = await Promise.all([convertTar(nydus, tar, options), convertTar(nydus, gzipInput(packed, tar), options)]);
    assert.notEqual(replayed.layer.descriptor.digest, searched.layer.descriptor.digest);
    assert.equal(layersOf(image)[0]?.digest, replayed.layer.descriptor.digest, 'a whole conversion knows as much');
    assert.ok(replayed.blob.length < 1.05 * searched.blob.length, `${replayed.blob.length} and ${searched.blob.length} bytes`);
  }
});

test('a layer without content has no blob, and nothing is stored for it', async () => {
  const workers = new ThreadPool(1);
  try {
    let ingested = 0;
    const layer = await writeNydus(tarInput(archive(entries(directory('d/'), file('d/empty'), symlink('l', 'd')))), { workers, ingest: async () => assert.fail(`stored ${++ingested}`) }, {});
    assert.equal(layer.descriptor.size, 0);
    assert.deepEqual([layer.entries, layer.chunks], [3, 0]);
  } finally {
    await workers.close();
  }
});

test('aligned and stored, a blob begins with its own address space', async () => {
  const tar = archive(entries(file('a', noise(5000)), file('b', noise(100, 2)), file('c', noise(4096, 3))));
  const { blob } = await convertTar(nydus, tar, { compressor: 'none', aligned: true });
  assert.deepEqual(Buffer.from(blob.subarray(0, 5000)), Buffer.from(noise(5000)));
  assert.deepEqual(Buffer.from(blob.subarray(8192, 8292)), Buffer.from(noise(100, 2)));
  assert.deepEqual(Buffer.from(blob.subarray(12_288, 16_384)), Buffer.from(noise(4096, 3)));
});

test('batches make small files smaller', async () => {
  const tar = archive(entries(...Array.from({ length: 500 }, (_, i) => file(`f${i}`, words(200 + i)))));
  const plain = await convertTar(nydus, tar, {});
  const batched = await convertTar(nydus, tar, { batchSize: 1 << 20 });
  assert.ok(batched.blob.length < plain.blob.length * 0.75, `${batched.blob.length} and ${plain.blob.length} bytes`);
});

test('options that make no sense are USAGE', async () => {
  const wrong: NydusOptions[] = [{ chunkSize: 2048 }, { chunkSize: 3 << 20 }, { chunkSize: 32 << 20 }, { batchSize: 1000 }, { level: 0 }, { level: 23 }, { compressor: 'gzip' as never }, { digester: 'md5' as never }, { batchSize: 4096, chunkSize: 16 << 20 }];
  for (const options of wrong) await assert.rejects(convertTars([sample()], options), (error) => error instanceof LazypullError && error.code === 'USAGE', JSON.stringify(options));
});

test('a store that fails ends the conversion with its error, and a tar that ends early with its own', async () => {
  const workers = new ThreadPool(2);
  try {
    const full = new LazypullError('IO', 'the disk is full');
    const early = writeNydus(tarInput(sample()), { workers, ingest: () => Promise.reject(full) }, {});
    await assert.rejects(early, full);
    let taken = 0;
    const late = writeNydus(tarInput(sample()), { workers, ingest: (_, produce) => produce(async (bytes) => {
      taken += bytes.length;
      if (taken > 100_000) throw full;
    }, () => digestOf()) as never }, {});
    await assert.rejects(late, full);
    const store = openMemory();
    let stored = 0;
    const ingest = async (mediaType: string, produce: Parameters<typeof store.ingest>[1]) => {
      const descriptor = await store.ingest(mediaType, produce);
      stored += 1;
      return descriptor;
    };
    await assert.rejects(writeNydus(tarInput(sample().subarray(0, 1_000_000)), { workers, ingest }, {}), (error) => error instanceof LazypullError && error.code === 'CORRUPT');
    assert.equal(stored, 0);
    // Threads and memory are all there again.
    const leases = await Promise.all(Array.from({ length: 4 }, () => workers.lease(1)));
    for (const lease of leases) lease.release();
  } finally {
    await workers.close();
  }
});

test('whatever the files, chunks and batches: what is read is what was written', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ size: fc.integer({ min: 0, max: 40_000 }), seed: fc.integer({ min: 0, max: 4 }), text: fc.boolean() }), { maxLength: 12 }),
      fc.constantFrom(...Object.values(WAYS)),
      async (files, options) => {
        const tar = archive(entries(...files.map(({ size, seed, text }, i) => file(`f${i}`, text ? words(size) : noise(size, seed)))));
        const { image } = await convertTars([tar], { ...options, chunkSize: 4096 });
        await assertShows(image, [tar], 'property');
      },
    ),
    { numRuns: 25 },
  );
});
