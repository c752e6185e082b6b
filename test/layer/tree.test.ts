import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LazypullError } from '../../src/core/errors.ts';
import type { FileNode } from '../../src/core/types.ts';
import { LinkBelow } from '../../src/layer/nodes.ts';
import { nodeAt, TreeBuilder } from '../../src/layer/tree.ts';
import { walk } from '../../src/layer/walk.ts';
import { directory, file, symlink } from './nodes.ts';

const paths = (builder: TreeBuilder): string[] => [...walk(builder.finish())].map(({ path }) => path);
const corrupt = (pattern: RegExp) => (error: unknown): boolean =>
  error instanceof LazypullError && error.code === 'CORRUPT' && pattern.test(error.message);

describe('TreeBuilder', () => {
  it('gives an empty layer an implied root', () => {
    const root = new TreeBuilder().finish();
    assert.equal(root.implied, true);
    assert.equal(root.mode, 0o755);
    assert.equal(root.children.size, 0);
  });

  it('implies missing parents and lets a later entry describe them', () => {
    const builder = new TreeBuilder();
    builder.add('a/b/c', file('x'));
    builder.add('a', directory());
    const root = builder.finish();
    const a = nodeAt(root, 'a');
    const b = nodeAt(root, 'a/b');
    assert.ok(a?.type === 'directory' && b?.type === 'directory');
    assert.equal(a.implied, undefined);
    assert.equal(a.mode, 0o750);
    assert.deepEqual([b.implied, b.mode, b.uid, b.gid, b.mtime.seconds], [true, 0o755, 0, 0, 0]);
    assert.equal(nodeAt(root, 'a/b/c')?.type, 'file');
  });

  it('takes the root attributes from its own entry at any time', () => {
    const builder = new TreeBuilder();
    builder.add('x', file());
    builder.add('', directory({ mode: 0o700 }));
    builder.add('y', file());
    const root = builder.finish();
    assert.equal(root.mode, 0o700);
    assert.equal(root.implied, undefined);
    assert.deepEqual([...root.children.keys()], ['x', 'y']);
  });

  it('lets later entries win, in the place of the later one', () => {
    const builder = new TreeBuilder();
    builder.add('a', file('old'));
    builder.add('b', file());
    builder.add('a', file('new'));
    const root = builder.finish();
    const a = nodeAt(root, 'a');
    assert.ok(a?.type === 'file');
    assert.equal(a.size, 3);
    assert.equal(a.digest, file('new').digest);
    assert.deepEqual([...root.children.keys()], ['b', 'a']);
  });

  it('keeps the children of a directory that comes again, and takes its new attributes', () => {
    const builder = new TreeBuilder();
    builder.add('d', directory({ mode: 0o700 }));
    builder.add('d/x', file());
    builder.add('d', directory({ mode: 0o711 }));
    builder.add('d/y', file());
    const d = nodeAt(builder.finish(), 'd');
    assert.ok(d?.type === 'directory');
    assert.equal(d.mode, 0o711);
    assert.deepEqual([...d.children.keys()], ['x', 'y']);
  });

  it('drops what was below a directory that a file replaces', () => {
    const builder = new TreeBuilder();
    builder.add('d/e/x', file());
    builder.add('d', symlink('elsewhere'));
    assert.deepEqual(paths(builder), ['', 'd']);
    const again = new TreeBuilder();
    again.add('d/e/x', file());
    again.add('d', file());
    again.add('d/e/y', file());
    assert.deepEqual(paths(again), ['', 'd', 'd/e', 'd/e/y']);
  });

  it('makes a directory of what stands in the way of a later entry', () => {
    const builder = new TreeBuilder();
    builder.add('lib', symlink('usr/lib'));
    builder.add('lib/x', file());
    const root = builder.finish();
    assert.equal(nodeAt(root, 'lib')?.type, 'directory');
  });

  it('refuses names that escape, are not clean or cannot exist', () => {
    for (const path of ['/etc', '../x', 'a/../b', 'a/./b', 'a//b', 'a/', '.', '..', 'a\0b', `${'ä'.repeat(127)}zz`, 'x'.repeat(256)]) {
      const builder = new TreeBuilder();
      assert.throws(() => builder.add(path, file()), corrupt(/./), JSON.stringify(path));
    }
    const builder = new TreeBuilder();
    builder.add('a/..b', file());
    builder.add('ä'.repeat(127), file());
    builder.add('x'.repeat(255), file());
    assert.throws(() => builder.add('', file()), corrupt(/root/));
    assert.throws(() => builder.link('', 'a/..b'), corrupt(/root/));
    assert.throws(() => builder.link('z', '../etc/shadow'), corrupt(/shadow/));
    assert.throws(() => builder.add('b/'.repeat(40_000) + 'x', file()), corrupt(/characters/));
  });

  it('checks the names of entries whose parent it remembers', () => {
    const builder = new TreeBuilder();
    builder.add('a/b', file());
    assert.throws(() => builder.add('a/..', file()), corrupt(/leaves/));
    assert.throws(() => builder.add('a/', file()), corrupt(/clean/));
  });

  it('counts nodes and stops at the limit, also when a few long paths imply many', () => {
    const builder = new TreeBuilder({ maxNodes: 3000 });
    assert.throws(() => {
      for (let i = 0; i < 10; i++) builder.add(`${i}/${'d/'.repeat(1000)}f`, file());
    }, (error: unknown) => error instanceof LazypullError && error.code === 'LIMIT');
  });

  it('holds paths deeper than the call stack', () => {
    const deep = Array.from({ length: 8_000 }, () => 'd').join('/');
    const builder = new TreeBuilder();
    builder.add(deep, file('x'));
    builder.link('top', deep);
    const root = builder.finish();
    assert.equal(nodeAt(root, deep), nodeAt(root, 'top'));
    let last = '';
    for (const { path } of walk(root, { sorted: true })) if (path !== 'top') last = path;
    assert.equal(last, deep);
  });

  it('is quick enough for a million entries', () => {
    const builder = new TreeBuilder();
    const node = file();
    for (let d = 0; d < 1000; d++) for (let f = 0; f < 1000; f++) builder.add(`dir${d}/file${f}`, node);
    assert.equal(builder.nodes, 1_001_000);
    assert.equal(builder.finish().children.size, 1000);
  });
});

