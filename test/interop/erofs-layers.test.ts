import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createWriteStream, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { test } from 'node:test';
import type { Attributes, ByteStream, DirectoryNode, FileNode } from '../../src/core/types.ts';
import { decompress } from '../../src/codec/compression.ts';
import { planErofs } from '../../src/erofs/plan.ts';
import { overlayTree } from '../../src/erofs/whiteouts.ts';
import { writeErofs } from '../../src/erofs/write.ts';
import { mergeLayers } from '../../src/layer/overlay.ts';
import { placeInTars, tarTree } from '../erofs/tar-tree.ts';
import { build, describe, nowhere, sameLines } from '../erofs/trees.ts';
import { compareTrees, readTree } from '../support/peers-trees.ts';
import { defer, haveRoot, haveTools, must, scratch, type Scope } from '../support/peers.ts';
import { describeDisk, haveErofs, mountErofs } from './erofs-mount.ts';
import { unpackedTree } from './shared-images.ts';
import { layoutManifest } from './steps.ts';
import { imageNamed } from './torture-layers.ts';

async function canMount(t: Scope): Promise<boolean> {
  return haveRoot(t) && haveTools(t, 'getfattr', 'umount', 'mount') && (await haveErofs(t));
}

/** Equal numbers in every run. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
}

function randomLayer(next: (below: number) => number, depth: number, tag: number): DirectoryNode {
  const attributes = (): Attributes => ({ mode: 0o400 + next(0o377), uid: tag, gid: next(100), mtime: { seconds: 1_600_000_000 + next(1000), nanoseconds: next(1000) }, xattrs: new Map() });
  const node: DirectoryNode = { ...attributes(), type: 'directory', children: new Map() };
  const empty = (): FileNode => ({ ...attributes(), type: 'file', size: 0, extents: [] });
  for (const name of ['a', 'b', 'c', 'd', 'e']) {
    const kind = next(10);
    if (kind < 3 && depth > 0) node.children.set(name, randomLayer(next, depth - 1, tag));
    else if (kind < 4) node.children.set(name, empty());
    else if (kind < 5) node.children.set(name, { ...attributes(), type: 'symlink', mode: 0o777, target: `${name}${tag}` });
    if (next(5) === 0) node.children.set(`.wh.${name}`, empty());
  }
  if (next(8) === 0) node.children.set('.wh..wh..opq', empty());
  return node;
}

test('overlayfs over one image per layer shows what merged layers show', async (t) => {
  if (!(await canMount(t))) return;
  const folder = scratch(t);
  const next = generator(4);
  const top: Attributes = { mode: 0o755, uid: 0, gid: 0, mtime: { seconds: 1, nanoseconds: 0 }, xattrs: new Map() };
  // Many stacks side by side, so that four mounts are enough for all of them.
  const layers = [1, 2, 3, 4].map((tag): DirectoryNode => ({ ...top, type: 'directory', children: new Map(Array.from({ length: 150 }, (_, i) => [`stack-${i}`, randomLayer(next, 3, tag)])) }));
  const mounted: string[] = [];
  for (const [i, layer] of layers.entries()) {
    const image = join(folder, `layer-${i}.erofs`);
    const at = join(folder, `layer-${i}`);
    writeFileSync(image, await build(overlayTree(layer), { place: nowhere }));
    if (!(await mountErofs(t, image, [], at, 4096))) return;
    mounted.unshift(at);
  }
  const at = join(folder, 'overlay');
  mkdirSync(at);
  await must('mount', ['-t', 'overlay', 'overlay', '-o', `ro,lowerdir=${mounted.join(':')}`, at]);
  defer(t, () => must('umount', [at]));
  // overlayfs counts links in its own way, and equal inode numbers of different layers do not mean the same inode.
  const facts = (lines: readonly string[]): readonly string[] => lines.map((line) => line.replace(/ links \d+| = .*/g, ''));
  const wanted = facts(await describe(mergeLayers(layers), () => 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'));
  assert.ok(wanted.length > 2000);
  sameLines(facts(await describeDisk(at)), wanted);
});

async function* fileStream(path: string): ByteStream {
  const handle = await open(path);
  try {
    yield* handle.createReadStream({ autoClose: false, highWaterMark: 1 << 20 });
  } finally {
    await handle.close();
  }
}

/** A layer's blob as plain tar. */
async function inflateTo(path: string, blob: string): Promise<void> {
  const out = createWriteStream(path);
  for await (const bytes of decompress(fileStream(blob))) if (!out.write(Uint8Array.from(bytes))) await once(out, 'drain');
  out.end();
  await finished(out);
}

// The kernel shows the merged layers of the torch image, too, in mount-matrix-large.test.ts: by the erofs backend, over its mount index.
for (const name of ['tiny', 'torture', 'debian', 'python']) {
  test(`the layers of an image, merged over their plain tars as devices: the kernel shows what umoci unpacks: ${name}`, async (t) => {
    if (!(await canMount(t)) || !haveTools(t, 'umoci', 'skopeo')) return;
    const image = imageNamed(t, name);
    if (!image) return;
    const folder = scratch(t);
    const since = Date.now() - 1000;
    const wanted = await unpackedTree(image);
    const tars: string[] = [];
    const roots: DirectoryNode[] = [];
    for (const [i, layer] of layoutManifest(image.layout, image.tag).layers.entries()) {
      const tar = join(folder, `layer-${i}.tar`);
      await inflateTo(tar, join(image.layout, 'blobs', 'sha256', layer.digest.slice(7)));
      const { root, size } = await tarTree(fileStream(tar), i);
      // Tars of odd length exist; devices are whole blocks.
      assert.equal(statSync(tar).size, size);
      tars.push(tar);
      roots.push(root);
    }
    const plan = planErofs(mergeLayers(roots), { blockSize: 512, devices: tars.map((tar, i) => ({ tag: `layer ${i}`, size: statSync(tar).size })), place: placeInTars(512) });
    const path = join(folder, 'image.erofs');
    const out = createWriteStream(path);
    await writeErofs(plan, (bytes) => new Promise((resolve, reject) => out.write(bytes, (error) => (error ? reject(error) : resolve()))));
    out.end();
    await finished(out);
    assert.equal(readFileSync(path).length, plan.size);
    const at = join(folder, 'mounted');
    if (!(await mountErofs(t, path, tars, at, 512))) return;
    assert.deepEqual(compareTrees(wanted, await readTree(at, since), true), []);
    t.diagnostic(`${image.name}: ${wanted.size} names compared, ${plan.inventory.inodes} inodes, ${plan.size} bytes`);
  });
}
