import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LazypullError, type ErrorCode } from '../../../src/core/errors.ts';
import type { FileNode, RegularNode } from '../../../src/core/types.ts';
import { LayerReader } from '../../../src/layer/reader.ts';
import { nodeAt } from '../../../src/layer/tree.ts';
import { V5_SUPERBLOCK_SIZE } from '../../../formats/nydus/v5-layout.ts';
import { openV5 } from '../../../formats/nydus/v5.ts';
import { noise } from '../../support/noise.ts';
import { BLOB_ID, CHUNK, madeV5, type V5Node } from './made-v5.ts';
import { placesOf } from './samples.ts';
import type { OpenRafs } from '../../../formats/nydus/tree.ts';

const DIRECTORY = 0o40755;
const FILE = 0o100644;
const pieces = [noise(CHUNK), null, noise(100, 9)];
const ROOT: V5Node = {
  name: '/', mode: DIRECTORY, children: [
    { name: 'dir', mode: DIRECTORY, children: [{ name: 'file', mode: FILE, content: pieces, ino: 50, nlink: 2, xattrs: { 'user.a': 'value', 'trusted.empty': '' } }, { name: 'null', mode: 0o20666, rdev: 0x103 }] },
    { name: 'empty', mode: 0o104755, content: [] },
    { name: 'link', mode: FILE, content: pieces, ino: 50, nlink: 2, xattrs: { 'user.a': 'value', 'trusted.empty': '' } },
    { name: 'pipe', mode: 0o10600 },
    { name: 'socket', mode: 0o140600 },
    { name: 'sym', mode: 0o120777, target: 'dir/file' },
  ],
};

const open = ({ bootstrap, blob }: { bootstrap: Uint8Array; blob: Uint8Array }): Promise<OpenRafs> => openV5(bootstrap, placesOf(new Map([[BLOB_ID, blob]])));
const failing = (code: ErrorCode, text: RegExp) => (error: unknown): boolean => error instanceof LazypullError && error.code === code && text.test(error.message);
const attributes = ({ type, mode, uid, gid, mtime }: FileNode): unknown[] => [type, mode.toString(8), uid, gid, mtime];

