import assert from 'node:assert/strict';
import { request as secureRequest } from 'node:https';
import { describe, it } from 'node:test';
import { digestOf } from '../../src/core/digest.ts';
import { encodeDocument } from '../../src/oci/documents.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { noise } from '../oci/store-contract.ts';
import { startFaultRegistry, type FaultRegistry, type FaultRegistryOptions } from './fault-registry.ts';
import { call, type Answer } from './http-call.ts';

const bytes = noise(200_000);
const digest = digestOf(bytes);
const empty = Buffer.from('{}');
const manifest = encodeDocument({ schemaVersion: 2, mediaType: OCI.manifest, config: { mediaType: OCI.empty, digest: digestOf(empty), size: 2 }, layers: [] });

async function upload({ url }: FaultRegistry, body: Uint8Array = bytes): Promise<Answer> {
  return call('POST', `${url}/v2/app/blobs/uploads/?digest=${digestOf(body)}`, { body });
}

async function pushManifest({ url }: FaultRegistry, tag = 'one', headers = {}, body: Uint8Array = manifest): Promise<Answer> {
  return call('PUT', `${url}/v2/app/manifests/${tag}`, { headers: { 'Content-Type': OCI.manifest, ...headers }, body });
}

/** A registry that holds the blob and the manifest `app:one`. */
async function faulty(body: (registry: FaultRegistry, blob: string) => Promise<void>, options: FaultRegistryOptions = {}): Promise<void> {
  const registry = await startFaultRegistry();
  try {
    assert.equal((await upload(registry)).status, 201);
    assert.equal((await upload(registry, empty)).status, 201);
    assert.equal((await pushManifest(registry)).status, 201);
    registry.log.length = 0;
    const { layoutDir: _folder, tls: _tls, ...faults } = options;
    Object.assign(registry.faults, faults);
    await body(registry, `${registry.url}/v2/app/blobs/${digest}`);
  } finally {
    await registry.close();
  }
}

