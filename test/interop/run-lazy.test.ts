import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { hasHybridCgroups } from '../../src/mount/run/runtime.ts';
import { PROGRAM, runLazypull, sourceImages, type SourceImage } from '../support/peers-cli.ts';
import { haveRoot, haveTools, must, run, scratch, type Ran, type RunOptions } from '../support/peers.ts';
import { CRUN_REFUSES, eventually, leftovers, printed } from './run-trees.ts';
import { lazyImage } from './shared-images.ts';

/** `lazypull run` as users run it: images that are mounted lazily, by every backend. */

interface Place {
  readonly folder: string;
  run(args: readonly string[], options?: RunOptions): Promise<Ran>;
  nothingLeft(): Promise<void>;
}

/** Runs with everything of theirs in one folder. */
function place(t: TestContext): Place {
  const folder = scratch(t);
  const runtime = join(folder, 'runtime');
  mkdirSync(runtime, { mode: 0o700 });
  const env = { TMPDIR: folder, LAZYPULL_RUNTIME_DIR: runtime, XDG_CACHE_HOME: join(folder, 'cache') };
  return {
    folder,
    // Without the two dashes Node takes --env-file for its own.
    run: (args, options = {}) => run(process.execPath, ['--', PROGRAM, 'run', ...args], { timeout: 90_000, ...options, env: { ...env, ...options.env } }),
    nothingLeft: () => eventually(() => [...leftovers(folder), ...readdirSync(runtime).filter((name) => /^[0-9a-f]{12}$/.test(name)).map((name) => `mount folder ${name}`)], 20_000),
  };
}

const lazy = (image: SourceImage): Promise<string> => lazyImage(image, 'estargz');

for (const backend of ['erofs', 'fuse'] as const) {
  test(`images run from a lazy mount: ${backend}`, async (t) => {
    if (!haveRoot(t) || !haveTools(t, 'unshare', 'runc')) return;
    for (const image of sourceImages(t, ['tiny', 'debian', 'python'])) {
      const here = place(t);
      const ran = await here.run(['--backend', backend, await lazy(image), '--', ...image.command]);
      if (backend === 'erofs' && ran.code === 125 && /erofs/.test(ran.stderr)) return t.skip(ran.stderr.trim());
      assert.equal(ran.code, 0, ran.stderr);
      assert.match(ran.text, image.prints);
      assert.equal(ran.stderr.replace(/^lazypull: warning: .*\n/gm, ''), '');
      await here.nothingLeft();
    }
  });
}

test('the bundled image runs as its config says, with our flags over that', async (t) => {
  if (!haveRoot(t) || !haveTools(t, 'unshare', 'runc')) return;
  if (process.arch !== 'x64') return t.skip('the bundled image is for x86-64');
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  const ref = await lazy(image);
  const here = place(t);
  const text = async (...args: string[]): Promise<string> => {
    const ran = await here.run(args);
    assert.equal(ran.code, 0, ran.stderr);
    return ran.text;
  };
  assert.match(await text(ref), /^NAME="Tiny"/);
  const show = '/usr/bin/show';
  assert.deepEqual((await text('-e', 'A=b c', '--hostname', 'box', ref, '--', show, '/proc/self/environ')).split('\0').sort(), ['', 'A=b c', 'HOME=/root', 'HOSTNAME=box', 'PATH=/usr/bin']);
  assert.match(await text('-u', 'app', ref, '--', show, '/proc/self/status'), /^Uid:\t1000\t1000\t1000\t1000\nGid:\t1000\t.*(?:\n.*)*^CapEff:\t0000000000000000$/m);
  assert.match(await text('-w', '/etc', ref, '--', show, 'os-release'), /ID=tiny/);
  writeFileSync(join(here.folder, 'file'), 'of the machine\n');
  assert.equal(await text('-v', `${here.folder}/file:/opt/old:ro`, '--readonly', '--net=none', ref, show, '/opt/old'), 'of the machine\n');
  assert.match(await text('--readonly', ref, '--', show, '/proc/self/mountinfo'), / \/ \/ ro,/);
  assert.match(await text('--entrypoint', show, ref, '--', '/etc/passwd'), /^root:x:0:0/);
  const failed = await here.run([ref, '--', show, '/no/such/file']);
  assert.equal(failed.code, 1);
  await here.nothingLeft();
});

