import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { LazypullError } from '../../src/core/errors.ts';
import type { DirectoryNode } from '../../src/core/types.ts';
import { mergeLayers } from '../../src/layer/overlay.ts';
import { nodeAt, TreeBuilder } from '../../src/layer/tree.ts';
import { walk } from '../../src/layer/walk.ts';
import { device, directory, file, symlink } from './nodes.ts';

type Entry = [string, Parameters<TreeBuilder['add']>[1] | string];

/** A string as the second element is the target of a hard link. */
function layer(...entries: Entry[]): DirectoryNode {
  const builder = new TreeBuilder({ linksBelow: true });
  for (const [path, node] of entries) {
    if (typeof node === 'string') builder.link(path, node);
    else builder.add(path, node);
  }
  return builder.finish();
}

const paths = (root: DirectoryNode): string[] => [...walk(root, { sorted: true })].slice(1).map(({ path }) => path);

it('no layers, or empty ones, are an empty root', () => {
  assert.deepEqual(paths(mergeLayers([])), []);
  assert.deepEqual(paths(mergeLayers([layer(), layer()])), []);
});

it('upper names lie over lower ones', () => {
  const merged = mergeLayers([layer(['a', file('1')], ['d/x', file()]), layer(['a', file('22')], ['d/y', file()])]);
  assert.deepEqual(paths(merged), ['a', 'd', 'd/x', 'd/y']);
  const a = nodeAt(merged, 'a');
  assert.ok(a?.type === 'file' && a.size === 2);
});

it('whiteouts hide one name of the layers below, and are not seen', () => {
  const lower = layer(['d/a', file()], ['d/b', file()], ['d/sub/x', file()]);
  assert.deepEqual(paths(mergeLayers([lower, layer(['d/.wh.a', file()])])), ['d', 'd/b', 'd/sub', 'd/sub/x']);
  assert.deepEqual(paths(mergeLayers([lower, layer(['d/.wh.sub', file()])])), ['d', 'd/a', 'd/b']);
  assert.deepEqual(paths(mergeLayers([lower, layer(['.wh.d', file()])])), []);
  assert.deepEqual(paths(mergeLayers([lower, layer(['.wh.not-there', file()])])), paths(lower));
});

it('a whiteout does not touch its own layer, before or after the name', () => {
  const lower = layer(['a/old', file()]);
  for (const upper of [layer(['.wh.a', file()], ['a/new', file()]), layer(['a/new', file()], ['.wh.a', file()])]) {
    assert.deepEqual(paths(mergeLayers([lower, upper])), ['a', 'a/new']);
  }
});

it('an opaque directory hides all below it, wherever the marker stands', () => {
  const lower = layer(['d', directory({ mode: 0o700 })], ['d/a', file()], ['d/sub/x', file()], ['e', file()]);
  for (const upper of [layer(['d/.wh..wh..opq', file()], ['d/sub/y', file()]), layer(['d/sub/y', file()], ['d/.wh..wh..opq', file()])]) {
    const merged = mergeLayers([lower, upper]);
    assert.deepEqual(paths(merged), ['d', 'd/sub', 'd/sub/y', 'e']);
    // The directory itself is only implied by the upper layer, and stays what it was.
    assert.equal(nodeAt(merged, 'd')?.mode, 0o700);
  }
  assert.deepEqual(paths(mergeLayers([lower, layer(['.wh..wh..opq', file()], ['x', file()])])), ['x']);
});

it('whiteouts of the first layer, of new directories and of the AUFS kind are dropped', () => {
  const first = layer(['.wh.gone', file()], ['d/.wh..wh..opq', file()], ['d/x', file()], ['.wh..wh.plnk', directory()], ['.wh..wh.aufs', file()]);
  assert.deepEqual(paths(mergeLayers([first])), ['d', 'd/x']);
  assert.deepEqual(paths(mergeLayers([layer(), first])), ['d', 'd/x']);
});

