import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Descriptor } from '../../src/core/types.ts';
import { describe as descriptorOf, encodeDocument } from '../../src/oci/documents.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { referrersTag } from '../../src/oci/document-facts.ts';
import { startFaultRegistry, type FaultRegistry, type FaultRegistryOptions } from '../support/fault-registry.ts';
import { client, scripted, type Client } from './scripted.ts';
import { blobOf, noise, pushBytes, pushImage, pushReferrer, rejectsWith } from './store-contract.ts';

async function withRegistry(faults: FaultRegistryOptions, body: (registry: FaultRegistry, client: Client) => Promise<void>): Promise<void> {
  const registry = await startFaultRegistry(faults);
  const one = client(registry.host, 'app');
  try {
    await body(registry, one);
  } finally {
    await one.store.close();
    await registry.close();
  }
}

const subject = blobOf(noise(10), OCI.manifest);
const digests = (found: readonly Descriptor[]): string[] => found.map(({ digest }) => digest).sort();

describe('referrers with an API', () => {
  it('are the registry\'s affair when it says so', async () => {
    await withRegistry({ referrers: 'on' }, async (registry, { store }) => {
      const one = await pushReferrer(store, subject, 'application/x.one', 'n');
      assert.equal(registry.requests('GET').length, 0);
      assert.deepEqual(digests(await store.referrers(subject)), [one.digest]);
      assert.deepEqual(await store.tags().catch(() => []), []);
    });
  });

  it('are looked for when the registry forgets to say so', async () => {
    await withRegistry({ referrers: 'silent' }, async (registry, { store }) => {
      await pushReferrer(store, subject, 'application/x.one', 'n');
      assert.deepEqual(registry.requests('GET').map(({ target }) => target), [`/v2/app/referrers/${subject.digest}`]);
      assert.deepEqual(await store.tags().catch(() => []), []);
    });
  });

  it('come in pages', async () => {
    const entries = Array.from({ length: 5 }, (_, i) => ({ ...blobOf(noise(i + 1), OCI.manifest), artifactType: `t${i % 2}` }));
    const server = await scripted(({ url }, response) => {
      const from = Number(url.searchParams.get('from') ?? 0);
      const more = from + 2 < entries.length ? { link: `<${url.pathname}?from=${from + 2}>; rel="next"` } : undefined;
      response.writeHead(200, { 'content-type': OCI.index, ...more }).end(encodeDocument({ schemaVersion: 2, mediaType: OCI.index, manifests: entries.slice(from, from + 2) }));
    });
    const { store } = client(server.host);
    assert.deepEqual(await store.referrers(subject), entries);
    assert.equal((await store.referrers(subject, undefined, 't1')).length, 2);
    await store.close();
    await server.close();
  });

  it('are listed once more when a filter leaves nothing', async () => {
    const entry = { ...blobOf(noise(1), OCI.manifest), artifactType: 'x/y' };
    const server = await scripted(({ url }, response) => {
      const filter = url.searchParams.get('artifactType');
      response.writeHead(200, { 'content-type': OCI.index, ...(filter ? { 'oci-filters-applied': 'artifactType' } : {}) })
        .end(encodeDocument({ schemaVersion: 2, manifests: filter ? [] : [entry] }));
    });
    const { store } = client(server.host);
    assert.deepEqual(await store.referrers(subject, undefined, 'x/y'), [entry]);
    assert.deepEqual(server.seen.map(({ url }) => url.search), ['?artifactType=x%2Fy', '']);
    await store.close();
    await server.close();
  });

  it('are not taken from a log-in page, and errors are no answer', async () => {
    const server = await scripted(({ url }, response) => {
      if (url.pathname.includes('/manifests/')) return response.writeHead(404).end();
      return response.writeHead(200, { 'content-type': 'text/html' }).end('<html>log in</html>');
    });
    const { store } = client(server.host);
    assert.deepEqual(await store.referrers(subject), []);
    await store.close();
    await server.close();
    const broken = await scripted((_, response) => response.writeHead(200, { 'content-type': OCI.index }).end('{"schemaVersion":2,"manifests":[{"digest":"x"}]}'));
    const other = client(broken.host).store;
    await rejectsWith(other.referrers(subject), 'CORRUPT', /list of referrers/);
    await other.close();
    await broken.close();
    await withRegistry({}, async (registry, one) => {
      registry.inject({ fault: { kind: 'status', status: 403 }, path: /referrers/ });
      await rejectsWith(one.store.referrers(subject), 'UNAUTHORIZED');
    });
  });
});

