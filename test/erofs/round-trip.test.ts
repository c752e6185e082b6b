import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { MemorySource } from '../../src/core/source.ts';
import type { DirectoryNode, FileNode } from '../../src/core/types.ts';
import { planErofs } from '../../src/erofs/plan.ts';
import { openErofs } from '../../src/erofs/read.ts';
import { writeErofs } from '../../src/erofs/write.ts';
import { attributes as plain, file, symlink } from '../layer/nodes.ts';
import { build, Contents, describe as tell, describeImage, imageOf, nowhere, sameLines, samples } from './trees.ts';

const directory = (children: readonly (readonly [string, FileNode])[]): DirectoryNode => ({ ...plain, type: 'directory', children: new Map(children) });

it('any tree comes back as it was, contents on devices', async () => {
  await fc.assert(
    fc.asyncProperty(samples(60), async ({ root, contents, blockSize }) => {
      const image = await build(root, { blockSize, devices: contents.devices, place: contents.place });
      assert.equal(image.length % blockSize, 0);
      sameLines(await describeImage(image, contents.sources), await tell(root, (node) => contents.digestOf(node)));
    }),
    { numRuns: 150 },
  );
});

it('any tree comes back as it was, contents in the image', async () => {
  await fc.assert(
    fc.asyncProperty(samples(40), async ({ root, contents, blockSize }) => {
      const image = await build(root, { blockSize, place: contents.inside, shareXattrs: false });
      sameLines(await describeImage(image), await tell(root, (node) => contents.digestOf(node)));
    }),
    { numRuns: 100 },
  );
});

it('equal trees give equal images, in whatever order their names were added', async () => {
  const entries: (readonly [string, FileNode])[] = [['b', file('')], ['a', symlink('b')], ['c', directory([['y', file('')], ['x', file('')]])]];
  const image = await build(directory(entries), { place: nowhere });
  assert.deepEqual(await build(directory([...entries].reverse()), { place: nowhere }), image);
  assert.notDeepEqual(await build(directory(entries), { place: nowhere, blockSize: 512 }), image);
});

it('a directory of 100 000 entries is sorted, complete and compact', async () => {
  for (const blockSize of [512, 4096] as const) {
    const names = Array.from({ length: 100_000 }, (_, i) => `entry-${(i * 7919) % 100_000}`);
    const one = file('');
    const root = directory([['d', directory(names.map((name) => [name, one] as const))]]);
    const plan = planErofs(root, { blockSize, place: nowhere });
    const read = await openErofs(new MemorySource(await imageOf(plan)));
    const d = read.root.children.get('d');
    assert.ok(d?.type === 'directory');
    assert.deepEqual([...d.children.keys()], [...names].sort());
    assert.equal(new Set(d.children.values()).size, 1, 'all of them are one inode');
    const bytes = names.reduce((sum, name) => sum + 12 + name.length, 0);
    assert.ok(plan.size < bytes * (blockSize === 512 ? 1.03 : 1.01), `${plan.size} bytes for ${bytes} of entries`);
  }
});

it('directories of every size have their tail beside them or whole blocks', async () => {
  // From an empty directory to several blocks, one byte at a time around the ends.
  for (const blockSize of [512, 4096] as const) {
    const sizes = Array.from({ length: 2 * blockSize }, (_, i) => i).filter((i) => blockSize === 512 || i % 97 === 0 || Math.abs((i % 4096) - 4000) < 130);
    const one = file('');
    const sub = (size: number): DirectoryNode => {
      const children: (readonly [string, FileNode])[] = [];
      // 27 bytes are `.` and `..`.
      for (let used = 27; used + 13 <= size; ) {
        const length = Math.min(size - used - 12, 100);
        children.push([`${children.length}`.padStart(Math.min(3, length), '0').padEnd(length, 'x'), one]);
        used += 12 + length;
      }
      return directory(children);
    };
    const root = directory(sizes.map((size) => [`${size}`, sub(size)] as const));
    const image = await build(root, { blockSize, place: nowhere });
    sameLines(await describeImage(image), await tell(root, () => new Contents(512, 0).digestOf(one)));
  }
});