it('whiteouts that are hard links, as AUFS made them, count as any other', () => {
  const upper = layer(['.wh..wh.aufs', file()], ['.wh.a', '.wh..wh.aufs']);
  assert.deepEqual(paths(mergeLayers([layer(['a', file()], ['b', file()]), upper])), ['b']);
});

it('refuses a whiteout of nothing', () => {
  for (const name of ['.wh.', '.wh..', '.wh...']) {
    assert.throws(() => mergeLayers([layer([`d/${name}`, file()])]), (e: unknown) => e instanceof LazypullError && e.code === 'CORRUPT' && e.path === `d/${name}`, name);
  }
});

it('types replace each other', () => {
  const merged = mergeLayers([layer(['a/x', file()], ['b', file()], ['c', symlink('a')]), layer(['a', file()], ['b/y', file()], ['c/z', device('char', 1, 3)])]);
  assert.deepEqual(paths(merged), ['a', 'b', 'b/y', 'c', 'c/z']);
});

it('attributes of the upper directory win unless it is implied', () => {
  const lower = layer(['', directory({ mode: 0o711 })], ['d', directory({ mode: 0o700, uid: 5 })]);
  const implied = mergeLayers([lower, layer(['d/x', file()])]);
  assert.deepEqual([implied.mode, nodeAt(implied, 'd')?.mode, nodeAt(implied, 'd')?.uid], [0o711, 0o700, 5]);
  const described = mergeLayers([lower, layer(['', directory({ mode: 0o755 })], ['d', directory({ mode: 0o1777, uid: 6 })])]);
  assert.deepEqual([described.mode, nodeAt(described, 'd')?.mode, nodeAt(described, 'd')?.uid], [0o755, 0o1777, 6]);
  const late = nodeAt(mergeLayers([layer(['d/x', file()]), layer(['d', directory()])]), 'd');
  assert.ok(late?.type === 'directory' && !late.implied && late.children.has('x'));
});

it('hard links inside a layer stay one inode', () => {
  const merged = mergeLayers([layer(['a', file('x')], ['b', 'a'], ['c', 'a']), layer(['b', file('y')])]);
  assert.equal(nodeAt(merged, 'a'), nodeAt(merged, 'c'));
  assert.notEqual(nodeAt(merged, 'a'), nodeAt(merged, 'b'));
});

it('hard links to files of lower layers are names of those files', () => {
  const lower = layer(['d/a', file('x')], ['d/b', file('y')], ['to', symlink('d')]);
  const upper = layer(['d/again', 'd/a'], ['moved', 'd/b'], ['d/.wh.b', file()], ['new/deep/far', 'to/a'], ['d/a2', 'd/again']);
  const merged = mergeLayers([layer(['other', file()]), lower, upper]);
  assert.deepEqual(paths(merged), ['d', 'd/a', 'd/a2', 'd/again', 'moved', 'new', 'new/deep', 'new/deep/far', 'other', 'to']);
  for (const path of ['d/a', 'd/again', 'd/a2', 'new/deep/far']) assert.equal(nodeAt(merged, path), nodeAt(lower, 'd/a'), path);
  assert.equal(nodeAt(merged, 'moved'), nodeAt(lower, 'd/b'));
  // Not what the link's own layer puts there, if that is what it is called.
  const replaced = mergeLayers([lower, upper, layer(['d/a', file('newer')]), layer(['last', 'd/again'])]);
  assert.equal(nodeAt(replaced, 'last'), nodeAt(lower, 'd/a'));
  for (const [roots, text] of [[[upper], /d\/again.*d\/a, which is neither/], [[lower, layer(['x/y', 'd'])], /x\/y.*d, which is a directory/], [[lower, layer(['.wh.d', file()]), layer(['x', 'd/a'])], /neither/]] as const) {
    assert.throws(() => mergeLayers(roots), (error) => error instanceof LazypullError && error.code === 'CORRUPT' && text.test(error.message), String(text));
  }
});

