import assert from 'node:assert/strict';
import { it } from 'node:test';
import { digestOf } from '../../src/core/digest.ts';
import { LazypullError, type ErrorCode } from '../../src/core/errors.ts';
import { streamOf } from '../../src/core/stream.ts';
import { scanTar, type ScanOptions } from '../../src/image/scan.ts';
import type { LinkBelow } from '../../src/layer/nodes.ts';
import { nodeAt } from '../../src/layer/tree.ts';
import { tarOf, type Entry } from './fixture.ts';

const scan = (entries: readonly Entry[], options: Partial<ScanOptions> = {}) => scanTar(streamOf(tarOf(entries)), { what: 'test tar', ...options });
const fails = (code: ErrorCode, pattern = /./) => (error: unknown): boolean =>
  error instanceof LazypullError && error.code === code && pattern.test(error.message);

it('scanTar makes a tree with attributes and digests of contents', async () => {
  const xattrs = new Map([['user.bin', Buffer.from([0, 255, 10])]]);
  const { root, entries, files, size } = await scan([
    { path: './' , mode: 0o711 }, { path: './bin/', uid: 1, gid: 2, userName: 'u', groupName: 'g' },
    { path: './bin/sh', content: 'binary', mode: 0o4755, mtime: { seconds: -5, nanoseconds: 500_000_000 }, xattrs },
    { path: 'bin/bash', type: 'hardlink', linkName: './bin/sh' }, { path: '/sbin', type: 'symlink', linkName: '/bin' },
    { path: 'null', type: 'char', major: 1, minor: 3 }, { path: 'sda', type: 'block', major: 8, minor: 0 }, { path: 'pipe', type: 'fifo' },
  ]);
  assert.deepEqual([root.mode, entries, files], [0o711, 8, 1]);
  assert.equal(size % 512, 0);
  const sh = nodeAt(root, 'bin/sh');
  assert.ok(sh?.type === 'file');
  assert.deepEqual([sh.digest, sh.size, sh.mode, sh.mtime], [digestOf(Buffer.from('binary')), 6, 0o4755, { seconds: -5, nanoseconds: 500_000_000 }]);
  assert.deepEqual(Buffer.from(sh.xattrs.get('user.bin') ?? []), Buffer.from([0, 255, 10]));
  assert.equal(nodeAt(root, 'bin/bash'), sh);
  const bin = nodeAt(root, 'bin');
  assert.deepEqual([bin?.uid, bin?.gid, bin?.userName, bin?.groupName], [1, 2, 'u', 'g']);
  const symlink = nodeAt(root, 'sbin');
  assert.ok(symlink?.type === 'symlink' && symlink.target === '/bin');
  const device = nodeAt(root, 'null');
  assert.ok(device?.type === 'char' && device.major === 1 && device.minor === 3);
  assert.deepEqual([nodeAt(root, 'sda')?.type, nodeAt(root, 'pipe')?.type], ['block', 'fifo']);
});

it('scanTar shows contents to a watcher, in pieces and to their end', async () => {
  const content = Buffer.alloc(300_000, 'abc');
  const seen: string[] = [];
  const archive = tarOf([{ path: 'a', content }, { path: 'empty', content: '' }, { path: 'd/' }]);
  async function* pieces(): AsyncGenerator<Uint8Array> {
    // Lent bytes: whoever keeps them sees them overwritten.
    const buffer = Buffer.alloc(1000);
    for (let at = 0; at < archive.length; at += 1000) {
      const length = archive.copy(buffer, 0, at, at + 1000);
      yield buffer.subarray(0, length);
    }
  }
  const { size } = await scanTar(pieces(), {
    what: 'test tar',
    watch: (path, bytes) => {
      let length = 0;
      seen.push(`${path} ${bytes}`);
      return { update: (part) => { length += part.length; }, finish: (digest) => seen.push(`${length} ${digest}`) };
    },
  });
  assert.deepEqual(seen, ['a 300000', `300000 ${digestOf(content)}`, 'empty 0', `0 ${digestOf()}`]);
  assert.equal(size, archive.length);
});

it('scanTar reads what is behind the end of the archive, which the diffID covers', async () => {
  let read = 0;
  async function* counted(): AsyncGenerator<Uint8Array> {
    for (const part of [tarOf([]), Buffer.from('anything'), Buffer.alloc(100_000)]) {
      read += part.length;
      yield part;
    }
  }
  const { size } = await scanTar(counted(), { what: 'test tar' });
  assert.equal(size, read);
});

it('scanTar refuses what has no place in a tree', async () => {
  await assert.rejects(scan([{ path: '../up', content: '' }]), fails('CORRUPT', /up/));
  await assert.rejects(scan([{ path: 'a', type: 'hardlink', linkName: 'gone' }]), fails('CORRUPT', /a points to gone/));
  const { root } = await scan([{ path: 'a', type: 'hardlink', linkName: 'gone' }], { linksBelow: true });
  assert.equal((root.children.get('a') as LinkBelow).target, 'gone');
  await assert.rejects(scan([{ path: 'a', content: 'x'.repeat(10_000) }], { maxSize: 5000 }), fails('LIMIT'));
  await assert.rejects(scan([{ path: 'a', content: '' }], { signal: AbortSignal.abort() }), fails('CANCELLED'));
  await assert.rejects(scanTar(streamOf(tarOf([{ path: 'a', content: 'x' }]).subarray(0, 512)), { what: 'test tar' }), fails('CORRUPT', /test tar/));
});