// A test double that does not do what it says makes every test that trusts it worthless.
describe('fault registry', () => {
  it('without faults is a registry that counts', () => faulty(async (registry, blob) => {
    assert.deepEqual((await call('GET', blob)).body, bytes);
    assert.deepEqual((await call('GET', blob, { headers: { Range: 'bytes=10-19' } })).body, bytes.subarray(10, 20));
    assert.equal((await call('HEAD', blob)).headers['content-length'], '200000');
    assert.equal(registry.sent(/blobs/), 200_010);
    assert.deepEqual(registry.requests('GET').map(({ headers, status }) => [headers.range, status]), [[undefined, 200], ['bytes=10-19', 206]]);
  }));

  it('injects errors, counted', () => faulty(async (registry, blob) => {
    registry.inject({ fault: { kind: 'status', status: 429, retryAfter: 3 }, method: 'GET', path: /blobs/, skip: 1, times: 2 });
    const statuses = [];
    for (let i = 0; i < 4; i++) statuses.push((await call('GET', blob)).status);
    assert.deepEqual(statuses, [200, 429, 429, 200]);
    registry.inject({ fault: { kind: 'status', status: 503, retryAfter: new Date(0), code: 'X' } });
    const date = await call('GET', blob);
    assert.deepEqual([date.status, date.headers['retry-after'], date.code], [503, 'Thu, 01 Jan 1970 00:00:00 GMT', 'X']);
    registry.heal();
    registry.inject({ fault: { kind: 'answer', status: 200, headers: { 'Content-Type': 'text/html' }, body: '<p>Log in' } });
    assert.equal((await call('GET', blob)).text, '<p>Log in');
  }));

  it('spoils bodies', () => faulty(async (registry, blob) => {
    const get = async (fault: Parameters<FaultRegistry['inject']>[0]['fault']): Promise<Answer> => {
      registry.heal();
      registry.inject({ fault });
      return call('GET', blob);
    };
    assert.deepEqual((await get({ kind: 'shorten', bytes: 5 })).body, bytes.subarray(0, -5));
    assert.deepEqual((await get({ kind: 'lengthen', bytes: 3 })).body, Buffer.concat([bytes, Buffer.from('!!!')]));
    const flipped = (await get({ kind: 'flip', at: 150_000 })).body;
    assert.equal(flipped.length, bytes.length);
    assert.equal(flipped.findIndex((byte, i) => byte !== bytes[i]), 150_000);
    assert.deepEqual((await get({ kind: 'drip', size: 10, delay: 1, pieces: 5 })).body, bytes);
    assert.equal((await get({ kind: 'headers', headers: { 'Docker-Content-Digest': undefined, 'X-New': '1' } })).headers['x-new'], '1');
    await assert.rejects(get({ kind: 'reset', after: 1000 }), /aborted|ECONNRESET/);
    await assert.rejects(get({ kind: 'reset' }), /ECONNRESET|hang up/);
    assert.equal(registry.requests('GET').at(-2)?.sent, 1000);
    assert.equal(registry.requests('GET').at(-2)?.complete, false);
    registry.heal();
    registry.inject({ fault: { kind: 'stall', after: 10 } });
    const outcome = await Promise.race([call('GET', blob).catch(() => 'over'), new Promise((resolve) => setTimeout(resolve, 100, 'stalled'))]);
    assert.equal(outcome, 'stalled');
  }));

  it('breaks uploads off', () => faulty(async (registry) => {
    registry.inject({ fault: { kind: 'reset-upload', after: 1000 }, method: 'POST', times: 1 });
    const big = noise(3_000_000, 3);
    await assert.rejects(upload(registry, big), /ECONNRESET|EPIPE|hang up/);
    assert.equal((await upload(registry, big)).status, 201);
  }));

  it('misunderstands ranges', () => faulty(async (registry, blob) => {
    const get = (): Promise<Answer> => call('GET', blob, { headers: { Range: 'bytes=10-19' } });
    registry.faults.ranges = 'ignored';
    assert.deepEqual([(await get()).status, (await get()).body.length], [200, 200_000]);
    registry.faults.ranges = 'wrong';
    assert.equal((await get()).headers['content-range'], 'bytes 11-20/200000');
    registry.faults.ranges = 'wrong-total';
    assert.equal((await get()).headers['content-range'], 'bytes 10-19/200001');
  }));

  it('redirects blobs to an origin that wants no credentials and forgets its links', () => faulty(async (registry, blob) => {
    const first = await call('GET', blob);
    assert.equal(first.status, 307);
    const link = String(first.headers.location);
    assert.match(link, new RegExp(`^http://${registry.otherHost}/cdn/`));
    assert.equal((await call('GET', link, { headers: { Authorization: 'Bearer x' } })).status, 400);
    assert.deepEqual((await call('GET', link, { headers: { Range: 'bytes=0-9' } })).body, bytes.subarray(0, 10));
    assert.equal((await call('GET', link)).body.length, bytes.length);
    assert.equal((await call('GET', link)).status, 403);
    assert.deepEqual(registry.log.map(({ origin }) => origin), ['registry', 'other', 'other', 'other', 'other']);
  }, { redirectBlobs: true, redirectUses: 2 }));

  it('asks for a password', () => faulty(async ({ url }) => {
    const refused = await call('GET', `${url}/v2/`);
    assert.deepEqual([refused.status, refused.headers['www-authenticate']?.startsWith('Basic ')], [401, true]);
    for (const [user, status] of [['user:pass:word', 200], ['user:other', 401]] as const) {
      assert.equal((await call('GET', `${url}/v2/`, { headers: { Authorization: `Basic ${Buffer.from(user).toString('base64')}` } })).status, status);
    }
  }, { auth: 'basic' }));

  it('asks for tokens with the right scopes, which run out', () => faulty(async (registry, blob) => {
    const { url, faults } = registry;
    const challenge = String((await call('GET', blob)).headers['www-authenticate']);
    assert.equal(challenge, `Bearer realm="${url}/token",service="fault-registry",scope="repository:app:pull"`);
    const basic = { Authorization: `Basic ${Buffer.from('user:pass:word').toString('base64')}` };
    const tokenFor = async (scope: string, headers = {}): Promise<string> => (JSON.parse((await call('GET', `${url}/token?service=x&scope=${scope}`, { headers })).text) as { token: string }).token;
    const bearer = (token: string): { headers: { Authorization: string } } => ({ headers: { Authorization: `Bearer ${token}` } });
    const pull = await tokenFor('repository:app:pull,push');
    assert.equal((await call('GET', blob, bearer(pull))).status, 200);
    const push = await call('POST', `${url}/v2/app/blobs/uploads/?mount=${digest}&from=lib/x`, bearer(pull));
    assert.equal(push.status, 401, 'anonymous tokens do not push');
    assert.match(String(push.headers['www-authenticate']), /scope="repository:app:pull,push repository:lib\/x:pull",error="insufficient_scope"$/);
    const both = await tokenFor('repository:app:pull,push%20repository:lib/x:pull', basic);
    assert.equal((await call('POST', `${url}/v2/app/blobs/uploads/?mount=${digest}&from=lib/x`, bearer(both))).status, 201);
    assert.equal((await call('GET', `${url}/v2/other/tags/list`, bearer(both))).status, 401);
    assert.equal((await call('GET', `${url}/token?scope=x`, { headers: { Authorization: 'Basic eDp5' } })).status, 401);

    faults.tokenUses = 1;
    const once = await tokenFor('repository:app:pull');
    assert.equal((await call('GET', blob, bearer(once))).status, 200);
    assert.match(String((await call('GET', blob, bearer(once))).headers['www-authenticate']), /error="invalid_token"/);
    faults.tokenUses = undefined;
    faults.tokenLifetime = 0;
    assert.equal((await call('GET', blob, bearer(await tokenFor('repository:app:pull')))).status, 401);

    faults.tokenLifetime = 60;
    faults.identityToken = 'refresh-me';
    faults.tokenField = 'access_token';
    const form = (body: string): Promise<Answer> => call('POST', `${url}/token`, { headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body });
    const refreshed = JSON.parse((await form('grant_type=refresh_token&refresh_token=refresh-me&scope=repository:app:pull,push')).text) as { access_token: string };
    assert.equal((await call('POST', `${url}/v2/app/blobs/uploads/`, bearer(refreshed.access_token))).status, 202);
    assert.equal((await form('grant_type=refresh_token&refresh_token=wrong')).status, 401);
    assert.equal((await form('grant_type=password&username=user&password=pass:word&scope=x')).status, 200);
    faults.tokenPost = 'refused';
    assert.equal((await form('grant_type=refresh_token&refresh_token=refresh-me')).status, 404);
    faults.anonymousPull = false;
    assert.equal((await call('GET', `${url}/token?scope=x`)).status, 401);
    assert.ok(registry.tokensIssued() >= 6);
  }, { auth: 'bearer' }));

  it('has referrers in all qualities', () => faulty(async (registry) => {
    const subject = { mediaType: OCI.manifest, digest: digestOf(manifest), size: manifest.length };
    const about = encodeDocument({ schemaVersion: 2, mediaType: OCI.manifest, artifactType: 'application/x.a', config: { mediaType: OCI.empty, digest: digestOf(empty), size: 2 }, layers: [], subject, annotations: { a: 'b' } });
    const list = (query = ''): Promise<Answer> => call('GET', `${registry.url}/v2/app/referrers/${subject.digest}${query}`);
    const first = async (query = ''): Promise<Record<string, unknown> | undefined> => (JSON.parse((await list(query)).text) as { manifests: Record<string, unknown>[] }).manifests[0];
    const put = async (): Promise<string | undefined> => (await pushManifest(registry, 'about', {}, about)).headers['oci-subject'] as string | undefined;
    assert.equal(await put(), subject.digest);
    assert.deepEqual([(await first())?.['artifactType'], (await list('?artifactType=x')).headers['oci-filters-applied']], ['application/x.a', 'artifactType']);
    registry.faults.referrers = 'silent';
    assert.equal(await put(), undefined);
    assert.equal((await first())?.['artifactType'], 'application/x.a');
    registry.faults.referrers = 'wrong-type';
    assert.deepEqual([(await first())?.['artifactType'], (await first())?.['annotations']], ['application/vnd.oci.image.config.v1+json', undefined]);
    registry.faults.referrers = 'no-filter';
    assert.equal((await first('?artifactType=other'))?.['artifactType'], 'application/x.a');
    assert.equal((await list('?artifactType=other')).headers['oci-filters-applied'], undefined);
    registry.faults.referrers = 'off';
    assert.equal(await put(), undefined);
    assert.deepEqual([(await list()).status, (await list()).headers['content-type']], [404, 'text/plain; charset=utf-8']);
  }));

  it('is strict about what clients accept and what tags become', () => faulty(async (registry) => {
    const { url, faults } = registry;
    const get = (accept: string): Promise<Answer> => call('GET', `${url}/v2/app/manifests/one`, { headers: { Accept: accept } });
    assert.equal((await get('*/*')).code, 'MANIFEST_UNKNOWN');
    assert.equal((await get(`text/plain, ${OCI.manifest}`)).status, 200);
    faults.typeSuffix = '; charset=utf-8';
    faults.digestHeader = false;
    const { headers } = await get(OCI.manifest);
    assert.deepEqual([headers['content-type'], headers['docker-content-digest']], [`${OCI.manifest}; charset=utf-8`, undefined]);
    faults.headManifest = 'refused';
    assert.equal((await call('HEAD', `${url}/v2/app/manifests/one`)).status, 405);
    faults.immutableTags = true;
    assert.equal((await pushManifest(registry, 'fixed')).status, 201);
    assert.deepEqual([(await pushManifest(registry, 'fixed')).status, (await pushManifest(registry, digestOf(manifest))).status], [409, 201]);
    faults.tagsPage = 1;
    assert.match(String((await call('GET', `${url}/v2/app/tags/list`)).headers.link), /n=1&last=fixed/);
  }, { strictAccept: true }));

  it('is difficult about uploads', () => faulty(async (registry) => {
    const { url, faults } = registry;
    const start = async (query = ''): Promise<Answer> => call('POST', `${url}/v2/app/blobs/uploads/${query}`);
    faults.mount = 'refused';
    assert.equal((await start(`?mount=${digest}&from=app`)).status, 202);
    faults.mount = 'forbidden';
    assert.equal((await start(`?mount=${digest}&from=app`)).status, 403);

    faults.uploadLocation = 'absolute';
    assert.ok(String((await start()).headers.location).startsWith(`${url}/v2/app/blobs/uploads/`));
    faults.uploadLocation = 'stateful';
    const at = String((await start()).headers.location);
    assert.match(at, /\?_state=/);
    const moved = await call('PATCH', at, { body: 'abc' });
    assert.equal(moved.status, 202);
    assert.equal((await call('PATCH', at, { body: 'def' })).status, 404, 'an old location is no good');
    assert.equal((await call('PUT', `${String(moved.headers.location)}&digest=${digestOf(Buffer.from('abc'))}`)).status, 201);

    faults.uploadLocation = 'relative';
    faults.minChunk = 10;
    const short = await start();
    assert.equal(short.headers['oci-chunk-min-length'], '10');
    const location = url + String(short.headers.location);
    assert.equal((await call('PATCH', location, { body: 'abc' })).status, 202, 'it could be the last one');
    assert.equal((await call('PATCH', location, { body: 'abc' })).status, 400);

    faults.minChunk = undefined;
    faults.patch = 'unchecked';
    const loose = url + String((await start()).headers.location);
    assert.equal((await call('PATCH', loose, { headers: { 'Content-Range': '90-92' }, body: 'abc' })).status, 202);
    faults.patch = 'checked';
    assert.equal((await call('PATCH', loose, { headers: { 'Content-Range': '90-92' }, body: 'abc' })).status, 416);

    faults.sessionUses = 1;
    const brief = url + String((await start()).headers.location);
    assert.equal((await call('PATCH', brief, { body: 'abc' })).status, 202);
    assert.equal((await call('PATCH', brief, { body: 'abc' })).code, 'BLOB_UPLOAD_UNKNOWN');
  }));

  it('keeps repositories apart', () => faulty(async (registry, blob) => {
    assert.equal((await call('HEAD', blob)).status, 200);
    const elsewhere = blob.replace('/app/', '/b/');
    assert.equal((await call('HEAD', elsewhere)).status, 404);
    assert.equal((await call('POST', `${registry.url}/v2/b/blobs/uploads/?mount=${digest}&from=c`)).status, 202);
    assert.equal((await call('POST', `${registry.url}/v2/b/blobs/uploads/?mount=${digest}&from=app`)).status, 201);
    assert.equal((await call('GET', elsewhere)).body.length, bytes.length);
  }, { isolated: true }));

  it('speaks TLS by a private authority, and asks clients for a certificate', async () => {
    for (const tls of [true, 'client'] as const) {
      const registry = await startFaultRegistry({ tls });
      const { certificates, url } = registry;
      assert.ok(certificates);
      const status = (options: object): Promise<number | undefined> => new Promise((resolve, reject) => {
        secureRequest(`${url}/v2/`, { agent: false, ...options }, (answer) => resolve(answer.resume().statusCode)).on('error', reject).end();
      });
      try {
        await assert.rejects(status({}), /certificate/);
        const { ca, clientCert: cert, clientKey: key } = certificates;
        assert.equal(await status({ ca, cert, key }), 200);
        if (tls === 'client') await assert.rejects(status({ ca }));
        else assert.equal(await status({ ca }), 200);
      } finally {
        await registry.close();
      }
    }
  });
});
