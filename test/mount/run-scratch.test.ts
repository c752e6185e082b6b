import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { bootId } from '../../src/mount/host/processes.ts';
import { containerMounts, type ContainerMountOptions } from '../../src/mount/run/container-mounts.ts';
import { defaultHostname, isHostname, networkFiles } from '../../src/mount/run/network-files.ts';
import { overlayCommand, overlayPath } from '../../src/mount/run/overlay.ts';
import { reapRuns } from '../../src/mount/run/reap.ts';
import { knownScratches, Scratch } from '../../src/mount/run/scratch.ts';
import { Undo } from '../../src/mount/run/undo.ts';

let folder: string;
let env: Record<string, string>;
beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'lazypull-scratch-')));
  env = { TMPDIR: folder };
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const unmount = (): Promise<void> => Promise.reject(new Error('nothing is mounted'));
const mine = (): readonly Scratch[] => knownScratches(env).filter(({ path }) => path.startsWith(folder));

/** A process number that nobody has. */
function deadProcess(): { pid: number; started: number } {
  const { pid } = spawnSync('true');
  return { pid, started: 1 };
}

describe('the folder of a run', () => {
  it('is private, says whose it is, and goes as a whole', async () => {
    const scratch = Scratch.create(env, 'oci:x:y');
    assert.equal(statSync(scratch.path).mode % 0o1000, 0o700);
    assert.deepEqual(mine().map(({ id }) => id), [scratch.id]);
    const record = scratch.read();
    assert.deepEqual([record?.image, record?.owner.pid, record?.boot, record?.runtime], ['oci:x:y', process.pid, bootId(), undefined]);
    scratch.update({ launched: { pid: 5, started: 6 } });
    assert.deepEqual(scratch.read()?.launched, { pid: 5, started: 6 });
    const file = scratch.writeFile('hosts', 'x');
    assert.equal(statSync(file).mode % 0o1000, 0o644);
    // A folder that is closed to its owner, as overlayfs leaves them behind.
    mkdirSync(join(scratch.path, 'writable', 'work', 'work'), { recursive: true });
    chmodSync(join(scratch.path, 'writable', 'work', 'work'), 0);
    await scratch.remove();
    assert.deepEqual(readdirSync(folder), []);
  });

  it('goes even when a container has made it deeper than any path can be', async () => {
    const scratch = Scratch.create(env, 'x');
    const made = spawnSync('sh', ['-c', 'cd "$1/writable"; i=0; while [ $i -lt 25 ]; do mkdir "$2" && cd -P "$2" || exit 1; i=$((i+1)); done; : > end', 'sh', scratch.path, 'd'.repeat(250)]);
    assert.equal(made.status, 0, made.stderr.toString());
    await scratch.remove();
    assert.ok(!existsSync(scratch.path));
  });

  it('is believed only when it is our own', () => {
    const scratch = Scratch.create(env, 'x');
    chmodSync(scratch.path, 0o755);
    symlinkSync(scratch.path, join(folder, 'lazypull-run-0123456789ab'));
    writeFileSync(join(folder, 'lazypull-run-0123456789ac'), '');
    mkdirSync(join(folder, 'lazypull-run-other'), { mode: 0o700 });
    assert.deepEqual(mine(), []);
  });
});

describe('what killed runs leave behind', () => {
  it('is removed, and runs that are alive stay', async () => {
    const alive = Scratch.create(env, 'alive');
    const dead = Scratch.create(env, 'dead');
    dead.update({ owner: deadProcess(), launched: deadProcess() });
    const before = Scratch.create(env, 'before the last start of the machine');
    before.update({ boot: 'another' });
    const elsewhere = Scratch.create(env, 'elsewhere');
    elsewhere.update({ owner: deadProcess(), pidNamespace: 'pid:[1]' });
    const reaped = (await reapRuns({ env, unmount })).filter(({ id }) => [alive, dead, before, elsewhere].some((scratch) => scratch.id === id));
    assert.deepEqual(reaped.map(({ image, problem }) => [image, problem]).sort(), [['before the last start of the machine', undefined], ['dead', undefined]]);
    assert.deepEqual(readdirSync(folder).sort(), [basename(alive.path), basename(elsewhere.path)].sort());
  });

  it('is removed also when it was killed before it had a record', async () => {
    mkdirSync(join(folder, 'lazypull-run-0123456789ab'), { mode: 0o700 });
    mkdirSync(join(folder, '.lazypull-run-0123456789ac'), { mode: 0o700 });
    utimesSync(join(folder, '.lazypull-run-0123456789ac'), 1, 1);
    // One that is just being made, and one by a version that is not known yet.
    mkdirSync(join(folder, '.lazypull-run-0123456789ad'), { mode: 0o700 });
    mkdirSync(join(folder, 'lazypull-run-0123456789ae'), { mode: 0o700 });
    writeFileSync(join(folder, 'lazypull-run-0123456789ae', 'run.json'), '{"version":2}');
    await reapRuns({ env, unmount });
    assert.deepEqual(readdirSync(folder).sort(), ['.lazypull-run-0123456789ad', 'lazypull-run-0123456789ae']);
  });

  it('is ended first', async () => {
    const scratch = Scratch.create(env, 'x');
    scratch.update({ owner: deadProcess(), runtime: join(folder, 'runtime') });
    writeFileSync(join(folder, 'runtime'), `#!/bin/sh\necho "$@" > '${folder}/called'\n`, { mode: 0o755 });
    await reapRuns({ env, unmount });
    assert.deepEqual(readdirSync(folder).sort(), ['called', 'runtime']);
    const called = spawnSync('cat', [join(folder, 'called')], { encoding: 'utf8' }).stdout;
    assert.equal(called, `--root ${scratch.path}/runtime delete --force ${scratch.id}\n`);
  });
});

