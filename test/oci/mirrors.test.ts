import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { Descriptor } from '../../src/core/types.ts';
import { collect } from '../../src/core/stream.ts';
import { findPlaces, parseMirror } from '../../src/oci/mirrors.ts';
import type { RegistryOptions } from '../../src/oci/registry-options.ts';
import type { RegistryStore } from '../../src/oci/registry.ts';
import { startFaultRegistry, type FaultRegistry, type FaultRegistryOptions } from '../support/fault-registry.ts';
import { client, emptyEnv, scripted } from './scripted.ts';
import { noise, pushBytes, pushImage, pushReferrer, rejectsWith } from './store-contract.ts';

const BLOBS = /\/blobs\//;

interface Scene {
  readonly own: FaultRegistry;
  readonly mirror: FaultRegistry;
  /** Writes to both. */
  fill(put: (store: RegistryStore) => Promise<void>): Promise<void>;
  open(options?: RegistryOptions): RegistryStore;
  readonly warnings: string[];
}

async function scene(t: TestContext, faults: FaultRegistryOptions = {}): Promise<Scene> {
  const [own, mirror] = await Promise.all([startFaultRegistry(), startFaultRegistry(faults)]);
  t.after(() => Promise.all([own.close(), mirror.close()]));
  const warnings: string[] = [];
  return {
    own, mirror, warnings,
    async fill(put) {
      for (const { host } of [own, mirror]) {
        const { store } = client(host);
        await put(store);
        await store.close();
      }
      own.log.length = mirror.log.length = 0;
    },
    open(options = {}) {
      const { store } = client(own.host, 'team/app', { mirrors: [mirror.url], onWarning: (text) => void warnings.push(text), ...options });
      t.after(() => store.close());
      return store;
    },
  };
}

