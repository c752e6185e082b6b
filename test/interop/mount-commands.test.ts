import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { PROGRAM, sourceImages } from '../support/peers-cli.ts';
import { compareTrees } from '../support/peers-trees.ts';
import { defer, findTool, haveTools, must, run } from '../support/peers.ts';
import { BACKENDS, canMount, MountScene, treeOf } from './mounts.ts';
import { lazyImage } from './shared-images.ts';

function tiny(t: TestContext): Promise<string> {
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  return lazyImage(image, 'estargz');
}

test('a writable layer goes with the mount, or stays where it is told to', async (t) => {
  if (!canMount(t)) return;
  const ref = await tiny(t);
  for (const backend of BACKENDS) {
    const scene = new MountScene(t);
    const change = async (dir: string): Promise<void> => {
      await must('bash', ['-c', 'cd "$1"; echo new >etc/new; echo more >>etc/os-release; rm etc/group; chmod 700 etc; mkdir -p deep/er', 'bash', dir]);
    };
    const mount = await scene.mount(ref, ['--backend', backend, '--rw']);
    const since = Date.now() - 1000;
    await change(mount.dir);
    assert.match((await mount.cat('etc/os-release')).toString(), /ID=tiny[^]*more\n$/);
    assert.equal((await run('ls', [join(mount.dir, 'etc/group')])).code, 2);
    await mount.unmount();
    await scene.assertNothingLeft();

    const upper = join(scene.folder, 'kept');
    const kept = await scene.mount(ref, ['--backend', backend, '--upper', upper]);
    await change(kept.dir);
    const tree = await treeOf(kept.dir, since);
    await kept.unmount();
    const again = await scene.mount(ref, ['--backend', backend, '--upper', upper]);
    assert.deepEqual(compareTrees(tree, await treeOf(again.dir, since)), []);
    await again.unmount();
    await scene.assertNothingLeft();
  }
});

test('a mount that is complete goes on without a server; open files stay open', async (t) => {
  if (!canMount(t)) return;
  const scene = new MountScene(t);
  const ref = await tiny(t);
  const mount = await scene.mount(ref, ['--backend', 'erofs', '--detach-when-complete']);
  const reader = spawn('bash', ['-c', 'exec 3<"$1/etc/os-release"; echo open; read; cat <&3', 'bash', mount.dir], { stdio: ['pipe', 'pipe', 'inherit'] });
  defer(t, () => reader.kill('SIGKILL'));
  let said = '';
  reader.stdout.on('data', (piece: Buffer) => (said += piece.toString()));
  for (let patience = 200; (await mount.ps()).state !== 'detached' && patience > 0; patience -= 1) await wait(25);
  assert.equal((await mount.ps()).state, 'detached');
  reader.stdin.end('\n');
  await new Promise((resolve) => reader.once('exit', resolve));
  assert.match(said, /^open\n[^]*ID=tiny/);
  for (let patience = 200; scene.processes().length > 0 && patience > 0; patience -= 1) await wait(25);
  assert.deepEqual(scene.processes(), [], 'the last user has left, and so has the server');
  const wanted = await mount.digestOfAll();
  await scene.run(['cache', 'gc', '--cache-size', '0', '--cache-dir', scene.cache]);
  assert.equal(await mount.digestOfAll(), wanted, 'what the kernel reads cannot be taken away');
  await mount.unmount();
  await scene.assertNothingLeft();
});

test('in the foreground it logs to standard error, and ends with Ctrl-C or when it is killed', async (t) => {
  if (!canMount(t)) return;
  const ref = await tiny(t);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
    const scene = new MountScene(t);
    const dir = join(scene.folder, 'mnt');
    mkdirSync(dir);
    const child = spawn(process.execPath, [PROGRAM, 'mount', ref, dir, '--foreground', '--cache-dir', scene.cache], { env: { PATH: process.env['PATH'], ...scene.env }, stdio: ['ignore', 'pipe', 'pipe'] });
    defer(t, () => child.kill('SIGKILL'));
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    let said = '';
    child.stderr.on('data', (piece: Buffer) => (said += piece.toString()));
    await new Promise((resolve) => child.stdout.once('data', resolve));
    assert.match((await must('cat', [join(dir, 'etc/os-release')], { timeout: 10_000 })).text, /ID=tiny/);
    child.kill(signal);
    assert.equal(await ended, signal === 'SIGKILL' ? null : 0);
    await scene.assertNothingLeft();
    assert.match(said, /^backend \w+: .+$/m);
    assert.match(said, /"event":"unmounted"/);
  }
});

