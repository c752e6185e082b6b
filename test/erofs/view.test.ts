import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { decodeName, encodeName } from '../../src/core/bytes.ts';
import { LazypullError } from '../../src/core/errors.ts';
import { MemorySource } from '../../src/core/source.ts';
import type { DirectoryNode, FileNode } from '../../src/core/types.ts';
import { decodeDevice, modeOfType, sealSuperblock } from '../../src/erofs/layout.ts';
import { openErofs } from '../../src/erofs/read.ts';
import { streamErofsFile } from '../../src/erofs/read-content.ts';
import { ErofsView, walkView } from '../../src/erofs/view.ts';
import { XattrView } from '../../src/erofs/view-xattrs.ts';
import { attributes as plain, file } from '../layer/nodes.ts';
import { build, nowhere, samples } from './trees.ts';

interface Entry {
  readonly name: string;
  readonly nid: number;
  readonly type: number;
  readonly next: number;
}

function list(view: ErofsView, directory: number, from = 0, most = Infinity): Entry[] {
  const found: Entry[] = [];
  view.entries(directory, from, (nid, type, start, end, next) => {
    if (found.length === most) return false;
    found.push({ name: decodeName(view.bytes.subarray(start, end)), nid, type, next });
    return true;
  });
  return found;
}

const TYPES: Readonly<Record<FileNode['type'], number>> = { file: 0o100000, directory: 0o040000, symlink: 0o120000, char: 0o020000, block: 0o060000, fifo: 0o010000 };

/** Compares everything that can be asked of one inode with the node that the reader makes of it. */
function sameNode(view: ErofsView, xattrs: XattrView, nid: number, node: FileNode): void {
  const inode = view.inode(nid);
  assert.equal(inode.mode, TYPES[node.type] | node.mode);
  assert.deepEqual([inode.uid, inode.gid, inode.mtime], [node.uid, node.gid, node.mtime]);
  const names = xattrs.names(nid, inode);
  assert.deepEqual(names.map((name) => decodeName(name)).sort(), [...node.xattrs.keys()].sort());
  for (const [name, value] of node.xattrs) assert.deepEqual(Buffer.from(xattrs.get(nid, inode, encodeName(name)) as Uint8Array), Buffer.from(value));
  assert.equal(xattrs.get(nid, inode, Buffer.from('user.absent')), undefined);
  assert.equal(xattrs.get(nid, inode, Buffer.from('user.')), undefined);
  if (node.type === 'symlink') assert.equal(decodeName(view.target(nid)), node.target);
  if (node.type === 'char' || node.type === 'block') assert.deepEqual(decodeDevice(inode.union), { major: node.major, minor: node.minor });
}

