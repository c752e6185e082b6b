import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { MountFolder } from '../../src/mount/host/mount-folder.ts';
import { readState } from '../../src/mount/host/state.ts';
import { startFaultRegistry, type FaultRegistry } from '../support/fault-registry.ts';
import { lazypull, sourceImages } from '../support/peers-cli.ts';
import { defer, haveTools, must, run, type Ran, type RunOptions } from '../support/peers.ts';
import { once } from '../support/shared.ts';
import { BACKENDS, canMount, dropCaches, makeLazy, MountScene, type BackendName, type TestMount } from './mounts.ts';

/** What a mount does when things go wrong: it goes on, or says EIO; it never hangs for ever, and never shows wrong bytes. */

const BLOB = /\/blobs\/sha256:/;

/** A registry of a test's own with an image in it, and mounts of that image. */
interface Stage {
  readonly registry: FaultRegistry;
  readonly ref: string;
  readonly scene: MountScene;
  mount(backend: BackendName, flags?: readonly string[], options?: RunOptions): Promise<TestMount>;
}

async function stage(t: TestContext, which: string): Promise<Stage> {
  const image = sourceImages(t, [which])[0] ?? sourceImages(t, ['tiny'])[0];
  assert.ok(image);
  const layout = await once(`${image.name}-in-small-chunks`, async (draft) => void (await makeLazy(image, 'estargz', ['--chunk-size', '65536'], `oci:${draft}:lazy`)));
  const registry = await startFaultRegistry();
  defer(t, () => registry.close());
  const ref = `docker://${registry.host}/team/app:lazy`;
  await lazypull(['copy', `oci:${layout}:lazy`, ref, '--plain-http']);
  registry.log.length = 0;
  const scene = new MountScene(t);
  return { registry, ref, scene, mount: (backend, flags = [], options = {}) => scene.mount(ref, ['--backend', backend, '--plain-http', ...flags], options) };
}

/** A test of several cases side by side, each on a stage of its own; nothing is left of any of them. */
function onStages<C>(name: string, cases: readonly C[], play: (stage: Stage, which: C, t: TestContext) => Promise<void>, image = 'tiny'): void {
  test(name, async (t) => {
    if (!canMount(t)) return;
    await Promise.all(cases.map(async (which) => {
      const at = await stage(t, image);
      await play(at, which, t);
      await at.scene.assertNothingLeft();
    }));
  });
}

async function readAll(dir: string, timeout = 60_000): Promise<Ran> {
  return run('bash', ['-c', 'cd "$1" && find . -xdev -type f -print0 | sort -z | xargs -0 -r sha256sum', 'bash', dir], { timeout });
}

onStages('a mount asks for little: no content for names and attributes, and of one file not much more than that', BACKENDS, async ({ registry, mount: start }, backend, t) => {
  const whole = registry.sent();
  const mount = await start(backend, ['--no-prefetch']);
  const mounted = { requests: registry.log.length, bytes: registry.sent() - whole };
  await must('ls', ['-lR', mount.dir]);
  assert.deepEqual({ requests: registry.log.length, bytes: registry.sent() - whole }, mounted, 'names and attributes need nothing');
  const text = await mount.cat('etc/os-release');
  assert.ok(text.length > 0);
  // What was read to plan the mount is not read again.
  const read = { requests: registry.log.length - mounted.requests, bytes: registry.sent() - whole - mounted.bytes };
  assert.ok(read.requests >= 1 && read.requests <= 2, `${read.requests} requests for one small file`);
  const { fetchedBytes, requests } = await mount.ps();
  assert.ok((fetchedBytes as number) <= read.bytes);
  t.diagnostic(`${backend}: mount ${mounted.requests} requests, ${mounted.bytes} bytes; cat of ${text.length} bytes: ${read.requests} requests, ${read.bytes} bytes (${requests}, ${fetchedBytes} by ps)`);
  await mount.unmount();
}, 'nginx');

