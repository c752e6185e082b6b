import assert from 'node:assert/strict';
import { test } from 'node:test';
import { soci } from '../../../formats/soci/index.ts';
import { ZTOC_MEDIA_TYPE } from '../../../formats/soci/layout.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import { choose } from '../../../src/core/format.ts';
import type { ImageStore } from '../../../src/core/types.ts';
import { convertImage } from '../../../src/image/convert.ts';
import { inspectImage } from '../../../src/image/inspect.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import { openMemory, type MemoryStore } from '../../../src/oci/memory.ts';
import { gzipLayer, putImage } from '../../image/fixture.ts';

/** A store that has lost its zTOCs, or all but their first bytes. */
function damaged(store: MemoryStore, how: 'missing' | 'cut'): ImageStore {
  return {
    location: store.location,
    resolve: (reference) => store.resolve(reference),
    tag: (descriptor, tag) => store.tag(descriptor, tag),
    has: (descriptor) => store.has(descriptor),
    open: (descriptor) => store.open(descriptor),
    async *fetch(descriptor, signal) {
      const broken = descriptor.mediaType === ZTOC_MEDIA_TYPE;
      if (broken && how === 'missing') throw new LazypullError('NOT_FOUND', `${descriptor.digest} is not there`);
      for await (const bytes of store.fetch(descriptor, signal)) yield broken ? new Uint8Array(bytes.length) : bytes;
    },
    push: (descriptor, open) => store.push(descriptor, open),
    ingest: (mediaType, produce) => store.ingest(mediaType, produce),
    referrers: (subject) => store.referrers(subject),
    close: () => store.close(),
  };
}

test('verify and inspect do not promise laziness when a zTOC cannot be read', async () => {
  const store = openMemory();
  await putImage(store, { layers: [gzipLayer([{ path: 'a', content: 'content' }])] }, 'app');
  const place = { store, reference: 'app' };
  await convertImage(place, place, choose(soci, { minLayerSize: 0 }));
  assert.match((await verifyImage(place, [soci])).notes.join(), /mounts this image lazily/);
  for (const [how, why] of [['missing', /unpacks this image eagerly: the zTOC of layer sha256:\w+ cannot be had/], ['cut', /unpacks this image eagerly: none of its zTOCs can be used/]] as const) {
    const broken = { store: damaged(store, how), reference: 'app' };
    const { ok, notes } = await verifyImage(broken, [soci]);
    assert.equal(ok, false, how);
    assert.match(notes.join(), why);
    assert.match((await inspectImage(broken, [soci])).notes.join(), why);
  }
});
