import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { startFaultRegistry, type FaultRegistry, type FaultRegistryOptions } from '../support/fault-registry.ts';
import { sourceImages } from '../support/peers-cli.ts';
import { defer, haveTools, must, run, type Ran } from '../support/peers.ts';
import { BACKENDS, canMount, dropCaches, makeLazy, MountScene, type TestMount } from './mounts.ts';

/** What a mount does when things go wrong: it goes on, or says EIO; it never hangs for ever, and never shows wrong bytes. */

const BLOB = /\/blobs\/sha256:/;

interface Stage {
  readonly registry: FaultRegistry;
  readonly ref: string;
}

async function stage(t: TestContext, options: FaultRegistryOptions = {}, which = 'tiny', format = 'estargz'): Promise<Stage | undefined> {
  const image = sourceImages(t, [which])[0] ?? sourceImages(t, ['tiny'])[0];
  assert.ok(image);
  const registry = await startFaultRegistry();
  defer(t, () => registry.close());
  const ref = await makeLazy(image, format, ['--chunk-size', '65536'], `docker://${registry.host}/team/app:lazy`);
  Object.assign(registry.faults, options);
  registry.log.length = 0;
  return { registry, ref };
}

async function readAll(dir: string, timeout = 60_000): Promise<Ran> {
  return run('bash', ['-c', 'cd "$1" && find . -xdev -type f -print0 | sort -z | xargs -0 -r sha256sum', 'bash', dir], { timeout });
}

test('a mount asks for little: no content for names and attributes, and of one file not much more than that', async (t) => {
  if (!canMount(t)) return;
  for (const backend of BACKENDS) {
    const at = await stage(t, {}, 'nginx');
    if (!at) return;
    const { registry, ref } = at;
    const scene = new MountScene(t);
    const whole = registry.sent();
    const mount = await scene.mount(ref, ['--backend', backend, '--plain-http', '--no-prefetch']);
    const mounted = { requests: registry.log.length, bytes: registry.sent() - whole };
    await must('ls', ['-lR', mount.dir]);
    assert.deepEqual({ requests: registry.log.length, bytes: registry.sent() - whole }, mounted, 'names and attributes need nothing');
    const text = await mount.cat('etc/os-release');
    assert.ok(text.length > 0);
    // The index is read again by whoever reads content, so that not all of it has to be kept.
    const read = { requests: registry.log.length - mounted.requests, bytes: registry.sent() - whole - mounted.bytes };
    assert.ok(read.requests >= 1 && read.requests <= 3, `${read.requests} requests for one small file`);
    const { fetchedBytes, requests } = await mount.ps();
    assert.ok((fetchedBytes as number) <= read.bytes);
    t.diagnostic(`${backend}: mount ${mounted.requests} requests, ${mounted.bytes} bytes; cat of ${text.length} bytes: ${read.requests} requests, ${read.bytes} bytes (${requests}, ${fetchedBytes} by ps)`);
    await mount.unmount();
  }
});

test('what is here can be read without a registry, also after a crash and in a new mount; what is not says EIO', async (t) => {
  if (!canMount(t)) return;
  await Promise.all(BACKENDS.map(async (backend) => {
    const at = await stage(t);
    if (!at) return;
    const { registry, ref } = at;
    const scene = new MountScene(t);
    const flags = ['--backend', backend, '--plain-http', '--no-prefetch', '--read-timeout', '5'];
    const mount = await scene.mount(ref, flags);
    const known = await mount.cat('etc/os-release');
    // What was fetched a moment ago is not yet on disk, and does not count after a crash.
    await wait(3000);
    registry.inject({ fault: { kind: 'reset' } });
    process.kill((await mount.ps()).pids.daemon as number, 'SIGKILL');
    await dropCaches();
    assert.deepEqual(await mount.cat('etc/os-release'), known);
    await mount.unmount();

    const again = await scene.mount(ref, flags);
    assert.deepEqual(await again.cat('etc/os-release'), known, 'mounted by what is known of the name');
    const ran = await run('cat', [join(again.dir, 'etc/group')]);
    assert.match(ran.stderr, /Input\/output error/);
    assert.ok(((await again.ps()).errors as number) > 0);
    const failed = again.log().filter(({ event }) => event === 'failed-read');
    assert.ok(failed.length > 0 && failed.every(({ path, layer, code, bytes }) => typeof path === 'string' && /^layer \d+/.test(String(layer)) && code !== undefined && Number(bytes) > 0), JSON.stringify(failed[0]));

    registry.heal();
    await dropCaches();
    const healed = await readAll(again.dir);
    assert.deepEqual([healed.code, healed.stderr], [0, ''], 'a failure is not remembered');
    await again.unmount();
    await scene.assertNothingLeft();
  }));
});

