import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { digestHex, digestOf } from '../../src/core/digest.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { encodeDocument } from '../../src/oci/documents.ts';
import { openLayout } from '../../src/oci/layout.ts';
import { DOCKER, OCI } from '../../src/oci/media-types.ts';
import { serveLayout, type RequestRecord, type ServedLayout, type ServeOptions } from '../../src/oci/server.ts';
import { call, type Answer } from '../support/http-call.ts';
import { blobOf, noise, pushImage, pushReferrer, rejectsWith, type TestImage } from './store-contract.ts';

const scratch = mkdtempSync(join(tmpdir(), 'lazypull-server-'));
after(() => rmSync(scratch, { recursive: true, force: true }));
let count = 0;

interface Served extends ServedLayout {
  readonly folder: string;
  readonly records: RequestRecord[];
}

/** Serves a fresh layout with the base name `base`, holding one image named `app`, for the time of a test. */
async function served(body: (server: Served, image: TestImage) => Promise<void>, options: ServeOptions = {}): Promise<void> {
  const folder = join(scratch, String((count += 1)), 'base');
  const store = await openLayout(folder, { create: true });
  const image = await pushImage(store, 1);
  await store.tag(image.manifest, 'app');
  await store.close();
  const records: RequestRecord[] = [];
  const server = await serveLayout(folder, { ...options, onRequest: (record) => records.push(record) });
  try {
    await body({ ...server, folder, records }, image);
    assert.deepEqual(readdirSync(join(folder, 'blobs')).filter((name) => name.startsWith('.')).length, 0, 'temporary files are left');
  } finally {
    await server.close();
  }
}

const put = (server: ServedLayout, name: string, reference: string, document: object | string, type: string = OCI.manifest): Promise<Answer> =>
  call('PUT', `${server.url}/v2/${name}/manifests/${reference}`, { headers: { 'Content-Type': type }, body: typeof document === 'string' ? document : encodeDocument(document) });
const names = (folder: string): (string | undefined)[] => {
  const index = JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8')) as { manifests: Descriptor[] };
  return index.manifests.map((entry) => entry.annotations?.['org.opencontainers.image.ref.name']);
};
const imageOf = ({ config, layers }: TestImage, extra: object = {}): object => ({ schemaVersion: 2, mediaType: OCI.manifest, config, layers, ...extra });

