import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { decodeName, encodeName } from '../../src/core/bytes.ts';
import { LazypullError } from '../../src/core/errors.ts';
import { MemorySource } from '../../src/core/source.ts';
import type { DirectoryNode, FileNode } from '../../src/core/types.ts';
import { encodeDevice, sealSuperblock } from '../../src/erofs/layout.ts';
import { openErofs } from '../../src/erofs/read.ts';
import { ErofsView } from '../../src/erofs/view.ts';
import { streamErofsFile } from '../../src/erofs/read-content.ts';
import { linkCounts, walk } from '../../src/layer/walk.ts';
import { Listings } from '../../src/mount/fuse/listings.ts';
import { PathIndex } from '../../src/mount/fuse/paths.ts';
import { OP } from '../../src/mount/fuse/wire.ts';
import { ERRNO } from '../../src/mount/native.ts';
import type { Served } from '../../src/mount/types.ts';
import { build, Contents, nowhere, samples } from '../erofs/trees.ts';
import { attributes as plain, device, fifo, file, symlink } from '../layer/nodes.ts';
import { deviceOf, FakeKernel, readBody, readFrom, sharedCopy } from './fuse-kernel.ts';

const directory = (children: readonly (readonly [string, FileNode])[], changes: Partial<DirectoryNode> = {}): DirectoryNode => ({ ...plain, type: 'directory', children: new Map(children), ...changes });

/** A kernel that looks at a tree; everything is here unless told. */
async function kernelOf(root: DirectoryNode, contents = new Contents(4096, 1), here = true): Promise<FakeKernel> {
  const { devices } = contents;
  const metadata = sharedCopy(await build(root, { devices, place: contents.place }));
  return FakeKernel.of({ shape: 'tree', metadata, devices: devices.map(({ size }, i) => deviceOf(size, here, i)) }, readFrom(devices.map(({ bytes }) => bytes)));
}

const FORMATS: Readonly<Record<FileNode['type'], number>> = { file: 0o100000, directory: 0o040000, symlink: 0o120000, char: 0o020000, block: 0o060000, fifo: 0o010000 };

function sameAttr(attr: Buffer, node: FileNode, nid: number, links: number, blockSize: number, size: number): void {
  const u64 = (at: number): number => Number(attr.readBigUInt64LE(at));
  const u32 = (at: number): number => attr.readUInt32LE(at);
  assert.deepEqual([u64(0), u64(8), u64(16)], [nid, size, (Math.ceil(size / blockSize) * blockSize) / 512]);
  for (const at of [24, 32, 40]) assert.equal(Number(attr.readBigInt64LE(at)), node.mtime.seconds);
  for (const at of [48, 52, 56]) assert.equal(u32(at), node.mtime.nanoseconds);
  assert.deepEqual([u32(60), u32(64), u32(68), u32(72)], [FORMATS[node.type] | node.mode, links, node.uid, node.gid]);
  assert.equal(u32(76), node.type === 'char' || node.type === 'block' ? encodeDevice(node.major, node.minor) : 0);
}

