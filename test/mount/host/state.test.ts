import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { firstState, rebuiltState } from '../../../src/mount/host/first-state.ts';
import type { ServeOptions } from '../../../src/mount/host/messages.ts';
import { MountFolder } from '../../../src/mount/host/mount-folder.ts';
import { mountsFrom } from '../../../src/mount/host/mount-table.ts';
import { bootId, isAlive, markOf, ownMark } from '../../../src/mount/host/processes.ts';
import { makeRuntimeFolder, runtimeFolders } from '../../../src/mount/host/runtime-folder.ts';
import { healthOf, knownMounts, readState, writeState, type MountState } from '../../../src/mount/host/state.ts';
import { listMounts } from '../../../src/mount/fuse/mountinfo.ts';

const folder = realpathSync(mkdtempSync(join(tmpdir(), 'lazypull-state-')));
const env = { LAZYPULL_RUNTIME_DIR: join(folder, 'run') };
after(() => rmSync(folder, { recursive: true }));

const about = { dir: '/mnt/x', image: 'docker://r.example/app:1', platform: 'linux/amd64', writable: false, cacheDir: '/var/cache/lazypull' };
/** A process that has been, and is no more. */
const GONE = { pid: 1, started: -1 };

function ready(mount: MountFolder, change: Partial<MountState> = {}): MountState {
  return { ...firstState(mount, about), phase: 'ready', daemon: ownMark(), ...change };
}

describe('state of mounts', () => {
  it('is private, and whole or not there', () => {
    const mount = MountFolder.create(env);
    assert.equal(statSync(mount.path).mode & 0o777, 0o700);
    assert.equal(readState(mount), undefined);
    writeState(mount, ready(mount));
    assert.equal(statSync(join(mount.path, 'state.json')).mode & 0o777, 0o600);
    assert.deepEqual(readState(mount), ready(mount, { mountedAt: readState(mount)?.mountedAt as number }));
    assert.deepEqual(readdirSync(mount.path), ['state.json']);
    for (const text of ['', '{"version":1}', JSON.stringify({ ...ready(mount), phase: 'odd' }), 'null', '[]']) {
      writeFileSync(join(mount.path, 'state.json'), text);
      assert.equal(readState(mount), undefined, text);
    }
    // A newer version may have more to say.
    writeFileSync(join(mount.path, 'state.json'), JSON.stringify({ ...ready(mount), novelty: 1 }));
    assert.equal(readState(mount)?.dir, '/mnt/x');
    mount.remove();
    assert.equal(existsSync(mount.path), false);
  });

  it('tells the living from the dead and the gone', () => {
    const mount = new MountFolder('/nowhere/0123456789ab');
    const root = listMounts().find(({ target }) => target === '/') as { device: string };
    const here = { target: '/', type: 'fuse', device: root.device } as const;
    assert.equal(healthOf(ready(mount)), 'alive');
    assert.equal(healthOf(ready(mount, { daemon: GONE, supervisor: ownMark() })), 'alive');
    assert.equal(healthOf(ready(mount, { daemon: GONE, mounts: [here] })), 'dead');
    assert.equal(healthOf(ready(mount, { daemon: GONE, mounts: [{ ...here, device: '999:999' }] })), 'gone', 'somebody else has mounted there');
    assert.equal(healthOf(ready(mount, { daemon: GONE })), 'gone');
    assert.equal(healthOf(ready(mount, { daemon: GONE, phase: 'detached', mounts: [here] })), 'alive');
    assert.equal(healthOf(ready(mount, { boot: 'another', mounts: [here] })), 'gone', 'the machine was started anew');
    assert.equal(healthOf(ready(mount, { daemon: GONE, phase: 'starting', owner: ownMark() })), 'alive');
    assert.equal(healthOf(ready(mount, { daemon: GONE, phase: 'starting', owner: GONE })), 'gone');
  });

  it('lists what is there, the oldest first, and takes away what is left of others', () => {
    const [a, b, c] = [MountFolder.create(env), MountFolder.create(env), MountFolder.create(env)] as [MountFolder, MountFolder, MountFolder];
    writeState(a, ready(a, { mountedAt: 2000 }));
    writeState(b, ready(b, { mountedAt: 1000 }));
    writeState(c, ready(c, { boot: 'another' }));
    mkdirSync(join(env.LAZYPULL_RUNTIME_DIR, 'not-ours'));
    assert.deepEqual(knownMounts(env).map((known) => known.folder.id), [b.id, a.id]);
    assert.equal(existsSync(c.path), false);
    assert.ok(existsSync(join(env.LAZYPULL_RUNTIME_DIR, 'not-ours')));
  });

  it('believes nothing that others could have written', () => {
    chmodSync(env.LAZYPULL_RUNTIME_DIR, 0o777);
    assert.deepEqual(knownMounts(env), []);
    assert.throws(() => makeRuntimeFolder({ LAZYPULL_RUNTIME_DIR: env.LAZYPULL_RUNTIME_DIR }), { code: 'IO', message: /written by others/ });
    chmodSync(env.LAZYPULL_RUNTIME_DIR, 0o700);
  });

  it('is somewhere that its user can write to', () => {
    const places = runtimeFolders({ XDG_RUNTIME_DIR: '/run/user/7' });
    assert.ok(places.includes('/run/user/7/lazypull'));
    assert.equal(places.includes('/run/lazypull'), process.geteuid?.() === 0);
    assert.equal(places.at(-1), join(tmpdir(), `lazypull-${process.geteuid?.() ?? 0}`));
    assert.throws(() => MountFolder.create({ LAZYPULL_RUNTIME_DIR: join(folder, 'd'.repeat(100)) }), { code: 'LIMIT' });
  });

  it('can be made anew from what a daemon knows', () => {
    const path = join(env.LAZYPULL_RUNTIME_DIR, 'aaaaaaaaaaaa');
    const options = { ...about, folder: path, dir: '/', backend: 'erofs', why: 'because', mountedAt: 7 } as unknown as ServeOptions;
    const state = rebuiltState(options);
    assert.deepEqual([state.phase, state.backend, state.mountedAt, state.owner, state.mounts.map(({ target }) => target)], ['ready', 'erofs', 7, undefined, ['/']]);
    writeState(new MountFolder(path), state);
    assert.ok(existsSync(path));
  });
});

describe('processes', () => {
  it('are told apart from later ones with the same number', () => {
    const own = ownMark();
    assert.equal(isAlive(own), true);
    assert.equal(isAlive({ ...own, started: own.started + 1 }), false);
    assert.equal(isAlive(undefined), false);
    assert.equal(markOf(2 ** 22 + 1), undefined);
    assert.match(bootId(), /^[0-9a-f-]{36}$/);
  });
});

describe('mounts at and below a folder', () => {
  it('come in the order in which they can be taken away', () => {
    const at = (target: string): { target: string; device: string; type: string; source: string } => ({ target, device: '0:1', type: 'fuse', source: '' });
    const mounts = ['/', '/a', '/ab', '/a/b', '/a/b/c', '/a'].map(at);
    assert.deepEqual(mountsFrom('/a', mounts).map(({ target }) => target), ['/a', '/a/b/c', '/a/b', '/a']);
    assert.equal(mountsFrom('/', mounts).length, 6);
  });
});
