import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { nydus, nydusZran } from '../../../formats/nydus/index.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { file } from '../../support/tar-corpus.ts';
import { gzipInput } from '../../support/layers.ts';
import { noise } from '../../support/noise.ts';
import { assertCancelled, assertHeldBack, paceOf } from '../../support/pace.ts';
import { convertTars } from './images.ts';

// What test/formats/contract.ts asks of formats whose layers open by themselves, for one whose images open as a whole.

test('opening and reading touch only what they need', async () => {
  const tar = archive(entries(file('data/first', noise(300_000, 7)), file('data/small', noise(20_000)), file('data/last', noise(3_000_000, 9))));
  const { image } = await convertTars([tar]);
  await image.tree();
  const opened = image.stats();
  assert.ok(opened.requests <= 6 && opened.bytes < 50_000, JSON.stringify(opened));
  assert.deepEqual(Buffer.from(await image.readFile('/data/small', { offset: 100, length: 4096 })), Buffer.from(noise(20_000).subarray(100, 4196)));
  const read = image.stats();
  assert.equal(read.requests - opened.requests, 1, 'a read is one request');
  assert.ok(read.bytes - opened.bytes < 25_000, `${read.bytes - opened.bytes} bytes`);
});

for (const format of [nydus, nydusZran]) {
  test(`${format.name}: a cancelled conversion stores nothing`, () => {
    const tar = archive(entries(file('a', noise(2_000_000))));
    return assertCancelled(format, gzipInput(gzipSync(tar), tar, 10_000), 500_000, {});
  });
}

test('a slow sink holds the source back', async () => {
  const pace = await paceOf(nydus, { compressor: 'none' });
  assert.ok(pace.written > 90 << 20);
  assertHeldBack(pace);
});