it('shows any tree as it is', async () => {
  await fc.assert(
    fc.asyncProperty(samples(40), fc.constantFrom(4096, 8192, 600), async ({ root: tree, contents, blockSize }, listSize) => {
      const image = await build(tree, { blockSize, devices: contents.devices, place: contents.place });
      const { root, nodes } = await openErofs(new MemorySource(image));
      const nids = new Map([...nodes].map(([nid, node]) => [node, nid]));
      const links = linkCounts(root);
      const sources = [new MemorySource(image), ...contents.sources];
      const bytes = contents.devices.map((one) => one.bytes);
      const kernel = await FakeKernel.of({ shape: 'tree', metadata: sharedCopy(image), devices: bytes.map(({ length }, i) => deviceOf(length, true, i)) }, readFrom(bytes));
      const anyXattrs = [...nodes.values()].some(({ xattrs }) => xattrs.size > 0);
      const todo: [node: FileNode, id: number][] = [[root, 1]];
      const seen = new Map<number, FileNode>();
      for (const [node, id] of todo) {
        assert.ok((seen.get(id) ?? node) === node, 'an id stands for one node');
        if (seen.has(id)) continue;
        seen.set(id, node);
        const nid = nids.get(node) as number;
        const attr = kernel.ask(OP.getattr, id).subarray(16);
        const size = Number(attr.readBigUInt64LE(8));
        sameAttr(attr, node, nid, links.get(node) as number, blockSize, node.type === 'file' ? node.size : size);
        for (const [name, value] of node.xattrs) {
          assert.deepEqual(kernel.getxattr(id, encodeName(name), 65_536), Buffer.from(value));
          assert.deepEqual(kernel.getxattr(id, encodeName(name), 0), Buffer.from([value.length, 0, 0, 0, 0, 0, 0, 0]));
          if (value.length > 1) assert.equal(kernel.getxattr(id, encodeName(name), value.length - 1), -ERRNO.ERANGE);
        }
        assert.equal(kernel.getxattr(id, 'user.absent', 100), anyXattrs ? -ERRNO.ENODATA : -ERRNO.ENOSYS);
        if (anyXattrs) {
          const names = [...node.xattrs.keys()].map((name) => `${Buffer.from(encodeName(name)).toString('latin1')}\0`).sort();
          const list = kernel.listxattr(id, 65_536) as Buffer;
          assert.deepEqual(list.toString('latin1').split(/(?<=\0)/).filter((name) => name !== '').sort(), names);
          assert.deepEqual(kernel.listxattr(id, 0), Buffer.from([list.length & 0xff, list.length >> 8, 0, 0, 0, 0, 0, 0]));
          if (list.length > 1) assert.equal(kernel.listxattr(id, 1), -ERRNO.ERANGE);
          assert.ok(!(kernel.listxattr(id, 65_536, 1000) as Buffer).includes('trusted.'));
        } else {
          assert.equal(kernel.listxattr(id, 0), -ERRNO.ENOSYS);
        }
        if (node.type === 'symlink') assert.equal(decodeName(kernel.ask(OP.readlink, id)), node.target);
        if (node.type === 'file') {
          const parts: Uint8Array[] = [];
          for await (const part of streamErofsFile(node, sources)) parts.push(Uint8Array.from(part));
          const content = Buffer.concat(parts);
          for (const [offset, length] of [[0, 65_536], [4096, 4096], [512, 1024], [node.size, 4096], [node.size + 4096, 4096]] as const) {
            assert.deepEqual(kernel.read(id, offset, length), content.subarray(offset, offset + length));
          }
        }
        if (node.type !== 'directory') continue;
        const plus = kernel.listAll(id, true, listSize);
        const names = kernel.listAll(id, false, listSize);
        assert.deepEqual(plus.map((entry) => ({ name: entry.name, ino: entry.ino, off: entry.off, type: entry.type })), names);
        assert.equal(names.length, node.children.size + 2);
        for (const { name, ino, type, nodeid, attr: listed } of plus) {
          const text = decodeName(name);
          if (text === '.' || text === '..') {
            assert.equal(nodeid, 0);
            continue;
          }
          const child = node.children.get(text) as FileNode;
          const entry = kernel.lookup(id, name);
          assert.deepEqual([ino, type], [nids.get(child), FORMATS[child.type] >> 12]);
          if (nodeid !== 0) assert.deepEqual([nodeid, listed], [Number(entry.readBigUInt64LE(0)), entry.subarray(40, 128)]);
          assert.ok(entry.readBigUInt64LE(16) > 10n ** 9n && entry.readBigUInt64LE(24) > 10n ** 9n, 'for ever');
          sameAttr(entry.subarray(40), child, ino, links.get(child) as number, blockSize, Number(entry.readBigUInt64LE(48)));
          todo.push([child, Number(entry.readBigUInt64LE(0))]);
        }
        const absent = kernel.lookup(id, 'surely-absent');
        assert.ok(absent.readBigUInt64LE(0) === 0n && absent.readBigUInt64LE(16) > 10n ** 9n, 'that a name is absent may be kept');
      }
      assert.equal(seen.size, new Set(nodes.values()).size, 'everything was reached');
      assert.deepEqual(kernel.problems, []);
      assert.deepEqual(kernel.misses, []);
    }),
    { numRuns: 60 },
  );
});

