import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fixtures } from '../../../fixtures/pairs.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import { openLayout } from '../../../src/oci/layout.ts';
import { nydus } from '../../../formats/nydus/index.ts';

/** Images by Nydus' own builder: fixtures/README.md says how they were made. */
const folder = join(fixtures, 'foreign', 'nydus');
const facts = JSON.parse(readFileSync(join(folder, 'facts.json'), 'utf8')) as Readonly<Record<string, { readonly about: string; readonly source: string }>>;

test('images of all kinds are there', () => {
  for (const tag of ['zstd', 'lz4', 'batch', 'plain', 'dictionary', 'zran', 'tarfs', 'v5']) assert.ok(facts[tag], tag);
});

for (const [tag, { about, source }] of Object.entries(facts)) {
  test(`${tag}, by Nydus' builder (${about}), shows what its layers hold, byte by byte`, async () => {
    const store = await openLayout(folder);
    try {
      const report = await verifyImage({ store, reference: tag }, [nydus], { against: { store, reference: source } });
      assert.deepEqual(report.problems, []);
      assert.ok(report.totals.chunks > 20);
      assert.ok(report.notes.some((note) => note.startsWith('a nydus-snapshotter mounts this image lazily')), report.notes.join());
    } finally {
      await store.close();
    }
  });
}