describe('RAFS v5', () => {
  it('is read like v6', async () => {
    const { index, problems, facts, ...rest } = await open(madeV5(ROOT, [2, 99]));
    assert.deepEqual([...index.root.children.keys()], ['dir', 'empty', 'link', 'pipe', 'sym']);
    const node = nodeAt(index.root, 'dir/file') as RegularNode;
    assert.equal(nodeAt(index.root, 'link'), node, 'hard link');
    assert.deepEqual(attributes(node), ['file', '644', 1000, 1001, { seconds: -7, nanoseconds: 5 }]);
    assert.deepEqual([...node.xattrs].map(([key, value]) => [key, Buffer.from(value).toString()]), [['user.a', 'value'], ['trusted.empty', '']]);
    assert.deepEqual(nodeAt(index.root, 'sym')?.type === 'symlink' && (nodeAt(index.root, 'sym') as { target: string }).target, 'dir/file');
    assert.deepEqual([nodeAt(index.root, 'dir/null')].map((found) => found?.type === 'char' && [found.major, found.minor]), [[1, 3]]);
    assert.equal(nodeAt(index.root, 'empty')?.mode, 0o4755);
    const bytes = await new LayerReader({ format: 'nydus', indexBytes: 0, index, ...rest }).readFile(node, 0, 1 << 20);
    assert.deepEqual(Buffer.from(bytes), Buffer.concat([noise(CHUNK), new Uint8Array(CHUNK), noise(100, 9)]));
    assert.equal(index.chunks.length, 3);
    assert.deepEqual(problems, ['socket is a socket, which layers do not have: left out', '1 entries of the prefetch table name no inode']);
    assert.deepEqual([facts['fsVersion'], facts['digester'], facts['blobs']], [5, 'sha256', 1]);
    assert.deepEqual(index.prefetch, [{ blob: 0, offset: 0, end: CHUNK + 100 }]);
  });

  it('has its chunks held against their digests', async () => {
    const made = madeV5(ROOT);
    made.blob[5] = (made.blob[5] as number) ^ 1;
    const { index, ...rest } = await open(made);
    const reader = new LayerReader({ format: 'nydus', indexBytes: 0, index, ...rest });
    await assert.rejects(reader.readFile(nodeAt(index.root, 'link') as RegularNode, 0, 10), failing('DIGEST_MISMATCH', /chunk/));
  });

  it('is refused when it is broken', async () => {
    const u32 = (bytes: Buffer, at: number, value: number): void => void bytes.writeUInt32LE(value, at);
    const inodeAt = (bytes: Buffer, number: number): number => bytes.readUInt32LE(V5_SUPERBLOCK_SIZE + (number - 1) * 4) * 8;
    const cases: readonly (readonly [string, (bytes: Buffer) => Buffer | void, ErrorCode, RegExp])[] = [
      ['cut off', (bytes) => bytes.subarray(0, V5_SUPERBLOCK_SIZE), 'CORRUPT', /bootstrap of 8192 bytes/],
      ['another superblock', (bytes) => u32(bytes, 8, 4096), 'CORRUPT', /superblock of 4096/],
      ['chunk size', (bytes) => u32(bytes, 12, 5000), 'CORRUPT', /chunk size/],
      ['two digest algorithms', (bytes) => u32(bytes, 16, 0xd), 'CORRUPT', /2 digest algorithms/],
      ['encrypted', (bytes) => u32(bytes, 16, 0x200_0009), 'UNSUPPORTED', /encrypted/],
      ['inode table outside', (bytes) => u32(bytes, 56, 0xffff_ffff), 'CORRUPT', /inode table/],
      ['2^53', (bytes) => void bytes.writeBigUInt64LE(2n ** 60n, 32), 'CORRUPT', /2\^53/],
      ['blob table outside', (bytes) => u32(bytes, 64, 0x7fff_ffff), 'CORRUPT', /blob table/],
      ['a directory in itself', (bytes) => u32(bytes, inodeAt(bytes, 2) + 92, 1), 'CORRUPT', /in the tree twice/],
      ['children that are not there', (bytes) => u32(bytes, inodeAt(bytes, 2) + 96, 1_000_000), 'CORRUPT', /inode|in the tree twice/],
      ['an inode outside', (bytes) => u32(bytes, V5_SUPERBLOCK_SIZE + 4, 0x1fff_ffff), 'CORRUPT', /inode of 128 bytes/],
      ['a root that is none', (bytes) => u32(bytes, inodeAt(bytes, 1) + 60, 0o10600), 'CORRUPT', /root of the image/],
      ['no file type', (bytes) => u32(bytes, inodeAt(bytes, 3) + 60, 0o644), 'CORRUPT', /no file type/],
      ['a file of another size', (bytes) => u32(bytes, inodeAt(bytes, 4) + 64, 9), 'CORRUPT', /chunk \d is at byte|has chunks of/],
      ['chunks that are not there', (bytes) => u32(bytes, inodeAt(bytes, 4) + 96, 0x7fff_ffff), 'CORRUPT', /chunks of a file/],
      ['a name that leads out', (bytes) => void bytes.write('..', inodeAt(bytes, 8) + 128).toString(), 'CORRUPT', /./],
      ['attributes without end', (bytes) => void bytes.writeBigUInt64LE(2n ** 40n, inodeAt(bytes, 8) + 128 + 8), 'CORRUPT', /4 GiB/],
    ];
    const order = ['/', 'dir', 'empty', 'link', 'pipe', 'socket', 'sym', 'file', 'null'];
    assert.equal(order.indexOf('file') + 1, 8);
    for (const [name, change, code, text] of cases) {
      const { bootstrap, blob } = madeV5(ROOT);
      const bytes = Buffer.from(bootstrap);
      const changed = change(bytes) ?? bytes;
      if (name === 'a name that leads out') changed.writeUInt16LE(2, inodeAt(changed, 8) + 100);
      await assert.rejects(open({ bootstrap: changed, blob }), failing(code, text), name);
    }
  });

  it('does not unfold: inodes that overlap are refused', async () => {
    const count = 40;
    const long = { 'user.long': 'x'.repeat(60_000) };
    const folders = Array.from({ length: count }, (_, i): V5Node => ({ name: `d${i}`, mode: DIRECTORY, children: [{ name: 'f', mode: FILE, content: [], xattrs: i === 0 ? long : {} }] }));
    const made = madeV5({ name: '/', mode: DIRECTORY, children: folders });
    await open(made);
    const bytes = Buffer.from(made.bootstrap);
    // All directories have the one file, each by a number of its own.
    const slot = (i: number): number => V5_SUPERBLOCK_SIZE + (1 + count + i) * 4;
    for (let i = 1; i < count; i += 1) bytes.writeUInt32LE(bytes.readUInt32LE(slot(0)), slot(i));
    await assert.rejects(open({ ...made, bootstrap: bytes }), failing('CORRUPT', /over each other/));
  });
});
