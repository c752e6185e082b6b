import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { LazypullError } from '../../src/core/errors.ts';
import { lookup } from '../../src/layer/lookup.ts';
import { TreeBuilder } from '../../src/layer/tree.ts';
import { compareNames, linkCounts, walk } from '../../src/layer/walk.ts';
import { directory, file, symlink } from './nodes.ts';

function tree() {
  const builder = new TreeBuilder();
  builder.add('usr/lib/libc.so', file('libc'));
  builder.add('lib', symlink('usr/lib'));
  builder.add('etc/up', symlink('../../../usr'));
  builder.add('etc/absolute', symlink('/usr/lib/../lib/libc.so'));
  builder.add('etc/dangling', symlink('/nowhere'));
  builder.add('loop', symlink('loop2'));
  builder.add('loop2', symlink('/loop'));
  builder.add('etc/passwd', file('root'));
  return builder.finish();
}

it('lookup follows symlinks on the way, and at the end when asked', () => {
  const root = tree();
  assert.equal(lookup(root, 'lib/libc.so')?.path, 'usr/lib/libc.so');
  assert.equal(lookup(root, '/etc/up/lib/libc.so')?.path, 'usr/lib/libc.so');
  assert.equal(lookup(root, 'lib')?.node.type, 'symlink');
  assert.equal(lookup(root, 'lib', { followSymlinks: true })?.path, 'usr/lib');
  assert.equal(lookup(root, 'etc/absolute', { followSymlinks: true })?.path, 'usr/lib/libc.so');
  assert.equal(lookup(root, 'etc/dangling')?.node.type, 'symlink');
  assert.equal(lookup(root, 'etc/dangling', { followSymlinks: true }), undefined);
});

it('lookup treats a trailing slash as asking for a directory', () => {
  const root = tree();
  assert.equal(lookup(root, 'lib/')?.path, 'usr/lib');
  assert.equal(lookup(root, 'etc/passwd/'), undefined);
});

it('lookup never leaves the root', () => {
  const root = tree();
  for (const path of ['', '/', '.', '..', '/../..', 'etc/../../..', 'etc/..']) assert.equal(lookup(root, path)?.path, '', path);
  assert.equal(lookup(root, '../../etc/passwd')?.path, 'etc/passwd');
  assert.equal(lookup(root, '//etc//./passwd')?.path, 'etc/passwd');
});

it('lookup answers undefined for what is not there or below a file', () => {
  const root = tree();
  for (const path of ['nope', 'etc/nope', 'etc/passwd/x', 'etc/passwd/..', 'nope/../etc']) assert.equal(lookup(root, path), undefined, path);
});

it('lookup gives up on a circle of symlinks', () => {
  assert.throws(() => lookup(tree(), 'loop', { followSymlinks: true }), (e: unknown) => e instanceof LazypullError && e.code === 'NOT_FOUND' && e.path === 'loop');
  assert.equal(lookup(tree(), 'loop')?.node.type, 'symlink');
});

it('walk sorts names by their bytes', () => {
  const names = ['a', 'a-b', 'a/x', 'ab', '\u{1F600}', '\uff5e', '\udc80', 'Z', 'é'];
  const builder = new TreeBuilder();
  for (const name of names) builder.add(name, name === 'a' ? directory() : file());
  assert.deepEqual([...walk(builder.finish(), { sorted: true })].map(({ path }) => path), ['', 'Z', 'a', 'a/x', 'a-b', 'ab', '\udc80', 'é', '\uff5e', '\u{1F600}']);
});

it('compareNames is the order of UTF-8', () => {
  fc.assert(fc.property(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'grapheme' }), (a, b) => {
    assert.equal(Math.sign(compareNames(a, b)), Buffer.compare(Buffer.from(a), Buffer.from(b)));
  }));
});

it('linkCounts counts names of files and subdirectories of directories', () => {
  const builder = new TreeBuilder();
  const node = file();
  builder.add('a/x', node);
  builder.link('a/y', 'a/x');
  builder.link('z', 'a/x');
  builder.add('a/b', directory());
  const root = builder.finish();
  const counts = linkCounts(root);
  assert.equal(counts.get(node), 3);
  assert.equal(counts.get(root), 3);
  assert.equal(counts.get(root.children.get('a') ?? root), 3);
});
