import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { FileNode } from '../../src/core/types.ts';
import { NodeNumbers } from '../../src/erofs/numbers.ts';

it('tells nodes apart by what they are, not by what they say', () => {
  const base = { mode: 0o644, uid: 0, gid: 0, mtime: { seconds: 5, nanoseconds: 0 }, xattrs: new Map<string, Uint8Array>() };
  const nodes: FileNode[] = [];
  const numbers = new NodeNumbers(nodes, 20_000);
  const kinds: ((i: number) => FileNode)[] = [
    // All the same: more than have a place near each other.
    () => ({ ...base, type: 'file', size: 0, extents: [] }),
    () => ({ ...base, type: 'symlink', target: '/usr/share/zoneinfo/UTC' }),
    (i) => ({ ...base, type: 'file', size: 4096 * i, extents: [{ fileOffset: 0, length: 4096 * i, chunk: { blob: 0, offset: 4096 * i * i, length: 1, size: 4096 * i }, chunkOffset: 0 }] }),
    (i) => ({ ...base, type: 'symlink', target: `target-${i}` }),
    (i) => ({ ...base, type: 'directory', mtime: { seconds: -i, nanoseconds: i }, children: new Map() }),
  ];
  for (let i = 0; i < 20_000; i += 1) {
    const node = (kinds[i % kinds.length] as (i: number) => FileNode)(i);
    assert.equal(numbers.find(node), undefined);
    numbers.add(node, nodes.push(node) - 1);
  }
  for (const [i, node] of nodes.entries()) assert.equal(numbers.find(node), i);
  assert.equal(numbers.find({ ...(nodes[0] as FileNode) }), undefined);
});
