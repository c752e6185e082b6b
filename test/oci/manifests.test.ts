import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { collect } from '../../src/core/stream.ts';
import { describe as descriptorOf, encodeDocument } from '../../src/oci/documents.ts';
import { DOCKER, OCI } from '../../src/oci/media-types.ts';
import { startFaultRegistry, type FaultRegistryOptions } from '../support/fault-registry.ts';
import { client, scripted } from './scripted.ts';
import { blobOf, noise, pushBytes, pushImage, rejectsWith } from './store-contract.ts';

const manifest = encodeDocument({ schemaVersion: 2, mediaType: OCI.manifest, config: blobOf(noise(2), OCI.config), layers: [] });
const descriptor = descriptorOf(OCI.manifest, manifest);

/** A registry that answers each request for the manifest like this. */
async function serving(answer: { get?: Record<string, string>; head?: Record<string, string> | number; body?: Uint8Array }, body: (store: ReturnType<typeof client>['store'], methods: () => string) => Promise<void>): Promise<void> {
  const server = await scripted(({ method }, response) => {
    if (method === 'HEAD') return typeof answer.head === 'number' ? response.writeHead(answer.head).end() : response.writeHead(200, answer.head ?? {}).end();
    return response.writeHead(200, answer.get ?? { 'content-type': OCI.manifest }).end(answer.body ?? manifest);
  });
  const { store } = client(server.host);
  try {
    await body(store, () => server.seen.map(({ method }) => method).join(' '));
  } finally {
    await store.close();
    await server.close();
  }
}

const full = { 'content-type': `${OCI.manifest}; charset=utf-8`, 'docker-content-digest': descriptor.digest, 'content-length': String(manifest.length) };

describe('resolving', () => {
  it('is satisfied with HEAD if that says everything', async () => {
    await serving({ head: full }, async (store, methods) => {
      assert.deepEqual(await store.resolve('v1'), descriptor);
      assert.deepEqual(await store.resolve(descriptor.digest), descriptor);
      assert.equal(methods(), 'HEAD HEAD');
    });
  });

  it('asks for the manifest itself where that will be read anyway', async () => {
    const server = await scripted((_, response) => response.writeHead(200, { 'content-type': OCI.manifest }).end(manifest));
    const { store } = client(server.host, 'team/app', { readsNamed: true });
    assert.deepEqual(await store.resolve('v1'), descriptor);
    assert.deepEqual(Buffer.from(await collect(store.fetch(descriptor), 1000)), Buffer.from(manifest));
    assert.deepEqual(server.seen.map(({ method }) => method), ['GET']);
    await store.close();
    await server.close();
  });

  const { 'docker-content-digest': digestHeader, ...noDigest } = full;
  const lacking: readonly (readonly [string, Record<string, string> | number])[] = [
    ['no digest', noDigest],
    ['a digest of an unknown kind', { ...noDigest, 'docker-content-digest': 'tarsum:abc' }],
    ['no type', { 'docker-content-digest': digestHeader, 'content-length': String(manifest.length) }],
    ['a generic type', { ...full, 'content-type': 'application/json' }],
    ['no length', { 'content-type': OCI.manifest, 'docker-content-digest': digestHeader }],
    ['405', 405],
    ['400', 400],
  ];
  for (const [name, head] of lacking) {
    it(`reads the manifest when HEAD has ${name}`, async () => {
      await serving({ head }, async (store, methods) => {
        assert.deepEqual(await store.resolve('v1'), descriptor);
        assert.equal(methods(), 'HEAD GET');
        // It is known now.
        assert.deepEqual(Buffer.from(await collect(store.fetch(descriptor), 1000)), Buffer.from(manifest));
        assert.equal(methods(), 'HEAD GET');
      });
    });
  }

  it('holds the bytes against every digest that is named', async () => {
    const wrong = { 'content-type': OCI.manifest, 'docker-content-digest': descriptorOf(OCI.manifest, noise(3)).digest };
    await serving({ head: 405, get: wrong }, async (store) => rejectsWith(store.resolve('v1'), 'DIGEST_MISMATCH'));
    await serving({ head: 405, body: encodeDocument({ schemaVersion: 2, manifests: [] }), get: {} }, async (store) => rejectsWith(store.resolve(descriptor.digest), 'DIGEST_MISMATCH'));
    await serving({ head: { ...full, 'docker-content-digest': wrong['docker-content-digest'] } }, async (store) => rejectsWith(store.resolve(descriptor.digest), 'DIGEST_MISMATCH', /is about/));
    const sha512 = `sha512:${createHash('sha512').update(manifest).digest('hex')}`;
    await serving({ head: 405, get: { 'content-type': OCI.manifest, 'docker-content-digest': sha512 } }, async (store) => assert.equal((await store.resolve('v1')).digest, sha512));
    await serving({ head: full }, async (store) => assert.equal((await store.resolve(sha512)).digest, sha512));
  });

  it('finds the type out from the document, and refuses what is none or two', async () => {
    const untyped = encodeDocument({ schemaVersion: 2, manifests: [] });
    await serving({ head: 405, body: untyped, get: { 'content-type': 'text/plain' } }, async (store) => assert.equal((await store.resolve('v1')).mediaType, OCI.index));
    await serving({ head: 405, get: { 'content-type': DOCKER.manifest } }, async (store) => rejectsWith(store.resolve('v1'), 'CORRUPT', /calls itself/));
    await serving({ head: 405, body: Buffer.from('<html>'), get: { 'content-type': 'text/html' } }, async (store) => rejectsWith(store.resolve('v1'), 'CORRUPT', /not JSON/));
    await serving({ head: 405, body: encodeDocument({ manifests: [], layers: [] }) }, async (store) => rejectsWith(store.resolve('v1'), 'CORRUPT', /index and a manifest at once/));
  });

  it('explains that schema 1 is over', async () => {
    const type = 'application/vnd.docker.distribution.manifest.v1+prettyjws';
    await serving({ head: { ...full, 'content-type': type } }, async (store) => rejectsWith(store.resolve('v1'), 'UNSUPPORTED', /schema 1/));
    await serving({ head: 405, body: Buffer.from('{"schemaVersion":1}'), get: {} }, async (store) => rejectsWith(store.resolve('v1'), 'UNSUPPORTED', /schema 1/));
  });

  it('reads no manifest beyond the limit', async () => {
    await serving({ head: 405, body: Buffer.alloc(17 * 1024 * 1024, 0x20) }, async (store) => rejectsWith(store.resolve('v1'), 'LIMIT'));
    await serving({}, async (store, methods) => {
      await rejectsWith(collect(store.fetch({ ...descriptor, size: 2 ** 40 }), 1000), 'LIMIT');
      assert.equal(methods(), '');
    });
  });

  it('wants a tag or a digest', async () => {
    await serving({}, async (store) => {
      for (const reference of ['', '../x', 'a/b', 'sha256:abc', 'x'.repeat(200)]) await rejectsWith(store.resolve(reference), 'USAGE');
      await rejectsWith(store.tag(descriptor, 'a:b'), 'USAGE');
    });
  });
});