it('leaves the layers as they were', () => {
  const lower = layer(['d/a', file()], ['x', file()]);
  const upper = layer(['d/.wh.a', file()], ['.wh.x', file()], ['d/new', file()]);
  const before = [paths(lower), paths(upper)];
  mergeLayers([lower, upper, upper]);
  assert.deepEqual([paths(lower), paths(upper)], before);
});

it('shares what only one layer knows', () => {
  const lower = layer(['only/a/x', file()], ['both/kept/x', file()], ['both/y', file()]);
  const upper = layer(['both/z', file()], ['new/a/b', file()], ['whited/deep/.wh.x', file()], ['whited/clean/y', file()]);
  const merged = mergeLayers([lower, upper]);
  for (const [path, from] of [['only', lower], ['both/kept', lower], ['new', upper], ['whited/clean', upper]] as const) assert.equal(nodeAt(merged, path), nodeAt(from, path), path);
  for (const [path, from] of [['both', lower], ['both', upper], ['whited', upper]] as const) assert.notEqual(nodeAt(merged, path), nodeAt(from, path), path);
  const again = mergeLayers([lower, upper, layer(['only/a/.wh.x', file()], ['both/kept/new', file()])]);
  assert.deepEqual(paths(again).filter((path) => /^only|^both\/kept/.test(path)), ['both/kept', 'both/kept/new', 'both/kept/x', 'only', 'only/a']);
  assert.ok(nodeAt(lower, 'only/a/x') && !nodeAt(lower, 'both/kept/new'));
  assert.equal(mergeLayers([lower]), lower);
});

it('merges trees deeper than the call stack', () => {
  const deep = Array.from({ length: 8_000 }, () => 'd').join('/');
  const merged = mergeLayers([layer([`${deep}/x`, file()]), layer([`${deep}/.wh.x`, file()], [`${deep}/y`, file()])]);
  assert.equal(nodeAt(merged, `${deep}/x`), undefined);
  assert.equal(nodeAt(merged, `${deep}/y`)?.type, 'file');
});

it('agrees with a model of path sets', () => {
  const name = fc.constantFrom('a', 'b', '.wh.a', '.wh.b', '.wh..wh..opq');
  const path = fc.tuple(fc.array(fc.constantFrom('a', 'b'), { maxLength: 2 }), name).map(([parents, last]) => [...parents, last].join('/'));
  const entry = fc.tuple(path, fc.boolean());
  fc.assert(fc.property(fc.array(fc.array(entry, { maxLength: 8 }), { maxLength: 4 }), (layers) => {
    const roots = layers.map((entries) => {
      const builder = new TreeBuilder();
      for (const [p, isDirectory] of entries) builder.add(p, isDirectory && !p.includes('.wh.') ? directory() : file());
      return builder.finish();
    });
    const before = roots.map(paths);
    assert.deepEqual(new Set(paths(mergeLayers(roots))), model(roots));
    assert.deepEqual(roots.map(paths), before);
  }));
});

/** The image-spec rules on a flat map of path -> is directory. */
function model(roots: readonly DirectoryNode[]): Set<string> {
  const merged = new Map<string, boolean>();
  const drop = (path: string): void => {
    for (const key of merged.keys()) if (key === path || key.startsWith(`${path}/`)) merged.delete(key);
  };
  for (const root of roots) {
    const entries = [...walk(root)].slice(1);
    for (const { path } of entries) {
      const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')));
      const last = path.slice(path.lastIndexOf('/') + 1);
      if (last === '.wh..wh..opq') for (const key of merged.keys()) if (parent === '' || key.startsWith(`${parent}/`)) merged.delete(key);
      if (last.startsWith('.wh.') && last !== '.wh..wh..opq') drop(parent === '' ? last.slice(4) : `${parent}/${last.slice(4)}`);
    }
    for (const { path, node } of entries) {
      if (path.includes('.wh.')) continue;
      const isDirectory = node.type === 'directory';
      if (!(isDirectory && merged.get(path))) drop(path);
      merged.set(path, isDirectory);
    }
  }
  return new Set(merged.keys());
}

