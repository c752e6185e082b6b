import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { createHash } from 'node:crypto';
import { digestOf, type Digest } from '../../src/core/digest.ts';
import { serveLayout, type ServedLayout, type ServeOptions } from '../../src/oci/server.ts';
import { call, type Answer } from '../support/http-call.ts';
import { noise } from './store-contract.ts';

const scratch = mkdtempSync(join(tmpdir(), 'lazypull-uploads-'));
after(() => rmSync(scratch, { recursive: true, force: true }));
let count = 0;

interface Served extends ServedLayout {
  /** Files of uploads that are not finished. */
  temps(): number;
}

async function served(body: (server: Served) => Promise<void>, options: ServeOptions = {}): Promise<void> {
  const folder = join(scratch, String((count += 1)), 'base');
  const server = await serveLayout(folder, options);
  try {
    await body({ ...server, temps: () => readdirSync(join(folder, 'blobs')).filter((name) => name.startsWith('.')).length });
  } finally {
    await server.close();
  }
}

async function session({ url }: ServedLayout): Promise<string> {
  const answer = await call('POST', `${url}/v2/a/b/blobs/uploads/`);
  assert.equal(answer.status, 202);
  assert.equal(answer.headers.range, '0-0');
  assert.ok(answer.headers['docker-upload-uuid']);
  return url + (answer.headers.location ?? '');
}

async function stored({ url }: ServedLayout, digest: Digest): Promise<boolean> {
  const answer = await call('GET', `${url}/v2/a/b/blobs/${digest}`);
  if (answer.status === 200) assert.equal(digestOf(answer.body), digest);
  return answer.status === 200;
}

const bytes = noise(300_000);
const digest = digestOf(bytes);
const patch = (location: string, start: number, end: number, header = `${start}-${end - 1}`): Promise<Answer> =>
  call('PATCH', location, { headers: { 'Content-Range': header }, body: bytes.subarray(start, end) });