describe('mounts of a container', () => {
  const mountsOf = async (scratch: Scratch, change: Partial<ContainerMountOptions>): Promise<string[]> => {
    const { mounts } = await containerMounts({ scratch, volumes: [], imageVolumes: [], readonly: false, userNamespace: false, files: new Map(), ...change });
    return mounts.map(({ destination, type, source, options }) => `${destination} ${type} ${source.replace(scratch.path, 'S')} ${options.join(' ').replaceAll(scratch.path, 'S')}`);
  };
  const volume = (host: string, container: string, readOnly = false): { host: string; container: string; readOnly: boolean } => ({ host, container, readOnly });

  it('are volumes and files of ours, outer ones first, and nothing in what is the user\'s', async () => {
    const scratch = Scratch.create(env, 'x');
    const files = new Map([['hosts', 'h'], ['hostname', 'n']]);
    assert.deepEqual(await mountsOf(scratch, { volumes: [volume('/a', '/d/e/f', true), volume('/b', '/d')], files }), [
      '/d bind /b rbind rprivate rw', '/etc/hosts bind S/files/hosts rbind rprivate rw', '/etc/hostname bind S/files/hostname rbind rprivate rw', '/d/e/f bind /a rbind rprivate ro',
    ]);
    assert.deepEqual(await mountsOf(scratch, { volumes: [volume('/a', '/etc/hosts')], files }), ['/etc/hosts bind /a rbind rprivate rw', '/etc/hostname bind S/files/hostname rbind rprivate rw']);
    assert.deepEqual(await mountsOf(scratch, { volumes: [volume('/a', '/etc')], files }), ['/etc bind /a rbind rprivate rw']);
  });

  it('keep the image\'s volumes writable', async () => {
    const scratch = Scratch.create(env, 'x');
    mkdirSync(join(scratch.lower, 'var/da:ta'), { recursive: true });
    symlinkSync('var/da:ta', join(scratch.lower, 'link'));
    writeFileSync(join(scratch.lower, 'file'), '');
    const imageVolumes = ['/var/da:ta/', '/none', '/file', '/', '/covered/deep'];
    const volumes = [volume('/c', '/covered')];
    assert.deepEqual(await mountsOf(scratch, { imageVolumes, volumes }), ['/covered bind /c rbind rprivate rw', '/none bind S/writable/0/upper rbind rprivate rw']);
    assert.deepEqual(await mountsOf(scratch, { imageVolumes: ['/link'], readonly: true, userNamespace: true }), [
      '/link overlay overlay lowerdir=S/lower/var/da\\:ta upperdir=S/writable/0/upper workdir=S/writable/0/work userxattr',
    ]);
    assert.equal(overlayPath('/a,b:c\\d'), '/a\\,b\\:c\\\\d');
  });

  it('have a root like the image\'s', () => {
    const words = overlayCommand({ scratch: '/s', memory: true, userNamespace: true, layers: [{ name: 'root', attributes: { uid: 1n, gid: 2n, mode: 0o41755n } }, { name: '0', attributes: { uid: 0n, gid: 0n, mode: 0o40700n } }] }, ['prog', 'arg']);
    assert.deepEqual(words.slice(2), ['lazypull', '/s', 'memory', '2', 'root', '1:2', '1755', '0', '0:0', '0700', '2', 'volatile,userxattr', 'userxattr', 'prog', 'arg']);
  });
});

describe('names and networks', () => {
  it('are those of the machine, or the container\'s own', () => {
    writeFileSync(join(folder, 'hosts'), '127.0.0.1 localhost # box\n10.0.0.1 other alias');
    writeFileSync(join(folder, 'resolv.conf'), 'nameserver 10.0.0.53\n');
    assert.deepEqual([...networkFiles('host', 'box', folder)], [['hostname', 'box\n'], ['hosts', '127.0.0.1 localhost # box\n10.0.0.1 other alias\n127.0.1.1\tbox\n'], ['resolv.conf', 'nameserver 10.0.0.53\n']]);
    assert.match(networkFiles('host', 'alias', folder).get('hosts') as string, /other alias$/);
    const none = networkFiles('none', 'box', folder);
    assert.deepEqual([none.has('resolv.conf'), none.get('hosts')?.includes('other'), none.get('hosts')?.endsWith('127.0.1.1\tbox\n')], [false, false, true]);
    assert.equal(defaultHostname('none', '0123456789ab'), '0123456789ab');
  });

  it('can be what names can be', () => {
    for (const name of ['a', 'box', 'box-1.example', 'x'.repeat(63)]) assert.ok(isHostname(name), name);
    for (const name of ['', '-a', 'a-', 'a b', 'a\n', 'x'.repeat(64), 'ü']) assert.ok(!isHostname(name), name);
  });
});

describe('taking back', () => {
  it('does everything, the last first, and tells what failed', async () => {
    const done: string[] = [];
    const undo = new Undo();
    undo.add(() => done.push('first'));
    undo.add(() => Promise.reject(new Error('second failed')));
    undo.add(() => {
      done.push('third');
      throw new Error('third failed');
    });
    assert.deepEqual((await undo.all()).map(String), ['Error: third failed', 'Error: second failed']);
    assert.deepEqual(done, ['third', 'first']);
    assert.deepEqual(await undo.all(), []);
  });
});
