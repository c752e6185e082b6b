import assert from 'node:assert/strict';
import { test } from 'node:test';
import { collect, streamOf } from '../../src/core/stream.ts';
import type { ByteSource, ImageStore } from '../../src/core/types.ts';
import { withReferrers } from '../../src/image/index-elsewhere.ts';
import { describe as descriptorOf } from '../../src/oci/documents.ts';
import { openMemory } from '../../src/oci/memory.ts';

test('what two stores have is read from where it is, belongs to who reads it, and is expected where it is asked for', async () => {
  const [here, elsewhere] = [openMemory(), openMemory()];
  const [own, other] = ['own bytes', 'other bytes'].map((text) => descriptorOf('application/octet-stream', Buffer.from(text)));
  assert.ok(own && other);
  await here.push(own, () => streamOf(Buffer.from('own bytes')));
  await elsewhere.push(other, () => streamOf(Buffer.from('other bytes')));
  const expected: number[][] = [];
  const open = (descriptor: typeof own): ByteSource => {
    const source = here.open(descriptor);
    return {
      size: source.size,
      fresh: true,
      read: async (offset, length) => new Uint8Array(await source.read(offset, length)),
      expect: (offset, length) => void expected.push([offset, length]),
      expects: (offset) => offset === 1,
    };
  };
  const store = withReferrers(Object.assign(Object.create(here) as ImageStore, { open }), { ...bound(elsewhere), referrers: async () => [] });
  const [first, second] = [store.open(own), store.open(other)];
  // Without this nobody would give its memory back.
  assert.deepEqual([first.fresh, second.fresh], [true, true]);
  assert.equal(Buffer.from(await first.read(4, 5)).toString(), 'bytes');
  const bytes = await second.read(0, 5);
  assert.equal(Buffer.from(bytes).toString(), 'other');
  bytes.fill(0);
  assert.equal(Buffer.from(await second.read(0, 5)).toString(), 'other', 'a reader may do with it what he likes');
  assert.equal(Buffer.from(await collect(store.fetch(other), 100)).toString(), 'other bytes');
  first.expect?.(1, 2);
  assert.deepEqual([expected, first.expects?.(1, 2), first.expects?.(2, 2)], [[[1, 2]], true, false]);
});

function bound(store: ImageStore): Pick<ImageStore, 'has' | 'open' | 'fetch'> {
  return { has: store.has.bind(store), open: store.open.bind(store), fetch: store.fetch.bind(store) };
}