test('ps, metrics, log, prefetch and cache tell and do what they say', async (t) => {
  if (!canMount(t)) return;
  const ref = await tiny(t);
  const scene = new MountScene(t);
  const list = join(scene.folder, 'list');
  writeFileSync(list, '# comment\n/etc/os-release\n/no/such/*\n');
  const log = join(scene.folder, 'log.jsonl');
  const mount = await scene.mount(ref, ['--backend', 'fuse', '--prefetch-list', list, '--metrics-listen', '127.0.0.1:0', '--log', log]);
  const text = (await scene.run(['ps'])).text;
  assert.match(text, /^DIR +IMAGE +BACKEND +STATE +LOCAL +FETCHED +ERRORS +UP +PID$/m);
  assert.ok(text.includes(`${mount.dir}  ${ref}`));
  const before = await mount.ps();
  assert.match(await (await fetch(`http://${before.metrics}/metrics`)).text(), /^lazypull_mount_info\{.*backend="fuse".*\} 1$/m);
  const report = (await scene.json(['prefetch', ref, '/usr', '--cache-dir', scene.cache])) as { fetched: number; bytes: number; mount?: string; unmatched: readonly string[] };
  assert.equal(report.mount, mount.dir);
  assert.ok(report.bytes > 0 && report.unmatched.length === 0);
  const all = (await scene.json(['prefetch', ref, '--all', '--cache-dir', scene.cache])) as { mount?: string };
  assert.equal(all.mount, mount.dir);
  assert.equal((await mount.ps()).complete, true);
  assert.match(readFileSync(log, 'utf8'), /"event":"prefetch-unmatched","pattern":"\/no\/such\/\*"/);
  const inUse = (await scene.json(['cache', 'rm', '--all', '--cache-dir', scene.cache])) as { removed: number; kept: number };
  assert.ok(inUse.kept > 0 && inUse.removed === 0);
  await mount.unmount();
  await scene.assertNothingLeft();
  assert.ok(existsSync(log));

  const entries = ((await scene.json(['cache', 'ls', '--cache-dir', scene.cache])) as { entries: { kind: string; localBytes: number; diskBytes: number }[] }).entries;
  assert.ok(entries.some(({ kind }) => kind === 'tree') && entries.some(({ kind, localBytes }) => kind === 'content' && localBytes > 0));
  assert.match((await scene.run(['cache', 'ls', '--cache-dir', scene.cache])).text, /^KIND +NAME +LAYER +IMAGE/);
  assert.equal((await scene.run(['cache', 'rm', 'feedfeedfeed', '--cache-dir', scene.cache])).code, 3);
  const gone = (await scene.json(['cache', 'rm', '--all', '--cache-dir', scene.cache])) as { removed: number; kept: number; freedBytes: number };
  assert.deepEqual([gone.removed, gone.kept], [entries.length, 0]);

  const here = (await scene.json(['prefetch', ref, '/etc', '/nothing', '--cache-dir', scene.cache])) as { fetched: number; mount?: string; unmatched: readonly string[] };
  assert.deepEqual([here.mount, here.unmatched], [undefined, ['/nothing']]);
  assert.ok(here.fetched > 0);
});

test('without native code it works as well: mount(8), umount(8), and perl for what they cannot do', async (t) => {
  if (!canMount(t) || !haveTools(t, 'mount', 'umount')) return;
  const ref = await tiny(t);
  for (const backend of BACKENDS) {
    if (backend === 'erofs' && !findTool('perl') && !findTool('python3')) {
      t.diagnostic('neither perl nor python3: erofs is not tried');
      continue;
    }
    const scene = new MountScene(t, { LAZYPULL_NO_NATIVE: '1' });
    const mount = await scene.mount(ref, ['--backend', backend]);
    assert.equal(mount.backend, backend);
    const wanted = await mount.digestOfAll();
    process.kill((await mount.ps()).pids.daemon as number, 'SIGKILL');
    assert.equal(await mount.digestOfAll(), wanted);
    await mount.unmount();
    await scene.assertNothingLeft();
  }
});

