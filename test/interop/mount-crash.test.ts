import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { MountFolder } from '../../src/mount/host/mount-folder.ts';
import { readState } from '../../src/mount/host/state.ts';
import { sourceImages } from '../support/peers-cli.ts';
import { BACKENDS, canMount, dropCaches, MountScene } from './mounts.ts';
import { lazyImage } from './shared-images.ts';

const KILLS = 20;

for (const backend of BACKENDS) {
  test(`the daemon is killed ${KILLS} times while a whole tree is read: no reader notices (${backend})`, async (t) => {
    if (!canMount(t)) return;
    const [image] = sourceImages(t, ['nginx', 'tiny']).toReversed();
    assert.ok(image);
    const ref = await lazyImage(image, 'estargz');
    const scene = new MountScene(t);
    const mount = await scene.mount(ref, ['--backend', backend]);
    const wanted = await mount.digestOfAll();
    await mount.unmount();

    // Anew, with nothing in the cache: what is killed are fetches as well as answers from what is here.
    const fresh = new MountScene(t);
    const again = await fresh.mount(ref, ['--backend', backend]);
    const { pids } = await again.ps();
    let daemon = pids.daemon as number;
    let reading = true;
    let rounds = 0;
    const reader = (async () => {
      while (reading) {
        await dropCaches();
        assert.equal(await again.digestOfAll(), wanted);
        rounds += 1;
      }
    })();
    reader.catch(() => (reading = false));
    let kills = 0;
    while (kills < KILLS && reading) {
      process.kill(daemon, 'SIGKILL');
      kills += 1;
      daemon = await successor(again.folder, daemon);
      await wait(50 + 20 * (kills % 5));
    }
    reading = false;
    await reader;
    const { restarts, errors, state } = await again.ps();
    assert.equal(kills, KILLS);
    assert.deepEqual([restarts, errors, state], [KILLS, 0, 'ready']);
    t.diagnostic(`${rounds} times read while ${kills} daemons were killed`);
    await again.unmount();
    await fresh.assertNothingLeft();
  });
}

/** The next daemon, once it answers. */
async function successor(folder: string, before: number): Promise<number> {
  for (let patience = 1000; patience > 0; patience -= 1) {
    const pid = readState(new MountFolder(folder))?.daemon?.pid;
    if (pid !== undefined && pid !== before) return pid;
    await wait(10);
  }
  throw new Error('no daemon has followed');
}

test('a daemon is replaced while files are read, and a supervisor that dies is, too', async (t) => {
  if (!canMount(t)) return;
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  const ref = await lazyImage(image, 'nydus zstd');
  const scene = new MountScene(t);
  const mount = await scene.mount(ref, ['--backend', 'fuse', '--metrics-listen', '127.0.0.1:0']);
  const before = await mount.ps();
  const wanted = await mount.digestOfAll();
  const [restarted, during] = await Promise.all([
    scene.json(['restart', mount.dir]) as Promise<{ restarted: { dir: string; pid: number }[] }>,
    (async () => {
      const digests = new Set<string>();
      for (let i = 0; i < 5; i += 1) {
        await dropCaches();
        digests.add(await mount.digestOfAll());
      }
      return digests;
    })(),
  ]);
  assert.deepEqual([...during], [wanted]);
  const after = await mount.ps();
  assert.deepEqual(restarted.restarted, [{ dir: mount.dir, pid: after.pids.daemon }]);
  assert.notEqual(after.pids.daemon, before.pids.daemon);
  assert.equal(after.pids.supervisor, before.pids.supervisor);
  assert.equal(after.metrics, before.metrics, 'metrics stay where they are');
  assert.match(await (await fetch(`http://${after.metrics}/metrics`)).text(), /^lazypull_daemon_restarts_total 1$/m);

  process.kill(after.pids.supervisor as number, 'SIGKILL');
  let now = after;
  for (let patience = 200; now.pids.supervisor === after.pids.supervisor && patience > 0; patience -= 1) {
    await wait(25);
    now = await mount.ps();
  }
  assert.notEqual(now.pids.supervisor, after.pids.supervisor);
  process.kill(now.pids.daemon as number, 'SIGKILL');
  await dropCaches();
  assert.equal(await mount.digestOfAll(), wanted);
  await mount.unmount();
  await scene.assertNothingLeft();
});

test('when both are killed the mount is dead and can be taken away, or mounted over', async (t) => {
  if (!canMount(t)) return;
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  const ref = await lazyImage(image, 'estargz');
  for (const backend of BACKENDS) {
    const scene = new MountScene(t);
    const kill = async (): Promise<void> => {
      const { pids } = (await scene.ps())[0] as { pids: { daemon?: number; supervisor?: number } };
      for (const pid of [pids.supervisor, pids.daemon]) process.kill(pid as number, 'SIGKILL');
      await wait(100);
    };
    const mount = await scene.mount(ref, ['--backend', backend]);
    await kill();
    assert.deepEqual((await scene.ps()).map(({ state }) => state), ['dead']);
    const again = await scene.mountAt(mount.dir, ref, ['--backend', backend]);
    assert.match((await again.cat('etc/os-release')).toString(), image.prints);
    assert.deepEqual((await scene.ps()).map(({ state }) => state), ['ready']);
    await kill();
    await again.unmount();
    assert.equal(existsSync(again.folder), false);
    await scene.assertNothingLeft();
  }
});