describe('registry server: endpoints', () => {
  it('answers the version check, and errors in the form of the specification', () => served(async ({ url }) => {
    for (const path of ['/v2/', '/v2']) {
      const { status, headers } = await call('GET', url + path);
      assert.deepEqual([status, headers['docker-distribution-api-version']], [200, 'registry/2.0']);
    }
    const cases = [
      ['GET', '/', 404, 'UNSUPPORTED'],
      ['GET', '/v2/base', 404, 'UNSUPPORTED'],
      ['POST', '/v2/', 405, 'UNSUPPORTED'],
      ['PUT', '/v2/base/tags/list', 405, 'UNSUPPORTED'],
      ['GET', '/v2/Base/tags/list', 400, 'NAME_INVALID'],
      ['GET', '/v2/../tags/list', 400, 'NAME_INVALID'],
      ['GET', '/v2/a%2F..%2Fb/tags/list', 400, 'NAME_INVALID'],
      ['GET', '/v2/%zz/tags/list', 400, 'NAME_INVALID'],
      ['GET', '/v2/nothing/tags/list', 404, 'NAME_UNKNOWN'],
      ['GET', '/v2/base/manifests/nothing', 404, 'MANIFEST_UNKNOWN'],
      ['GET', `/v2/base/manifests/${digestOf()}`, 404, 'MANIFEST_UNKNOWN'],
      ['GET', `/v2/base/blobs/${digestOf(Buffer.of(1))}`, 404, 'BLOB_UNKNOWN'],
      ['GET', '/v2/base/blobs/sha256:../../../oci-layout', 404, 'UNSUPPORTED'],
      ['GET', '/v2/base/blobs/sha256:..%2F..%2Foci-layout', 400, 'DIGEST_INVALID'],
      ['GET', '/v2/base/blobs/sha256:123', 400, 'DIGEST_INVALID'],
      ['GET', '/v2/base/referrers/app', 400, 'DIGEST_INVALID'],
      ['GET', '/v2/base/blobs/uploads/none', 404, 'BLOB_UPLOAD_UNKNOWN'],
      ['DELETE', '/v2/base/manifests/nothing', 404, 'MANIFEST_UNKNOWN'],
    ] as const;
    for (const [method, path, status, code] of cases) {
      const answer = await call(method, url + path);
      assert.deepEqual([answer.status, answer.code], [status, code], `${method} ${path}`);
    }
  }));

  it('gives manifests by tag and digest, with 304 for those who have them', () => served(async ({ url }, { manifest }) => {
    for (const reference of ['app', manifest.digest, manifest.digest.replace(':', '%3A')]) {
      const got = await call('GET', `${url}/v2/base/manifests/${reference}`);
      assert.equal(got.status, 200);
      assert.equal(got.headers['content-type'], OCI.manifest);
      assert.equal(got.headers['docker-content-digest'], manifest.digest);
      assert.equal(digestOf(got.body), manifest.digest);
      const head = await call('HEAD', `${url}/v2/base/manifests/${reference}`);
      assert.deepEqual([head.status, head.headers['content-length'], head.headers['content-type'], head.body.length], [200, String(manifest.size), OCI.manifest, 0]);
      const again = await call('GET', `${url}/v2/base/manifests/${reference}`, { headers: { 'If-None-Match': got.headers.etag } });
      assert.deepEqual([again.status, again.body.length], [304, 0]);
    }
  }));

  it('gives blobs whole and in ranges', () => served(async ({ url }, { layers: [layer] }) => {
    assert.ok(layer);
    const blob = `${url}/v2/base/blobs/${layer.digest}`;
    const whole = await call('GET', blob);
    assert.deepEqual([whole.status, whole.headers['accept-ranges'], digestOf(whole.body)], [200, 'bytes', layer.digest]);
    const head = await call('HEAD', blob);
    assert.deepEqual([head.status, head.headers['content-length'], head.body.length], [200, String(layer.size), 0]);
    const { size } = layer;
    const ranges = [
      ['bytes=0-0', 0, 1],
      ['bytes=5-99', 5, 100],
      [`bytes=${size - 1}-`, size - 1, size],
      ['bytes=10-', 10, size],
      ['bytes=-7', size - 7, size],
      [`bytes=-${size + 10}`, 0, size],
      [`bytes=3-${size + 1000}`, 3, size],
      ['bytes=0-99999999999999999999', 0, size],
    ] as const;
    for (const [range, start, end] of ranges) {
      const part = await call('GET', blob, { headers: { Range: range } });
      assert.deepEqual([part.status, part.headers['content-range'], part.headers['content-length']], [206, `bytes ${start}-${end - 1}/${size}`, String(end - start)], range);
      assert.deepEqual(part.body, whole.body.subarray(start, end), range);
    }
    for (const range of [`bytes=${size}-`, `bytes=${size + 5}-${size + 9}`, 'bytes=-0', 'bytes=99999999999999999999-']) {
      const part = await call('GET', blob, { headers: { Range: range } });
      assert.deepEqual([part.status, part.headers['content-range'], part.code], [416, `bytes */${size}`, 'RANGE_INVALID'], range);
    }
    for (const range of ['bytes=9-5', 'bytes=-', 'bytes=a-b', 'lines=1-2', 'bytes=0-1,5-6', '']) {
      assert.equal((await call('GET', blob, { headers: { Range: range } })).status, 200, range);
    }
    const etag = whole.headers.etag ?? '';
    assert.equal((await call('GET', blob, { headers: { Range: 'bytes=0-1', 'If-Range': etag } })).status, 206);
    assert.equal((await call('GET', blob, { headers: { Range: 'bytes=0-1', 'If-Range': '"other"' } })).status, 200);
    assert.equal((await call('GET', blob, { headers: { 'If-None-Match': etag } })).status, 304);
  }));

  it('gives empty blobs, for which no range is good', () => served(async ({ url, host }) => {
    const digest = digestOf();
    assert.equal((await call('POST', `${url}/v2/base/blobs/uploads/?digest=${digest}`)).status, 201);
    const blob = `http://${host}/v2/base/blobs/${digest}`;
    const whole = await call('GET', blob);
    assert.deepEqual([whole.status, whole.headers['content-length']], [200, '0']);
    assert.equal((await call('GET', blob, { headers: { Range: 'bytes=0-0' } })).status, 416);
  }));

  it('pages tags and repositories', () => served(async (server, image) => {
    const { url } = server;
    for (const tag of ['b', 'a', 'c']) assert.equal((await put(server, 'team/tool', tag, imageOf(image))).status, 201);
    assert.deepEqual(JSON.parse((await call('GET', `${url}/v2/team/tool/tags/list`)).text), { name: 'team/tool', tags: ['a', 'b', 'c'] });
    const first = await call('GET', `${url}/v2/team/tool/tags/list?n=2`);
    assert.deepEqual(JSON.parse(first.text), { name: 'team/tool', tags: ['a', 'b'] });
    const next = /^<(.*)>; rel="next"$/.exec(String(first.headers.link))?.[1];
    const second = await call('GET', url + (next ?? ''));
    assert.deepEqual([JSON.parse(second.text), second.headers.link], [{ name: 'team/tool', tags: ['c'] }, undefined]);
    assert.deepEqual(JSON.parse((await call('GET', `${url}/v2/team/tool/tags/list?n=0`)).text), { name: 'team/tool', tags: [] });
    assert.equal((await call('GET', `${url}/v2/team/tool/tags/list?n=x`)).code, 'PAGINATION_NUMBER_INVALID');
    assert.deepEqual(JSON.parse((await call('GET', `${url}/v2/_catalog`)).text), { repositories: ['base', 'team/tool'] });
    assert.match(String((await call('GET', `${url}/v2/_catalog?n=1`)).headers.link), /_catalog\?n=1&last=base/);
  }));
});

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
    const { createHash } = await import('node:crypto');
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