onStages('the kernel reads little ahead until all that was foreseen has come, much where nothing was, and nothing where it is recorded', BACKENDS, async ({ registry, mount: start, scene }, backend) => {
  const ahead = ({ folder }: TestMount): string => {
    const found = readState(new MountFolder(folder))?.mounts.find(({ type }) => type === backend);
    assert.ok(found);
    return readFileSync(`/sys/class/bdi/${found.bdi ?? found.device}/read_ahead_kb`, 'utf8').trim();
  };
  const unforeseen = await start(backend, ['--no-prefetch']);
  assert.equal(ahead(unforeseen), '1024');
  await unforeseen.unmount();
  const planning = registry.requests('GET', BLOB).length;
  const list = join(scene.folder, 'list');
  writeFileSync(list, '/etc/os-release\t0-10\n');
  registry.log.length = 0;
  registry.inject({ fault: { kind: 'delay', ms: 4000 }, path: BLOB, skip: planning });
  const foreseen = await start(backend, ['--no-prefetch', '--prefetch-list', list, '--cache-dir', join(scene.folder, 'other')]);
  assert.equal(ahead(foreseen), '32');
  for (let patience = 200; ahead(foreseen) === '32' && patience > 0; patience -= 1) await wait(50);
  assert.equal(ahead(foreseen), '1024');
  await foreseen.unmount();
  if (backend === 'erofs') return;
  const recorded = await start(backend, ['--no-prefetch', '--record', join(scene.folder, 'recorded')]);
  assert.equal(ahead(recorded), '0');
  await recorded.unmount();
});

onStages('what is here can be read without a registry, also after a crash and in a new mount; what is not says EIO', BACKENDS, async ({ registry, mount: start }, backend) => {
  const flags = ['--no-prefetch', '--read-timeout', '5'];
  const mount = await start(backend, flags);
  const known = await mount.cat('etc/os-release');
  // What was fetched a moment ago is not yet on disk, and does not count after a crash.
  await wait(3000);
  registry.inject({ fault: { kind: 'reset' } });
  process.kill((await mount.ps()).pids.daemon as number, 'SIGKILL');
  await dropCaches();
  assert.deepEqual(await mount.cat('etc/os-release'), known);
  await mount.unmount();

  const again = await start(backend, flags);
  assert.deepEqual(await again.cat('etc/os-release'), known, 'mounted by what is known of the name');
  const ran = await run('cat', [join(again.dir, 'etc/group')]);
  assert.match(ran.stderr, /Input\/output error/);
  assert.ok(((await again.ps()).errors as number) > 0);
  const failed = again.log().filter(({ event }) => event === 'failed-read');
  assert.ok(failed.length > 0 && failed.every(({ path, layer, code, bytes }) => typeof path === 'string' && /^layer \d+/.test(String(layer)) && code !== undefined && Number(bytes) > 0), JSON.stringify(failed[0]));

  registry.heal();
  // A registry that was down is asked again after three seconds at the latest.
  await wait(4000);
  await dropCaches();
  const healed = await readAll(again.dir);
  assert.deepEqual([healed.code, healed.stderr], [0, ''], 'a failure is not remembered');
  await again.unmount();
});

onStages('500s and resets in the middle of blobs are lived through', ['fuse'] as const, async ({ registry, mount: start }, backend) => {
  const mount = await start(backend);
  registry.inject({ fault: { kind: 'status', status: 500 }, path: BLOB, times: 3 });
  registry.inject({ fault: { kind: 'reset', after: 1000 }, path: BLOB, skip: 3, times: 3 });
  const ran = await readAll(mount.dir);
  assert.deepEqual([ran.code, ran.stderr], [0, '']);
  await mount.unmount();
});

