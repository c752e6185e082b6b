import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lazypull, sourceImages } from '../support/peers-cli.ts';
import { compareTrees } from '../support/peers-trees.ts';
import { haveTools, run } from '../support/peers.ts';
import { BACKENDS, canMount, MountScene } from './mounts.ts';
import { lazyImage, unpackedTree } from './shared-images.ts';

test('an image that nobody has made lazy is mounted all the same: with a mount index beside it, or one that is made on the way', async (t) => {
  if (!canMount(t) || !haveTools(t, 'umoci', 'skopeo', 'getfattr')) return;
  const since = Date.now() - 1000;
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  // The others have the same layers, by Docker's names, and as plain tar and zstd.
  const wanted = await unpackedTree(image);
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

test('where the cache cannot hold the tree for the kernel, FUSE does: a cache in memory', async (t) => {
  if (!canMount(t) || !haveTools(t, 'mount')) return;
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  const scene = new MountScene(t);
  await run('mkdir', [scene.cache]);
  await run('mount', ['-t', 'tmpfs', '-o', 'mode=700', 'tmpfs', scene.cache]);
  const ref = await lazyImage(image, 'estargz');
  const mount = await scene.mount(ref, ['--backend', 'erofs']);
  assert.match(mount.why, /served by FUSE/);
  assert.match((await mount.cat('etc/os-release')).toString(), image.prints);
  await mount.unmount();
  await run('umount', [scene.cache]);
});
