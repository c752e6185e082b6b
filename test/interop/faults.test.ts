import assert from 'node:assert/strict';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { request } from 'undici';
import { startFaultRegistry, type FaultRegistry, type FaultRegistryOptions, type FaultRule } from '../support/fault-registry.ts';
import { lazypull, runLazypull, sourceImages } from '../support/peers-cli.ts';
import { startRegistry } from '../support/peers-registry.ts';
import { defer, haveTools, scratch, type Ran } from '../support/peers.ts';

/** The whole command against a registry where things go wrong: it comes through, or it fails cleanly and leaves nothing. */

interface Scene {
  readonly source: FaultRegistry;
  readonly target: FaultRegistry;
  readonly from: string;
  readonly to: string;
  /** TMPDIR of the command. */
  readonly temp: string;
}

async function scene(t: TestContext, sourceOptions: FaultRegistryOptions = {}, targetOptions: FaultRegistryOptions = {}): Promise<Scene> {
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  const source = await startFaultRegistry({ ...sourceOptions, layoutDir: image.layout });
  defer(t, () => source.close());
  const target = await startFaultRegistry(targetOptions);
  defer(t, () => target.close());
  const temp = join(scratch(t), 'tmp');
  mkdirSync(temp);
  return { source, target, from: `docker://${source.host}/tiny:app`, to: `docker://${target.host}/team/app:esgz`, temp };
}

const LOGIN = ['--src-username', 'user', '--dst-username', 'user', '--password-stdin'];

function convert({ from, to, temp }: Scene, ...flags: readonly string[]): Promise<Ran> {
  return runLazypull(['convert', from, to, '--format', 'estargz', '--plain-http', ...flags], { env: { TMPDIR: temp }, input: Buffer.from('pass:word\npass:word\n'), timeout: 60_000 });
}

