import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Digest } from '../../../src/core/digest.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import type { StoredImage } from '../../../src/core/format.ts';
import type { ImageStore } from '../../../src/core/types.ts';
import { openStoredImage } from '../../../src/image/open.ts';
import { openMemory } from '../../../src/oci/memory.ts';
import { BLOB_MEDIA_TYPE } from '../../../formats/nydus/layout.ts';
import { client } from '../../oci/scripted.ts';
import { startFaultRegistry } from '../../support/fault-registry.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { file } from '../../support/tar-corpus.ts';
import { noise } from '../../support/noise.ts';
import { assertShows, convertTars, layersOf } from './images.ts';

const blobsOf = (image: Parameters<typeof layersOf>[0]): readonly { readonly digest: string; readonly size: number }[] => layersOf(image).filter(({ mediaType }) => mediaType === BLOB_MEDIA_TYPE);

test('a chunk is stored once, whichever layer or file has it', async () => {
  const [a, b, c] = [noise(100_000, 1), noise(100_000, 2), noise(100_000, 3)] as const;
  const tars = [
    archive(entries(file('a', a), file('a-again', a), file('b', b))),
    archive(entries(file('x/b', b), file('x/c', c), file('x/c-again', c))),
    archive(entries(file('y/a', a), file('y/c', c))),
  ];
  const { image, report } = await convertTars(tars);
  await assertShows(image, tars, 'three layers');
  // The third layer has nothing of its own.
  const blobs = blobsOf(image);
  assert.equal(blobs.length, 2);
  assert.ok((blobs[0]?.size ?? 0) < 210_000 && (blobs[1]?.size ?? 0) < 110_000, blobs.map(({ size }) => size).join());
  assert.deepEqual(report.platforms[0]?.layers.map(({ chunks }) => chunks), [3, 3, 2]);
  // What that saves is told.
  const saved = report.notes.filter((note) => /there were already/.test(note)).map((note) => note.replace(/^.*already: /, ''));
  assert.deepEqual(saved, ['1 in the layer itself (100000 bytes)', '1 in the layer itself (100000 bytes), 1 in layers below (100000 bytes)', '2 in layers below (200000 bytes)']);
});

test('chunks of one file are found in another at any place of the same grid', async () => {
  const zeros = new Uint8Array(40_000);
  const tar = archive(entries(file('zeros', zeros), file('mixed', Buffer.concat([noise(8192, 1), zeros, noise(8192, 1)])), file('late', Buffer.concat([noise(8192, 9), noise(8192, 1)]))));
  const { image } = await convertTars([tar], { chunkSize: 4096, compressor: 'none' });
  await assertShows(image, [tar], 'grid');
  // One of zeros, a short one of zeros, two of each noise, and where `mixed` leaves the grid.
  assert.ok((blobsOf(image)[0]?.size ?? 0) < 60_000);
});

test('a blob whose files are all hidden is left out', async () => {
  const tars = [archive(entries(file('gone', noise(50_000)))), archive(entries(file('.wh.gone'), file('here', noise(100, 2))))];
  const { image } = await convertTars(tars);
  await assertShows(image, tars, 'hidden');
  assert.equal(blobsOf(image).length, 1);
});

async function dictionaryOf(tars: readonly Uint8Array[], options: object, store: ImageStore = openMemory()): Promise<StoredImage> {
  await convertTars(tars, options, { store });
  return openStoredImage({ store, reference: 'lazy' });
}

test('chunks of a dictionary are not stored again, and its blobs come along as far as they are of use', async () => {
  const [a, b, c] = [noise(100_000, 1), noise(100_000, 2), noise(100_000, 3)] as const;
  const dictionary = await dictionaryOf([archive(entries(file('a', a))), archive(entries(file('b', b))), archive(entries(file('unused', noise(100, 9))))], {});
  const tars = [archive(entries(file('new', c), file('old', a), file('both', Buffer.concat([b])))), archive(entries(file('again', a)))];
  const { image } = await convertTars(tars, { chunkDict: dictionary });
  await assertShows(image, tars, 'with a dictionary');
  const names = blobsOf(image).map(({ digest }) => digest);
  assert.equal(names.length, 3);
  assert.ok(names.includes(dictionary.layers[0]?.digest ?? '') && names.includes(dictionary.layers[1]?.digest ?? ''));
  assert.equal(new Set(names).size, 3);
});

