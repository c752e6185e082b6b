import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { digestHex, digestOf } from '../../src/core/digest.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { encodeDocument } from '../../src/oci/documents.ts';
import { openLayout } from '../../src/oci/layout.ts';
import { DOCKER, OCI } from '../../src/oci/media-types.ts';
import { call } from '../support/http-call.ts';
import { imageOf, names, put, served } from './served.ts';
import { blobOf, noise, pushReferrer } from './store-contract.ts';

describe('registry server: manifests', () => {
  it('stores what it is given under the names of the layout', () => served(async (server, image) => {
    const { folder } = server;
    const bytes = encodeDocument(imageOf(image, { annotations: { n: '1' } }));
    const digest = digestOf(bytes);
    for (const [name, tag] of [['base', 'one'], ['team/app', '2.0']] as const) {
      const answer = await put(server, name, tag, Buffer.from(bytes).toString());
      assert.deepEqual([answer.status, answer.headers['docker-content-digest'], answer.headers.location], [201, digest, `/v2/${name}/manifests/${digest}`]);
    }
    assert.deepEqual(names(folder), ['app', 'one', 'team/app:2.0']);
    const store = await openLayout(folder);
    for (const name of ['one', 'team/app:2.0']) assert.equal((await store.resolve(name)).digest, digest);
  }));

  it('serves names that other tools wrote, and moves them where they are', () => served(async (server, image) => {
    const { folder, url } = server;
    const entry = (name: string | undefined, fullName?: string): object => ({ ...image.manifest, annotations: { ...(name !== undefined && { 'org.opencontainers.image.ref.name': name }), ...(fullName !== undefined && { 'io.containerd.image.name': fullName }) } });
    writeFileSync(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry('docker.io/library/alpine:3.20'), entry('3', 'localhost:5000/tool:3'), entry('bare/name'), entry('no good/Name:x'), entry(undefined)] }));
    assert.deepEqual(JSON.parse((await call('GET', `${url}/v2/_catalog`)).text), { repositories: ['bare/name', 'base', 'library/alpine', 'tool'] });
    for (const path of ['library/alpine/manifests/3.20', 'base/manifests/3', 'tool/manifests/3', 'bare/name/manifests/latest']) assert.equal((await call('HEAD', `${url}/v2/${path}`)).status, 200, path);
    assert.equal((await put(server, 'library/alpine', '3.20', imageOf(image, { annotations: { new: 'x' } }))).status, 201);
    assert.deepEqual(names(folder), ['docker.io/library/alpine:3.20', '3', 'bare/name', 'no good/Name:x', undefined]);
    assert.equal((await call('DELETE', `${url}/v2/tool/manifests/3`)).status, 202);
    assert.equal((await call('GET', `${url}/v2/tool/manifests/3`)).status, 404);
    assert.equal((await call('GET', `${url}/v2/base/manifests/3`)).status, 200);
  }));

  it('by digest names nothing, unless tags are given along', () => served(async (server, image) => {
    const document = imageOf(image, { annotations: { n: '2' } });
    const digest = digestOf(encodeDocument(document));
    assert.equal((await put(server, 'x', digest, document)).headers['oci-tag'], undefined);
    assert.deepEqual(names(server.folder), ['app']);
    assert.equal((await call('HEAD', `${server.url}/v2/x/manifests/${digest}`)).status, 200);
    const tagged = await put(server, 'x', `${digest}?tag=a&tag=b`, document);
    assert.equal(tagged.status, 201);
    assert.equal(tagged.headers['oci-tag'], 'a, b');
    assert.deepEqual(names(server.folder), ['app', 'x:a', 'x:b']);
  }));

  it('refuses what is no manifest, and stores none of it', () => served(async (server, image) => {
    const absent = blobOf(noise(9), OCI.layerGzip);
    const cases = [
      ['not json', OCI.manifest, 400, 'MANIFEST_INVALID'],
      ['{}', OCI.manifest, 400, 'MANIFEST_INVALID'],
      [imageOf(image), OCI.index, 400, 'MANIFEST_INVALID'],
      [imageOf(image), 'application/vnd.docker.distribution.manifest.v1+prettyjws', 400, 'MANIFEST_INVALID'],
      [{ schemaVersion: 2, config: image.config, layers: [] }, DOCKER.manifest, 400, 'MANIFEST_INVALID'],
      [{ schemaVersion: 2, mediaType: 'application/x-own' }, 'application/x-own', 400, 'MANIFEST_INVALID'],
      [imageOf(image, { manifests: [] }), OCI.manifest, 400, 'MANIFEST_INVALID'],
      [imageOf(image, { layers: [{ ...absent, digest: 'sha256:x' }] }), OCI.manifest, 400, 'MANIFEST_INVALID'],
      [imageOf(image, { layers: [absent] }), OCI.manifest, 400, 'MANIFEST_BLOB_UNKNOWN'],
      [{ schemaVersion: 2, mediaType: OCI.index, manifests: [absent] }, OCI.index, 400, 'MANIFEST_BLOB_UNKNOWN'],
      [imageOf(image, { annotations: { big: 'x'.repeat(4 << 20) } }), OCI.manifest, 413, 'MANIFEST_INVALID'],
    ] as const;
    for (const [document, type, status, code] of cases) {
      const answer = await put(server, 'base', 'bad', document, type);
      assert.deepEqual([answer.status, answer.code], [status, code], JSON.stringify(document).slice(0, 200));
    }
    const missing = await put(server, 'base', 'bad', imageOf(image, { layers: [absent, absent] }));
    assert.deepEqual((JSON.parse(missing.text) as { errors: { detail: unknown }[] }).errors[0]?.detail, [{ digest: absent.digest }]);
    assert.equal((await put(server, 'base', digestOf(), imageOf(image))).code, 'DIGEST_INVALID');
    assert.equal((await put(server, 'base', 'sha256:123', imageOf(image))).code, 'DIGEST_INVALID');
    assert.equal((await put(server, 'base', '-bad', imageOf(image))).code, 'TAG_INVALID');
    assert.deepEqual(names(server.folder), ['app']);
  }));

  it('takes foreign layers that are elsewhere, empty indexes, and sha512', () => served(async (server, image) => {
    const foreign = { ...blobOf(noise(9), 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip'), urls: ['https://example.invalid/x'] };
    assert.equal((await put(server, 'base', 'foreign', imageOf(image, { layers: [foreign] }))).status, 201);
    assert.equal((await put(server, 'base', 'empty', { schemaVersion: 2, mediaType: OCI.index, manifests: [] }, OCI.index)).status, 201);
    const digest = `sha512:${createHash('sha512').update(encodeDocument(imageOf(image))).digest('hex')}`;
    assert.equal((await put(server, 'base', digest, imageOf(image))).headers['docker-content-digest'], digest);
    assert.equal((await call('GET', `${server.url}/v2/base/manifests/${digest}`)).status, 200);
  }));

  it('deletes tags and manifests, but not what others need', () => served(async (server, image) => {
    const { url } = server;
    const { manifest } = image;
    await put(server, 'other', 'app', imageOf(image));
    assert.equal((await call('DELETE', `${url}/v2/base/manifests/${manifest.digest}`)).status, 202);
    assert.equal((await call('GET', `${url}/v2/base/manifests/app`)).status, 404);
    assert.equal((await call('GET', `${url}/v2/other/manifests/app`)).status, 200);
    assert.equal((await call('DELETE', `${url}/v2/base/manifests/${manifest.digest}`)).status, 404);

    await put(server, 'other', 'all', { schemaVersion: 2, mediaType: OCI.index, manifests: [manifest] }, OCI.index);
    assert.equal((await call('DELETE', `${url}/v2/other/manifests/${manifest.digest}`)).status, 202);
    assert.equal((await call('GET', `${url}/v2/other/manifests/${manifest.digest}`)).status, 200, 'the index still needs it');
    const blob = `${url}/v2/other/blobs/${image.config.digest}`;
    assert.deepEqual([(await call('DELETE', blob)).status, (await call('GET', blob)).status], [405, 200]);

    assert.equal((await call('DELETE', `${url}/v2/other/manifests/all`)).status, 202);
    assert.equal((await call('DELETE', `${url}/v2/other/manifests/${manifest.digest}`)).status, 202);
    assert.equal((await call('GET', `${url}/v2/other/manifests/${manifest.digest}`)).status, 404);
    assert.deepEqual([(await call('DELETE', blob)).status, (await call('GET', blob)).status, (await call('DELETE', blob)).status], [202, 404, 404]);
    assert.deepEqual(names(server.folder), []);
  }));

  it('are not given when they are damaged', () => served(async ({ folder, url }, { manifest }) => {
    writeFileSync(join(folder, 'blobs', 'sha256', digestHex(manifest.digest)), Buffer.alloc(manifest.size, 0x20));
    const answer = await call('GET', `${url}/v2/base/manifests/app`);
    assert.equal(answer.status, 500);
    assert.doesNotMatch(answer.text, /lazypull-server/, 'paths of this machine stay here');
  }));

  it('lists referrers, filtered on request', () => served(async (server, image) => {
    const { url, folder } = server;
    const subject = image.manifest;
    const document = { schemaVersion: 2, mediaType: OCI.manifest, artifactType: 'application/x.sbom', config: image.config, layers: [image.config], subject, annotations: { k: 'v' } };
    const answer = await put(server, 'base', 'sbom', document);
    assert.equal(answer.headers['oci-subject'], subject.digest);
    const store = await openLayout(folder);
    const second = await pushReferrer(store, subject, 'application/x.sig', 'two');
    const list = `${url}/v2/base/referrers/${subject.digest}`;
    const all = await call('GET', list);
    assert.deepEqual([all.status, all.headers['content-type'], all.headers['oci-filters-applied']], [200, OCI.index, undefined]);
    const index = JSON.parse(all.text) as { schemaVersion: number; mediaType: string; manifests: Descriptor[] };
    assert.deepEqual([index.schemaVersion, index.mediaType], [2, OCI.index]);
    assert.deepEqual(new Set(index.manifests.map(({ digest }) => digest)), new Set([digestOf(encodeDocument(document)), second.digest]));
    const some = await call('GET', `${list}?artifactType=${encodeURIComponent('application/x.sbom')}`);
    assert.equal(some.headers['oci-filters-applied'], 'artifactType');
    assert.deepEqual((JSON.parse(some.text) as typeof index).manifests, [{ ...blobOf(encodeDocument(document), OCI.manifest), artifactType: 'application/x.sbom', annotations: { k: 'v' } }]);
    assert.deepEqual((JSON.parse((await call('GET', `${url}/v2/base/referrers/${digestOf()}`)).text) as typeof index).manifests, []);
    await call('DELETE', `${url}/v2/base/manifests/sbom`);
    assert.equal((JSON.parse((await call('GET', list)).text) as typeof index).manifests.length, 2, 'losing its tag is not losing the referrer');
    await call('DELETE', `${url}/v2/base/manifests/${second.digest}`);
    assert.equal((JSON.parse((await call('GET', list)).text) as typeof index).manifests.length, 1);
  }));

  it('keeps all tags of many clients at once', () => served(async (server, image) => {
    const answers = await Promise.all(Array.from({ length: 25 }, (_, i) => put(server, 'many', `t${String(i).padStart(2, '0')}`, imageOf(image, { annotations: { i: String(i) } }))));
    assert.ok(answers.every(({ status }) => status === 201));
    const { tags } = JSON.parse((await call('GET', `${server.url}/v2/many/tags/list`)).text) as { tags: string[] };
    assert.equal(tags.length, 25);
  }));
});
