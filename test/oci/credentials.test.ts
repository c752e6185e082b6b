import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, beforeEach, describe, it } from 'node:test';
import { LazypullError } from '../../src/core/errors.ts';
import { findCredential, type CredentialOptions } from '../../src/oci/credentials.ts';
import { hostOfKey, keysFor } from '../../src/oci/credentials-keys.ts';
import { parseReference } from '../../src/oci/reference.ts';
import { rejectsWith } from './store-contract.ts';

const top = mkdtempSync(join(tmpdir(), 'lazypull-credentials-'));
let home = '';
let count = 0;

beforeEach(() => {
  home = join(top, String(count++));
  mkdirSync(home, { recursive: true });
});
after(() => rmSync(top, { recursive: true, force: true }));

function put(path: string, content: object | string): string {
  const full = join(home, path);
  mkdirSync(dirname(full), { recursive: true });
  writeFileSync(full, typeof content === 'string' ? content : JSON.stringify(content));
  return full;
}

function auth(user: string, password = 'secret'): { auth: string } {
  return { auth: Buffer.from(`${user}:${password}`).toString('base64') };
}

function env(more: Record<string, string> = {}): Record<string, string> {
  return { HOME: home, XDG_RUNTIME_DIR: join(home, 'run'), PATH: `${join(home, 'bin')}:${process.env['PATH'] ?? ''}`, ...more };
}

async function find(reference: string, more: Record<string, string> = {}, options: Partial<CredentialOptions> = {}): Promise<string> {
  const found = await findCredential(parseReference(reference), { env: env(more), ...options });
  if (!found) return 'anonymous';
  return found.kind === 'basic' ? `${found.username}:${found.password}` : `${found.kind} ${found.kind === 'identity' ? `${found.username}/` : ''}${found.token}`;
}

/** A helper that answers from `answers` by key, and writes down what it was asked. */
function helper(name: string, answers: Record<string, string>, otherwise = 'echo credentials not found in native keychain; exit 1'): string {
  const log = join(home, `${name}.log`);
  const cases = Object.entries(answers).map(([key, answer]) => `'${key}') ${answer};;`).join('\n');
  const path = put(`bin/docker-credential-${name}`, `#!/bin/sh\nread -r key\necho "$1 $key" >> '${log}'\ncase "$key" in\n${cases}\n*) ${otherwise};;\nesac\n`);
  chmodSync(path, 0o755);
  return log;
}

const reply = (user: string, secret: string): string => `echo '{"ServerURL":"x","Username":"${user}","Secret":"${secret}"}'`;