test('blobs of a dictionary in the same registry are mounted: not one of their bytes is asked for or sent', async () => {
  const [a, b, c] = [noise(400_000, 1), noise(300_000, 2), noise(50_000, 3)] as const;
  const tars = [archive(entries(file('new', c), file('old', a), file('both', b)))];
  for (const mount of ['on', 'refused'] as const) {
    const registry = await startFaultRegistry({ isolated: true, mount });
    const from = client(registry.host, 'base/dictionary').store;
    const to = client(registry.host, 'team/app').store;
    try {
      const dictionary = await dictionaryOf([archive(entries(file('a', a))), archive(entries(file('b', b)))], {}, from);
      const foreign = dictionary.layers.slice(0, 2).map(({ digest }) => digest);
      const before = registry.log.length;
      const { image } = await convertTars(tars, { chunkDict: dictionary }, { store: to });
      const log = registry.log.slice(before);
      assert.deepEqual(blobsOf(image).map(({ digest }) => foreign.includes(digest as Digest)), [false, true, true]);
      for (const digest of foreign) {
        const about = log.filter(({ target }) => decodeURIComponent(target).includes(digest));
        const mounts = about.filter(({ method, target }) => method === 'POST' && target.includes('mount='));
        const fetched = about.filter(({ method }) => method === 'GET').length;
        // A registry that does not mount gets the bytes, once.
        assert.deepEqual({ mounts: mounts.length, status: mounts[0]?.status, fetched }, mount === 'on' ? { mounts: 1, status: 201, fetched: 0 } : { mounts: 1, status: 202, fetched: 1 });
      }
      const received = log.reduce((sum, entry) => sum + entry.received, 0);
      // The source goes there as a plain tar first.
      assert.ok(received - (tars[0] as Uint8Array).length < (mount === 'on' ? 100_000 : 900_000), `${received} bytes`);
      await assertShows(image, tars, `mount ${mount}`);
    } finally {
      await Promise.all([from.close(), to.close()]);
      await registry.close();
    }
  }
});

test('a dictionary of batches is one as well', async () => {
  const small = Array.from({ length: 40 }, (_, i) => file(`f${i}`, `text of file ${i}, ${'and more '.repeat(i)}`));
  const dictionary = await dictionaryOf([archive(entries(...small))], { batchSize: 8192 });
  const tars = [archive(entries(...small.slice(5, 20), file('new', 'something new')))];
  const { image } = await convertTars(tars, { chunkDict: dictionary });
  await assertShows(image, tars, 'batches');
  assert.equal(blobsOf(image).length, 2);
});

test('chunk size, compressor and digester come from the dictionary, and cannot be others', async () => {
  const settings = { chunkSize: 8192, compressor: 'lz4', digester: 'sha256' } as const;
  const tars = [archive(entries(file('a', noise(30_000, 1)), file('b', noise(10, 2))))];
  const dictionary = await dictionaryOf(tars, settings);
  const { image } = await convertTars(tars, { chunkDict: dictionary });
  assert.equal(blobsOf(image).length, 1, 'everything is there already');
  await assertShows(image, tars, 'nothing new');
  for (const other of [{ chunkSize: 4096 }, { compressor: 'zstd' }, { digester: 'blake3' }] as const) {
    await assert.rejects(convertTars(tars, { ...other, chunkDict: dictionary }), (error) => error instanceof LazypullError && error.code === 'USAGE' && error.message.includes('dictionary'));
  }
});

test('what is no Nydus image is no dictionary', async () => {
  const store = openMemory();
  await convertTars([archive(entries(file('a', 'a')))], {}, { store });
  const plain = await openStoredImage({ store, reference: 'plain' });
  await assert.rejects(convertTars([archive(entries(file('a', 'a')))], { chunkDict: plain }), (error) => error instanceof LazypullError && error.code === 'USAGE');
  assert.equal((await openStoredImage({ store, reference: 'lazy' })).layers.length, 2);
});
