import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { describe, it } from 'node:test';
import { digestOf } from '../../src/core/digest.ts';
import { collect, streamOf } from '../../src/core/stream.ts';
import { encodeDocument } from '../../src/oci/documents.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { openRegistry } from '../../src/oci/registry.ts';
import { startFaultRegistry, type FaultRegistry, type FaultRegistryOptions } from '../support/fault-registry.ts';
import { client, emptyEnv } from './scripted.ts';
import { blobOf, noise, pushBytes, pushImage, pushReferrer, rejectsWith, storeContract } from './store-contract.ts';
import type { RegistryOptions } from '../../src/oci/registry-options.ts';

function contract(name: string, faults: FaultRegistryOptions, options: RegistryOptions = {}): void {
  storeContract(name, async () => {
    const registry = await startFaultRegistry(faults);
    const { store } = client(registry.host, 'team/app', options);
    return {
      store,
      reopen: async () => client(registry.host, 'team/app', options).store,
      close: async () => {
        await store.close();
        await registry.close();
      },
    };
  });
}

contract('registry', {});
contract('registry with tokens, redirects and upload state', { auth: 'bearer', redirectBlobs: true, uploadLocation: 'stateful', anonymousPull: false }, {
  creds: { username: 'user', password: 'pass:word' },
});
contract('registry as old as docker-registry 2.8', {
  auth: 'basic', referrers: 'off', patch: 'unchecked', uploadLocation: 'absolute', strictAccept: true, headManifest: 'refused', mount: 'refused',
}, { creds: { username: 'user', password: 'pass:word' } });

async function withRegistry(options: FaultRegistryOptions, body: (registry: FaultRegistry) => Promise<void>): Promise<void> {
  const registry = await startFaultRegistry(options);
  try {
    await body(registry);
  } finally {
    await registry.close();
  }
}