test('500s and resets in the middle of blobs are lived through', async (t) => {
  if (!canMount(t)) return;
  const at = await stage(t);
  if (!at) return;
  const { registry, ref } = at;
  const scene = new MountScene(t);
  const mount = await scene.mount(ref, ['--backend', 'fuse', '--plain-http']);
  registry.inject({ fault: { kind: 'status', status: 500 }, path: BLOB, times: 3 });
  registry.inject({ fault: { kind: 'reset', after: 1000 }, path: BLOB, skip: 3, times: 3 });
  const ran = await readAll(mount.dir);
  assert.deepEqual([ran.code, ran.stderr], [0, '']);
  await mount.unmount();
});

test('tokens that expire are renewed, and credentials are nowhere to be seen', async (t) => {
  if (!canMount(t)) return;
  const at = await stage(t);
  if (!at) return;
  const { registry, ref } = at;
  Object.assign(registry.faults, { auth: 'bearer', tokenUses: 8, anonymousPull: false });
  const scene = new MountScene(t);
  const mount = await scene.mount(ref, ['--backend', 'fuse', '--plain-http', '--username', 'user', '--password-stdin'], { input: Buffer.from('pass:word') });
  process.kill((await mount.ps()).pids.daemon as number, 'SIGKILL');
  const ran = await readAll(mount.dir);
  assert.deepEqual([ran.code, ran.stderr], [0, '']);
  assert.ok(registry.tokensIssued() > 2);
  const { pids } = await mount.ps();
  const seen = await must('bash', ['-c', 'cat /proc/$1/cmdline /proc/$1/environ /proc/$2/cmdline /proc/$2/environ; cat "$3"/state.json "$3"/log', 'bash', `${pids.daemon}`, `${pids.supervisor}`, mount.folder]);
  assert.equal(seen.text.includes('pass:word'), false);
  const wrong = await scene.run(['mount', ref, mount.dir, '--plain-http']);
  assert.match(wrong.stderr, /mounted here already/);
  await mount.unmount();
  const { code, line } = await scene.refused(ref, ['--plain-http']);
  assert.equal(code, 4, line);
});

test('wrong bytes are never shown: they are fetched again, or the reader gets EIO', async (t) => {
  if (!canMount(t)) return;
  const cases: readonly (readonly [number | undefined, boolean])[] = [[1, false], [undefined, true]];
  await Promise.all(cases.map(async ([times, fails]) => {
    const at = await stage(t);
    if (!at) return;
    const { registry, ref } = at;
    const scene = new MountScene(t);
    const mount = await scene.mount(ref, ['--backend', 'fuse', '--plain-http', '--no-prefetch']);
    const wanted = await readAll(mount.dir);
    assert.equal(wanted.code, 0);
    await mount.unmount();
    rmSync(scene.cache, { recursive: true });
    const again = await scene.mount(ref, ['--backend', 'fuse', '--plain-http', '--no-prefetch']);
    registry.inject({ fault: { kind: 'flip', at: 40 }, method: 'GET', path: BLOB, ...(times === undefined ? {} : { times }) });
    const got = await readAll(again.dir);
    if (fails) assert.match(got.stderr, /Input\/output error/);
    else assert.deepEqual([got.code, got.stderr], [0, '']);
    const right = new Set(wanted.text.split('\n'));
    assert.deepEqual(got.text.split('\n').filter((line) => !right.has(line)), [], 'bytes that are wrong');
    await again.unmount();
    await scene.assertNothingLeft();
  }));
});

test('a registry that does not answer makes reads fail in time, and readers can be killed meanwhile', async (t) => {
  if (!canMount(t)) return;
  await Promise.all(BACKENDS.map(async (backend) => {
    const at = await stage(t);
    if (!at) return;
    const { registry, ref } = at;
    const scene = new MountScene(t);
    const mount = await scene.mount(ref, ['--backend', backend, '--plain-http', '--no-prefetch', '--read-timeout', '3']);
    registry.inject({ fault: { kind: 'delay', ms: 20_000 }, path: BLOB });
    const child = spawn('cat', [join(mount.dir, 'etc/os-release')], { stdio: 'ignore' });
    await wait(500);
    const ended = new Promise<NodeJS.Signals | null>((resolve) => child.once('exit', (_code, signal) => resolve(signal)));
    child.kill('SIGKILL');
    assert.equal(await ended, 'SIGKILL');
    const ran = await run('cat', [join(mount.dir, 'etc/os-release')], { timeout: 15_000 });
    assert.match(ran.stderr, /Input\/output error/);
    await mount.unmount('--force');
    await scene.assertNothingLeft();
  }));
});