test('what is read is recorded, and as a list it is what is fetched', async (t) => {
  if (!haveRoot(t) || !haveTools(t, 'unshare', 'runc')) return;
  for (const image of sourceImages(t, ['tiny', 'python'])) {
    if (image.name === 'tiny' && process.arch !== 'x64') continue;
    const ref = await lazyImage(image, 'mount index');
    const here = place(t);
    const list = join(here.folder, 'list');
    const recorded = await here.run(['--record', list, ref, '--', ...image.command]);
    assert.equal(recorded.code, 0, recorded.stderr);
    assert.match(recorded.text, image.prints);
    const lines = readFileSync(list, 'utf8').trimEnd().split('\n');
    assert.match(lines[0] as string, /^# What was read of /);
    const files = new Map(lines.slice(1).map((line) => line.split('\t') as [string, string]));
    const program = [...files.keys()].find((path) => path.endsWith(image.name === 'tiny' ? '/show' : '/ld-linux-x86-64.so.2'));
    assert.match(files.get(program ?? assert.fail(lines.join('\n'))) ?? '', /^0-\d+(?:,\d+-\d+)*$/);
    assert.equal(files.size, lines.length - 1, 'each file once');
    // With a cache of its own nothing but that is fetched, and it is enough.
    const cache = join(here.folder, 'fresh');
    const { text, stderr, code } = await run(process.execPath, [PROGRAM, 'prefetch', '--cache-dir', cache, '--prefetch-list', list, '--json', ref]);
    assert.equal(code, 0, stderr);
    const { bytes, unmatched } = JSON.parse(text) as { bytes: number; unmatched: readonly string[] };
    assert.deepEqual(unmatched, []);
    const parts = [...files.values()].flatMap((of) => of.split(',').map((part) => part.split('-').map(Number) as [number, number]));
    const most = parts.reduce((sum, [from, to]) => sum + to - from + 1, 0);
    assert.ok(bytes > 0 && bytes <= most, `${bytes} of ${most}`);
    await here.nothingLeft();
  }
});

test('failures of our own exit with 125 and leave nothing', async (t) => {
  if (!haveRoot(t) || !haveTools(t, 'unshare')) return;
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  const ref = await lazy(image);
  const here = place(t);
  const fails = async (args: readonly string[], message: RegExp): Promise<void> => {
    const ran = await here.run(args);
    assert.deepEqual([ran.code, ran.text], [125, ''], ran.stderr);
    assert.match(ran.stderr, message);
    await here.nothingLeft();
  };
  await fails(['--no-such-flag', ref], /^lazypull: unknown option/m);
  await fails(['--net', 'bridge', ref], /net/);
  await fails([`${ref.slice(0, -5)}:none`], /none/);
  await fails(['oci:/no/such/layout:x'], /no such|not there|NOENT|no image layout/i);
  await fails(['127.0.0.1:1/no:x', '--plain-http'], /127\.0\.0\.1:1/);
  await fails(['--platform', 'linux/arm64', ref], /the image is for linux\/arm64|s390x/);
  await fails(['--platform', 'linux/s390x', ref], /s390x/);
  await fails(['-u', 'nobody', ref], /\/etc\/passwd has no user nobody/);
  await fails(['-v', 'data:/x', ref], /volumes have no names/);
  await fails(['--env-file', join(here.folder, 'none'), ref], /--env-file/);
  await fails(['-t', ref], /no terminal/);
});

test('a run that is told to end while its image is on the way ends, and leaves nothing', async (t) => {
  if (!haveRoot(t) || !haveTools(t, 'unshare')) return;
  let asked: () => void = () => undefined;
  const server = createServer(() => asked());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const here = place(t);
  const { port } = server.address() as AddressInfo;
  for (const [signal, code] of [['SIGINT', 130], ['SIGTERM', 143]] as const) {
    const waiting = new Promise<void>((resolve) => (asked = resolve));
    const ran = await here.run(['--plain-http', `127.0.0.1:${port}/image:1`], { started: (child) => void waiting.then(() => child.kill(signal)) });
    assert.deepEqual([ran.code, ran.text], [code, '']);
    await here.nothingLeft();
  }
});

for (const victim of ['run', 'server'] as const) {
  test(`kill -9 of ${victim === 'run' ? 'lazypull run' : 'the process that serves its files'}`, async (t) => {
    if (!haveRoot(t) || !haveTools(t, 'unshare', 'runc')) return;
    const [image] = sourceImages(t, ['debian', 'nginx']);
    if (!image) return t.skip('needs a real image');
    const here = place(t);
    const ref = await lazy(image);
    if (victim === 'run') {
      const ran = await here.run([ref, '--', 'sh', '-c', 'echo ready; exec sleep 1000'], { started: (child) => void printed(child, 'ready').then(() => child.kill('SIGKILL')) });
      assert.equal(ran.signal, 'SIGKILL');
    } else {
      const ran = await here.run([ref, '--', 'sh', '-c', 'echo ready; for i in 1 2 3 4 5 6; do cat /usr/bin/perl | md5sum; sleep 0.3; done | sort -u | wc -l'], {
        started: (child) => void printed(child, 'ready').then(() => process.kill(daemon(here.folder), 'SIGKILL')),
      });
      assert.deepEqual([ran.code, ran.text], [0, 'ready\n1\n'], ran.stderr);
    }
    await here.nothingLeft();
  });
}

test('without root, in a user namespace', async (t) => {
  if (!haveRoot(t) || !haveTools(t, 'unshare')) return;
  for (const image of sourceImages(t, ['tiny', 'python'])) {
    const ref = await lazy(image);
    for (const runtime of ['none', 'runc', 'crun']) {
      await t.test(`${image.name} with ${runtime}`, async (s) => {
        if (runtime !== 'none' && !haveTools(s, runtime)) return;
        if (runtime === 'crun' && hasHybridCgroups()) return s.skip(CRUN_REFUSES);
        const here = place(s);
        const env = { TMPDIR: here.folder, LAZYPULL_RUNTIME_DIR: join(here.folder, 'runtime'), XDG_CACHE_HOME: join(here.folder, 'cache') };
        const ran = await run('unshare', ['-Urm', '--', process.execPath, PROGRAM, 'run', '--runtime', runtime, ref, '--', ...image.command], { env, timeout: 90_000 });
        assert.equal(ran.code, 0, ran.stderr);
        assert.match(ran.text, image.prints);
        await here.nothingLeft();
      });
    }
  }
});

test('without root, as anybody', async (t) => {
  if (!haveRoot(t) || !haveTools(t, 'unshare', 'setpriv', 'mknod', 'mount')) return;
  const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--'];
  const allowed = await run('setpriv', [...nobody.slice(1), 'unshare', '-Urm', 'true']);
  if (allowed.code !== 0) return t.skip(`no user namespaces: ${allowed.stderr.trim()}`);
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  const ref = await lazy(image);
  const here = place(t);
  chmodSync(here.folder, 0o755);
  await must('chown', ['-R', '65534:65534', here.folder]);
  // Where /dev/fuse is root's alone, a node that is everybody's is put over it, for these processes.
  const node = join(here.folder, 'fuse');
  const prepare = 'set -e; mknod "$0" c 10 229; chmod 666 "$0"; mount --bind "$0" /dev/fuse; exec "$@"';
  const env = { TMPDIR: here.folder, LAZYPULL_RUNTIME_DIR: join(here.folder, 'runtime'), HOME: here.folder };
  const ran = await run('unshare', ['--mount', '--', 'sh', '-c', prepare, node, ...nobody, process.execPath, PROGRAM, 'run', ref], { env, timeout: 90_000 });
  assert.deepEqual([ran.code, /ID=tiny/.test(ran.text)], [0, true], ran.stderr);
  assert.ok(readdirSync(join(here.folder, '.cache')).includes('lazypull'), 'content is kept where it is this user\'s');
  await here.nothingLeft();
});

test('without koffi there is runc', async (t) => {
  if (!haveRoot(t) || !haveTools(t, 'unshare', 'runc', 'mount')) return;
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  const ref = await lazy(image);
  const here = place(t);
  const ran = await here.run(['--backend', 'fuse', ref], { env: { LAZYPULL_NO_NATIVE: '1' } });
  assert.deepEqual([ran.code, /ID=tiny/.test(ran.text)], [0, true], ran.stderr);
  const none = await here.run(['--backend', 'fuse', '--runtime', 'none', ref], { env: { LAZYPULL_NO_NATIVE: '1' } });
  assert.deepEqual([none.code, /needs the optional package koffi/.test(none.stderr)], [125, true], none.stderr);
  await here.nothingLeft();
});

test('the mount of a run is seen by ps and goes with it', async (t) => {
  if (!haveRoot(t) || !haveTools(t, 'unshare', 'runc')) return;
  const [image] = sourceImages(t, ['debian', 'nginx']);
  if (!image) return t.skip('needs a real image');
  const ref = await lazy(image);
  const here = place(t);
  let listed = '';
  const ran = await here.run([ref, '--', 'sh', '-c', 'trap "exit 0" TERM; echo ready; while :; do sleep 0.1; done'], {
    started: (child) => void printed(child, 'ready').then(async () => {
      listed = (await runLazypull(['ps', '--json'], { env: { LAZYPULL_RUNTIME_DIR: join(here.folder, 'runtime') } })).text;
      child.kill('SIGTERM');
    }),
  });
  assert.equal(ran.code, 0, ran.stderr);
  const { mounts } = JSON.parse(listed) as { mounts: { dir: string }[] };
  assert.deepEqual(mounts.map(({ dir }) => dir.replace(/[0-9a-f]{12}/, 'ID')), [join(here.folder, 'lazypull-run-ID', 'lower')]);
  await here.nothingLeft();
});

/** The process that answers reads for the mounts of a folder. */
function daemon(folder: string): number {
  const runtime = join(folder, 'runtime');
  for (const name of readdirSync(runtime)) {
    if (!/^[0-9a-f]{12}$/.test(name)) continue;
    const { daemon: mark } = JSON.parse(readFileSync(join(runtime, name, 'state.json'), 'utf8')) as { daemon?: { pid: number } };
    if (mark) return mark.pid;
  }
  throw new Error('no mount is being served');
}