it('whatever is in the metadata: an answer', async () => {
  const sample = fc.sample(samples(60), { seed: 11, numRuns: 40 }).filter(({ blockSize }) => blockSize === 512).at(-1);
  assert.ok(sample);
  const { root, contents, blockSize } = sample;
  const image = Buffer.from(await build(root, { blockSize, devices: contents.devices, place: contents.place }));
  let state = 7;
  const next = (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  let errors = 0;
  for (let run = 0; run < 300; run += 1) {
    const changed = Buffer.from(image);
    for (let n = 0; n < 6; n += 1) changed[1600 + next(changed.length - 1600)] = next(256);
    sealSuperblock(changed.subarray(1024, 1536));
    let kernel: FakeKernel;
    try {
      kernel = await FakeKernel.of({ shape: 'tree', metadata: sharedCopy(changed), devices: contents.devices.map(({ size }, i) => deviceOf(size, true, i)) }, readFrom(contents.devices.map(({ bytes }) => bytes)));
    } catch (error) {
      assert.ok(error instanceof LazypullError);
      continue;
    }
    const todo = new Set([1]);
    for (const id of todo) {
      if (todo.size > 500) break;
      for (const opcode of [OP.getattr, OP.readlink]) kernel.call(opcode, id);
      kernel.call(OP.init, id, Buffer.alloc(64, 7));
      kernel.read(id, 0, 65_536);
      kernel.getxattr(id, 'user.a', 1000);
      kernel.listxattr(id, 65_536);
      for (let offset = 0, calls = 0; calls < 50; calls += 1) {
        const got = kernel.call(OP.readdirplus, id, readBody(offset, 4096));
        if (!Buffer.isBuffer(got) || got.length === 0) break;
        for (let at = 0; at < got.length; ) {
          const length = got.readUInt32LE(at + 144);
          kernel.call(OP.lookup, id, got.subarray(at + 152, at + 152 + length));
          if (got.readBigUInt64LE(at) > 0n) todo.add(Number(got.readBigUInt64LE(at)));
          offset = Number(got.readBigUInt64LE(at + 136));
          at += Math.ceil((152 + length) / 8) * 8;
        }
      }
    }
    for (const problem of kernel.problems) assert.ok(problem instanceof LazypullError, String((problem as Error).stack));
    errors += kernel.problems.length;
  }
  assert.ok(errors > 100, `${errors}`);
});

it('whatever is asked: an answer', async () => {
  const contents = new Contents(4096, 1);
  const kernel = await kernelOf(directory([['f', contents.add(file('x'.repeat(9000)), [[1, 9]])]]), contents);
  for (let opcode = 0; opcode < 80; opcode += 1) {
    for (const node of [0, 1, 2, 40, 1e6, 2 ** 52, 2 ** 63]) {
      for (const size of [0, 7, 8, 16, 40, 100]) kernel.call(opcode, node, Buffer.alloc(size, opcode));
      kernel.call(opcode, node, Buffer.alloc(64, 0xff));
    }
  }
  for (const problem of kernel.problems) assert.ok(problem instanceof LazypullError, String((problem as Error).stack));
  assert.equal(kernel.server.handle(10), 0, 'shorter than a header');
  const huge = readBody(0, 0);
  huge.writeUInt32LE(0xffff_ffff, 16);
  assert.equal(kernel.call(OP.read, 1, huge), -ERRNO.EINVAL);
});

it('opens need no message, and what is absent is not asked for again', async () => {
  const kernel = await kernelOf(directory([['f', file('')]]));
  for (const opcode of [OP.open, OP.opendir, OP.flush, OP.access, OP.lseek, OP.statx, OP.poll, OP.getxattr, OP.listxattr, OP.ioctl]) {
    assert.equal(kernel.call(opcode, 1, Buffer.alloc(48)), -ERRNO.ENOSYS, `operation ${opcode}`);
  }
  for (const opcode of [OP.write, OP.unlink, OP.create, OP.setattr, OP.rename2, OP.setxattr]) assert.equal(kernel.call(opcode, 1, Buffer.alloc(48)), -ERRNO.EROFS);
  for (const opcode of [OP.forget, OP.batchForget, OP.interrupt, OP.notifyReply]) assert.equal(kernel.call(opcode, 1, Buffer.alloc(16)), undefined, 'no reply at all');
  for (const opcode of [OP.release, OP.releasedir, OP.destroy]) assert.deepEqual(kernel.call(opcode, 1, Buffer.alloc(48)), Buffer.alloc(0));
  kernel.call(OP.interrupt, 0, Buffer.from([8, 7, 6, 5, 4, 3, 2, 0x81]));
  assert.deepEqual(kernel.interrupts.at(-1), 0x8102030405060708n);
  assert.equal(kernel.counters.requests()['open'], 1);
  assert.equal(kernel.counters.requests()['interrupt'], 2);
});

it('an old kernel, which wants its directories opened, is answered so', async () => {
  const kernel = await kernelOf(directory([]));
  const init = Buffer.alloc(64);
  for (const [at, value] of [[0, 7], [4, 28], [8, 1 << 17], [12, 0x7f_fffb]] as const) init.writeUInt32LE(value, at);
  assert.equal(kernel.ask(OP.init, 0, init).readUInt32LE(4), 28);
  assert.deepEqual(kernel.ask(OP.opendir, 1, Buffer.alloc(8)).readUInt32LE(8), 2 | 8, 'names are kept');
  init.writeUInt32LE(20, 4);
  assert.equal(kernel.call(OP.init, 0, init), -ERRNO.EPROTO);
});

it('ACLs are gone by when a file has some', async () => {
  const init = Buffer.alloc(64, 0xff);
  for (const [at, value] of [[0, 7], [4, 45], [8, 1 << 17]] as const) init.writeUInt32LE(value, at);
  const acl = new Map([['system.posix_acl_access', Buffer.from('02', 'hex')]]);
  const flags = async (root: DirectoryNode): Promise<number> => (await kernelOf(root)).ask(OP.init, 0, init).readUInt32LE(12) & (1 << 20);
  assert.equal(await flags(directory([['f', file('', { xattrs: new Map([['user.a', Buffer.from('b')]]) })]])), 0);
  assert.ok(await flags(directory([['d', directory([['f', file('', { xattrs: acl })]])]])));
});

it('statfs tells how much there is', async () => {
  const contents = new Contents(4096, 2);
  const root = directory([['f', contents.add(file('x'.repeat(90_000)), [[1, 10], [2, 13]])], ['n', device('char', 1, 3)], ['p', fifo()], ['l', symlink('f')]]);
  const kernel = await kernelOf(root, contents);
  const got = kernel.ask(OP.statfs, 1);
  const metadata = (await build(root, { devices: contents.devices, place: contents.place })).length / 4096;
  assert.deepEqual([0, 8, 16, 24, 32].map((at) => Number(got.readBigUInt64LE(at))), [metadata + 23, 0, 0, 5, 0]);
  assert.deepEqual([40, 44, 48].map((at) => got.readUInt32LE(at)), [4096, 255, 4096]);
});

it('says which regions of a device were read from the file, and only of reads that were answered', async () => {
  const contents = new Contents(4096, 1);
  const node = contents.add(file('x'.repeat(8192)), [[1, 2]]);
  const metadata = sharedCopy(await build(directory([['f', node]]), { devices: contents.devices, place: contents.place }));
  const touched = new Uint8Array(new SharedArrayBuffer(1));
  const [bytes] = contents.devices.map((one) => one.bytes);
  const device = { ...deviceOf(contents.devices[0]?.size ?? 0, true, 0), touched: touched.buffer };
  const kernel = await FakeKernel.of({ shape: 'tree', metadata, devices: [device] }, readFrom([bytes as Buffer]));
  const id = Number(kernel.lookup(1, 'f').readBigUInt64LE(0));
  const present = new Uint8Array(device.present);
  const all = present[0] as number;
  present[0] = 0;
  assert.equal(kernel.read(id, 0, 4096), undefined);
  assert.equal(touched[0], 0);
  present[0] = all;
  assert.equal((kernel.read(id, 0, 4096) as Buffer).length, 4096);
  assert.equal(touched[0], 1);
});

it('reads what is here; what is not is handed on as a whole', async () => {
  const contents = new Contents(4096, 2);
  const node = contents.add(file('x'.repeat(50_000)), [[1, 4], [undefined, 2], [2, 2], [1, 5]]);
  const { devices } = contents;
  const metadata = sharedCopy(await build(directory([['f', node]]), { devices, place: contents.place }));
  const served: Served = { shape: 'tree', metadata, devices: devices.map(({ size }, i) => deviceOf(size, true, i)) };
  const bytes = devices.map((one) => one.bytes);
  let after = (): void => undefined;
  const kernel = await FakeKernel.of(served, (fd, target, offset) => {
    const count = readFrom(bytes)(fd, target, offset);
    after();
    return count;
  });
  const id = Number(kernel.lookup(1, 'f').readBigUInt64LE(0));
  const whole = kernel.read(id, 0, 65_536) as Buffer;
  assert.equal(whole.length, 50_000);
  assert.ok(whole.subarray(4 * 4096, 6 * 4096).every((byte) => byte === 0), 'a hole');
  assert.equal(kernel.counters.get('localBytes'), 50_000);

  // One page of the second run on device 1 goes.
  const present = new Uint8Array((served.devices[0] as { present: SharedArrayBuffer }).present);
  present[0] = (present[0] as number) & ~(1 << 5);
  assert.deepEqual(kernel.read(id, 0, 8 * 4096), whole.subarray(0, 8 * 4096), 'before it');
  assert.equal(kernel.call(OP.read, id, readBody(6 * 4096, 20_000), { pid: 77, unique: 2n ** 63n + 12n }), undefined);
  assert.deepEqual(kernel.misses, [{ unique: 2n ** 63n + 12n, node: id, offset: 6 * 4096, pid: 77, runs: [{ device: 2, offset: 0, length: 8192 }, { device: 1, offset: 4 * 4096, length: 20_000 - 8192 }] }]);
  present[0] = 0xff;

  // Dropped while it is being read: what was read may be zeros.
  after = () => (present[0] = 0);
  assert.equal(kernel.read(id, 0, 4096), undefined);
  after = () => undefined;
  present[0] = 0xff;
  // The local file is cut off or unreadable: the other side decides.
  bytes[0] = Buffer.alloc(0);
  assert.equal(kernel.read(id, 0, 4096), undefined);
  assert.equal(kernel.misses.length, 3);
  assert.equal(kernel.counters.get('misses'), 3);
  assert.deepEqual(kernel.problems, []);
});

it('content outside of a device is an error of that file', async () => {
  const contents = new Contents(4096, 1);
  const image = await build(directory([['f', contents.add(file('x'.repeat(9000)), [[1, 3]])], ['g', file('')]]), { devices: contents.devices, place: contents.place });
  for (const devices of [[], [deviceOf(4096, true, 0)]]) {
    const kernel = await FakeKernel.of({ shape: 'tree', metadata: sharedCopy(image), devices }, readFrom([Buffer.alloc(4096)]));
    assert.equal(kernel.read(Number(kernel.lookup(1, 'f').readBigUInt64LE(0)), 0, 9000), -ERRNO.EIO);
    assert.deepEqual(kernel.read(Number(kernel.lookup(1, 'g').readBigUInt64LE(0)), 0, 9000), Buffer.alloc(0));
    assert.equal((kernel.problems[0] as LazypullError).code, 'CORRUPT');
  }
});

it('devices are flat files, read past the cache', async () => {
  const bytes = [Buffer.alloc(10_000, 1), Buffer.alloc(4096, 2)];
  const metadata = sharedCopy(Buffer.alloc(5000, 9));
  const kernel = await FakeKernel.of({ shape: 'devices', metadata, devices: [deviceOf(10_000, true, 0), deviceOf(4096, false, 1)] }, readFrom(bytes));
  const init = Buffer.alloc(64, 0xff);
  for (const [at, value] of [[0, 7], [4, 45]] as const) init.writeUInt32LE(value, at);
  kernel.ask(OP.init, 0, init);
  const files = kernel.listAll(1, true);
  assert.deepEqual(files.map(({ name }) => name.toString()), ['.', '..', '0', '1', '2']);
  assert.deepEqual(kernel.listAll(1, false, 64).map(({ name, type }) => [name.toString(), type]), [['.', 4], ['..', 4], ['0', 8], ['1', 8], ['2', 8]]);
  const [m, one, two] = files.slice(2).map(({ nodeid }) => nodeid as number) as [number, number, number];
  assert.equal(kernel.ask(OP.getattr, 1).readUInt32LE(16 + 60), 0o40700);
  assert.deepEqual([m, one, two].map((id) => [kernel.ask(OP.getattr, id).readUInt32LE(16 + 8), kernel.ask(OP.getattr, id).readUInt32LE(16 + 60)]), [[8192, 0o100400], [12_288, 0o100400], [4096, 0o100400]]);
  assert.deepEqual([m, one, two].map((id) => kernel.ask(OP.open, id, Buffer.alloc(8)).readUInt32LE(8)), [2 | 32, 1 | 32, 1 | 32]);
  assert.equal(Number(kernel.lookup(1, '2').readBigUInt64LE(0)), two);
  for (const name of ['3', '-1', '01', '1.0', 'x', '1e1', '']) assert.equal(kernel.lookup(1, name).readBigUInt64LE(0), 0n, name);
  assert.equal(Number(kernel.lookup(1, '.').readBigUInt64LE(0)), 1);
  // Whole blocks, zeros behind the end.
  assert.deepEqual(kernel.read(m, 4608, 4096), Buffer.concat([Buffer.alloc(392, 9), Buffer.alloc(3192)]));
  assert.deepEqual(kernel.read(one, 9728, 4096), Buffer.concat([Buffer.alloc(272, 1), Buffer.alloc(2288)]));
  assert.deepEqual(kernel.read(one, 12_288, 4096), Buffer.alloc(0));
  assert.equal(kernel.read(two, 512, 1024), undefined);
  assert.deepEqual(kernel.misses[0]?.runs, [{ device: 2, offset: 512, length: 1024 }]);
  assert.equal(kernel.call(OP.readdir, one, readBody(0, 4096)), -ERRNO.ENOTDIR);
  assert.deepEqual([OP.getxattr, OP.listxattr].map((opcode) => kernel.call(opcode, one, Buffer.alloc(20))), [-ERRNO.ENOSYS, -ERRNO.ENOSYS]);
});

it('large directories come in pieces that fit together, from anywhere', async () => {
  const one = file('');
  const names = Array.from({ length: 20_000 }, (_, i) => `some-entry-${i}`);
  const kernel = await kernelOf(directory(names.map((name) => [name, one] as const)));
  for (const plus of [true, false]) {
    assert.deepEqual(kernel.listAll(1, plus).map(({ name }) => name.toString()), ['.', '..', ...names.sort()]);
    assert.equal(kernel.list(1, plus, 0, 20).length, 0, 'no room for one');
  }
  for (const offset of [1, 13, 4095, 1e12]) kernel.list(1, true, offset);
  const end = readBody(0, 4096);
  end.writeBigUInt64LE(2n ** 63n, 8);
  assert.deepEqual(kernel.ask(OP.readdirplus, 1, end), Buffer.alloc(0));
});

it('knows by which path a file can be found', async () => {
  await fc.assert(
    fc.asyncProperty(samples(40), async ({ root: tree, contents, blockSize }) => {
      const image = await build(tree, { blockSize, place: contents.inside });
      const { root, nodes } = await openErofs(new MemorySource(image));
      const paths = new PathIndex(await ErofsView.open(image));
      const all = new Map<FileNode, string[]>();
      for (const { path, node } of walk(root)) all.set(node, [...(all.get(node) ?? []), path]);
      for (const [nid, node] of nodes) assert.ok(all.get(node)?.includes(paths.pathOf(nid) as string), `${nid}`);
      assert.equal(paths.pathOfNode(1), '');
      for (const stranger of [0, 2, 7, 2 ** 40]) if (!nodes.has(stranger)) assert.equal(paths.pathOf(stranger), undefined);
    }),
    { numRuns: 40 },
  );
});

it('listings have attributes for those who look at files', () => {
  /** How many of 1000 directories with 10 files were listed bare, when a reader asks for `asks` files of each that was. */
  const bare = (listings: Listings, asks: number, first = 1): number => {
    let count = 0;
    for (let d = first; d < first + 1000; d += 1) {
      const full = listings.withAttributes(d, 0, 300);
      assert.equal(listings.withAttributes(d, 200, 300), full, 'the same to the end of the directory');
      if (full) continue;
      count += 1;
      for (let i = 0; i < asks; i += 1) listings.asked(d);
    }
    return count;
  };
  const listings = new Listings();
  const names = bare(listings, 0);
  assert.ok(names > 950, `find: ${names} of 1000 are bare`);
  const all = bare(listings, 10, 2000);
  assert.ok(all < 20, `ls -l: ${all} of 1000 are bare`);
  assert.ok(bare(listings, 0, 4000) > 0);
  assert.ok(bare(listings, 0, 6000) > 950, 'and back again');
  assert.ok(bare(new Listings(), 1) > 950, 'one file of a directory is no evidence');
  assert.ok(listings.withAttributes(1, 0, 1e6), 'a large one always has them');
  listings.asked(12_345);
});

it('an image without any file', async () => {
  const kernel = await kernelOf({ ...plain, type: 'directory', children: new Map() });
  assert.deepEqual(kernel.listAll(1, true).map(({ name }) => name.toString()), ['.', '..']);
  assert.equal(kernel.lookup(1, 'x').readBigUInt64LE(0), 0n);
  assert.ok((await build({ ...plain, type: 'directory', children: new Map() }, { place: nowhere })).length > 0);
});