it('small files take 96 bytes of metadata and their entry', async () => {
  const contents = new Contents(4096, 1);
  const files = Array.from({ length: 6000 }, (_, i) => [`file-${i}`, contents.add(file('x'.repeat(100)), [[1, 1]])] as const);
  const root = directory(Array.from({ length: 25 }, (_, p) => [`p${p}`, directory(Array.from({ length: 20 }, (_, d) => [`d${d}`, directory(files.slice((p * 20 + d) * 12, (p * 20 + d + 1) * 12))] as const))] as const));
  const plan = planErofs(root, { devices: contents.devices, place: contents.place });
  const names = plan.inventory.nameSizes;
  let bytes = 0;
  for (let i = 0; i < names.length; i += 1) bytes += names[i] as number;
  assert.ok((plan.size - bytes) / plan.inventory.inodes <= 110, `${(plan.size - bytes) / plan.inventory.inodes} bytes per inode`);
});

it('an attribute of many files is stored once', async () => {
  const label = new Map([['security.selinux', Buffer.from('system_u:object_r:usr_t:s0\0')], ['user.one', Buffer.from('x')]]);
  const root = directory(Array.from({ length: 1000 }, (_, i) => [`f${i}`, file('', { xattrs: new Map(label) })] as const));
  const shared = await build(root, { place: nowhere });
  const inline = await build(root, { place: nowhere, shareXattrs: false });
  assert.ok(shared.length < inline.length * 0.8, `${shared.length} of ${inline.length}`);
  sameLines(await describeImage(shared), await describeImage(inline));
});

it('says which attributes it cannot store', () => {
  const xattrs = new Map([['user.ok', Buffer.from('1')], ['com.apple.quarantine', Buffer.from('q')], ['user.', Buffer.from('x')], ['user.big', Buffer.alloc(65_536)]]);
  const plan = planErofs(directory([['d', directory([['f', file('', { xattrs })]])]]), { place: nowhere });
  assert.deepEqual(plan.warnings, ['EROFS cannot hold 3 extended attributes, which are left out: com.apple.quarantine of /d/f']);
});

it('streams: the sink is asked for patience, and holds no more than a piece', async () => {
  const one = file('');
  const root = directory(Array.from({ length: 30_000 }, (_, i) => [`some-file-of-usual-name-${i}`, { ...one }] as const));
  let busy = false;
  let pieces = 0;
  await writeErofs(planErofs(root, { place: nowhere }), async (bytes) => {
    assert.ok(!busy && bytes.length <= 1 << 20);
    busy = true;
    pieces += 1;
    await new Promise((resolve) => setImmediate(resolve));
    busy = false;
  });
  assert.ok(pieces > 2);
});

it('a cancelled write ends', async () => {
  const plan = planErofs(directory([['a', file('')]]), { place: nowhere });
  await assert.rejects(writeErofs(plan, async () => undefined, { signal: AbortSignal.abort() }), { code: 'CANCELLED' });
});

it('refuses names, targets and numbers that cannot be', () => {
  const refuses = (code: string, ...children: readonly (readonly [string, FileNode])[]): void =>
    assert.throws(() => planErofs(directory([['d', directory(children)]]), { place: nowhere }), { code }, JSON.stringify(children[0]?.[0]));
  for (const name of ['', '.', '..', 'a/b', 'a\0', 'n'.repeat(256), '\u00fc'.repeat(128)]) refuses('CORRUPT', [name, file('')]);
  refuses('CORRUPT', ['l', symlink('t'.repeat(4096))]);
  refuses('CORRUPT', ['l', symlink('t\0')]);
  refuses('CORRUPT', ['c', { ...plain, type: 'char', major: 4096, minor: 0 }]);
  refuses('INTERNAL', ['f', file('content')]);
  const twice = directory([]);
  refuses('INTERNAL', ['a', twice], ['b', twice]);
  assert.throws(() => planErofs(directory([]), { place: nowhere, blockSize: 8192 as never }), { code: 'USAGE' });
});
