import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { collect } from '../../src/core/stream.ts';
import { openMemory } from '../../src/oci/memory.ts';
import { noise, pushBytes, pushImage, rejectsWith, storeContract } from './store-contract.ts';

storeContract('memory', async () => {
  const store = openMemory('test');
  return { store, close: () => store.close() };
});

describe('memory store', () => {
  it('takes blobs of another one without copying, manifests not', async () => {
    const from = openMemory('from');
    const to = openMemory('to');
    const bytes = noise(1000);
    const descriptor = await pushBytes(from, bytes);
    const { manifest } = await pushImage(from, 1);
    assert.equal(await to.mount(descriptor, from), true);
    assert.deepEqual(Buffer.from(await collect(to.fetch(descriptor), 1000)), bytes);
    assert.equal(await to.mount(manifest, from), false);
    assert.equal(await from.mount({ ...descriptor, size: 5 }, to), false);
  });

  it('names its images when it is asked for one that it does not have', async () => {
    const store = openMemory('three');
    await rejectsWith(store.resolve(''), 'NOT_FOUND', /it has none/);
    const { manifest } = await pushImage(store, 1);
    await store.tag(manifest, 'only');
    assert.equal((await store.resolve('')).digest, manifest.digest);
    await store.tag(manifest, 'second');
    await rejectsWith(store.resolve('third'), 'NOT_FOUND', /memory:three; it has only, second/);
  });
});