describe('registry server: as a whole', () => {
  it('refuses writes when it is read-only, also of an absent layout', () => served(async ({ url }, { manifest }) => {
    assert.equal((await call('GET', `${url}/v2/base/manifests/app`)).status, 200);
    for (const [method, path] of [['PUT', 'manifests/app'], ['DELETE', `manifests/${manifest.digest}`], ['POST', 'blobs/uploads/']] as const) {
      const answer = await call(method, `${url}/v2/base/${path}`);
      assert.deepEqual([answer.status, answer.code, answer.headers.allow], [405, 'UNSUPPORTED', 'GET, HEAD'], path);
    }
    await rejectsWith(serveLayout(join(scratch, 'absent'), { readOnly: true }), 'NOT_FOUND');
  }, { readOnly: true }));

  it('creates an absent layout with the first push only', async () => {
    const folder = join(scratch, 'new', 'My Layout');
    const server = await serveLayout(folder);
    try {
      assert.equal((await call('GET', `${server.url}/v2/_catalog`)).text, '{"repositories":[]}');
      assert.equal(existsSync(folder), false);
      assert.equal((await call('POST', `${server.url}/v2/x/blobs/uploads/?digest=${digestOf()}`)).status, 201);
      assert.equal((await put(server, 'my-layout', 't', { schemaVersion: 2, mediaType: OCI.index, manifests: [] }, OCI.index)).status, 201);
      assert.deepEqual(names(folder), ['t']);
    } finally {
      await server.close();
    }
  });

  it('sees what is written to the folder meanwhile', () => served(async ({ folder, url }, { manifest }) => {
    assert.equal((await call('GET', `${url}/v2/base/manifests/late`)).status, 404);
    await (await openLayout(folder)).tag(manifest, 'late');
    assert.equal((await call('GET', `${url}/v2/base/manifests/late`)).status, 200);
  }));

  it('counts and reports requests', () => served(async ({ url, records, counters }, { layers: [layer] }) => {
    assert.ok(layer);
    await call('GET', `${url}/v2/base/blobs/${layer.digest}`, { headers: { Range: 'bytes=10-19' } });
    await call('POST', `${url}/v2/base/blobs/uploads/?digest=${digestOf(noise(500))}`, { body: noise(500) });
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(records, [
      { method: 'GET', target: `/v2/base/blobs/${layer.digest}`, status: 206, range: 'bytes=10-19', received: 0, sent: 10, complete: true },
      { method: 'POST', target: `/v2/base/blobs/uploads/?digest=${digestOf(noise(500))}`, status: 201, range: undefined, received: 500, sent: 0, complete: true },
    ]);
    assert.deepEqual(counters, { requests: 2, received: 500, sent: 10 });
  }));

  it('survives clients that leave in the middle, and those that speak nonsense', () => served(async ({ url, host, port, folder, records }) => {
    const big = noise(8 << 20);
    const digest = digestOf(big);
    assert.equal((await call('POST', `${url}/v2/base/blobs/uploads/?digest=${digest}`, { body: big })).status, 201);
    await new Promise<void>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => socket.write(`GET /v2/base/blobs/${digest} HTTP/1.1\r\nHost: ${host}\r\n\r\n`));
      socket.once('data', () => socket.resetAndDestroy());
      socket.once('close', () => resolve());
    });
    const nonsense = await new Promise<string>((resolve) => {
      let text = '';
      const socket = connect(port, '127.0.0.1', () => socket.end('MOO\r\n\r\n'));
      socket.on('data', (part: Buffer) => (text += part.toString()));
      socket.once('close', () => resolve(text));
    });
    assert.match(nonsense, /^HTTP\/1\.1 400/);
    while (records.length < 2) await new Promise((resolve) => setTimeout(resolve, 2));
    assert.equal(records.at(-1)?.complete, false);
    assert.equal(digestOf((await call('GET', `${url}/v2/base/blobs/${digest}`)).body), digest);
    assert.ok(existsSync(folder));
  }));

  it('waits for slow clients without piling up bytes', () => served(async ({ url, host, port, records }) => {
    const big = noise(40 << 20);
    const digest = digestOf(big);
    assert.equal((await call('POST', `${url}/v2/base/blobs/uploads/?digest=${digest}`, { body: big })).status, 201);
    const before = process.memoryUsage();
    const socket = connect(port, '127.0.0.1', () => socket.write(`GET /v2/base/blobs/${digest} HTTP/1.1\r\nHost: ${host}\r\n\r\n`));
    socket.pause();
    await new Promise((resolve) => setTimeout(resolve, 200));
    const grown = process.memoryUsage().external - before.external;
    assert.ok(grown < 20 << 20, `${grown} bytes wait for a client that does not read`);
    socket.destroy();
    while (records.length < 2) await new Promise((resolve) => setTimeout(resolve, 2));
    assert.ok((records.at(-1)?.sent ?? big.length) < 30 << 20);
  }));

  it('listens where it is told to', async () => {
    const folder = join(scratch, 'listen');
    mkdirSync(folder);
    for (const [listen, host] of [['127.0.0.1:0', '127.0.0.1'], [':0', '127.0.0.1'], ['0', '127.0.0.1'], ['localhost:0', 'localhost'], ['[::1]:0', '[::1]']] as const) {
      const server = await serveLayout(folder, { listen });
      assert.equal(server.host, `${host}:${server.port}`);
      assert.equal((await call('GET', `${server.url}/v2/`)).status, 200, listen);
      if (listen === '127.0.0.1:0') await rejectsWith(serveLayout(folder, { listen: server.host }), 'IO', /cannot listen on 127/);
      await server.close();
    }
    for (const listen of ['', 'x', '127.0.0.1', '127.0.0.1:', '127.0.0.1:99999', '::1:80', 'a b:80', 'http://x:80']) await rejectsWith(serveLayout(folder, { listen }), 'USAGE');
    await rejectsWith(serveLayout(folder, { listen: '192.0.2.1:0' }), 'IO');
  });

  it('lets answers under way finish when it closes', async () => {
    const folder = join(scratch, 'closing');
    const server = await serveLayout(folder);
    const big = noise(4 << 20);
    const digest = digestOf(big);
    await call('POST', `${server.url}/v2/x/blobs/uploads/?digest=${digest}`, { body: big });
    const open = await call('POST', `${server.url}/v2/x/blobs/uploads/`);
    assert.equal(open.status, 202);
    const slow = async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from('a');
      void server.close();
      await new Promise((resolve) => setTimeout(resolve, 100));
      yield Buffer.from('b');
    };
    const finishing = await call('POST', `${server.url}/v2/x/blobs/uploads/?digest=${digestOf(Buffer.from('ab'))}`, { body: slow() });
    assert.equal(finishing.status, 201);
    await server.close();
    await server.close();
    await assert.rejects(call('GET', `${server.url}/v2/`), /ECONNREFUSED/);
    assert.deepEqual(readdirSync(join(folder, 'blobs')), ['sha256'], 'open uploads are dropped');
  });
});
