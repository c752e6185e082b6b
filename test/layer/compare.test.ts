import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import type { DirectoryNode, Time } from '../../src/core/types.ts';
import { compareTimes, compareTrees, type CompareOptions } from '../../src/layer/compare.ts';
import { TreeBuilder } from '../../src/layer/tree.ts';
import { device, directory, fifo, file, symlink } from './nodes.ts';

type Entry = [string, Parameters<TreeBuilder['add']>[1] | string];

function tree(...entries: Entry[]): DirectoryNode {
  const builder = new TreeBuilder();
  for (const [path, node] of entries) {
    if (typeof node === 'string') builder.link(path, node);
    else builder.add(path, node);
  }
  return builder.finish();
}

const kinds = (a: DirectoryNode, b: DirectoryNode, options?: CompareOptions): string[] =>
  [...compareTrees(a, b, options)].map(({ path, kind }) => `${path} ${kind}`);

it('finds nothing in equal trees, whatever the order of their entries', () => {
  const entries: Entry[] = [['d', directory()], ['d/x', file('1')], ['s', symlink('d')], ['c', device('char', 1, 3)], ['b', device('block', 8, 0)], ['p', fifo()]];
  assert.deepEqual(kinds(tree(...entries), tree(...[...entries].reverse())), []);
});

it('names every attribute that differs', () => {
  const x = new Map([['user.a', Buffer.from([0, 255])]]);
  const cases: [Entry[1], Entry[1], string[]][] = [
    [file('a'), file('b'), ['x content']],
    [file('a'), file('ab'), ['x size']],
    [file(), file('', { mode: 0o4755 }), ['x mode']],
    [file(), file('', { uid: 9, gid: 9 }), ['x uid', 'x gid']],
    [file(), file('', { mtime: { seconds: 1, nanoseconds: 0 } }), ['x mtime']],
    [file('', { mtime: { seconds: 5, nanoseconds: 600_000_000 } }), file('', { mtime: { seconds: 6, nanoseconds: 0 } }), ['x mtime-lost']],
    [file('', { xattrs: x }), file(), ['x xattrs']],
    [file('', { xattrs: x }), file('', { xattrs: new Map([['user.a', Buffer.from([0, 254])], ['user.b', Buffer.alloc(0)]]) }), ['x xattrs', 'x xattrs']],
    [symlink('a'), symlink('b'), ['x target']],
    [device('char', 1, 3), device('char', 1, 5), ['x device']],
    [device('char', 1, 3), device('block', 1, 3), ['x type']],
    [file(), directory(), ['x type']],
    [fifo(), symlink('a'), ['x type']],
    [directory(), directory({ mode: 0o1777 }), ['x mode']],
    [file('', { userName: 'root' }), file(), []],
  ];
  for (const [a, b, want] of cases) {
    assert.deepEqual(kinds(tree(['x', a]), tree(['x', b])), want);
    assert.deepEqual(kinds(tree(['x', b]), tree(['x', a])), want);
  }
  assert.deepEqual(kinds(tree(['x', file('', { userName: 'root' })]), tree(['x', file()]), { names: true }), ['x names']);
  assert.deepEqual(kinds(tree(['x', file('', { groupName: '' })]), tree(['x', file()]), { names: true }), []);
});

it('compares the root too', () => {
  assert.deepEqual(kinds(tree(['', directory()]), tree(['', directory({ uid: 7 })])), [' uid']);
  assert.deepEqual(kinds(tree(['', directory()]), tree()), [' implied', ' mode', ' uid', ' gid']);
});

it('reports what only one side has, once for a whole directory', () => {
  const a = tree(['d/x', file()], ['both', file()]);
  const b = tree(['both', file()], ['new', file()]);
  assert.deepEqual([...compareTrees(a, b, { labels: ['tar', 'index'] })], [
    { path: 'd', kind: 'missing', detail: 'directory is only in tar, with everything below it' },
    { path: 'new', kind: 'extra', detail: 'file is only in index' },
  ]);
});

it('tells a directory with an entry from one without', () => {
  assert.deepEqual(kinds(tree(['d', directory({ mode: 0o755, uid: 0, gid: 0 })], ['d/x', file()]), tree(['d/x', file()])), ['d implied']);
});

it('compares which names share an inode, not which came first', () => {
  const linked = tree(['a', file('x')], ['b', 'a'], ['c', 'b']);
  assert.deepEqual(kinds(linked, tree(['c', file('x')], ['a', 'c'], ['b', 'c'])), []);
  assert.deepEqual(kinds(linked, tree(['a', file('x')], ['b', 'a'], ['c', file('x')])), ['c hardlink']);
  assert.deepEqual(kinds(tree(['a', file('x')], ['b', file('x')]), tree(['a', file('x')], ['b', 'a'])), ['b hardlink']);
  // A name that is missing altogether is one difference, not two.
  assert.deepEqual(kinds(linked, tree(['b', file('x')], ['c', 'b'])), ['a missing']);
});

it('leaves out what it is told to', () => {
  const a = tree(['x', file()], ['d/.mark', file()], ['d/y', file()], ['gone/z', file()]);
  assert.deepEqual(kinds(a, tree(['x', file()], ['d/y', file()]), { ignore: new Set(['d/.mark', 'gone']) }), []);
});

it('does not compare contents without digests', () => {
  const { digest: _, ...unknown } = file('a');
  assert.deepEqual(kinds(tree(['x', unknown]), tree(['x', file('b')])), []);
});

it('times that were cut or rounded to seconds are told apart from wrong ones', () => {
  const t = (seconds: number, nanoseconds = 0): Time => ({ seconds, nanoseconds });
  assert.equal(compareTimes(t(5, 7), t(5, 7)), 'equal');
  for (const [a, b] of [[t(5, 7e8), t(5)], [t(5, 7e8), t(6)], [t(5, 3e8), t(5)], [t(5, 5e8), t(6)], [t(-1, 9e8), t(0)], [t(-62_135_596_800), t(0)]] as const) {
    assert.equal(compareTimes(a, b), 'lost');
    assert.equal(compareTimes(b, a), 'lost');
  }
  for (const [a, b] of [[t(5, 3e8), t(6)], [t(5), t(6)], [t(5, 7e8), t(7)], [t(5, 1), t(5, 2)], [t(5, 9e8), t(6, 1)], [t(-62_135_596_800), t(5)]] as const) {
    assert.equal(compareTimes(a, b), 'different');
    assert.equal(compareTimes(b, a), 'different');
  }
});

it('has the same opinion from both sides', () => {
  const name = fc.constantFrom('a', 'b', 'c');
  const path = fc.array(name, { minLength: 1, maxLength: 2 }).map((parts) => parts.join('/'));
  const node = fc.constantFrom(file('1'), file('2'), directory(), symlink('x'));
  const side = fc.array(fc.tuple(path, node), { maxLength: 6 });
  const swap = (k: string): string => k.replace(/missing$|extra$/, (m) => (m === 'missing' ? 'extra' : 'missing'));
  fc.assert(fc.property(side, side, (a, b) => {
    const forth = kinds(tree(...a), tree(...b));
    assert.deepEqual(forth.map(swap), kinds(tree(...b), tree(...a)));
    assert.deepEqual(kinds(tree(...a), tree(...a)).filter((k) => !k.endsWith('hardlink')), []);
  }));
});