describe('TreeBuilder.link', () => {
  it('puts one inode under two names', () => {
    const builder = new TreeBuilder();
    const node = file('x');
    builder.add('a', node);
    builder.link('d/b', 'a');
    builder.link('c', 'd/b');
    const root = builder.finish();
    assert.equal(nodeAt(root, 'd/b'), node);
    assert.equal(nodeAt(root, 'c'), node);
  });

  it('keeps the linked inode when its first name is taken by something else', () => {
    const builder = new TreeBuilder();
    builder.add('a', file('old'));
    builder.link('b', 'a');
    builder.add('a', file('newer'));
    const b = nodeAt(builder.finish(), 'b');
    assert.ok(b?.type === 'file' && b.size === 3);
  });

  it('resolves targets that come later, through other links, in any order', () => {
    const builder = new TreeBuilder();
    builder.link('one', 'two');
    builder.link('two', 'three');
    builder.link('zero', 'one');
    const node = file('x');
    builder.add('three', node);
    const root = builder.finish();
    for (const name of ['zero', 'one', 'two', 'three']) assert.equal(nodeAt(root, name), node, name);
  });

  it('forgets a link whose name is taken by a later entry', () => {
    const builder = new TreeBuilder();
    builder.link('a', 'missing');
    builder.add('a', file());
    assert.equal(nodeAt(builder.finish(), 'a')?.type, 'file');
    const below = new TreeBuilder();
    below.link('a', 'missing');
    below.add('a/b', file());
    assert.equal(nodeAt(below.finish(), 'a')?.type, 'directory');
  });

  it('refuses a missing target, a directory, itself and circles, naming both paths', () => {
    const missing = new TreeBuilder();
    missing.link('here', 'there');
    assert.throws(() => missing.finish(), corrupt(/here.*there/));

    const chained = new TreeBuilder();
    chained.link('a', 'b');
    chained.link('b', 'gone');
    assert.throws(() => chained.finish(), corrupt(/b.*gone/));

    const directories = new TreeBuilder();
    directories.add('dir', directory());
    assert.throws(() => directories.link('a', 'dir'), corrupt(/a.*dir.*directory/));
    directories.link('b', 'later');
    directories.add('later/x', file());
    assert.throws(() => directories.finish(), corrupt(/b.*later.*directory/));

    const itself = new TreeBuilder();
    assert.throws(() => itself.link('a', 'a'), corrupt(/itself/));
    assert.throws(() => itself.link('a', 'a/b'), corrupt(/below/));
    assert.throws(() => itself.link('a', ''), corrupt(/directory/));

    const circle = new TreeBuilder();
    circle.link('a', 'b');
    circle.link('b', 'c');
    circle.link('c', 'a');
    assert.throws(() => circle.finish(), corrupt(/circle/));
  });

  it('leaves links to files of lower layers open where there may be some', () => {
    const builder = new TreeBuilder({ linksBelow: true });
    builder.link('a', 'b');
    builder.link('b', 'd/below');
    builder.link('c', 'd/below');
    builder.link('e', 'here');
    builder.add('here', file('x'));
    const root = builder.finish();
    const a = nodeAt(root, 'a');
    assert.ok(a instanceof LinkBelow && a.target === 'd/below');
    assert.ok(nodeAt(root, 'b') === a && nodeAt(root, 'c') === a, 'one inode');
    assert.equal(nodeAt(root, 'e'), nodeAt(root, 'here'));
    assert.equal(builder.linksBelow, 1);
    const circle = new TreeBuilder({ linksBelow: true });
    circle.link('a', 'b');
    circle.link('b', 'a');
    assert.throws(() => circle.finish(), corrupt(/circle/));
  });

  it('resolves a long chain without recursion or quadratic time', () => {
    const builder = new TreeBuilder();
    for (let i = 0; i < 100_000; i++) builder.link(`n${i}`, `n${i + 1}`);
    const node = file();
    builder.add('n100000', node);
    assert.equal(nodeAt(builder.finish(), 'n0'), node);
  });
});