describe('referrers without an API', () => {
  it('have a tag of the spec\'s form', () => {
    assert.equal(referrersTag(`sha256:${'a'.repeat(64)}`), `sha256-${'a'.repeat(64)}`);
    assert.equal(referrersTag(`sha512:${'b'.repeat(128)}`), `sha512-${'b'.repeat(64)}`);
  });

  it('are kept under that tag, each once, with what the manifest says about itself', async () => {
    await withRegistry({ referrers: 'off' }, async (registry, { store }) => {
      const one = await pushReferrer(store, subject, 'application/x.one', 'first');
      const { manifest } = await pushImage(store, 1, { subject });
      const index = await pushBytes(store, encodeDocument({ schemaVersion: 2, mediaType: OCI.index, manifests: [], subject }), OCI.index);
      await pushReferrer(store, subject, 'application/x.one', 'first');
      assert.deepEqual(await store.referrers(subject), [
        { ...one, artifactType: 'application/x.one', annotations: { note: 'first' } },
        { ...manifest, artifactType: OCI.config },
        { ...index },
      ]);
      assert.deepEqual(await store.tags(), [referrersTag(subject.digest)]);
      // The API is asked for once, not for each manifest.
      assert.equal(registry.requests('GET', /referrers/).length, 1);
      assert.deepEqual(await store.referrers(blobOf(noise(11), OCI.manifest)), []);
    });
  });

  it('survive many writers in this process', async () => {
    await withRegistry({ referrers: 'off', latency: 2 }, async (registry, { store }) => {
      const other = client(registry.host, 'app').store;
      const pushed = await Promise.all(Array.from({ length: 12 }, (_, i) => pushReferrer(i % 2 ? store : other, subject, `application/x.${i}`, String(i))));
      assert.deepEqual(digests(await store.referrers(subject)), digests(pushed));
      assert.ok(registry.requests('PUT', /manifests\/sha256-/).length < 12, 'additions share updates');
      await other.close();
    });
  });

  it('are written again when another process was faster', async () => {
    const theirs = { ...blobOf(noise(20), OCI.manifest), artifactType: 'application/x.theirs', future: { field: 1 } };
    const rival = encodeDocument({ schemaVersion: 2, mediaType: OCI.index, annotations: { keep: 'me' }, manifests: [theirs] });
    let tagged: Uint8Array | undefined;
    let writes = 0;
    const server = await scripted(({ method, url, body }, response) => {
      if (url.pathname.includes('/referrers/')) return response.writeHead(404).end();
      if (method === 'HEAD') return response.writeHead(200).end();
      if (!url.pathname.endsWith(referrersTag(subject.digest))) return response.writeHead(201).end();
      if (method === 'GET') return tagged ? response.writeHead(200, { 'content-type': OCI.index }).end(tagged) : response.writeHead(404).end();
      // The rival has read before our first write, and writes after it.
      tagged = ++writes === 1 ? rival : body;
      return response.writeHead(201).end();
    });
    const { store } = client(server.host);
    const mine = await pushReferrer(store, subject, 'application/x.mine', 'mine');
    assert.equal(writes, 2);
    assert.deepEqual(digests(await store.referrers(subject)), digests([theirs, mine]));
    const kept = JSON.parse(Buffer.from(tagged ?? []).toString()) as { annotations: unknown; manifests: unknown[] };
    assert.deepEqual(kept.annotations, { keep: 'me' });
    assert.deepEqual(kept.manifests[0], theirs);
    const puts = server.seen.filter(({ method, url }) => method === 'PUT' && url.pathname.endsWith(referrersTag(subject.digest)));
    assert.deepEqual(puts.map(({ headers }) => headers['if-match']), [undefined, `"${descriptorOf(OCI.index, rival).digest}"`]);
    await store.close();
    await server.close();
  });

  it('do not overwrite something else under their tag', async () => {
    await withRegistry({ referrers: 'off' }, async (_, { store }) => {
      const { manifest } = await pushImage(store, 1);
      await store.tag(manifest, referrersTag(subject.digest));
      await rejectsWith(pushReferrer(store, subject, 'application/x.one', 'n'), 'CORRUPT', /is not an index/);
      assert.equal((await store.resolve(referrersTag(subject.digest))).digest, manifest.digest);
    });
  });

  it('give up when the tag never keeps what is written', async () => {
    const empty = encodeDocument({ schemaVersion: 2, mediaType: OCI.index, manifests: [] });
    const server = await scripted(({ method, url }, response) => {
      if (url.pathname.includes('/referrers/')) return response.writeHead(404, { 'content-type': 'text/plain' }).end('404 page not found');
      if (method === 'HEAD') return response.writeHead(200).end();
      if (method === 'PUT') return response.writeHead(201).end();
      return response.writeHead(200, { 'content-type': OCI.index, 'docker-content-digest': descriptorOf(OCI.index, empty).digest }).end(empty);
    });
    const { store } = client(server.host);
    await rejectsWith(pushReferrer(store, subject, 'application/x.one', 'n'), 'NETWORK', /other writers keep replacing/);
    await store.close();
    await server.close();
  });

  it('need a subject that is a descriptor', async () => {
    await withRegistry({ referrers: 'off' }, async (registry, { store }) => {
      registry.inject({ fault: { kind: 'answer', status: 201, headers: {}, body: '' }, method: 'PUT', path: /manifests/ });
      await rejectsWith(pushImage(store, 1, { subject: { digest: '../../etc' } }), 'CORRUPT', /subject of manifest/);
    });
  });
});
