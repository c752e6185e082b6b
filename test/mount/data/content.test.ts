import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { digestOf } from '../../../src/core/digest.ts';
import { walk } from '../../../src/layer/walk.ts';
import { expectedTree } from '../../formats/nydus/images.ts';
import { noise } from '../../support/noise.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { directory, file, hardlink, symlink } from '../../support/tar-corpus.ts';
import { mounted, openCache, readThrough, WAYS } from './images.ts';

/** Two layers with files of every kind of size, one over the other. */
export function sampleTars(): readonly Uint8Array[] {
  const words = 'words and words and '.repeat(9000);
  return [
    archive(entries(
      directory('d/'), file('d/empty'), file('d/one', 'x'), file('d/block', noise(512)), file('d/page', noise(4096)), file('d/odd', noise(5001)),
      file('d/large', noise(300_000)), file('d/text', words), hardlink('again', 'd/large'), symlink('link', 'd/text'), file('gone', 'never seen'), file('old', noise(70_000, 3)),
    )),
    archive(entries(file('.wh.gone'), file('old', noise(20_000, 4)), directory('e/'), file('e/same', words), file('e/next', noise(9999, 5)))),
  ];
}

for (const [name, make] of Object.entries(WAYS)) {
  test(`${name}: devices hold the bytes of all files, read once and again`, async (t) => {
    const tars = sampleTars();
    const source = await make(tars);
    const { cache, problems } = await openCache(t);
    const opened = await mounted(t, source, cache);
    const expected = await expectedTree(tars);
    for (let round = 0; round < 2; round += 1) {
      const before = source.store.reads.length;
      for (const { path, node } of walk(expected)) {
        if (node.type !== 'file') continue;
        const shown = [...walk(opened.tree.root)].find((one) => one.path === path)?.node;
        assert.ok(shown?.type === 'file' && shown.size === node.size, path);
        assert.equal(digestOf(await readThrough(opened, shown)), node.digest, `${path}, time ${round + 1}`);
      }
      if (round > 0) assert.equal(source.store.reads.length, before, 'the second time nothing is fetched');
    }
    assert.deepEqual(problems, []);
    const { answers, layers } = opened.content.stats();
    assert.ok(answers.fetched > 0 && answers.local > 0 && layers.every(({ errors, refetched }) => errors === 0 && refetched === 0));
  });
}

test('random reads of random images are right in every format', async (t) => {
  const trees = fc.array(fc.record({ name: fc.integer({ min: 0, max: 30 }), size: fc.oneof(fc.integer({ min: 0, max: 600 }), fc.integer({ min: 0, max: 60_000 })), seed: fc.nat(1000), text: fc.boolean() }), { minLength: 1, maxLength: 12 });
  const tarOf = (files: readonly { name: number; size: number; seed: number; text: boolean }[]): Uint8Array =>
    archive(entries(...files.map(({ name, size, seed, text }) => file(`f${name}`, text ? `${seed} text `.repeat(size / 6) : noise(size, seed)))));
  const reads = fc.array(fc.tuple(fc.nat(1_000_000), fc.nat(1_000_000), fc.nat(200_000)), { minLength: 1, maxLength: 20 });
  await fc.assert(fc.asyncProperty(fc.constantFrom(...Object.keys(WAYS).filter((way) => way !== 'soci, pulled whole')), fc.array(trees, { minLength: 1, maxLength: 3 }), reads, async (way, layers, wishes) => {
    const tars = layers.map(tarOf);
    const source = await (WAYS[way] as (typeof WAYS)[string])(tars);
    const { cache } = await openCache(t);
    const { content, tree } = await mounted(t, source, cache);
    const plain = new Map<string, Uint8Array>();
    for (const files of layers) for (const one of files) plain.set(`f${one.name}`, bytesOf(one));
    const shown = [...walk(tree.root)].flatMap(({ path, node }) => (node.type === 'file' && node.size > 0 ? [{ path, node }] : []));
    if (shown.length === 0) return;
    await Promise.all(wishes.map(async ([which, at, length]) => {
      const { path, node } = shown[which % shown.length] as (typeof shown)[number];
      const wanted = plain.get(path) as Uint8Array;
      assert.equal(node.size, wanted.length, path);
      for (const { fileOffset, length: run, chunk, chunkOffset } of node.extents) {
        const from = at % run;
        const size = Math.min(run - from, length + 1);
        const got = await content.read({ device: chunk.blob - 1, address: chunk.offset + chunkOffset + from, length: size });
        assert.ok(Buffer.from(got).equals(Buffer.from(wanted.subarray(fileOffset + from, fileOffset + from + size))), `${way}: ${size} bytes at ${fileOffset + from} of ${path}`);
      }
    }));
    await content.fill();
    assert.ok(content.complete());
    await content.close();
  }), { numRuns: 25, endOnFailure: true });
});

function bytesOf({ size, seed, text }: { size: number; seed: number; text: boolean }): Uint8Array {
  return text ? Buffer.from(`${seed} text `.repeat(size / 6)) : noise(size, seed);
}