it('answers as the reader does, for any tree', async () => {
  await fc.assert(
    fc.asyncProperty(samples(50), fc.array(fc.tuple(fc.nat(21_000), fc.nat(9000)), { minLength: 3, maxLength: 3 }), fc.boolean(), async ({ root: tree, contents, blockSize }, ranges, inside) => {
      const image = await build(tree, inside ? { blockSize, place: contents.inside } : { blockSize, devices: contents.devices, place: contents.place });
      const { nodes, root } = await openErofs(new MemorySource(image));
      const nids = new Map([...nodes].map(([nid, node]) => [node, nid]));
      const view = await ErofsView.open(image);
      const xattrs = new XattrView(view);
      const sources = [new MemorySource(image), ...contents.sources];
      assert.equal(view.rootNid, nids.get(root));
      const links = new Map<number, number>();
      for (const [nid, node] of nodes) {
        sameNode(view, xattrs, nid, node);
        if (node.type === 'file') {
          const parts: Uint8Array[] = [];
          for await (const bytes of streamErofsFile(node, sources)) parts.push(Uint8Array.from(bytes));
          const content = Buffer.concat(parts);
          for (const [offset, length] of [[0, node.size], ...ranges] as const) {
            const runs = view.runs(nid, view.inode(nid), offset, length);
            const got = Buffer.concat(await Promise.all(runs.map((run) => (run.device === undefined ? new Uint8Array(run.length) : sources[run.device]?.read(run.offset, run.length) ?? new Uint8Array(0)))));
            assert.deepEqual(got, content.subarray(offset, offset + length));
          }
        }
        if (node.type !== 'directory') continue;
        const entries = list(view, nid);
        for (const entry of entries) if (entry.name !== '.' && entry.name !== '..') links.set(entry.nid, (links.get(entry.nid) ?? 0) + 1);
        const expected = [...node.children].map(([name, child]) => [name, nids.get(child)]);
        assert.deepEqual(entries.filter(({ name }) => name !== '.' && name !== '..').map((entry) => [entry.name, entry.nid]), expected);
        assert.equal(entries.length, expected.length + 2, 'the dots are there');
        // Told where an entry ends, the walk goes on behind it.
        for (let from = 0, i = 0; i < entries.length; i += 3) {
          assert.deepEqual(list(view, nid, from, 3), entries.slice(i, i + 3));
          from = entries[i + 2]?.next ?? 0;
        }
        for (const entry of entries) {
          assert.deepEqual(view.find(nid, encodeName(entry.name)), { nid: entry.nid, type: entry.type });
          assert.equal(modeOfType(entry.type), view.inode(entry.nid).mode & 0o170000);
          for (const other of [`${entry.name}\u0001`, entry.name.slice(0, -1), `${entry.name.slice(0, -1)}~`]) {
            if (other !== '' && !entries.some(({ name }) => name === other)) assert.equal(view.find(nid, encodeName(other)), undefined, other);
          }
        }
      }
      for (const [nid, count] of links) if ((view.inode(nid).mode & 0o170000) !== 0o040000) assert.equal(view.inode(nid).nlink, count);
      const walked: number[] = [];
      walkView(view, (_, nid) => walked.push(nid) > 0, 1e6);
      assert.deepEqual(walked.sort((a, b) => a - b), [...links].flatMap(([nid, count]) => Array<number>(count).fill(nid)).sort((a, b) => a - b));
    }),
    { numRuns: 120 },
  );
});

it('finds each of 100 000 names, from wherever the walk is taken up', async () => {
  const one = file('');
  const names = Array.from({ length: 100_000 }, (_, i) => `entry-${i}`);
  const root: DirectoryNode = { ...plain, type: 'directory', children: new Map(names.map((name) => [name, one] as const)) };
  for (const blockSize of [512, 4096] as const) {
    const view = await ErofsView.open(await build(root, { blockSize, place: nowhere }));
    const entries = list(view, view.rootNid);
    assert.equal(entries.length, 100_002);
    for (let i = 0; i < names.length; i += 97) assert.ok(view.find(view.rootNid, Buffer.from(names[i] as string)), names[i]);
    for (let i = 0; i < entries.length - 1; i += 9973) assert.deepEqual(list(view, view.rootNid, entries[i]?.next, 1), [entries[i + 1]]);
    // Positions that nobody was told of end or go on somewhere, and no more.
    for (const position of [1, 5, blockSize - 1, blockSize * 3 + 7, 1e9, 2 ** 52]) list(view, view.rootNid, position, 10);
    assert.deepEqual(list(view, view.rootNid, entries.at(-1)?.next), []);
  }
});

