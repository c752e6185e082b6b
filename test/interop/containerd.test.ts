import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { parseConfig } from '../../src/oci/documents.ts';
import { pages } from '../../fixtures/tiny-tree.ts';
import { sourceImages, type SourceImage } from '../support/peers-cli.ts';
import { findSnapshotter, startContainerd, type Containerd } from '../support/peers-containerd.ts';
import { startOwnRegistry, startRegistry, type Registry } from '../support/peers-registry.ts';
import { compareTrees, withRoundedTimes } from '../support/peers-trees.ts';
import { haveRoot, haveTools, must, scratch } from '../support/peers.ts';
import { treeOf } from './mounts.ts';
import { unpackedTree } from './shared-images.ts';
import { pushConverted, registryManifest, TOC_DIGEST } from './steps.ts';

const TOOLS = ['containerd', 'ctr', 'ctr-remote', 'runc', 'docker-registry', 'skopeo', 'umoci', 'getfattr'];

for (const snapshotter of ['overlayfs', 'native']) {
  test(`containerd pulls our image the ordinary way and runs it on ${snapshotter}; ctr-remote reads the TOC digest that we promise`, async (t) => {
    if (!haveRoot(t) || !haveTools(t, ...TOOLS)) return;
    const registry = await startRegistry(t);
    const containerd = await startContainerd(t);
    for (const image of sourceImages(t, snapshotter === 'native' ? ['tiny'] : ['tiny', 'nginx'])) {
      const reference = await pushConverted(registry, image);
      await containerd.ctr(['images', 'pull', '--plain-http', '--snapshotter', snapshotter, reference]);
      await runs(containerd, snapshotter, reference, image);
      const { manifest } = await registryManifest(registry, image.name, 'esgz');
      for (const layer of manifest.layers) {
        const { text } = await containerd.ctrRemote(['images', 'get-toc-digest', layer.digest]);
        assert.equal(text.trim(), layer.annotations?.[TOC_DIGEST]);
      }
    }
  });
}

const LAZY: readonly (readonly [name: string, flags: readonly string[], start?: typeof startOwnRegistry])[] = [
  ['default options', []],
  ['small chunks', ['--chunk-size', '65536']],
  ['shared members', ['--min-chunk-size', '50000']],
  ['prefetched files', ['--prefetch-list', 'PREFETCH']],
  ['an external TOC', ['--external-toc']],
  ['the diffID kept', ['--keep-diff-id']],
  ['from our own registry', ['--level', '9'], startOwnRegistry],
];

for (const [name, flags, start = startRegistry] of LAZY) {
  test(`rpull mounts our image lazily through the stargz snapshotter: ${name}`, async (t) => {
    if (!haveRoot(t) || !haveTools(t, ...TOOLS)) return;
    const snapshotter = await findSnapshotter(t);
    if (typeof snapshotter === 'string') return t.skip(snapshotter);
    const since = Date.now() - 1000;
    const prefetch = join(scratch(t), 'prefetch.txt');
    writeFileSync(prefetch, 'usr/bin/show\netc/os-*\nusr/share/book/noise\n');
    const registry = await start(t);
    const containerd = await startContainerd(t, snapshotter);
    for (const image of sourceImages(t, flags.length === 0 ? ['tiny', 'nginx'] : ['tiny'])) {
      const reference = await pushConverted(registry, image, ...flags.map((flag) => (flag === 'PREFETCH' ? prefetch : flag)));
      await containerd.ctrRemote(['images', 'rpull', '--plain-http', reference]);
      await assertLazy(registry, containerd, image.name);
      await runs(containerd, 'stargz', reference, image);

      const wanted = withRoundedTimes(await unpackedTree(image));
      const mounted = await mountChain(t, containerd, await topChain(registry, image.name));
      assert.deepEqual(compareTrees(wanted, await treeOf(mounted, since), true), []);
      await assertLazy(registry, containerd, image.name);
    }
  });
}

/** No layer was downloaded, and each one is a mount of its own. */
async function assertLazy(registry: Registry, containerd: Containerd, repository: string): Promise<void> {
  const { manifest } = await registryManifest(registry, repository, 'esgz');
  const { text } = await containerd.ctr(['content', 'ls', '-q']);
  for (const layer of manifest.layers) assert.ok(!text.includes(layer.digest), `layer ${layer.digest} was downloaded\n${containerd.snapshotterLog()}`);
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n').filter((line) => line.includes(` ${containerd.folder}/`) && line.includes(' fuse.'));
  assert.ok(mounts.length >= manifest.layers.length, `${mounts.length} mounts for ${manifest.layers.length} layers\n${containerd.snapshotterLog()}`);
}

/** The chain ID of all layers: the name under which containerd knows the image's snapshot. */
async function topChain(registry: Registry, repository: string): Promise<string> {
  const { manifest } = await registryManifest(registry, repository, 'esgz');
  const { body } = await registry.get(`/v2/${repository}/blobs/${manifest.config.digest}`);
  const [first = '', ...rest] = parseConfig(body).rootfs.diff_ids;
  return rest.reduce<string>((chain, diffId) => `sha256:${sha256(Buffer.from(`${chain} ${diffId}`))}`, first);
}

/** Mounts a snapshot read-only, as containerd would for a container. (`ctr images mount` of 1.6 wants the layers' content.) */
async function mountChain(t: TestContext, containerd: Containerd, chain: string): Promise<string> {
  const target = join(scratch(t), 'mounted');
  mkdirSync(target);
  const { text } = await containerd.ctr(['snapshots', '--snapshotter', 'stargz', 'view', '--target', target, `view-${chain.slice(7, 19)}`, chain]);
  const [program, ...args] = text.trim().split(/\s+/);
  assert.equal(program, 'mount', text);
  await must('mount', args);
  return target;
}

let containers = 0;

async function runs(containerd: Containerd, snapshotter: string, reference: string, image: SourceImage): Promise<void> {
  const start = (...command: readonly string[]): Promise<{ text: string; stdout: Buffer; stderr: string }> => {
    containers += 1;
    return containerd.ctrRemote(['run', '--rm', '--snapshotter', snapshotter, reference, `c${containers}`, ...command]);
  };
  const said = await start(...image.command);
  assert.match(said.text + said.stderr, image.prints);
  if (image.name !== 'tiny') return;
  // A file of several chunks through the container's mount. containerd 1.6 now and then drops the last pieces of a long output.
  const { stdout } = await start('/usr/bin/show', '/usr/share/book/pages.txt');
  assert.ok(stdout.length > 4 << 20, `${stdout.length} bytes`);
  assert.ok(stdout.equals(pages(4_500_000).subarray(0, stdout.length)), 'the container reads other bytes');
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