describe('findCredential: where it looks', () => {
  it('finds nothing where there is nothing', async () => {
    assert.equal(await find('ghcr.io/a/b'), 'anonymous');
  });

  it('asks the sources in their order', async () => {
    const places: readonly (readonly [string, () => string | undefined])[] = [
      ['dockercfg', () => put('.dockercfg', { 'ghcr.io': auth('dockercfg') })],
      ['docker', () => put('.docker/config.json', { auths: { 'ghcr.io': auth('docker') } })],
      ['config', () => put('.config/containers/auth.json', { auths: { 'ghcr.io': auth('config') } })],
      ['runtime', () => put('run/containers/auth.json', { auths: { 'ghcr.io': auth('runtime') } })],
    ];
    for (const [name, write] of places) {
      write();
      assert.equal(await find('ghcr.io/a'), `${name}:secret`);
    }
    const inline = JSON.stringify({ auths: { 'ghcr.io': auth('inline') } });
    assert.equal(await find('ghcr.io/a', { DOCKER_AUTH_CONFIG: inline }), 'inline:secret');
    assert.equal(await find('quay.io/a', { DOCKER_AUTH_CONFIG: inline }), 'anonymous');
    const only = put('only.json', { auths: { 'quay.io': auth('only') } });
    assert.equal(await find('ghcr.io/a', { DOCKER_AUTH_CONFIG: inline, REGISTRY_AUTH_FILE: only }), 'anonymous');
    assert.equal(await find('quay.io/a', { REGISTRY_AUTH_FILE: only }), 'only:secret');
    assert.equal(await find('quay.io/a', { REGISTRY_AUTH_FILE: '/nowhere' }, { authFile: only }), 'only:secret');
    assert.equal(await find('quay.io/a', {}, { creds: { username: 'me', password: 'a:b' }, authFile: '/nowhere' }), 'me:a:b');
  });

  it('heeds the variables that move the files', async () => {
    put('elsewhere/config.json', { auths: { 'ghcr.io': auth('moved') } });
    assert.equal(await find('ghcr.io/a', { DOCKER_CONFIG: join(home, 'elsewhere') }), 'moved:secret');
    put('xdg/containers/auth.json', { auths: { 'ghcr.io': auth('xdg') } });
    assert.equal(await find('ghcr.io/a', { XDG_CONFIG_HOME: join(home, 'xdg') }), 'xdg:secret');
  });

  it('wants a named file to exist and every file to make sense', async () => {
    await rejectsWith(find('a.io/b', {}, { authFile: join(home, 'none.json') }), 'USAGE', /does not exist.*none\.json/);
    for (const [text, reason] of [
      ['{"auths":{"x":{"auth":"hunter2-not-base64!"}}}', /auth of the entry for x is not base64/],
      ['{"auths":{"x":{"auth":"bm9jb2xvbg=="}}}', /not base64 of user:password/],
      ['{"auths":[]}', /auths is not a JSON object/],
      ['{"auths":{"x":"hunter2"}}', /the entry for x is not a JSON object/],
      ['{"credsStore":"../evil"}', /name of a credential helper/],
      ['{"credHelpers":{"x":"a/b"}}', /name of a credential helper/],
      ['{"password":"hunter2"', /is not JSON/],
    ] as const) {
      put('.docker/config.json', text);
      await assert.rejects(find('a.io/b'), (error: unknown) => {
        assert.ok(error instanceof LazypullError && error.code === 'CORRUPT', String(error));
        assert.match(error.message, reason);
        assert.doesNotMatch(`${error.stack} ${JSON.stringify(error.cause)}`, /hunter2/);
        return true;
      });
    }
    put('.docker/config.json', '');
    assert.equal(await find('a.io/b'), 'anonymous');
  });
});

describe('findCredential: what an entry may be', () => {
  const cases: readonly (readonly [string, object, string])[] = [
    ['auth', auth('u', 'p:w:d'), 'u:p:w:d'],
    ['auth padded with NULs', { auth: Buffer.from('u:pw\0\0').toString('base64') }, 'u:pw'],
    ['user and password', { username: 'u', password: 'p' }, 'u:p'],
    ['identity token', { ...auth('u', ''), identitytoken: 'refresh' }, 'identity u/refresh'],
    ['registry token', { registrytoken: 'direct' }, 'registry direct'],
    ['nothing', {}, 'anonymous'],
    ['nulls', { auth: null, identitytoken: null }, 'anonymous'],
  ];
  for (const [name, entry, expected] of cases) {
    it(name, async () => {
      put('.docker/config.json', { auths: { 'ghcr.io': entry } });
      assert.equal(await find('ghcr.io/a'), expected);
    });
  }
});

describe('findCredential: keys', () => {
  it('prefers the most specific namespace', async () => {
    put('.config/containers/auth.json', { auths: { 'r.io': auth('host'), 'r.io/team': auth('team'), 'r.io/team/app': auth('app'), 'r.io/te': auth('wrong') } });
    assert.equal(await find('r.io/team/app'), 'app:secret');
    assert.equal(await find('r.io/team/other/deep'), 'team:secret');
    assert.equal(await find('r.io/else'), 'host:secret');
    assert.equal(await find('s.io/team'), 'anonymous');
  });

  it('knows docker\'s URLs and keeps ports apart', async () => {
    put('.docker/config.json', { auths: { 'https://r.io/v1/': auth('one'), 'http://r.io:5000/v2/': auth('two'), 'https://s.io': auth('three') } });
    assert.equal(await find('r.io/a'), 'one:secret');
    assert.equal(await find('r.io:5000/a'), 'two:secret');
    assert.equal(await find('s.io/a'), 'three:secret');
    assert.equal(await find('s.io:1/a'), 'anonymous');
  });

  it('knows Docker Hub by all its names', async () => {
    for (const key of ['docker.io', 'index.docker.io', 'registry-1.docker.io', 'https://index.docker.io/v1/']) {
      put('.docker/config.json', { auths: { [key]: auth('hub') } });
      assert.equal(await find('alpine'), 'hub:secret', key);
    }
  });

  it('takes a key apart', () => {
    assert.equal(hostOfKey('https://host:1/v2/'), 'host:1');
    assert.equal(hostOfKey('host/v1'), 'host');
    assert.equal(hostOfKey('host/ns'), undefined);
    assert.equal(hostOfKey('https://host/some/path'), 'host');
    assert.deepEqual(keysFor({ domain: 'h', path: 'a/b' }), ['h/a/b', 'h/a', 'h']);
  });
});

