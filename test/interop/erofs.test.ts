import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { planErofs } from '../../src/erofs/plan.ts';
import { FileSource, MemorySource } from '../../src/core/source.ts';
import { openErofs } from '../../src/erofs/read.ts';
import type { DirectoryNode, FileNode } from '../../src/core/types.ts';
import { tortureTree, type Torture } from '../erofs/torture.ts';
import { build, describe, describeImage, imageOf, sameLines, type Blocks } from '../erofs/trees.ts';
import { haveRoot, haveTools, must, run, scratch, type Scope } from '../support/peers.ts';
import { describeDisk, haveErofs, mountErofs } from './erofs-mount.ts';

// Debian's erofs-utils 1.5 reads blocks of 4096 only (`blksize 512 isn't supported`), takes no notice of the order of names, of
// duplicate names, of `..`, of the device table's tags and addresses, and of bytes behind names; its fsck visits every inode,
// checks magic, checksum, features and nids, and with --extract reads all content.

interface OnDisk {
  readonly image: string;
  readonly devices: readonly string[];
}

async function writeTorture(folder: string, { root, contents }: Torture, blockSize: Blocks, shareXattrs = true): Promise<OnDisk> {
  const image = join(folder, 'image.erofs');
  writeFileSync(image, await imageOf(planErofs(root, { blockSize, devices: contents.devices, place: contents.place, shareXattrs })));
  const devices = contents.devices.map(({ bytes }, i) => {
    const path = join(folder, `device-${i}`);
    writeFileSync(path, bytes);
    return path;
  });
  return { image, devices };
}

async function canMount(t: Scope): Promise<boolean> {
  return haveRoot(t) && haveTools(t, 'getfattr', 'umount') && (await haveErofs(t));
}

for (const blockSize of [512, 1024, 2048, 4096] as const) {
  test(`the kernel mounts an image of hard cases, blocks of ${blockSize}, and shows it as it was`, async (t) => {
    if (!(await canMount(t))) return;
    const folder = scratch(t);
    const tree = tortureTree(blockSize);
    const { image, devices } = await writeTorture(folder, tree, blockSize, blockSize !== 1024);
    const at = join(folder, 'mounted');
    if (!(await mountErofs(t, image, devices, at, blockSize))) return;
    sameLines(await describeDisk(at), await describe(tree.root, (node) => tree.contents.digestOf(node)));
  });
}

test('the kernel finds every name of a large directory, and content that is in the image', async (t) => {
  if (!(await canMount(t))) return;
  const folder = scratch(t);
  const { root: tree, contents } = tortureTree(512);
  const empty: FileNode = { ...tree, type: 'file', size: 0, extents: [] };
  // Names of all lengths, in an order that is not that of bytes.
  const names = Array.from({ length: 100_000 }, (_, i) => `${(i * 7919) % 100_000}`.padStart(1 + (i % 60), i % 3 === 0 ? '\uff5e' : 'n').slice(0, 80));
  const root: DirectoryNode = { ...tree, children: new Map([['all', { ...tree, children: new Map(names.map((name) => [name, empty])) }], ['tree', tree]]) };
  for (const blockSize of [512, 4096] as const) {
    const image = join(folder, `image-${blockSize}`);
    const at = join(folder, `mounted-${blockSize}`);
    writeFileSync(image, await build(root, { blockSize, place: contents.inside }));
    if (!(await mountErofs(t, image, [], at, blockSize))) return;
    for (const name of names) assert.ok(existsSync(join(at, 'all', name)), name);
    assert.ok(!existsSync(join(at, 'all', 'nobody')));
    sameLines(await describeDisk(join(at, 'tree')), await describe(tree, (node) => contents.digestOf(node)));
  }
});

