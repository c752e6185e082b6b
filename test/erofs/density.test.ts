import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Attributes, DirectoryNode, FileNode } from '../../src/core/types.ts';
import { roundUp } from '../../src/core/bytes.ts';
import { digestOf } from '../../src/core/digest.ts';
import { shapeOf } from '../../src/erofs/directory.ts';
import { mapRuns, type ChunkMap } from '../../src/erofs/place.ts';
import { planErofs } from '../../src/erofs/plan.ts';
import { describe, describeImage, imageOf, sameLines } from './trees.ts';

/**
 * Bytes that an image may cost per inode, names and link targets not counted: a file is 64 of inode and 8 of chunk index, rounded
 * to 96, and 12 of directory entry. A directory is 103 and its rounding, so trees of hardly anything else cannot keep to it.
 */
const LIMIT = 110;
/** Bytes per inode that may belong to nothing. Of small blocks even inodes of the usual sizes fill no more than 480 bytes. */
const WASTE = { 4096: 2, 512: 7 } as const;

const ATTRIBUTES: Attributes = { mode: 0o644, uid: 0, gid: 0, mtime: { seconds: 1_700_000_000, nanoseconds: 0 }, xattrs: new Map() };

const directory = (children: Iterable<readonly [string, FileNode]> = []): DirectoryNode => ({ ...ATTRIBUTES, type: 'directory', children: new Map(children) });
const file = (size = 10_000): FileNode => ({ ...ATTRIBUTES, type: 'file', size, extents: [] });
const symlink = (target: string): FileNode => ({ ...ATTRIBUTES, type: 'symlink', target });

function files(count: number, name: (i: number) => string = (i) => `file-${i}.txt`): readonly (readonly [string, FileNode])[] {
  return Array.from({ length: count }, (_, i) => [name(i), file()] as const);
}

/** `count` directories with what `inside` makes for each. */
function directories(count: number, inside: (i: number) => Iterable<readonly [string, FileNode]>): DirectoryNode {
  return directory(Array.from({ length: count }, (_, i) => [`directory-${i}`, directory(inside(i))] as const));
}

function deep(levels: number, perLevel: number): DirectoryNode {
  let at = directory(files(perLevel));
  for (let i = 0; i < levels; i += 1) at = directory([['next', at], ...files(perLevel)]);
  return at;
}

/** A tree that branches: `width` directories in each, `levels` deep. */
function branching(width: number, levels: number, perLevel: number): DirectoryNode {
  return directory([...(levels === 0 ? [] : Array.from({ length: width }, (_, i) => [`d${i}`, branching(width, levels - 1, perLevel)] as const)), ...files(perLevel)]);
}

const SHAPES: Readonly<Record<string, { make(): DirectoryNode; readonly dense?: boolean }>> = {
  '60 000 files in 5 000 directories': { make: () => directories(5000, () => files(12)) },
  '60 000 files in one directory': { make: () => directory(files(60_000)) },
  '400 directories of a bit more than half a block': { make: () => directories(400, () => files(80, (i) => `file-name-${i}`)) },
  '400 directories of three quarters of a block': { make: () => directories(400, () => files(110, (i) => `file-name-${i}`)) },
  '400 directories that just do not fit beside their inode': { make: () => directories(400, () => files(178, (i) => `f${1000 + i}abcdef`.slice(0, 11))) },
  '400 directories of a bit more than half a block of directories': { make: () => directories(400, () => Array.from({ length: 80 }, (_, i) => [`directory-${i}`, directory()] as const)) },
  '20 000 directories with one file each': { make: () => directories(20_000, () => files(1)), dense: false },
  '20 000 empty directories': { make: () => directories(20_000, () => []) },
  'directories of symbolic links': { make: () => directories(2000, () => Array.from({ length: 12 }, (_, i) => [`link-${i}`, symlink(`../../../share/target-${i}`)] as const)) },
  'long names': { make: () => directories(300, () => files(60, (i) => `${'n'.repeat(60)}${i}`)) },
  'a deep tree': { make: () => deep(3000, 3), dense: false },
  'a very deep tree of directories alone': { make: () => deep(10_000, 0), dense: false },
  'a tree that branches': { make: () => branching(5, 6, 2), dense: false },
};

interface Density {
  /** Bytes of the image that are neither names nor link targets, per inode. */
  readonly perInode: number;
  /** Bytes that belong to nothing, per inode: what the places of inodes leave free. */
  readonly wasted: number;
}

function densityOf(root: DirectoryNode, blockSize: 512 | 4096): Density {
  const place = ({ size }: { readonly size: number }): ChunkMap => mapRuns([{ length: size, device: 1, offset: 0 }], blockSize);
  const plan = planErofs(root, { blockSize, devices: [{ tag: 'data', size: 1 << 20 }], place });
  const { inventory } = plan;
  let content = 0;
  let needed = 0;
  for (let i = 0; i < inventory.nameSizes.length; i += 1) content += inventory.nameSizes[i] as number;
  for (const [inode, node] of inventory.nodes.entries()) {
    let beside = 0;
    if (node.type === 'file') {
      beside = 8;
    } else if (node.type === 'symlink') {
      beside = node.target.length;
      content += beside;
    } else {
      const { fullBlocks, tail } = shapeOf(inventory, inventory.directoryOf[inode] as number, blockSize);
      beside = 64 + tail <= blockSize ? tail : 0;
      needed += (fullBlocks + (beside === 0 ? 1 : 0)) * blockSize;
    }
    needed += roundUp(64 + beside, 32);
  }
  return { perInode: (plan.size - content) / inventory.inodes, wasted: (plan.size - needed) / inventory.inodes };
}

for (const [name, { make, dense = true }] of Object.entries(SHAPES)) {
  test(`bytes per inode: ${name}`, (t) => {
    const root = make();
    for (const blockSize of [4096, 512] as const) {
      const { perInode, wasted } = densityOf(root, blockSize);
      t.diagnostic(`blocks of ${blockSize}: ${perInode.toFixed(1)} beyond names, ${wasted.toFixed(2)} wasted`);
      assert.ok(wasted <= WASTE[blockSize], `${wasted.toFixed(2)} bytes wasted with blocks of ${blockSize}`);
      if (dense && blockSize === 4096) assert.ok(perInode <= LIMIT, `${perInode.toFixed(1)} bytes`);
    }
  });
}

test('inodes that waited for their place are found there', async () => {
  const root = directories(60, (i) => [...files(70 + i, (n) => `file-name-${n}`), ['sub', directory(files(90, (n) => `file-name-${n}`))], ...Array.from({ length: 9 }, (_, n) => [`z${n}`, symlink('x'.repeat(300 * n + i + 1))] as const)]);
  for (const blockSize of [4096, 512] as const) {
    const place = ({ size }: { readonly size: number }): ChunkMap => mapRuns([{ length: size, device: undefined, offset: 0 }], blockSize);
    const image = await imageOf(planErofs(root, { blockSize, place }));
    sameLines(await describeImage(image), await describe(root, () => digestOf(new Uint8Array(10_000))), `${blockSize}`);
  }
});