describe('findCredential: helpers', () => {
  it('asks the host\'s helper, then the store, then looks itself', async () => {
    const log = helper('own', { 'r.io': reply('own', 's1') });
    const storeLog = helper('all', { 's.io': reply('all', 's2') });
    put('.docker/config.json', { credHelpers: { 'r.io': 'own', 'u.io': 'own' }, credsStore: 'all', auths: { 't.io': auth('file'), 's.io': {} } });
    assert.equal(await find('r.io/a'), 'own:s1');
    assert.equal(readFileSync(log, 'utf8'), 'get r.io\n');
    assert.equal(await find('s.io/a'), 'all:s2');
    assert.equal(await find('t.io/a'), 'file:secret');
    assert.equal(await find('u.io/a'), 'anonymous');
    assert.equal(readFileSync(storeLog, 'utf8'), 'get s.io\nget t.io\nget u.io\n');
  });

  it('asks for Docker Hub by its URL', async () => {
    const log = helper('all', { 'https://index.docker.io/v1/': reply('hub', 's') });
    put('.docker/config.json', { credsStore: 'all' });
    assert.equal(await find('alpine'), 'hub:s');
    put('.docker/config.json', { credHelpers: { 'docker.io': 'all' } });
    assert.equal(await find('alpine'), 'hub:s');
    assert.equal(readFileSync(log, 'utf8'), 'get https://index.docker.io/v1/\n'.repeat(2));
  });

  it('asks for a host by the name that was used at login', async () => {
    helper('all', { 'https://r.io/v1/': reply('url', 's') });
    put('.docker/config.json', { credsStore: 'all', auths: { 'https://r.io/v1/': {} } });
    assert.equal(await find('r.io/a'), 'url:s');
  });

  it('takes a refresh token for what it is', async () => {
    helper('own', { 'r.io': reply('<token>', 'refresh') });
    put('.docker/config.json', { credHelpers: { 'r.io': 'own' } });
    assert.equal(await find('r.io/a'), 'identity /refresh');
  });

  it('reports a helper that fails, by what it says', async () => {
    put('.docker/config.json', { credHelpers: { 'r.io': 'own', 's.io': 'missing' } });
    const cases = [
      ['echo the keychain is locked; exit 3', /docker-credential-own failed for r\.io: the keychain is locked/],
      ['exit 4', /exit code 4/],
      ['echo not json', /did not answer with a Username/],
      ['echo \'{"Username":1,"Secret":"hunter2"}\'', /did not answer with a Username/],
    ] as const;
    for (const [script, reason] of cases) {
      helper('own', {}, script);
      await assert.rejects(find('r.io/a'), (error: unknown) => {
        assert.ok(error instanceof LazypullError && error.code === 'UNAUTHORIZED', String(error));
        assert.match(error.message, reason);
        assert.doesNotMatch(error.message, /hunter2/);
        return true;
      });
    }
    await rejectsWith(find('s.io/a'), 'UNAUTHORIZED', /docker-credential-missing.*not installed/);
  });

  it('does not wait for ever, nor read for ever', async () => {
    put('.docker/config.json', { credHelpers: { 'r.io': 'own' } });
    helper('own', {}, 'sleep 60');
    await rejectsWith(find('r.io/a', {}, { helperTimeoutMs: 200 }), 'UNAUTHORIZED', /no answer within 0\.2 s/);
    await rejectsWith(find('r.io/a', {}, { signal: AbortSignal.timeout(100) }), 'CANCELLED');
    helper('own', {}, 'yes');
    await rejectsWith(find('r.io/a'), 'LIMIT');
  });
});
