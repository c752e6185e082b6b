import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { lazypull, sourceImages } from '../support/peers-cli.ts';
import { skopeoCopy, startOwnRegistry, startRegistry } from '../support/peers-registry.ts';
import { compareTrees, readTree } from '../support/peers-trees.ts';
import { haveRoot, haveTools, must, scratch } from '../support/peers.ts';
import { unpackedTree } from './shared-images.ts';
import { convertToLayout, layoutManifest, registryManifest, unpack } from './steps.ts';

const VARIANTS: readonly (readonly [name: string, flags: readonly string[]])[] = [
  ['default options', []],
  ['small chunks', ['--chunk-size', '65536']],
  ['shared members', ['--min-chunk-size', '50000']],
  ['an external TOC', ['--external-toc']],
  ['the diffID kept', ['--keep-diff-id']],
];

for (const [name, flags] of VARIANTS) {
  test(`umoci unpacks a converted image to the source's tree: ${name}`, async (t) => {
    if (!haveRoot(t) || !haveTools(t, 'umoci', 'skopeo', 'getfattr')) return;
    const since = Date.now() - 1000;
    for (const image of sourceImages(t, flags.length === 0 ? ['tiny', 'nginx'] : ['tiny'])) {
      const wanted = await unpackedTree(image);
      const converted = await convertToLayout(t, image, ...flags);
      const got = await readTree(await unpack(t, converted), since);
      assert.deepEqual(compareTrees(wanted, got), []);
    }
  });
}

test('umoci unpacks what was converted from Docker media types, and from zstd and plain tar layers', async (t) => {
  if (!haveRoot(t) || !haveTools(t, 'umoci', 'skopeo', 'getfattr')) return;
  const since = Date.now() - 1000;
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  const wanted = await unpackedTree(image);
  for (const tag of ['docker', 'mixed']) {
    const got = await readTree(await unpack(t, await convertToLayout(t, { ...image, tag })), since);
    assert.deepEqual(compareTrees(wanted, got), [], tag);
  }
});

for (const [name, start, tools] of [['docker-registry', startRegistry, ['docker-registry']], ['our own registry', startOwnRegistry, []]] as const) {
  test(`skopeo copies a converted image from layout to layout and to ${name}: digests and annotations stay`, async (t) => {
    if (!haveTools(t, 'skopeo', ...tools)) return;
    const registry = await start(t);
    for (const image of sourceImages(t)) {
      const converted = await convertToLayout(t, image);
      const folder = converted.slice('oci:'.length, -':esgz'.length);
      const wanted = layoutManifest(folder, 'esgz');

      const second = join(scratch(t), 'copy');
      await skopeoCopy(converted, `oci:${second}:esgz`, '--all');
      assert.deepEqual(layoutManifest(second, 'esgz'), wanted);
      await lazypull(['verify', `oci:${second}:esgz`]);

      const pushed = `docker://${registry.host}/team/${image.name}:esgz`;
      await skopeoCopy(converted, pushed, '--all');
      assert.deepEqual((await registryManifest(registry, `team/${image.name}`, 'esgz')).manifest, wanted);
      const told = await must('skopeo', ['inspect', '--tls-verify=false', pushed]);
      assert.deepEqual((JSON.parse(told.text) as { Layers: string[] }).Layers, wanted.layers.map((layer) => layer.digest));
      await lazypull(['verify', pushed, '--plain-http']);
    }
  });
}