test('fsck.erofs and dump.erofs accept images, and extract what was put in', async (t) => {
  if (!haveRoot(t) || !haveTools(t, 'fsck.erofs', 'dump.erofs', 'getfattr')) return;
  const folder = scratch(t);
  const tree = tortureTree(4096);
  const { image, devices } = await writeTorture(folder, tree, 4096);
  const given = devices.map((path) => `--device=${path}`);
  const checked = await must('fsck.erofs', ['-d3', ...given, '--extract', image]);
  assert.match(checked.text + checked.stderr, /No errors found/);
  const shown = await must('dump.erofs', ['-s', '-S', ...given, image]);
  assert.match(shown.text, /Filesystem magic number:\s+0xE0F5E1E2/);
  assert.match(shown.text, /Filesystem inode count:\s+\d/);
  const extracted = join(folder, 'extracted');
  await must('fsck.erofs', [...given, `--extract=${extracted}`, '--preserve', image]);
  // It sets no xattrs, makes a file of each name of a hard link, takes the set-uid bit away with its chown, leaves holes out, and
  // sets times of directories before it fills them.
  const facts = (lines: readonly string[]): readonly string[] =>
    lines
      .filter((line) => / (?:file|symlink) /.test(line) && !/^(?:all-hole|holes):/.test(line))
      .map((line) => line.replace(/ links \d+| = .*| [a-z]+\.[^ ]+=[0-9a-f]*/g, '').replace(/ 4755 /, ' 755 ').replace(/:\d+ (-?\d+)\+\d+/, ' $1'));
  sameLines(facts(await describeDisk(extracted)), facts(await describe(tree.root, (node) => tree.contents.digestOf(node))));
});

const MKFS: readonly (readonly [name: string, flags: readonly string[], blob?: boolean])[] = [
  ['defaults', []],
  ['no inline data', ['-E', 'noinline_data']],
  ['shared xattrs', ['-x', '1']],
  ['no xattrs shared', ['-x', '1000000']],
  ['chunks in the image', ['--chunksize=4096']],
  ['chunks on a device', ['--chunksize=65536'], true],
  ['chunks as block maps', ['--chunksize=4096', '-E', 'force-chunk-format', '-E', 'force-inode-blockmap']],
  ['chunk indexes by force', ['--chunksize=8192', '-E', 'force-chunk-indexes']],
  ['long inodes', ['-E', 'force-inode-extended']],
  ['old checksum-less form', ['-E', '^sb_csum']],
];

test('images by mkfs.erofs are read: attributes and contents', async (t) => {
  if (!haveTools(t, 'mkfs.erofs') || !(await canMount(t))) return;
  const folder = scratch(t);
  // mkfs.erofs 1.5 cuts names of 255 bytes and then does not find them.
  const tree = tortureTree(4096, 254);
  const { image, devices } = await writeTorture(folder, tree, 4096);
  const at = join(folder, 'mounted');
  if (!(await mountErofs(t, image, devices, at, 4096))) return;
  const wanted = await describe(tree.root, (node) => tree.contents.digestOf(node));
  for (const [name, flags, blob] of MKFS) {
    const made = join(folder, 'mkfs.erofs');
    const device = join(folder, 'mkfs.blob');
    const ran = await run('mkfs.erofs', ['--quiet', ...flags, ...(blob ? [`--blobdev=${device}`] : []), made, at]);
    if (ran.code !== 0) {
      t.diagnostic(`${name}: mkfs.erofs says ${ran.stderr.trim().split('\n').at(-1)}`);
      continue;
    }
    const sources = blob ? [new MemorySource(readFileSync(device))] : [];
    sameLines(await describeImage(readFileSync(made), sources), wanted, name);
  }
});

test('images by mkfs.erofs with what we do not read are refused, and say why', async (t) => {
  if (!haveTools(t, 'mkfs.erofs')) return;
  const folder = scratch(t);
  writeFileSync(join(folder, 'text'), 'compress me '.repeat(10_000));
  const made = join(folder, '..', 'compressed.erofs');
  await must('mkfs.erofs', ['--quiet', '-zlz4hc', made, folder]);
  const source = new FileSource(made, statSync(made).size);
  try {
    await assert.rejects(openErofs(source), { code: 'UNSUPPORTED', path: '/text', message: /stored compressed/ });
  } finally {
    await source.close();
  }
});