describe('fetching a manifest', () => {
  it('holds it against its descriptor', async () => {
    await serving({}, async (store) => {
      await rejectsWith(collect(store.fetch({ ...descriptor, size: descriptor.size + 1 }), 1000), 'SIZE_MISMATCH', /ends early/);
      await rejectsWith(collect(store.fetch({ ...descriptor, size: 3 }), 1000), 'SIZE_MISMATCH', /is longer/);
      await rejectsWith(collect(store.fetch({ ...descriptor, digest: descriptorOf(OCI.manifest, noise(3)).digest }), 1000), 'DIGEST_MISMATCH');
      assert.equal(Buffer.from(await store.open(descriptor).read(1, 15)).toString(), '"schemaVersion"');
    });
  });

  it('sends the types it takes, whatever the registry needs to hear', async () => {
    const faults: FaultRegistryOptions = { strictAccept: true, typeSuffix: '; charset=utf-8', digestHeader: false };
    const registry = await startFaultRegistry(faults);
    const { store } = client(registry.host);
    for (const type of [OCI.manifest, DOCKER.manifest]) {
      const pushed = await pushBytes(store, encodeDocument({ schemaVersion: 2, mediaType: type, config: await pushBytes(store, noise(9), OCI.config), layers: [] }), type);
      await store.tag(pushed, 'v1');
      const other = client(registry.host).store;
      assert.deepEqual(await other.resolve('v1'), pushed);
      assert.equal(await other.has(pushed), true);
      await other.close();
    }
    await store.close();
    await registry.close();
  });
});

describe('storing a manifest', () => {
  it('repeats what fails in passing and passes on what does not', async () => {
    const registry = await startFaultRegistry();
    const { store } = client(registry.host);
    await pushImage(store, 1);
    registry.inject({ fault: { kind: 'status', status: 503 }, method: 'PUT', path: /manifests/, times: 2 });
    await pushImage(store, 2);
    registry.heal();
    const dangling = encodeDocument({ schemaVersion: 2, mediaType: OCI.manifest, config: blobOf(noise(500), OCI.config), layers: [] });
    await assert.rejects(pushBytes(store, dangling, OCI.manifest), /cannot store manifest sha256:[0-9a-f]+ in docker:\/\/.*MANIFEST_BLOB_UNKNOWN/);
    await store.close();
    await registry.close();
  });

  it('does not send one that denies its own type', async () => {
    await serving({}, async (store, methods) => {
      await rejectsWith(pushBytes(store, manifest, OCI.index), 'CORRUPT');
      await rejectsWith(pushBytes(store, Buffer.from('not json'), OCI.manifest), 'CORRUPT');
      assert.equal(methods(), '');
    });
  });

  it('compares what the registry calls it', async () => {
    const server = await scripted((_, response) => response.writeHead(201, { 'docker-content-digest': blobOf(noise(3)).digest }).end());
    const { store } = client(server.host);
    await rejectsWith(pushBytes(store, manifest, OCI.manifest), 'DIGEST_MISMATCH', /was stored as/);
    await store.close();
    await server.close();
  });
});
