import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { lazypull, sourceImages } from '../support/peers-cli.ts';
import { compareTrees, readTree } from '../support/peers-trees.ts';
import { haveTools, run, scratch } from '../support/peers.ts';
import { BACKENDS, canMount, FORMATS, makeLazy, MountScene } from './mounts.ts';
import { unpack } from './steps.ts';

test('a mount of every format shows what umoci unpacks, with both backends', async (t) => {
  if (!canMount(t) || !haveTools(t, 'umoci', 'skopeo', 'getfattr')) return;
  for (const image of sourceImages(t, ['tiny', 'nginx'])) {
    const since = Date.now() - 1000;
    const unpacked = await unpack(t, `oci:${image.layout}:${image.tag}`);
    const exact = await readTree(unpacked, since);
    assert.ok(exact.size > 50, 'the source is nearly empty');
    const layout = join(scratch(t), 'lazy');
    for (const [number, [format, flags]] of FORMATS.entries()) {
      const ref = await makeLazy(image, format, flags, `oci:${layout}:${format}`);
      // Its index has whole seconds only.
      const wanted = format === 'estargz' ? await readTree(unpacked, since, 'rounded') : exact;
      // Of large images one with each: the other formats have shown the rest.
      for (const backend of image.name === 'tiny' ? BACKENDS : [BACKENDS[number % 2] as (typeof BACKENDS)[number]]) {
        const scene = new MountScene(t);
        const mount = await scene.mount(ref, ['--backend', backend]);
        assert.equal(mount.backend, backend);
        const began = performance.now();
        assert.deepEqual(compareTrees(wanted, await mount.tree(since), true), [], `${image.name} as ${format} by ${backend}`);
        const { fetchedBytes, errors, complete } = await mount.ps();
        t.diagnostic(`${image.name} as ${format} by ${backend}: read in ${Math.round(performance.now() - began)} ms, ${fetchedBytes} bytes fetched`);
        assert.deepEqual([errors, complete], [0, true]);
        await mount.unmount();
        await scene.assertNothingLeft();
      }
    }
  }
});

test('an image that nobody has made lazy is mounted all the same: with a mount index beside it, or one that is made on the way', async (t) => {
  if (!canMount(t) || !haveTools(t, 'umoci', 'skopeo', 'getfattr')) return;
  const since = Date.now() - 1000;
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  // The others have the same layers, by Docker's names, and as plain tar and zstd.
  const wanted = await readTree(await unpack(t, `oci:${image.layout}:app`), since);
  for (const tag of ['app', 'docker', 'mixed']) {
    const source = `oci:${image.layout}:${tag}`;
    for (const [number, indexed] of [false, true].entries()) {
      const scene = new MountScene(t);
      if (indexed) await lazypull(['index', source, '--as', 'erofs', '--platform', 'linux/amd64']);
      for (const backend of tag === 'app' ? BACKENDS : [BACKENDS[number] as (typeof BACKENDS)[number]]) {
        const mount = await scene.mount(source, ['--backend', backend]);
        assert.deepEqual(compareTrees(wanted, await mount.tree(since), true), [], `${tag} by ${backend}${indexed ? ', indexed' : ''}`);
        await mount.unmount();
      }
    }
  }
});

test('programs run in a mount: shared libraries are mapped, scripts are read', async (t) => {
  if (!canMount(t) || !haveTools(t, 'chroot')) return;
  for (const image of sourceImages(t, ['nginx', 'python'])) {
    const ref = await makeLazy(image, 'estargz', [], `oci:${join(scratch(t), 'lazy')}:esgz`);
    for (const backend of BACKENDS) {
      const scene = new MountScene(t);
      const mount = await scene.mount(ref, ['--backend', backend]);
      const ran = await run('chroot', [mount.dir, ...image.command], { timeout: 60_000 });
      assert.match(`${ran.text}${ran.stderr}`, image.prints);
      await mount.unmount();
    }
  }
});

test('where the cache cannot hold the tree for the kernel, FUSE does: a cache in memory', async (t) => {
  if (!canMount(t) || !haveTools(t, 'mount')) return;
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  const scene = new MountScene(t);
  await run('mkdir', [scene.cache]);
  await run('mount', ['-t', 'tmpfs', '-o', 'mode=700', 'tmpfs', scene.cache]);
  const ref = await makeLazy(image, 'estargz', [], `oci:${join(scratch(t), 'lazy')}:esgz`);
  const mount = await scene.mount(ref, ['--backend', 'erofs']);
  assert.match(mount.why, /served by FUSE/);
  assert.match((await mount.cat('etc/os-release')).toString(), image.prints);
  await mount.unmount();
  await run('umount', [scene.cache]);
});