onStages('tokens that expire are renewed, and credentials are nowhere to be seen', ['fuse'] as const, async ({ registry, ref, scene, mount: start }, backend) => {
  Object.assign(registry.faults, { auth: 'bearer', tokenUses: 8, anonymousPull: false });
  const mount = await start(backend, ['--username', 'user', '--password-stdin'], { input: Buffer.from('pass:word') });
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

onStages('wrong bytes are never shown: they are fetched again, or the reader gets EIO', [[1, false], [undefined, true]] as const, async ({ registry, scene, mount: start }, [times, fails]) => {
  const mount = await start('fuse', ['--no-prefetch']);
  const wanted = await readAll(mount.dir);
  assert.equal(wanted.code, 0);
  await mount.unmount();
  rmSync(scene.cache, { recursive: true });
  const again = await start('fuse', ['--no-prefetch']);
  registry.inject({ fault: { kind: 'flip', at: 40 }, method: 'GET', path: BLOB, ...(times === undefined ? {} : { times }) });
  const got = await readAll(again.dir);
  if (fails) assert.match(got.stderr, /Input\/output error/);
  else assert.deepEqual([got.code, got.stderr], [0, '']);
  const right = new Set(wanted.text.split('\n'));
  assert.deepEqual(got.text.split('\n').filter((line) => !right.has(line)), [], 'bytes that are wrong');
  await again.unmount();
});

onStages('a registry that does not answer makes reads fail in time, and readers can be killed meanwhile', BACKENDS, async ({ registry, mount: start }, backend) => {
  const mount = await start(backend, ['--no-prefetch', '--read-timeout', '3']);
  registry.inject({ fault: { kind: 'delay', ms: 20_000 }, path: BLOB });
  const child = spawn('cat', [join(mount.dir, 'etc/os-release')], { stdio: 'ignore' });
  await wait(500);
  const ended = new Promise<NodeJS.Signals | null>((resolve) => child.once('exit', (_code, signal) => resolve(signal)));
  child.kill('SIGKILL');
  assert.equal(await ended, 'SIGKILL');
  const ran = await run('cat', [join(mount.dir, 'etc/os-release')], { timeout: 15_000 });
  assert.match(ran.stderr, /Input\/output error/);
  await mount.unmount('--force');
});

onStages('a full disk is lived through', BACKENDS, async ({ scene, mount: start }, backend, t) => {
  if (!haveTools(t, 'mkfs.ext4', 'mount')) return;
  const disk = join(scene.folder, 'disk');
  await must('truncate', ['-s', '24M', disk]);
  await must('mkfs.ext4', ['-q', '-m', '0', disk]);
  await must('mkdir', [scene.cache]);
  await must('mount', ['-o', 'loop', disk, scene.cache]);
  const mount = await start(backend);
  const { bavail, bsize } = statfsSync(scene.cache);
  writeFileSync(join(scene.cache, 'ballast'), Buffer.alloc(Math.max(0, bavail * bsize - (2 << 20))));
  const ran = await readAll(mount.dir, 120_000);
  assert.deepEqual([ran.code, ran.stderr], [0, ''], backend);
  await mount.unmount();
  // The kernel lets go of the tree's file a moment after the mount.
  for (let patience = 100; (await run('umount', [scene.cache])).code !== 0 && patience > 0; patience -= 1) await wait(50);
}, 'nginx');

const ENDS = BACKENDS.flatMap((backend) => (['force', 'term'] as const).map((how) => [backend, how] as const));

onStages('unmounting while files are read: refused, or forced, or by SIGTERM; nothing is left', ENDS, async ({ registry, scene, mount: start }, [backend, how], t) => {
  registry.faults.latency = 20;
  const mount = await start(backend, ['--no-prefetch']);
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
});

onStages('errors at the start are one line with the status of their class, and nothing is left', [undefined], async ({ registry, ref, scene }) => {
  assert.deepEqual((await scene.refused(ref.replace(':lazy', ':none'), ['--plain-http'])).code, 3);
  assert.deepEqual((await scene.refused('docker://127.0.0.1:9/team/app:1', ['--plain-http'])).code, 5);
  assert.deepEqual((await scene.refused(ref, ['--plain-http', '--metrics-listen', registry.host])).code, 9);
  assert.deepEqual((await scene.refused(ref, ['--plain-http', '--backend', 'fuse', '--detach-when-complete'])).code, 7);
  const none = await scene.run(['mount', ref, join(scene.folder, 'none'), '--plain-http']);
  assert.deepEqual([none.code, none.stderr.trim().split('\n').length], [3, 1]);
  registry.inject({ fault: { kind: 'stall', after: 10 }, path: BLOB });
  registry.log.length = 0;
  const dir = join(scene.folder, 'mnt');
  mkdirSync(dir);
  const ran = await scene.run(['mount', ref, dir, '--plain-http', '--cache-dir', scene.cache], { started: (child) => void asked(registry).then(() => child.kill('SIGINT')) });
  assert.equal(ran.code, 130);
});

/** Resolves when a blob is on its way. */
async function asked(registry: FaultRegistry): Promise<void> {
  while (registry.requests('GET', BLOB).length === 0) await wait(20);
  await wait(100);
}
