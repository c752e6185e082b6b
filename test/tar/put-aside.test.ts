import assert from 'node:assert/strict';
import { test } from 'node:test';
import { collect } from '../../src/core/stream.ts';
import { PutAside } from '../../src/tar/put-aside.ts';
import { mixture, text } from '../codec/samples.ts';
import { tarInput } from '../support/layers.ts';
import { archive, entries } from '../support/tar-blocks.ts';
import { directory, file, symlink } from '../support/tar-corpus.ts';

const BIG = mixture(700_000);
const TAR = archive(entries(directory('./d/'), file('d//a', text(1000, 1)), symlink('l', 'd/a'), file('/big', BIG), file('d/empty')));

test('entries that are wanted are there, under their places in the archive', async () => {
  const aside = new PutAside();
  try {
    const seen: string[] = [];
    await aside.collect(tarInput(TAR, 1000), (path, { type }, ordinal) => {
      seen.push(`${ordinal} ${path} ${type}`);
      return ordinal === 3 || path === 'l';
    });
    assert.deepEqual(seen, ['0 d directory', '1 d/a file', '2 l symlink', '3 big file', '4 d/empty file']);
    const big = aside.get(3);
    assert.equal(big?.entry.size, BIG.length);
    assert.deepEqual(Buffer.from(await collect(big.body(), BIG.length)), Buffer.from(BIG));
    assert.equal(aside.get(2)?.entry.linkName, 'd/a');
    for (const ordinal of [0, 1, 4, 5]) assert.equal(aside.get(ordinal), undefined);
    // A second pass adds to the first.
    await aside.collect(tarInput(TAR), (_path, _entry, ordinal) => ordinal === 1);
    assert.deepEqual(Buffer.from(await collect(aside.get(1)?.body() ?? assert.fail(), 1000)), Buffer.from(text(1000, 1)));
    // Payloads can be read again and in any order.
    assert.deepEqual(Buffer.from(await collect(big.body(), BIG.length)), Buffer.from(BIG));
  } finally {
    await aside.close();
  }
});

test('a pass that fails or is cancelled says so', async () => {
  const aside = new PutAside();
  try {
    await assert.rejects(aside.collect(tarInput(TAR.subarray(0, 4000)), () => true), { code: 'CORRUPT' });
    await assert.rejects(aside.collect(tarInput(archive(entries(file('../out', 'x')))), () => true), { code: 'CORRUPT' });
    await assert.rejects(aside.collect(tarInput(TAR), () => true, AbortSignal.abort()), { code: 'CANCELLED' });
  } finally {
    await aside.close();
  }
});