describe('registry store', () => {
  it('checks its place before it is used', () => {
    assert.throws(() => openRegistry({ domain: 'exa mple.com', path: 'a' }), { code: 'USAGE' });
    assert.throws(() => openRegistry({ domain: 'example.com', path: '../a' }), { code: 'USAGE' });
    assert.equal(openRegistry({ domain: 'docker.io', path: 'library/alpine' }).location, 'docker://docker.io/library/alpine');
  });

  it('finds out by itself that a registry on this machine has no TLS', async () => {
    await withRegistry({}, async (registry) => {
      const store = openRegistry({ domain: registry.host, path: 'app' }, { env: emptyEnv() });
      const { manifest } = await pushImage(store, 1);
      await store.tag(manifest, 'v1');
      assert.equal((await store.resolve('v1')).digest, manifest.digest);
      await store.close();
    });
  });

  it('takes a blob from a neighbour without moving its bytes', async () => {
    await withRegistry({ auth: 'bearer' }, async (registry) => {
      const creds = { username: 'user', password: 'pass:word' };
      const from = client(registry.host, 'from/here', { creds }).store;
      const to = client(registry.host, 'to/there', { creds }).store;
      const descriptor = await pushBytes(from, noise(50_000));
      const sent = registry.log.reduce((sum, { received }) => sum + received, 0);
      assert.equal(await to.mount(descriptor, from), true);
      assert.equal(registry.log.reduce((sum, { received }) => sum + received, 0), sent);
      assert.equal(await to.has(descriptor), true);
      assert.equal(await to.mount(descriptor, to), true);
      await from.close();
      await to.close();
    });
  });

  it('uses the session that a refused mount has opened, and no second one', async () => {
    await withRegistry({ mount: 'refused' }, async (registry) => {
      const from = client(registry.host, 'from').store;
      const to = client(registry.host, 'to').store;
      const descriptor = blobOf(noise(50_000));
      assert.equal(await to.mount(descriptor, from), false);
      await to.push(descriptor, () => streamOf(noise(50_000)));
      assert.equal(registry.requests('POST').length, 1);
      assert.equal(registry.requests('PUT').length, 1);
      assert.equal(await to.has(descriptor), true);
      // A mount that nobody follows up is cancelled in the end.
      assert.equal(await to.mount(blobOf(noise(9)), from), false);
      await to.close();
      assert.deepEqual(registry.requests('DELETE').map(({ status }) => status), [204]);
      await from.close();
    });
  });

  it('mounts nothing when that is forbidden, elsewhere, or a manifest', async () => {
    await withRegistry({ mount: 'forbidden' }, async (registry) => {
      const from = client(registry.host, 'from').store;
      const to = client(registry.host, 'to').store;
      const { manifest, layers } = await pushImage(from, 1);
      assert.equal(await to.mount(layers[0] ?? manifest, from), false);
      registry.log.length = 0;
      assert.equal(await to.mount(manifest, from), false);
      const elsewhere = client('127.0.0.1:1', 'from').store;
      assert.equal(await to.mount(layers[0] ?? manifest, elsewhere), false);
      assert.equal(registry.log.length, 0);
      for (const store of [from, to, elsewhere]) await store.close();
    });
  });

  it('pages through tags and leaves out names that are none', async () => {
    await withRegistry({ tagsPage: 2 }, async (registry) => {
      const { store } = client(registry.host, 'app');
      const { manifest } = await pushImage(store, 1);
      for (const tag of ['a', 'b', 'c', 'd', 'e']) await store.tag(manifest, tag);
      registry.log.length = 0;
      assert.deepEqual(await store.tags(), ['a', 'b', 'c', 'd', 'e']);
      assert.equal(registry.requests('GET', /tags\/list/).length, 3);
      await rejectsWith(client(registry.host, 'nowhere').store.tags(), 'NOT_FOUND', /docker:\/\/127\.0\.0\.1:\d+\/nowhere/);
      await store.close();
    });
  });

  it('accepts that an immutable tag already says what it should', async () => {
    await withRegistry({ immutableTags: true }, async (registry) => {
      const { store } = client(registry.host, 'app');
      const first = (await pushImage(store, 1)).manifest;
      const second = (await pushImage(store, 2)).manifest;
      await store.tag(first, 'v1');
      await store.tag(first, 'v1');
      await assert.rejects(store.tag(second, 'v1'), /cannot store manifest v1/);
      await store.close();
    });
  });

  it('asks for what it needs and no more', async () => {
    await withRegistry({}, async (registry) => {
      const { store } = client(registry.host, 'app');
      const { manifest } = await pushImage(store, 1);
      await store.tag(manifest, 'v1');
      // The manifest is still known, so the tag costs one PUT.
      assert.deepEqual(registry.requests('GET').map(({ target }) => target), []);
      const other = client(registry.host, 'app').store;
      registry.log.length = 0;
      const found = await other.resolve('v1');
      await collect(other.fetch(found), 10_000);
      await other.tag(found, 'v2');
      assert.deepEqual(registry.log.map(({ method, target }) => `${method} ${target}`), [
        'HEAD /v2/app/manifests/v1', `GET /v2/app/manifests/${manifest.digest}`, 'PUT /v2/app/manifests/v2',
      ]);
      await store.close();
      await other.close();
    });
  });

  it('reads a range with one request of just that size', async () => {
    await withRegistry({}, async (registry) => {
      const { store } = client(registry.host);
      const bytes = noise(1_000_000);
      const descriptor = await pushBytes(store, bytes);
      registry.log.length = 0;
      const source = store.open(descriptor);
      assert.equal(registry.log.length, 0);
      assert.deepEqual(Buffer.from(await source.read(400_000, 4096)), bytes.subarray(400_000, 404_096));
      assert.equal(registry.log.length, 1);
      assert.equal(registry.sent(), 4096);
      await store.close();
    });
  });

  it('leaves no listener on a signal that serves many requests', async () => {
    await withRegistry({}, async (registry) => {
      const { store } = client(registry.host);
      const descriptor = await pushBytes(store, noise(100_000));
      const { signal } = new AbortController();
      const source = store.open(descriptor);
      for (let i = 0; i < 20; i++) await source.read(i * 1000, 1000, signal);
      await collect(store.fetch(descriptor, signal), 100_000);
      await store.resolve('none', signal).catch(() => undefined);
      await store.push(blobOf(noise(5000, 3)), () => streamOf(noise(5000, 3)), signal);
      await store.ingest('application/x', (sink) => sink(noise(9_000_000)), signal);
      // What runs after the promise has settled (`finally`) needs a turn.
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal(getEventListeners(signal, 'abort').length, 0);
      await store.close();
    });
  });

  it('takes content from the descriptor itself, and checks it', async () => {
    await withRegistry({}, async (registry) => {
      const { store } = client(registry.host);
      const data = Buffer.from('{}').toString('base64');
      const descriptor = { ...blobOf(Buffer.from('{}'), OCI.empty), data };
      assert.equal(Buffer.from(await collect(store.fetch(descriptor), 10)).toString(), '{}');
      assert.equal(Buffer.from(await store.open(descriptor).read(1, 1)).toString(), '}');
      const lie = { ...descriptor, digest: digestOf(Buffer.from('[]')) };
      await rejectsWith(collect(store.fetch(lie), 10), 'DIGEST_MISMATCH');
      await rejectsWith(store.open(lie).read(0, 1), 'DIGEST_MISMATCH');
      assert.equal(registry.log.length, 0);
      await store.close();
    });
  });

  it('stores a manifest whose digest was not known before', async () => {
    await withRegistry({}, async (registry) => {
      const { store } = client(registry.host);
      const { manifest } = await pushImage(store, 1);
      const index = await store.ingest(OCI.index, (sink) => sink(encodeDocument({ schemaVersion: 2, mediaType: OCI.index, manifests: [manifest] })));
      assert.equal((await store.resolve(index.digest)).mediaType, OCI.index);
      await store.close();
    });
  });

  it('filters referrers by type itself when the registry does not', async () => {
    for (const referrers of ['on', 'no-filter', 'off', 'silent'] as const) {
      await withRegistry({ referrers }, async (registry) => {
        const { store } = client(registry.host);
        const { manifest } = await pushImage(store, 1);
        const sbom = await pushReferrer(store, manifest, 'application/x.sbom', 'one');
        await pushReferrer(store, manifest, 'application/x.signature', 'two');
        assert.equal((await store.referrers(manifest)).length, 2, referrers);
        assert.deepEqual((await store.referrers(manifest, undefined, 'application/x.sbom')).map(({ digest }) => digest), [sbom.digest], referrers);
        assert.deepEqual(await store.referrers(manifest, undefined, 'application/x.none'), [], referrers);
        await store.close();
      });
    }
  });

  it('cannot be used after it was closed', async () => {
    await withRegistry({}, async (registry) => {
      const { store } = client(registry.host);
      await store.has(blobOf(noise(3)));
      await store.close();
      await rejectsWith(store.has(blobOf(noise(3))), 'CANCELLED', /closed/);
    });
  });
});