it('TreeBuilder agrees with a plain model', () => {
  const name = fc.constantFrom('a', 'b', 'c');
  const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
  const entry = fc.record({ path, kind: fc.constantFrom('dir', 'file', 'link') });
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 30 }), (entries) => {
      const builder = new TreeBuilder();
      const model = new Map<string, string>();
      for (const [at, { path: target, kind }] of entries.entries()) {
        if (kind === 'dir') builder.add(target, directory({ uid: at }));
        else if (kind === 'file') builder.add(target, file('', { uid: at }));
        else builder.add(target, symlink('x', { uid: at }));
        const parts = target.split('/');
        for (let n = 1; n < parts.length; n++) {
          const parent = parts.slice(0, n).join('/');
          if (!model.get(parent)?.startsWith('directory')) model.set(parent, 'directory implied');
        }
        if (kind !== 'dir' || !model.get(target)?.startsWith('directory')) {
          for (const key of model.keys()) if (key.startsWith(`${target}/`)) model.delete(key);
        }
        model.set(target, `${kind === 'dir' ? 'directory' : kind === 'file' ? 'file' : 'symlink'} ${at}`);
      }
      const spell = (node: FileNode): string => `${node.type} ${node.type === 'directory' && node.implied ? 'implied' : node.uid}`;
      const got = [...walk(builder.finish())].slice(1).map((w): [string, string] => [w.path, spell(w.node)]);
      assert.deepEqual(new Map(got.sort()), new Map([...model].sort()));
    }),
  );
});