describe('registry server: uploads', () => {
  it('in one PUT', () => served(async (server) => {
    const location = await session(server);
    const answer = await call('PUT', `${location}?digest=${digest}`, { body: bytes });
    assert.deepEqual([answer.status, answer.headers.location, answer.headers['docker-content-digest']], [201, `/v2/a/b/blobs/${digest}`, digest]);
    assert.equal(await stored(server, digest), true);
    assert.equal((await call('PUT', `${location}?digest=${digest}`, { body: bytes })).code, 'BLOB_UPLOAD_UNKNOWN');
    assert.equal(server.temps(), 0);
  }));

  it('in one POST, or with a session for those who send the digest too early', () => served(async (server) => {
    const url = `${server.url}/v2/a/b/blobs/uploads/?digest=${digest}`;
    const early = await call('POST', url);
    assert.deepEqual([early.status, early.headers.range], [202, '0-0']);
    const answer = await call('POST', url, { body: bytes });
    assert.deepEqual([answer.status, answer.headers.location], [201, `/v2/a/b/blobs/${digest}`]);
    assert.equal((await call('POST', url, { body: bytes.subarray(1) })).code, 'DIGEST_INVALID');
    assert.equal((await call('POST', url.replace(digest, 'sha256:1'), { body: bytes })).code, 'DIGEST_INVALID');
    assert.equal(await stored(server, digest), true);
    assert.equal(server.temps(), 1, 'the early session is open');
  }));

  it('in chunks that follow one another, the last with the PUT', () => served(async (server) => {
    const location = await session(server);
    for (const [start, end, header] of [[0, 100_000, undefined], [100_000, 100_001, undefined], [100_001, 200_000, 'bytes 100001-199999/300000']] as const) {
      const answer = await patch(location, start, end, header);
      assert.deepEqual([answer.status, answer.headers.range], [202, `0-${end - 1}`]);
      const status = await call('GET', location);
      assert.deepEqual([status.status, status.headers.range, status.headers.location], [204, `0-${end - 1}`, location.slice(server.url.length)]);
    }
    const answer = await call('PUT', `${location}?digest=${digest}`, { headers: { 'Content-Range': '200000-299999' }, body: bytes.subarray(200_000) });
    assert.equal(answer.status, 201);
    assert.equal(await stored(server, digest), true);
  }));

  it('with chunks out of place are told where to go on', () => served(async (server) => {
    const location = await session(server);
    assert.equal((await patch(location, 10, 20)).status, 416);
    await patch(location, 0, 1000);
    for (const [start, end] of [[0, 1000], [999, 2000], [1001, 2000]] as const) {
      const answer = await patch(location, start, end);
      assert.deepEqual([answer.status, answer.code, answer.headers.range, answer.headers.location], [416, 'BLOB_UPLOAD_INVALID', '0-999', location.slice(server.url.length)]);
    }
    for (const header of ['5', 'x-y', '9-3', '']) assert.equal((await patch(location, 1000, 2000, header)).status, 416, header);
    assert.equal((await patch(location, 1000, 2000, '1000-2999')).code, 'SIZE_INVALID');
    assert.equal((await call('PUT', `${location}?digest=${digest}`, { headers: { 'Content-Range': '7-99' }, body: bytes.subarray(7, 100) })).status, 416);
    assert.equal((await patch(location, 1000, 300_000)).status, 202);
    assert.equal((await call('PUT', `${location}?digest=${digest}`)).status, 201);
    assert.equal(await stored(server, digest), true);
  }));

  it('as a stream of unknown length', () => served(async (server) => {
    const location = await session(server);
    const stream = async function* (): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < bytes.length; at += 70_000) yield bytes.subarray(at, at + 70_000);
    };
    const answer = await call('PATCH', location, { body: stream() });
    assert.deepEqual([answer.status, answer.headers.range], [202, '0-299999']);
    assert.equal((await call('PUT', `${location}?digest=${digest}`)).status, 201);
    assert.equal(await stored(server, digest), true);
    const more = await session(server);
    const tooLong = await call('PATCH', more, { headers: { 'Content-Range': '0-99999' }, body: stream() });
    assert.equal(tooLong.code, 'SIZE_INVALID');
    const tooShort = await call('PATCH', await session(server), { headers: { 'Content-Range': '0-399999' }, body: stream() });
    assert.equal(tooShort.code, 'SIZE_INVALID');
  }));

  it('that break off go on where they were', () => served(async (server) => {
    const location = await session(server);
    await new Promise<void>((resolve) => {
      const broken = request(location, { method: 'PATCH', headers: { 'Content-Length': bytes.length }, agent: false });
      broken.on('error', () => resolve());
      broken.write(bytes.subarray(0, 150_000), () => setTimeout(() => broken.destroy(), 30));
    });
    const status = await call('GET', location);
    assert.equal(status.status, 204);
    const have = Number(/^0-(\d+)$/.exec(status.headers.range ?? '')?.[1]) + 1;
    assert.ok(have > 1 && have <= 150_000, String(have));
    assert.equal((await patch(location, have, bytes.length)).status, 202);
    assert.equal((await call('PUT', `${location}?digest=${digest}`)).status, 201);
    assert.equal(await stored(server, digest), true);
  }));

  it('with another digest than promised leave nothing', () => served(async (server) => {
    const location = await session(server);
    const answer = await call('PUT', `${location}?digest=${digestOf(noise(5))}`, { body: bytes });
    assert.deepEqual([answer.status, answer.code], [400, 'DIGEST_INVALID']);
    assert.equal(await stored(server, digest), false);
    assert.equal(server.temps(), 0);
    const bare = await call('PUT', await session(server), { body: bytes });
    assert.deepEqual([bare.status, bare.code], [400, 'DIGEST_INVALID']);
  }));

  it('by sha512', () => served(async (server) => {
    const long = `sha512:${createHash('sha512').update(bytes).digest('hex')}`;
    const answer = await call('PUT', `${await session(server)}?digest=${long}`, { body: bytes });
    assert.deepEqual([answer.status, answer.headers['docker-content-digest']], [201, long]);
    assert.deepEqual((await call('GET', `${server.url}/v2/a/b/blobs/${long}`)).body, bytes);
    const wrong = await call('PUT', `${await session(server)}?digest=sha512:${'0'.repeat(128)}`, { body: bytes });
    assert.equal(wrong.code, 'DIGEST_INVALID');
  }));

  it('can be cancelled, and belong to their repository', () => served(async (server) => {
    const location = await session(server);
    assert.equal(server.temps(), 1);
    assert.equal((await call('GET', location.replace('/a/b/', '/a/c/'))).code, 'BLOB_UPLOAD_UNKNOWN');
    assert.equal((await call('DELETE', location)).status, 204);
    assert.equal((await patch(location, 0, 10)).code, 'BLOB_UPLOAD_UNKNOWN');
    assert.equal(server.temps(), 0);
  }));

  it('are spared by a mount', () => served(async (server) => {
    await call('POST', `${server.url}/v2/from/blobs/uploads/?digest=${digest}`, { body: bytes });
    for (const query of [`mount=${digest}&from=from`, `mount=${digest}`]) {
      const answer = await call('POST', `${server.url}/v2/a/b/blobs/uploads/?${query}`);
      assert.deepEqual([answer.status, answer.headers.location, answer.headers['docker-content-digest']], [201, `/v2/a/b/blobs/${digest}`, digest], query);
    }
    for (const query of [`mount=${digestOf(noise(3))}&from=from`, 'mount=nonsense&from=from']) {
      const answer = await call('POST', `${server.url}/v2/a/b/blobs/uploads/?${query}`);
      assert.equal(answer.status, 202, query);
      assert.equal((await call('PUT', `${server.url}${answer.headers.location}?digest=${digest}`, { body: bytes })).status, 201);
    }
  }));

  it('expire when nobody goes on with them, but not under way', () => served(async (server) => {
    const location = await session(server);
    const slow = async function* (): AsyncGenerator<Uint8Array> {
      for (let i = 0; i < 8; i++) {
        yield bytes.subarray(i * 10, i * 10 + 10);
        await new Promise((resolve) => setTimeout(resolve, 80));
      }
    };
    const busy = await call('PATCH', await session(server), { body: slow() });
    assert.deepEqual([busy.status, busy.headers.range], [202, '0-79']);
    while (server.temps() > 0) await new Promise((resolve) => setTimeout(resolve, 10));
    assert.equal((await call('GET', location)).code, 'BLOB_UPLOAD_UNKNOWN');
  }, { uploadIdle: 400 }));

  it('are limited in number', () => served(async (server) => {
    const answers = await Promise.all(Array.from({ length: 260 }, () => call('POST', `${server.url}/v2/a/blobs/uploads/`)));
    const refused = answers.filter(({ status }) => status === 429);
    assert.ok(refused.length >= 4, String(refused.length));
    assert.equal(refused[0]?.code, 'TOOMANYREQUESTS');
    assert.equal(refused[0]?.headers['retry-after'], '10');
  }));

  it('run side by side', () => served(async (server) => {
    const blobs = Array.from({ length: 12 }, (_, i) => noise(500_000 + i, i + 1));
    await Promise.all(blobs.map(async (blob) => {
      const answer = await call('PUT', `${await session(server)}?digest=${digestOf(blob)}`, { body: blob });
      assert.equal(answer.status, 201);
    }));
    for (const blob of blobs) assert.equal(await stored(server, digestOf(blob)), true);
    assert.equal(server.temps(), 0);
  }));
});