/** Nothing half-published, nothing left behind: no tag, no temporary file; uploads on their way are cancelled. */
async function leftNothing({ target, temp }: Scene): Promise<void> {
  assert.deepEqual(readdirSync(temp), [], 'temporary files are left');
  assert.deepEqual(target.requests('PUT', /\/manifests\/esgz$/).filter(({ status }) => status < 300), [], 'a tag was written');
  target.heal();
  target.faults.auth = 'none';
  const answer = await request(`${target.url}/v2/team/app/manifests/esgz`, { headers: { accept: '*/*' } });
  assert.equal(answer.statusCode, 404);
  await answer.body.dump();
  const opened = target.requests('POST', /\/blobs\/uploads\//).filter(({ status }) => status === 202).length;
  const closed = [...target.requests('DELETE', /\/blobs\/uploads\//), ...target.requests('PUT', /\/blobs\/uploads\//)].filter(({ status }) => status < 300).length;
  assert.equal(closed, opened, 'upload sessions are left open');
}

const BLOB = /\/blobs\/sha256:/;
const MANIFEST = /\/manifests\//;
const UPLOAD = /\/blobs\/uploads\//;

interface Survivable {
  readonly name: string;
  readonly source?: FaultRegistryOptions;
  readonly target?: FaultRegistryOptions;
  readonly sourceRules?: readonly FaultRule[];
  readonly targetRules?: readonly FaultRule[];
  readonly flags?: readonly string[];
}

const SURVIVABLE: readonly Survivable[] = [
  { name: '429 with Retry-After on blobs', sourceRules: [{ fault: { kind: 'status', status: 429, retryAfter: 1 }, path: BLOB, times: 2 }] },
  { name: '429 with a date on the manifest', sourceRules: [{ fault: { kind: 'status', status: 429, retryAfter: new Date(Date.now() + 1000) }, path: MANIFEST, times: 1 }] },
  { name: '502, 503 and 504 on everything at first', sourceRules: [502, 503, 504].map((status, i) => ({ fault: { kind: 'status', status }, skip: i, times: 1 })) },
  { name: '503 on the way up', targetRules: [{ fault: { kind: 'status', status: 503 }, method: 'POST', times: 2 }, { fault: { kind: 'status', status: 503 }, method: 'PUT', path: MANIFEST, times: 2 }] },
  { name: 'reset before an answer', sourceRules: [{ fault: { kind: 'reset' }, path: BLOB, times: 2 }] },
  { name: 'reset inside a blob', sourceRules: [{ fault: { kind: 'reset', after: 10_000 }, method: 'GET', path: BLOB, times: 3 }] },
  { name: 'a blob that ends early', sourceRules: [{ fault: { kind: 'reset', after: 0 }, method: 'GET', path: BLOB, times: 1 }] },
  { name: 'reset inside an upload', targetRules: [{ fault: { kind: 'reset-upload', after: 5000 }, method: 'PATCH', path: UPLOAD, times: 1 }] },
  { name: 'tokens that are good for three requests', source: { auth: 'bearer', tokenUses: 3 }, target: { auth: 'bearer', tokenUses: 3, anonymousPull: false }, flags: LOGIN },
  { name: 'redirects to another origin, each good once', source: { redirectBlobs: true, redirectUses: 1 } },
  { name: 'relocated uploads with opaque state', target: { uploadLocation: 'stateful' } },
  { name: 'absolute upload locations, chunks not checked', target: { uploadLocation: 'absolute', patch: 'unchecked' } },
  { name: 'a smallest chunk size', target: { minChunk: 4096 } },
  { name: 'no ranges, no digest header, no HEAD for manifests', source: { ranges: 'ignored', digestHeader: false, headManifest: 'refused', typeSuffix: '; charset=utf-8' } },
  { name: 'a slow start', sourceRules: [{ fault: { kind: 'drip', size: 100, delay: 5, pieces: 50 }, path: BLOB }] },
];

for (const { name, source, target, sourceRules = [], targetRules = [], flags = [] } of SURVIVABLE) {
  test(`convert comes through: ${name}`, async (t) => {
    const at = await scene(t, source, target);
    for (const rule of sourceRules) at.source.inject(rule);
    for (const rule of targetRules) at.target.inject(rule);
    const ran = await convert(at, ...flags);
    assert.equal(ran.code, 0, ran.stderr);
    at.source.heal();
    at.target.heal();
    at.source.faults.auth = 'none';
    at.target.faults.auth = 'none';
    await lazypull(['verify', at.to, '--against', at.from, '--plain-http']);
    assert.deepEqual(readdirSync(at.temp), []);
    for (const { headers } of at.source.requests(undefined, /^\/cdn\//)) assert.equal(headers.authorization, undefined, 'a token went to another origin');
  });
}

interface Deadly extends Survivable {
  readonly code: number;
  readonly says: RegExp;
}

const DEADLY: readonly Deadly[] = [
  { name: 'a flipped byte in a layer', code: 6, says: /sha256:/, sourceRules: [{ fault: { kind: 'flip', at: 20_000 }, method: 'GET', path: BLOB }] },
  { name: 'layers a byte short', code: 6, says: /bytes/, sourceRules: [{ fault: { kind: 'shorten', bytes: 1 }, method: 'GET', path: BLOB }] },
  { name: 'layers a byte long', code: 6, says: /bytes/, sourceRules: [{ fault: { kind: 'lengthen', bytes: 1 }, method: 'GET', path: BLOB }] },
  { name: 'a flipped byte in a manifest', code: 6, says: /sha256:|digest|JSON/i, sourceRules: [{ fault: { kind: 'flip', at: 30 }, method: 'GET', path: /\/manifests\/sha256/ }] },
  { name: '500 for ever', code: 5, says: /500/, sourceRules: [{ fault: { kind: 'status', status: 500 }, path: BLOB }] },
  { name: '429 with a Retry-After of an hour', code: 5, says: /429|retry/i, sourceRules: [{ fault: { kind: 'status', status: 429, retryAfter: 3600 }, path: BLOB }] },
  { name: 'no credentials for the target', code: 4, says: /401|unauthorized|credentials/i, target: { auth: 'bearer', anonymousPull: false } },
  { name: 'the target forbids uploads', code: 4, says: /403|denied/i, targetRules: [{ fault: { kind: 'status', status: 403, code: 'DENIED' }, method: 'POST', path: UPLOAD }] },
  { name: 'the target refuses the manifest', code: 5, says: /400|MANIFEST_INVALID/, targetRules: [{ fault: { kind: 'status', status: 400, code: 'MANIFEST_INVALID' }, method: 'PUT', path: MANIFEST }] },
  { name: 'the target breaks down at the last manifest', code: 5, says: /500/, targetRules: [{ fault: { kind: 'status', status: 500 }, method: 'PUT', path: /\/manifests\/esgz/ }] },
  { name: 'a captive portal', code: 6, says: /manifest|JSON|html/i, sourceRules: [{ fault: { kind: 'answer', status: 200, headers: { 'content-type': 'text/html' }, body: '<html>Log in</html>' }, path: MANIFEST }] },
  { name: 'no such image', code: 3, says: /tiny/, sourceRules: [{ fault: { kind: 'status', status: 404, code: 'MANIFEST_UNKNOWN' }, path: MANIFEST }] },
];

for (const { name, code, says, source, target, sourceRules = [], targetRules = [], flags = [] } of DEADLY) {
  test(`convert fails cleanly: ${name}`, async (t) => {
    const at = await scene(t, source, target);
    for (const rule of sourceRules) at.source.inject(rule);
    for (const rule of targetRules) at.target.inject(rule);
    const ran = await convert(at, ...flags);
    t.diagnostic(ran.stderr.trim());
    assert.equal(ran.code, code, ran.stderr);
    assert.match(ran.stderr, says);
    assert.ok(ran.stderr.trim().split('\n').length <= 3, 'more than an error line');
    assert.equal(ran.text, '');
    await leftNothing(at);
  });
}

test('cat notices an answer with the wrong range, and a wrong byte in a chunk', async (t) => {
  const at = await scene(t);
  assert.equal((await convert(at)).code, 0);
  const cat = (): Promise<Ran> => runLazypull(['cat', at.to, '/usr/share/book/noise', '--plain-http'], { timeout: 60_000 });
  assert.equal((await cat()).code, 0);
  for (const ranges of ['wrong', 'wrong-total'] as const) {
    at.target.faults.ranges = ranges;
    const ran = await cat();
    assert.ok(ran.code === 5 || ran.code === 6, `${ran.code} ${ran.stderr}`);
    assert.equal(ran.stdout.length, 0);
  }
  at.target.faults.ranges = 'on';
  at.target.inject({ fault: { kind: 'flip', at: 300 }, method: 'GET', path: BLOB });
  assert.equal((await cat()).code, 6);
});

test('Ctrl-C during a conversion: exit status 130, no tag, no temporary file, no upload session', async (t) => {
  if (!haveTools(t, 'docker-registry')) return;
  const at = await scene(t);
  const registry = await startRegistry(t);
  at.source.inject({ fault: { kind: 'drip', size: 400, delay: 20, pieces: 100_000 }, method: 'GET', path: BLOB });
  const scenery = { ...at, to: `docker://${registry.host}/app:esgz` };
  // An upload is under way, or (small layers are stored in a moment) at least a layer is.
  const underWay = (): boolean => registry.uploads('app').length > 0 || at.source.requests('GET', BLOB).some(({ sent }) => sent > 20_000);
  for (const [signal, status] of [['SIGINT', 130], ['SIGTERM', 143]] as const) {
    at.source.log.length = 0;
    const ran = await runLazypull(['convert', scenery.from, scenery.to, '--plain-http', '--dst-plain-http'], {
      env: { TMPDIR: at.temp }, timeout: 60_000,
      started: (child) => void waitFor(underWay).then(() => child.kill(signal)),
    });
    assert.equal(ran.code, status, ran.stderr);
    assert.equal(ran.signal, null);
    assert.equal(ran.text, '');
    assert.deepEqual(await registry.tags('app'), []);
    assert.deepEqual(readdirSync(at.temp), []);
    assert.deepEqual(registry.uploads('app'), [], registry.log());
  }
});

test('Ctrl-C during a conversion into a layout leaves the layout as it was', async (t) => {
  const at = await scene(t);
  const folder = join(scratch(t), 'out');
  await lazypull(['copy', at.from, `oci:${folder}:before`, '--plain-http']);
  const before = listing(folder);
  at.source.log.length = 0;
  at.source.inject({ fault: { kind: 'drip', size: 400, delay: 20, pieces: 100_000 }, method: 'GET', path: BLOB });
  const ran = await runLazypull(['convert', at.from, `oci:${folder}:after`, '--plain-http'], {
    env: { TMPDIR: at.temp }, timeout: 60_000,
    started: (child) => void waitFor(() => at.source.requests('GET', BLOB).some(({ sent }) => sent > 2000)).then(() => child.kill('SIGINT')),
  });
  assert.equal(ran.code, 130, ran.stderr);
  assert.deepEqual(readdirSync(at.temp), []);
  // Finished blobs may stay, they are found again next time; half-written files and tags may not.
  const after = listing(folder);
  assert.deepEqual(after.filter((name) => !name.startsWith('blobs/') && !before.includes(name)), []);
  for (const name of after) assert.match(name, /^(blobs(\/sha256(\/[0-9a-f]{64})?)?|index\.json|oci-layout|[^/]*lock[^/]*)$/);
  await lazypull(['verify', `oci:${folder}:before`]);
});

function listing(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
}

async function waitFor(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 1500 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(condition(), 'the moment for the signal did not come');
}