async function hostsDir(t: TestContext, files: Readonly<Record<string, string>>): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'lazypull-hosts-'));
  t.after(() => rmSync(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

/** One large blob and a small one on both sides. */
async function blobs(at: Scene): Promise<{ readonly large: Descriptor; readonly small: Descriptor; readonly bytes: Buffer }> {
  const bytes = noise(5_000_000, 7);
  let large: Descriptor | undefined;
  let small: Descriptor | undefined;
  await at.fill(async (store) => {
    large = await pushBytes(store, bytes);
    small = await pushBytes(store, noise(1000, 3));
  });
  return { large: large as Descriptor, small: small as Descriptor, bytes };
}

describe('mirrors', () => {
  it('answer for blobs and manifests by digest; tags and lists are the registry\'s', async (t) => {
    const at = await scene(t);
    let root: Descriptor | undefined;
    await at.fill(async (store) => {
      const { manifest } = await pushImage(store, 1);
      await store.tag(manifest, 'v1');
      await pushReferrer(store, manifest, 'application/x', 'one');
      root = manifest;
    });
    const store = at.open();
    const found = await store.resolve('v1');
    assert.deepEqual(found, root);
    assert.equal(at.mirror.log.length, 0);
    assert.equal((await store.referrers(found)).length, 1);
    assert.deepEqual(await store.tags(), ['v1']);
    assert.equal(at.mirror.log.length, 0);
    const own = at.own.log.length;
    await collect(store.fetch(found), 100_000);
    const { layers } = JSON.parse(Buffer.from(await collect(at.open().fetch(found), 100_000)).toString()) as { layers: Descriptor[] };
    await collect(store.fetch(layers[0] as Descriptor), 100_000);
    await store.open(layers[0] as Descriptor).read(10, 20);
    assert.equal(at.own.log.length, own, 'the registry is not asked for content');
    assert.ok(at.mirror.log.length >= 3);
    assert.ok(at.mirror.requests('GET').every(({ target }) => new URL(target, 'http://m').searchParams.get('ns') === at.own.host), 'a mirror is told what it stands for');
    assert.ok(at.own.log.every(({ target }) => !target.includes('ns=')));
  });

  it('are not written to', async (t) => {
    const at = await scene(t);
    const store = at.open();
    const { manifest } = await pushImage(store, 2);
    await store.tag(manifest, 'v2');
    assert.deepEqual(at.mirror.log.map(({ method }) => method), []);
    assert.equal((await store.resolve('v2')).digest, manifest.digest);
  });

  for (const [name, break_] of [
    ['that is gone', async ({ mirror }: Scene) => mirror.close()],
    ['that fails', async ({ mirror }: Scene) => mirror.inject({ fault: { kind: 'status', status: 503 } })],
    ['that cuts connections', async ({ mirror }: Scene) => mirror.inject({ fault: { kind: 'reset' } })],
    ['that wants a login', async ({ mirror }: Scene) => void (mirror.faults.auth = 'basic')],
    ['that lies about ranges', async ({ mirror }: Scene) => void (mirror.faults.ranges = 'wrong')],
  ] as const) {
    it(`${name} is passed over`, async (t) => {
      const at = await scene(t);
      const { large, small, bytes } = await blobs(at);
      const store = at.open();
      await break_(at);
      const source = store.open(large);
      for (let i = 0; i < 5; i++) assert.deepEqual(Buffer.from(await source.read(i * 1000, 500)), bytes.subarray(i * 1000, i * 1000 + 500));
      if (name === 'that lies about ranges') return;
      assert.deepEqual(Buffer.from(await collect(store.fetch(large), 1e7)), bytes);
      assert.equal((await collect(store.fetch(small), 1e7)).length, 1000);
    });
  }

  it('that are down are left alone, and asked again when they answer', async (t) => {
    const at = await scene(t);
    const { large } = await blobs(at);
    const source = at.open().open(large);
    at.mirror.inject({ fault: { kind: 'status', status: 500 } });
    for (let i = 0; i < 20; i++) await source.read(i, 10);
    assert.equal(at.mirror.requests('GET').length, 2, 'two tries, and none for the other reads');
    assert.equal(at.own.requests('GET').length, 20);
    assert.ok(at.warnings.some((text) => text.includes(`mirror ${at.mirror.host} does not answer`) && text.includes(large.digest)), at.warnings.join('\n'));
  });

  it('go on where another place has stopped in the middle of a blob', async (t) => {
    const at = await scene(t);
    const { large, bytes } = await blobs(at);
    at.mirror.inject({ fault: { kind: 'reset', after: 2_000_000 }, path: BLOBS, times: 1 });
    at.mirror.inject({ fault: { kind: 'status', status: 404 }, path: BLOBS, skip: 1 });
    assert.deepEqual(Buffer.from(await collect(at.open().fetch(large), 1e7)), bytes);
    assert.ok(at.own.sent(BLOBS) <= 3_100_000, `${at.own.sent(BLOBS)} bytes of the rest`);
  });

  it('without some content are not asked for it by every read', async (t) => {
    const at = await scene(t);
    const { large } = await blobs(at);
    at.mirror.inject({ fault: { kind: 'status', status: 404, code: 'BLOB_UNKNOWN' }, path: BLOBS, times: 1 });
    const source = at.open().open(large);
    for (let i = 0; i < 5; i++) await source.read(i, 10);
    assert.deepEqual([at.mirror.requests('GET').length, at.own.requests('GET').length], [1, 5]);
  });

  it('with wrong bytes are found out: at once for what is fetched whole, when the reader says so for ranges', async (t) => {
    const at = await scene(t);
    const { large, small, bytes } = await blobs(at);
    at.mirror.inject({ fault: { kind: 'flip', at: 5 }, path: BLOBS });
    const store = at.open();
    assert.deepEqual(Buffer.from(await collect(store.fetch(small), 1e6)), noise(1000, 3));
    assert.ok(at.warnings.some((text) => text.includes(`${at.mirror.host} has something wrong`)), at.warnings.join('\n'));
    const source = store.open(large);
    const wrong = Buffer.from(await source.read(100, 50));
    assert.notDeepEqual(wrong, bytes.subarray(100, 150));
    assert.equal(source.distrust?.(100, 50), true, 'there is somebody else');
    assert.deepEqual(Buffer.from(await source.read(100, 50)), bytes.subarray(100, 150));
    assert.deepEqual(Buffer.from(await store.open(large).read(900, 50)), bytes.subarray(900, 950), 'for all who read the blob');
    assert.ok(at.warnings.some((text) => text.includes(`${at.mirror.host} has wrong bytes of ${large.digest}`)));
    // Both wrong: the one that was wrong longest ago has its turn, and nobody is left out for good.
    assert.equal(source.distrust?.(900, 50), true);
    assert.notDeepEqual(Buffer.from(await source.read(0, 50)), bytes.subarray(0, 50));
  });

  it('has a stream that proves wrong at its end taken from elsewhere the next time', async (t) => {
    const at = await scene(t);
    const { large, bytes } = await blobs(at);
    at.mirror.inject({ fault: { kind: 'flip', at: 5 }, path: BLOBS });
    const store = at.open();
    await rejectsWith(collect(store.fetch(large), 1e7), 'DIGEST_MISMATCH');
    assert.deepEqual(Buffer.from(await collect(store.fetch(large), 1e7)), bytes);
  });

  it('say what a tag is only when the registry cannot', async (t) => {
    const at = await scene(t);
    let first: Descriptor | undefined;
    await at.fill(async (store) => {
      const { manifest } = await pushImage(store, 1);
      first ??= manifest;
      await store.tag(manifest, 'v1');
    });
    const { store: direct } = client(at.own.host);
    const { manifest: newer } = await pushImage(direct, 9);
    await direct.tag(newer, 'v1');
    await direct.close();
    assert.equal((await at.open().resolve('v1')).digest, newer.digest, 'not what the mirror remembers');
    at.own.inject({ fault: { kind: 'status', status: 502 } });
    assert.equal((await at.open().resolve('v1')).digest, first?.digest);
  });

  it('say together why nobody could help', async (t) => {
    const at = await scene(t);
    const { large } = await blobs(at);
    at.own.inject({ fault: { kind: 'status', status: 404, code: 'BLOB_UNKNOWN' } });
    at.mirror.inject({ fault: { kind: 'status', status: 500 } });
    await rejectsWith(at.open().open(large).read(0, 10), 'NOT_FOUND', new RegExp(`404.*; mirror ${at.mirror.host}: GET answered 500`));
  });

  it('never see what was given for the registry', async (t) => {
    const seen: (string | undefined)[] = [];
    const mirror = await scripted((request, response) => {
      seen.push(request.headers.authorization);
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
    });
    t.after(() => mirror.close());
    const own = await startFaultRegistry({ auth: 'basic' });
    t.after(() => own.close());
    const options: RegistryOptions = { creds: { username: 'user', password: 'pass:word' } };
    const writer = client(own.host, 'team/app', options).store;
    const blob = await pushBytes(writer, noise(1000));
    await writer.close();
    const { store } = client(own.host, 'team/app', { ...options, mirrors: [mirror.url] });
    t.after(() => store.close());
    assert.equal((await store.open(blob).read(0, 100)).length, 100);
    assert.ok(seen.length > 0 && seen.every((value) => value === undefined), JSON.stringify(seen));
  });

  it('come from hosts.toml as well, with what it says about them', async (t) => {
    const at = await scene(t);
    const { large } = await blobs(at);
    const folder = await hostsDir(t, {
      [`${at.own.host.replace(/:(\d+)$/, '_$1_')}/hosts.toml`]: `server = "${at.own.url}"\n[host."${at.mirror.url}"]\ncapabilities = ["pull"]\n[host."${at.mirror.url}".header]\nX-Team = ["a", "b"]\n`,
    });
    const store = at.open({ mirrors: [], hostsDir: folder });
    await store.open(large).read(0, 10);
    const [request] = at.mirror.requests('GET');
    assert.equal(request?.headers['x-team'], 'a, b');
    assert.equal(at.own.log.length, 0);
    const direct = at.open({ direct: true, hostsDir: folder });
    await direct.open(large).read(0, 10);
    assert.equal(at.own.requests('GET').length, 1, 'who asks for the registry itself gets it');
  });
});

describe('a registry that is down', () => {
  it('costs its tries once, not with every read, and is asked again by itself', async (t) => {
    const own = await startFaultRegistry();
    t.after(() => own.close());
    const { store, delays } = client(own.host);
    t.after(() => store.close());
    const blob = await pushBytes(store, noise(1000));
    own.log.length = 0;
    own.inject({ fault: { kind: 'status', status: 503 } });
    const source = store.open(blob);
    await rejectsWith(source.read(0, 10), 'NETWORK', /503/);
    assert.equal(own.log.length, 5);
    for (let i = 0; i < 20; i++) await rejectsWith(source.read(0, 10), 'NETWORK', /has not answered for/);
    assert.deepEqual([own.log.length, delays.length], [5, 4]);
    own.heal();
    let bytes: Uint8Array | undefined;
    while (!bytes) {
      bytes = await source.read(0, 10).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.equal(bytes.length, 10);
    assert.equal((await source.read(10, 10)).length, 10);
  });

  it('may be starting again: refused connections are tried again once it has been there', async (t) => {
    const own = await startFaultRegistry();
    const { store, delays } = client(own.host);
    t.after(() => store.close());
    const blob = await pushBytes(store, noise(1000));
    await own.close();
    await rejectsWith(store.open(blob).read(0, 10), 'NETWORK');
    assert.equal(delays.length, 4);
    const { store: other, delays: none } = client(own.host);
    t.after(() => other.close());
    await rejectsWith(other.open(blob).read(0, 10), 'NETWORK', /refused/);
    assert.equal(none.length, 0, 'one that was never there is not waited for');
  });
});

describe('findPlaces', () => {
  const places = async (t: TestContext, domain: string, files: Readonly<Record<string, string>>, options: RegistryOptions = {}): Promise<readonly string[]> => {
    const found = await findPlaces(domain, { env: emptyEnv(), hostsDir: await hostsDir(t, files), ...options });
    return found.map(({ host, scheme, root, own, pulls, resolves }) => `${scheme ?? '?'}://${host}${root}${own ? ' own' : ''}${pulls ? ' pull' : ''} ${resolves}`);
  };

  it('is the registry alone without any configuration', async (t) => {
    assert.deepEqual(await places(t, 'r.example', {}), ['?://r.example/v2 own pull in turn']);
    assert.deepEqual(await places(t, 'docker.io', {}), ['?://registry-1.docker.io/v2 own pull in turn']);
  });

  it('takes mirrors of the options first, those of other registries not', async (t) => {
    const mirrors = ['m.example', 'docker.io=https://hub.example/cache/', 'r.example=http://near:5000', 'other=x.example'];
    assert.deepEqual(await places(t, 'r.example', {}, { mirrors }), ['?://m.example/v2 pull last', 'http://near:5000/v2 pull last', '?://r.example/v2 own pull in turn']);
    assert.deepEqual(await places(t, 'docker.io', {}, { mirrors }), ['?://m.example/v2 pull last', 'https://hub.example/cache/v2 pull last', '?://registry-1.docker.io/v2 own pull in turn']);
  });

  it('reads hosts.toml in its order, of the registry or of all', async (t) => {
    const all = `
      server = "https://up.example"
      [host."https://a.example"]
      [host."http://b.example:1/base"]
      capabilities = ["pull"]
      [host."https://c.example/v2/proj"]
      override_path = true
      capabilities = ["resolve"]
      [host."https://push.example"]
      capabilities = ["push"]`;
    const expected = ['https://a.example/v2 pull in turn', 'http://b.example:1/base/v2 pull never', 'https://c.example/v2/proj in turn'];
    assert.deepEqual(await places(t, 'r.example', { '_default/hosts.toml': all }), [...expected, 'https://up.example/v2 pull in turn', '?://r.example/v2 own pull in turn']);
    assert.deepEqual(await places(t, 'r.example', { '_default/hosts.toml': all, 'r.example/hosts.toml': 'server = "http://r.example"' }), ['http://r.example/v2 own pull in turn']);
    assert.deepEqual(await places(t, 'r.example:5000', { 'r.example_5000_/hosts.toml': '[host."https://r.example:5000"]\n[host."https://late.example"]' }), [
      'https://r.example:5000/v2 own pull in turn', 'https://late.example/v2 pull in turn',
    ]);
  });

  it('takes settings of a host to files beside it', async (t) => {
    const folder = await hostsDir(t, { 'r.example/hosts.toml': '[host."https://a.example"]\nca = ["ca.crt", "/abs.crt"]\nclient = [["c.cert", "c.key"]]\nskip_verify = true\ndial_timeout = "1m1.5s"' });
    const [place] = await findPlaces('r.example', { env: emptyEnv(), hostsDir: folder });
    const near = (name: string): string => join(folder, 'r.example', name);
    assert.deepEqual(place?.settings, { ca: [near('ca.crt'), '/abs.crt'], client: { cert: near('c.cert'), key: near('c.key') }, skipVerify: true, connectMs: 61_500 });
  });

  it('refuses what it cannot understand, and says where', async (t) => {
    for (const [text, message] of [
      ['server = 1', /server is a URL/], ['host = 1', /table of hosts/], ['[host]\n"https://a" = 1', /no table/], ['[host."ftp://a"]', /no address/], ['[host."https://u:p@a"]', /credentials/],
      ['[host.a]\ncapabilities = [1]', /capabilities/], ['[host.a]\nskip_verify = "yes"', /true or false/], ['[host.a]\nclient = 1', /client/], ['[host.a]\ndial_timeout = "soon"', /duration/],
      ['[host.a.header]\n"a b" = "c"', /header/], ['[host.a.header]\na = "x\\ny"', /control characters/], ['nonsense', /line 1/],
    ] as const) {
      const folder = await hostsDir(t, { '_default/hosts.toml': text });
      await assert.rejects(findPlaces('r.example', { env: emptyEnv(), hostsDir: folder }), { code: 'USAGE', message }, text);
    }
    for (const text of ['', 'ftp://a', 'https://u:p@a', 'a?b', 'r.example=']) assert.throws(() => parseMirror(text), { code: 'USAGE' }, text);
    assert.throws(() => parseMirror('https://user:secret@a'), (error: Error) => !error.message.includes('secret'));
  });
});
