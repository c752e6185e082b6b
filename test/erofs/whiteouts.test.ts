import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { DirectoryNode, FileNode } from '../../src/core/types.ts';
import { overlayTree } from '../../src/erofs/whiteouts.ts';
import { nodeAt } from '../../src/layer/tree.ts';
import { walk } from '../../src/layer/walk.ts';
import { attributes, file } from '../layer/nodes.ts';

const directory = (children: Readonly<Record<string, FileNode>>): DirectoryNode => ({ ...attributes, type: 'directory', children: new Map(Object.entries(children)) });
const marks = (node: FileNode | undefined): Record<string, string> => Object.fromEntries([...(node as FileNode).xattrs].map(([name, value]) => [name, Buffer.from(value).toString()]));

it('whiteouts become devices, opaque directories attributes', () => {
  const layer = directory({
    '.wh.gone': file(), 'kept': file('k'), '.wh.kept': file(),
    'opaque': directory({ '.wh..wh..opq': file(), 'new': file() }),
    'replaced': directory({ x: file() }), '.wh.replaced': file(),
    '.wh..wh.plnk': directory({}), '.wh..wh.aufs': file(),
    'plain': directory({ a: file() }),
    'both': directory({ '.wh.a': file(), '.wh.b': file() }),
  });
  const before = [...walk(layer)].length;
  const tree = overlayTree(layer);
  assert.equal([...walk(layer)].length, before, 'the layer is as it was');
  assert.deepEqual([...walk(tree, { sorted: true })].map(({ path, node }) => `${path} ${node.type}`), [
    ' directory', 'both directory', 'both/a char', 'both/b char', 'gone char', 'kept file', 'opaque directory', 'opaque/new file', 'plain directory', 'plain/a file', 'replaced directory', 'replaced/x file',
  ]);
  const gone = nodeAt(tree, 'gone');
  assert.ok(gone?.type === 'char' && gone.major === 0 && gone.minor === 0);
  assert.equal(nodeAt(tree, 'both/a'), gone, 'whiteouts share an inode');
  assert.deepEqual(marks(tree), { 'trusted.overlay.origin': '' });
  assert.deepEqual(marks(nodeAt(tree, 'opaque')), { 'trusted.overlay.opaque': 'y' });
  assert.deepEqual(marks(nodeAt(tree, 'replaced')), { 'trusted.overlay.opaque': 'y' });
  assert.deepEqual(marks(nodeAt(tree, 'both')), { 'trusted.overlay.origin': '' });
  assert.deepEqual(marks(nodeAt(tree, 'plain')), {});
  assert.deepEqual(marks(nodeAt(overlayTree(layer, 'user'), 'opaque')), { 'user.overlay.opaque': 'y' });
});

it('refuses a whiteout of nothing', () => {
  for (const name of ['.wh.', '.wh..', '.wh...']) assert.throws(() => overlayTree(directory({ d: directory({ [name]: file() }) })), { code: 'CORRUPT', path: `d/${name}` });
});