test('without root, in a user namespace: both programs and attributes are as they should be', async (t) => {
  if (!canMount(t) || !haveTools(t, 'unshare', 'chroot')) return;
  const ref = await tiny(t);
  const scene = new MountScene(t);
  const dir = join(scene.folder, 'mnt');
  mkdirSync(dir);
  const script = `set -e
    "$0" "$1" mount "$2" "$3" --cache-dir "$4" --json >"$5/mounted"
    grep ID= "$3/etc/os-release"; chroot "$3" /usr/bin/show /etc/os-release
    "$0" "$1" unmount "$3"
    "$0" "$1" mount "$2" "$3" --cache-dir "$4" --rw -q; echo changed >"$3/etc/os-release"; cat "$3/etc/os-release"; "$0" "$1" unmount "$3"
    if "$0" "$1" mount "$2" "$3" --cache-dir "$4" --backend erofs; then exit 9; fi`;
  const ran = await run('unshare', ['-Urm', 'bash', '-c', script, process.execPath, PROGRAM, ref, dir, scene.cache, scene.folder], { env: scene.env, timeout: 60_000 });
  assert.equal(ran.code, 0, `${ran.text}\n${ran.stderr}`);
  assert.match(ran.text, /ID=tiny[^]*ID=tiny[^]*changed/);
  assert.match(ran.stderr, /erofs backend cannot be used: root of a user namespace/);
  const { backend, why } = JSON.parse(readFileSync(join(scene.folder, 'mounted'), 'utf8')) as { backend: string; why: string };
  assert.equal(backend, 'fuse');
  assert.match(why, /user namespace/);
  await scene.assertNothingLeft();
});

test('without root and without a namespace, by fusermount3', async (t) => {
  if (!canMount(t) || !haveTools(t, 'fusermount3', 'setpriv', 'unshare', 'mount')) return;
  if ((await run('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', 'test', '-r', PROGRAM])).code !== 0) {
    t.skip('the program is in a folder that only root can read');
    return;
  }
  const ref = await tiny(t);
  const scene = new MountScene(t);
  const open = join(scene.folder, 'open');
  // In a mount namespace of its own, where everybody may use FUSE.
  const script = `set -e
    mknod "$6/fuse" c 10 229; chmod 666 "$6/fuse"; mount --bind "$6/fuse" /dev/fuse
    chown -R nobody "$6"; chmod 755 "$6"
    exec setpriv --reuid=65534 --regid=65534 --clear-groups bash -c 'set -e
      "$0" "$1" mount "$2" "$3" --cache-dir "$4" --json
      cat "$3/etc/os-release"; for i in 1 2; do kill -9 $("$0" "$1" ps --json | grep -o "\\"daemon\\": [0-9]*" | grep -o "[0-9]*"); cat "$3/etc/group" "$3/usr/bin/show" >/dev/null; done
      "$0" "$1" unmount "$3"' "$0" "$1" "$2" "$3" "$4"`;
  mkdirSync(join(open, 'mnt'), { recursive: true });
  await must('bash', ['-c', 'while [ "$1" != / ]; do chmod o+x "$1"; set -- "$(dirname "$1")"; done', 'bash', scene.folder]);
  await must('bash', ['-c', 'chmod -R o+rX "$1"; while [ "$1" != / ]; do chmod o+x "$1"; set -- "$(dirname "$1")"; done', 'bash', ref.slice('oci:'.length, -':lazy'.length)]);
  const ran = await run('unshare', ['-m', 'bash', '-c', script, process.execPath, PROGRAM, ref, join(open, 'mnt'), join(open, 'cache'), '', open], {
    env: { ...scene.env, LAZYPULL_RUNTIME_DIR: join(open, 'run'), PATH: `${process.env['PATH'] ?? ''}:${findTool('fusermount3')?.replace(/\/[^/]*$/, '') ?? ''}` },
    timeout: 60_000,
  });
  assert.equal(ran.code, 0, `${ran.text}\n${ran.stderr}`);
  assert.match(ran.text, /"backend": "fuse"[^]*ID=tiny/);
});