/** Asks everything that a kernel could about what it can reach. */
function exercise(view: ErofsView): number {
  const xattrs = new XattrView(view);
  const todo = [view.rootNid];
  const seen = new Set(todo);
  let refused = 0;
  const ask = (run: () => void): void => {
    try {
      run();
    } catch (error) {
      assert.ok(error instanceof LazypullError && (error.code === 'CORRUPT' || error.code === 'UNSUPPORTED'), String((error as Error).stack));
      refused += 1;
    }
  };
  for (const nid of todo) {
    if (seen.size > 5000) break;
    ask(() => {
      const inode = view.inode(nid);
      ask(() => xattrs.names(nid, inode));
      ask(() => xattrs.get(nid, inode, Buffer.from('security.selinux')));
      if ((inode.mode & 0o170000) === 0o120000) ask(() => view.target(nid));
      if ((inode.mode & 0o170000) === 0o100000) {
        for (const offset of [0, 4096, Math.max(inode.size - 5000, 0)]) {
          ask(() => {
            let length = 0;
            for (const run of view.runs(nid, inode, offset, 8192)) {
              assert.ok(run.length > 0 && Number.isSafeInteger(run.offset + run.length));
              if (run.device === 0) assert.ok(run.offset + run.length <= view.bytes.length);
              length += run.length;
            }
            assert.equal(length, Math.max(Math.min(8192, inode.size - offset), 0));
          });
        }
        return;
      }
      for (const name of ['a', 'file-7', 'm'.repeat(255)]) ask(() => view.find(nid, Buffer.from(name)));
      view.entries(nid, 0, (child, _, start, end) => {
        assert.ok(end > start && end - start <= 255 && end <= view.bytes.length);
        if (!seen.has(child)) {
          seen.add(child);
          todo.push(child);
        }
        return seen.size < 5000;
      });
    });
  }
  return refused;
}

it('2000 damaged images: typed errors, soon', async () => {
  const label = new Map([['security.selinux', Buffer.from('system_u:object_r:bin_t:s0\0')]]);
  const files = Array.from({ length: 40 }, (_, i) => [`file-${i}`, file('x'.repeat(i * 90), { xattrs: label })] as const);
  const root: DirectoryNode = { ...plain, type: 'directory', children: new Map<string, FileNode>([
    ['many', { ...plain, type: 'directory', children: new Map(files) }],
    ['link', { ...plain, type: 'symlink', target: 't'.repeat(700) }],
    ['deep', { ...plain, type: 'directory', children: new Map([['er', { ...plain, type: 'directory', children: new Map([['x', file('1', { xattrs: new Map([['user.a', Buffer.from('b')]]) })]]) } as const]]) }],
  ]) };
  for (const blockSize of [512, 4096] as const) {
    const image = Buffer.from(await build(root, { blockSize, devices: [{ tag: 'one', size: 1 << 22 }], place: ({ size }) => (size === 0 ? undefined : size % 3 === 0 ? { kind: 'bytes', bytes: Buffer.alloc(size) } : { kind: 'chunks', bits: 0, indexes: Array.from({ length: Math.ceil(size / blockSize) }, (_, i) => ({ device: 1, block: i * 2 })) }) }));
    assert.ok(exercise(await ErofsView.open(image)) > 0, 'a symlink is no directory');
    let state = 99;
    const next = (below: number): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    let opened = 0;
    for (let run = 0; run < 1000; run += 1) {
      const changed = Buffer.from(image);
      for (let n = 1 + next(3); n > 0; n -= 1) {
        const at = 1152 + 128 + next(changed.length - 1152 - 128 - 8);
        switch (next(6)) {
          case 0: changed[at] = (changed[at] as number) ^ (1 << next(8)); break;
          case 1: changed.writeUInt32LE([0, 1, 0xffffffff, 0x7fffffff, 0x80000000, 44][next(6)] as number, at); break;
          case 2: changed.writeUInt16LE(next(65_536), at); break;
          case 3: changed.copy(changed, at, next(changed.length), next(changed.length)); break;
          case 4: changed.writeBigUInt64LE([0n, 2n ** 63n, 2n ** 53n, 2n ** 32n, 2n ** 64n - 1n, 2n ** 50n][next(6)] as bigint, at - (at % 8)); break;
          default: changed.copyWithin(at - (at % 32), next(changed.length >> 5) << 5, (next(changed.length >> 5) << 5) + 96);
        }
      }
      sealSuperblock(changed.subarray(1024, 1024 + (blockSize > 1024 ? blockSize - 1024 : blockSize)));
      // Cut-off files, too.
      const given = next(10) === 0 ? changed.subarray(0, 1024 + next(changed.length - 1024)) : changed;
      let view: ErofsView;
      try {
        view = await ErofsView.open(given);
      } catch (error) {
        assert.ok(error instanceof LazypullError, String(error));
        continue;
      }
      opened += 1;
      exercise(view);
    }
    assert.ok(opened > 800, `${opened}`);
  }
});
