import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { startFaultRegistry, type FaultRegistry } from '../support/fault-registry.ts';
import { sourceImages } from '../support/peers-cli.ts';
import { defer, run } from '../support/peers.ts';
import { BACKENDS, canMount, DIGEST, dropCaches, makeLazy, MountScene, type TestMount } from './mounts.ts';

/** A mount outlives places that its content comes from, as long as one of them is there. */

const BLOB = /\/blobs\/sha256:/;

interface Stage {
  readonly own: FaultRegistry;
  readonly mirror: FaultRegistry;
  readonly ref: string;
  readonly flags: readonly string[];
}

async function stage(t: TestContext, format = 'estargz'): Promise<Stage> {
  const image = sourceImages(t, ['tiny'])[0];
  assert.ok(image);
  const own = await startFaultRegistry();
  defer(t, () => own.close());
  const ref = await makeLazy(image, format, format === 'soci' ? ['--min-layer-size', '0'] : [], `docker://${own.host}/team/app:lazy`);
  const mirror = await startFaultRegistry({ layoutDir: own.layoutDir });
  defer(t, () => mirror.close());
  own.log.length = 0;
  return { own, mirror, ref, flags: ['--plain-http', '--no-prefetch', '--mirror', mirror.url] };
}

async function digestOfAll(mount: TestMount): Promise<string> {
  const ran = await run('bash', ['-c', DIGEST, 'bash', mount.dir], { timeout: 60_000 });
  return `${ran.text.trim()} ${ran.stderr}`;
}

for (const backend of BACKENDS) {
  test(`${backend}: the registry or its mirror may go away under a mount, also when its server is another one then`, async (t) => {
    if (!canMount(t)) return;
    const { own, mirror, ref, flags } = await stage(t);
    const scene = new MountScene(t);
    const first = await scene.mount(ref, ['--backend', backend, '--plain-http', '--no-prefetch']);
    const right = await digestOfAll(first);
    await first.unmount();

    for (const [lost, left] of [[own, mirror], [mirror, own]] as const) {
      rmSync(scene.cache, { recursive: true });
      own.heal();
      mirror.heal();
      const mount = await scene.mount(ref, ['--backend', backend, ...flags]);
      await mount.cat('etc/hostname');
      lost.inject({ fault: { kind: 'reset' } });
      own.log.length = mirror.log.length = 0;
      process.kill((await mount.ps()).pids.daemon as number, 'SIGKILL');
      await dropCaches();
      assert.equal(await digestOfAll(mount), right);
      assert.ok(left.requests('GET', BLOB).length > 0);
      assert.ok(lost.log.length < 15, `${lost.log.length} requests to a place that is known to be down`);
      if (lost === mirror) assert.ok(mount.log().some(({ text }) => String(text).includes(`mirror ${mirror.host} does not answer`)), 'the log says so');
      await mount.unmount();
    }
  });
}

for (const format of ['estargz', 'soci', 'nydus']) {
  test(`${format}: wrong bytes of a mirror are fetched elsewhere, and the log says of what file and layer; wrong bytes everywhere are EIO`, async (t) => {
    if (!canMount(t)) return;
    const { own, mirror, ref, flags } = await stage(t, format);
    const scene = new MountScene(t);
    const first = await scene.mount(ref, ['--backend', 'fuse', '--plain-http', '--no-prefetch']);
    const right = await digestOfAll(first);
    await first.unmount();
    rmSync(scene.cache, { recursive: true });

    const mount = await scene.mount(ref, ['--backend', 'fuse', ...flags]);
    own.log.length = mirror.log.length = 0;
    mirror.inject({ fault: { kind: 'flip', at: 40 }, method: 'GET', path: BLOB });
    assert.equal(await digestOfAll(mount), right, JSON.stringify(mount.log(), null, 1));
    assert.ok(mirror.requests('GET', BLOB).length > 0 && own.requests('GET', BLOB).length > 0, 'both were asked');
    const told = mount.log().map(({ text, error }) => String(text ?? error ?? ''));
    assert.ok(told.some((line) => line.includes(`${mirror.host} has`) && /sha256:[0-9a-f]{64}/.test(line)), told.join('\n'));
    assert.ok((await mount.ps()).errors === 0, 'no reader has seen anything of it');
    await mount.unmount();

    rmSync(scene.cache, { recursive: true });
    mirror.heal();
    const last = await scene.mount(ref, ['--backend', 'fuse', ...flags]);
    for (const place of [own, mirror]) place.inject({ fault: { kind: 'flip', at: 40 }, method: 'GET', path: BLOB });
    assert.match(await digestOfAll(last), /Input\/output error/);
    await last.unmount();
  });
}

test('a registry that is down makes reads fail at once, but for one now and then, and they succeed again by themselves', async (t) => {
  if (!canMount(t)) return;
  const { own, ref } = await stage(t);
  const scene = new MountScene(t);
  const mount = await scene.mount(ref, ['--backend', 'fuse', '--plain-http', '--no-prefetch']);
  const right = await digestOfAll(mount);
  await mount.unmount();
  rmSync(scene.cache, { recursive: true });
  const again = await scene.mount(ref, ['--backend', 'fuse', '--plain-http', '--no-prefetch']);
  await again.cat('etc/hostname');
  own.inject({ fault: { kind: 'status', status: 503 } });
  own.log.length = 0;
  const failing = await run('bash', ['-c', 'cd "$1"; for i in 1 2 3 4 5; do find . -xdev -type f -print0 | xargs -0 -n 1 sha256sum; done', 'bash', again.dir], { timeout: 120_000 });
  const failures = failing.stderr.split('\n').filter((line) => line.includes('Input/output error')).length;
  assert.ok(failures > 50, failing.stderr);
  assert.ok(own.log.length < failures / 2, `${own.log.length} requests for ${failures} reads`);
  assert.match(JSON.stringify(again.log()), /has not answered for \d+ s/);
  own.heal();
  let now = '';
  for (let patience = 100; (now = await digestOfAll(again)) !== right && patience > 0; patience -= 1) await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(now, right);
  await again.unmount();
  assert.equal((await run('ls', ['-A', join(scene.folder, 'run')])).text, '');
});
