import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { digestOf } from '../../src/core/digest.ts';
import { openLayout } from '../../src/oci/layout.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { serveLayout } from '../../src/oci/server.ts';
import { call } from '../support/http-call.ts';
import { imageOf, names, put, scratch, served } from './served.ts';
import { noise, rejectsWith } from './store-contract.ts';

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