test('a full disk is lived through', async (t) => {
  if (!canMount(t) || !haveTools(t, 'mkfs.ext4', 'mount')) return;
  const at = await stage(t, {}, 'nginx');
  if (!at) return;
  const { ref } = at;
  for (const backend of BACKENDS) {
    const scene = new MountScene(t);
    const disk = join(scene.folder, 'disk');
    await must('truncate', ['-s', '24M', disk]);
    await must('mkfs.ext4', ['-q', '-m', '0', disk]);
    await must('mkdir', [scene.cache]);
    await must('mount', ['-o', 'loop', disk, scene.cache]);
    const mount = await scene.mount(ref, ['--backend', backend, '--plain-http']);
    const { bavail, bsize } = statfsSync(scene.cache);
    writeFileSync(join(scene.cache, 'ballast'), Buffer.alloc(Math.max(0, bavail * bsize - (2 << 20))));
    const ran = await readAll(mount.dir, 120_000);
    assert.deepEqual([ran.code, ran.stderr], [0, ''], backend);
    await mount.unmount();
    // The kernel lets go of the tree's file a moment after the mount.
    for (let patience = 100; (await run('umount', [scene.cache])).code !== 0 && patience > 0; patience -= 1) await wait(50);
    await scene.assertNothingLeft();
  }
});

test('unmounting while files are read: refused, or forced, or by SIGTERM; nothing is left', async (t) => {
  if (!canMount(t)) return;
  const at = await stage(t);
  if (!at) return;
  const { registry, ref } = at;
  registry.faults.latency = 20;
  const cases = BACKENDS.flatMap((backend) => (['force', 'term'] as const).map((how) => [backend, how] as const));
  await Promise.all(cases.map(async ([backend, how]) => {
    const scene = new MountScene(t);
    const mount: TestMount = await scene.mount(ref, ['--backend', backend, '--plain-http', '--no-prefetch']);
    const reader = spawn('bash', ['-c', 'cd "$1" && echo in; while :; do sha256sum $(find . -type f) >/dev/null 2>&1; done', 'bash', mount.dir], { stdio: ['ignore', 'pipe', 'ignore'], detached: true });
    const endReader = (): void => {
      try {
        process.kill(-(reader.pid as number), 'SIGKILL');
      } catch {
        // it has ended
      }
    };
    defer(t, endReader);
    const ended = new Promise<void>((resolve) => reader.once('exit', () => resolve()));
    await new Promise((resolve) => reader.stdout.once('data', resolve));
    const refused = await scene.run(['unmount', mount.dir]);
    assert.equal(refused.code, 9);
    assert.match(refused.stderr, new RegExp(`in use by .*bash \\(${reader.pid}\\)`));
    if (how === 'force') {
      await mount.unmount('--force');
    } else {
      process.kill((await mount.ps()).pids.daemon as number, 'SIGTERM');
      for (let patience = 200; (await run('mountpoint', ['-q', mount.dir])).code === 0 && patience > 0; patience -= 1) await wait(25);
    }
    endReader();
    await ended;
    await scene.assertNothingLeft();
  }));
});

test('errors at the start are one line with the status of their class, and nothing is left', async (t) => {
  if (!canMount(t)) return;
  const at = await stage(t);
  if (!at) return;
  const { registry, ref } = at;
  const scene = new MountScene(t);
  assert.deepEqual((await scene.refused(ref.replace(':lazy', ':none'), ['--plain-http'])).code, 3);
  assert.deepEqual((await scene.refused('docker://127.0.0.1:9/team/app:1', ['--plain-http'])).code, 5);
  assert.deepEqual((await scene.refused(ref, ['--plain-http', '--metrics-listen', registry.host])).code, 9);
  assert.deepEqual((await scene.refused(ref, ['--plain-http', '--backend', 'fuse', '--detach-when-complete'])).code, 7);
  const none = await scene.run(['mount', ref, join(scene.folder, 'none'), '--plain-http']);
  assert.deepEqual([none.code, none.stderr.trim().split('\n').length], [3, 1]);
  registry.inject({ fault: { kind: 'stall', after: 10 }, path: BLOB });
  const dir = join(scene.folder, 'mnt');
  mkdirSync(dir);
  const child = scene.run(['mount', ref, dir, '--plain-http', '--cache-dir', scene.cache], { started: (process) => setTimeout(() => process.kill('SIGINT'), 1500) });
  assert.equal((await child).code, 130);
  await scene.assertNothingLeft();
});
