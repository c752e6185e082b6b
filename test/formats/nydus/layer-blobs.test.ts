import assert from 'node:assert/strict';
import { digestOf } from '../../../src/core/digest.ts';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { LazypullError } from '../../../src/core/errors.ts';
import { Upload } from '../../../formats/nydus/layer-upload.ts';
import { BlobList, blobOf, ChunkIndex, refOf, rowOf } from '../../../formats/nydus/layer-blobs.ts';
import { ChunkTable } from '../../../formats/nydus/layer-chunks.ts';

const digest = (text: string): Uint8Array => createHash('sha256').update(text).digest();

test('references hold blob and row', () => {
  for (const [blob, row] of [[0, 0], [1, 5], [253, 2 ** 24 - 2]] as const) {
    const ref = refOf(blob, row);
    assert.ok(ref < 2 ** 32);
    assert.deepEqual([blobOf(ref), rowOf(ref)], [blob, row]);
  }
});

test('every chunk is found by its digest, and nothing else is', () => {
  const tables = [new ChunkTable(), new ChunkTable()];
  const index = new ChunkIndex(tables);
  for (let i = 0; i < 5000; i += 1) index.add(i % 2, (tables[i % 2] as ChunkTable).add(digest(`chunk ${i}`), 0, 100));
  for (let i = 0; i < 5000; i += 1) assert.equal(index.find(digest(`chunk ${i}`), 0), refOf(i % 2, Math.floor(i / 2)));
  for (let i = 0; i < 100; i += 1) assert.equal(index.find(digest(`other ${i}`), 0), undefined);
});

test('digests that begin alike are told apart', () => {
  const table = new ChunkTable();
  const index = new ChunkIndex([table]);
  const alike = Array.from({ length: 200 }, (_, i) => Buffer.concat([Buffer.alloc(31, 7), Buffer.of(i)]));
  for (const one of alike) index.add(0, table.add(one, 0, 1));
  for (const [i, one] of alike.entries()) assert.equal(index.find(one, 0), i);
});

test('the own blob gets its number with its first chunk, a dictionary\'s with its first use', () => {
  const dictionary = [{ chunks: new ChunkTable(true) }, { chunks: new ChunkTable(true) }];
  for (const [i, { chunks }] of dictionary.entries()) chunks.addNumbered(7, digest(`d${i}`), 10, 4096, { offset: 1, size: 2, flags: 0 });
  const list = new BlobList([], { chunks: new ChunkTable() }, { blobs: dictionary, index: new ChunkIndex(dictionary.map(({ chunks }) => chunks)) });
  assert.equal(list.find(digest('d1'), 0, 10), refOf(0, 0));
  assert.equal(list.add(digest('new'), 0, 10), refOf(1, 0));
  assert.equal(list.find(digest('new'), 0, 10), refOf(1, 0));
  assert.equal(list.find(digest('d0'), 0, 10), refOf(2, 0));
  assert.equal(list.find(digest('d1'), 0, 10), refOf(0, 0));
  assert.deepEqual(list.blobs, [dictionary[1], list.own, dictionary[0]]);
  assert.equal(dictionary[1]?.chunks.number(0), 7);
  assert.deepEqual(list.saved, { layer: { chunks: 1, bytes: 10 }, below: { chunks: 0, bytes: 0 }, dictionary: { chunks: 3, bytes: 30 } });
});

test('uploads: nothing without bytes, an error of the store at the next write, none after `abandon`', async () => {
  const none = new Upload(() => assert.fail('nothing is to be stored'), 'x');
  assert.equal(await none.finish(), undefined);
  const broken = new Upload(() => Promise.reject(new LazypullError('IO', 'full')), 'x');
  await assert.rejects(async () => {
    for (let i = 0; i < 3; i += 1) await broken.write(new Uint8Array(1));
  }, /full/);
  await broken.abandon(new Error('over'));
  let ended: unknown;
  const stopped = new Upload((_, produce) => produce(async () => undefined, () => digestOf()).catch((error: unknown) => {
    ended = error;
    throw error;
  }) as never, 'x');
  await stopped.write(new Uint8Array(1));
  await stopped.abandon(new LazypullError('CORRUPT', 'no more'));
  assert.match(String(ended), /no more/);
});
