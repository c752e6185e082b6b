import assert from 'node:assert/strict';
import { it } from 'node:test';
import { MemorySource } from '../../src/core/source.ts';
import type { DirectoryNode, FileNode } from '../../src/core/types.ts';
import { crc32c } from '../../src/erofs/crc32c.ts';
import { mapRuns } from '../../src/erofs/place.ts';
import { planErofs } from '../../src/erofs/plan.ts';
import { openErofs } from '../../src/erofs/read.ts';
import { sealSuperblock } from '../../src/erofs/layout.ts';
import { attributes, symlink } from '../layer/nodes.ts';
import { build, imageOf } from './trees.ts';

// Every byte of small images, by offset, as the notes on the format have it; nothing of src/erofs says where a field is.

const file = (size: number, more: Partial<FileNode> = {}): FileNode => ({ ...attributes, mode: 0o644, ...more, type: 'file', size, extents: [] }) as FileNode;

function tree(): DirectoryNode {
  return {
    type: 'directory', mode: 0o755, uid: 1, gid: 2, mtime: { seconds: -2, nanoseconds: 7 }, xattrs: new Map(),
    children: new Map<string, FileNode>([
      ['b', file(5000, { uid: 100_000, mtime: { seconds: 0x1_0000_0001, nanoseconds: 999_999_999 } })],
      ['a', symlink('b', { xattrs: new Map([['user.x', Buffer.from('vw')]]) })],
    ]),
  };
}

const DEVICES = [{ tag: 'f'.repeat(64), size: 10_000 }, { tag: 'second', size: 1 }];
const place = () => mapRuns([{ length: 5000, device: 2, offset: 1024 }], 512);

it('an image of 512-byte blocks, byte by byte', async () => {
  const image = Buffer.from(await build(tree(), { blockSize: 512, devices: DEVICES, place, uuid: Buffer.alloc(16, 0xab), volumeName: 'golden' }));
  const u16 = (at: number): number => image.readUInt16LE(at);
  const u32 = (at: number): number => image.readUInt32LE(at);
  const u64 = (at: number): number => Number(image.readBigInt64LE(at));
  assert.ok(image.subarray(0, 1024).every((byte) => byte === 0), 'the boot area is empty');
  assert.deepEqual(
    { magic: u32(1024), compat: u32(1032), blkszbits: image[1036], extslots: image[1037], inos: u64(1040), epoch: u64(1048), nsec: u32(1056), blocks: u32(1060), meta: u32(1064), xattr: u32(1068) },
    { magic: 0xe0f5e1e2, compat: 3, blkszbits: 9, extslots: 0, inos: 3, epoch: 0, nsec: 0, blocks: image.length / 512, meta: 0, xattr: 0 },
  );
  assert.equal(image.toString('hex', 1072, 1088), 'ab'.repeat(16));
  assert.equal(image.toString('latin1', 1088, 1104), 'golden'.padEnd(16, '\0'));
  assert.deepEqual([u32(1104), u16(1108), u16(1110), u16(1112), image[1114], image[1115]], [0xc, 0, 2, 9, 0, 0]);
  assert.ok(image.subarray(1116, 1152).every((byte) => byte === 0), 'nothing behind that');
  // Device slots: tag, blocks, address.
  assert.equal(image.toString('latin1', 1152, 1216), 'f'.repeat(64));
  assert.deepEqual([u32(1216), u32(1220), u16(1224), u16(1226)], [20, image.length / 512, 0, 0]);
  assert.equal(image.toString('latin1', 1280, 1344), 'second'.padEnd(64, '\0'));
  assert.deepEqual([u32(1344), u32(1348)], [1, image.length / 512 + 20]);
  // The root begins behind them: nid 44.
  const root = 1408;
  assert.equal(u16(1038), root / 32);
  assert.deepEqual(
    [u16(root), u16(root + 2), u16(root + 4), u16(root + 6), u64(root + 8), u32(root + 16), u32(root + 20), u32(root + 24), u32(root + 28), u64(root + 32), u32(root + 40), u32(root + 44)],
    [0x5, 0, 0o40755, 0, 4 * 12 + 5, 0xffffffff, 1, 1, 2, -2, 7, 2],
  );
  // Its entries, in byte order: nid, name offset, type.
  const entries = root + 64;
  assert.deepEqual([0, 1, 2, 3].map((i) => [u64(entries + 12 * i), u16(entries + 12 * i + 8), image[entries + 12 * i + 10], image[entries + 12 * i + 11]]), [[44, 48, 2, 0], [44, 49, 2, 0], [48, 51, 7, 0], [51, 52, 1, 0]]);
  assert.equal(image.toString('latin1', entries + 48, entries + 53), '...ab');
  // The link: 64 bytes, 12 + 8 of attributes (user. is 1; suffix x, value vw), its target.
  const link = 48 * 32;
  assert.deepEqual([u16(link), u16(link + 2), u16(link + 4), u64(link + 8), u32(link + 44)], [0x5, 3, 0o120750, 1, 1]);
  assert.equal(image.toString('hex', link + 64, link + 85), '000000000000000000000000' + '01010200' + '787677' + '00' + '62');
  // The file: one chunk of 16 blocks at block 2 of device 2.
  const big = 51 * 32;
  assert.deepEqual([u16(big), u16(big + 2), u16(big + 4), u64(big + 8), u16(big + 16), u16(big + 18), u32(big + 24), u64(big + 32), u32(big + 40)], [0x9, 0, 0o100644, 5000, 0x20 | 4, 0, 100_000, 0x1_0000_0001, 999_999_999]);
  assert.deepEqual([u16(big + 64), u16(big + 66), u32(big + 68)], [0, 2, 2]);
  // CRC-32C from the superblock to the end of 512 bytes, its own field zero, not inverted at the end.
  const covered = Buffer.from(image.subarray(1024, 1536));
  covered.writeUInt32LE(0, 4);
  assert.equal(u32(1028), ~crc32c(covered) >>> 0);
});

it('the checksum is CRC-32C without its last step', () => {
  assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
  assert.equal(~crc32c(Buffer.from('123456789')) >>> 0, 0x1cf96d7c);
  assert.equal(crc32c(Buffer.from('6789'), crc32c(Buffer.from('12345'))), 0xe3069283);
});

it('the checksum covers what kernels say for each block size', async () => {
  for (const [blockSize, covered] of [[512, 512], [1024, 1024], [2048, 1024], [4096, 3072]] as const) {
    const image = await build(tree(), { blockSize, devices: DEVICES, place: () => mapRuns([{ length: 5000, device: 1, offset: 4096 }], blockSize) });
    for (const [at, seen] of [[1024 + covered - 1, true], [1024 + covered, false]] as const) {
      const changed = Uint8Array.from(image);
      if (at >= changed.length) continue;
      changed[at] = (changed[at] as number) ^ 1;
      const opened = openErofs(new MemorySource(changed));
      if (seen) await assert.rejects(opened, /checksum/, `${blockSize}`);
      else await opened.catch((error: Error) => assert.doesNotMatch(error.message, /checksum/));
    }
  }
});

/** A superblock of 4096-byte blocks by hand; the root's nid is 40 (1280). */
function handmade(incompat: number, set: (image: Buffer) => void, size = 8192): Buffer {
  const image = Buffer.alloc(size);
  image.writeUInt32LE(0xe0f5e1e2, 1024);
  image[1036] = 12;
  image.writeUInt16LE(40, 1038);
  image.writeBigInt64LE(1_700_000_000n, 1048);
  image.writeUInt32LE(5, 1056);
  image.writeUInt32LE(incompat, 1104);
  set(image);
  return image;
}

/** A compact inode. */
function compact(image: Buffer, at: number, format: number, mode: number, size: number, union: number, more: { nlink?: number; mtime?: number; xattrs?: number } = {}): void {
  image.writeUInt16LE(format, at);
  image.writeUInt16LE(more.xattrs ?? 0, at + 2);
  image.writeUInt16LE(mode, at + 4);
  image.writeUInt16LE(more.nlink ?? 1, at + 6);
  image.writeUInt32LE(size, at + 8);
  image.writeUInt32LE(more.mtime ?? 0, at + 12);
  image.writeUInt32LE(union, at + 16);
  image.writeUInt16LE(1000, at + 24);
  image.writeUInt16LE(100, at + 26);
}

function dirents(image: Buffer, at: number, entries: readonly (readonly [name: string, nid: number, type: number])[]): number {
  let nameoff = entries.length * 12;
  entries.forEach(([name, nid, type], i) => {
    image.writeBigUInt64LE(BigInt(nid), at + i * 12);
    image.writeUInt16LE(nameoff, at + i * 12 + 8);
    image[at + i * 12 + 10] = type;
    image.write(name, at + nameoff, 'latin1');
    nameoff += name.length;
  });
  return nameoff;
}

it('compact inodes, block maps, flat files and long prefixes, made by hand', async () => {
  const image = handmade(0x4 | 0x40, (bytes) => {
    const size = dirents(bytes, 1312, [['.', 40, 2], ['..', 40, 2], ['flat', 60, 1], ['inline', 64, 1], ['map', 68, 1], ['node', 72, 3]]);
    compact(bytes, 1280, 0x4, 0o40755, size, 0xffffffff, { nlink: 2 });
    compact(bytes, 1920, 0x0, 0o100600, 100, 1);
    // 12 + 12 of attributes: long prefix 0, suffix `s`, value `12345`.
    compact(bytes, 2048, 0x4, 0o100600, 3, 0xffffffff, { xattrs: 4, mtime: 100 });
    bytes.set([1, 0x80, 5, 0, 0x73, 0x31, 0x32, 0x33, 0x34, 0x35], 2048 + 32 + 12);
    bytes.write('abc', 2048 + 32 + 24);
    // Two blocks: a hole, then block 1.
    compact(bytes, 2176, 0x8, 0o100600, 5000, 0);
    bytes.writeUInt32LE(0xffffffff, 2176 + 32);
    bytes.writeUInt32LE(1, 2176 + 36);
    compact(bytes, 2304, 0x0, 0o20600, 0, (1 << 8) | 3);
    // One long prefix at 3000: base `trusted.`, infix `long.`.
    bytes[1024 + 0x5b] = 1;
    bytes.writeUInt32LE(750, 1024 + 0x5c);
    bytes.writeUInt16LE(6, 3000);
    bytes.write('\x04long.', 3002, 'latin1');
    bytes.fill('x', 4096, 8192);
  });
  const { root } = await openErofs(new MemorySource(image));
  const node = (name: string): FileNode => root.children.get(name) as FileNode;
  assert.deepEqual([...root.children.keys()], ['flat', 'inline', 'map', 'node']);
  assert.deepEqual(root.mtime, { seconds: 1_700_000_000, nanoseconds: 5 });
  const runs = (name: string): unknown => {
    const found = node(name);
    return found.type === 'file' && found.extents.map(({ fileOffset, length, chunk }) => [fileOffset, length, chunk.blob, chunk.offset, chunk.length]);
  };
  assert.deepEqual(runs('flat'), [[0, 100, 0, 4096, 100]]);
  assert.deepEqual(runs('inline'), [[0, 3, 0, 2104, 3]]);
  assert.deepEqual(runs('map'), [[0, 4096, 0, 0, 0], [4096, 904, 0, 4096, 904]]);
  assert.deepEqual([...node('inline').xattrs].map(([name, value]) => [name, Buffer.from(value).toString()]), [['trusted.long.s', '12345']]);
  assert.deepEqual(node('inline').mtime, { seconds: 1_700_000_100, nanoseconds: 5 });
  assert.deepEqual([node('flat').uid, node('flat').gid, node('flat').mode], [1000, 100, 0o600]);
  const device = node('node');
  assert.ok(device.type === 'char' && device.major === 1 && device.minor === 3);
});

it('48BIT images: the root by its long number, block numbers of 48 bits, directories without `.`', async () => {
  const image = handmade(0x4 | 0x8 | 0x80, (bytes) => {
    bytes.writeUInt16LE(0, 1038);
    bytes.writeBigUInt64LE(70n, 1024 + 0x70);
    bytes.writeUInt16LE(1, 1110);
    bytes.writeUInt16LE(9, 1112);
    // Device 1: 2^40 blocks.
    bytes.writeUInt16LE(2 ** 8, 1152 + 72);
    const size = dirents(bytes, 2240 + 32, [['..', 70, 2], ['f', 80, 1]]);
    compact(bytes, 2240, 0x4 | 0x10, 0o40755, size, 0xffffffff, { nlink: 2 });
    compact(bytes, 2560, 0x8, 0o100600, 4096, 0x60);
    bytes.writeUInt16LE(3, 2560 + 32);
    bytes.writeUInt16LE(1, 2560 + 34);
    bytes.writeUInt32LE(7, 2560 + 36);
  });
  const { root, superblock } = await openErofs(new MemorySource(image));
  assert.equal(superblock.rootNid, 70);
  const f = root.children.get('f');
  assert.ok(f?.type === 'file');
  assert.deepEqual(f.extents.map(({ chunk }) => [chunk.blob, chunk.offset]), [[1, (3 * 2 ** 32 + 7) * 4096]]);
});

it('a frame leaves room for what RAFS has around EROFS', async () => {
  const frame = { deviceTable: 1408, metadata: 8192, rootGap: 4096, trailer: 100, deviceAlignment: 128 };
  const plan = planErofs(tree(), { devices: DEVICES, place: () => ({ kind: 'chunks', bits: 0, indexes: [{ device: 0x102, block: 5, high: 0xbeef }, { device: 0x101, block: 6 }] }), shareXattrs: false, frame });
  const nids: number[] = [];
  plan.each((_, nid) => nids.push(nid));
  const image = Buffer.from(await imageOf(plan, {
    superblock: { featureCompat: 0x4000_0000, featureIncompat: 0xc, blocks: 4096, uuid: Buffer.alloc(16) },
    tables: [{ offset: 1152, bytes: Buffer.alloc(256, 1) }, { offset: 4096, bytes: Buffer.alloc(4096, 2) }],
  }));
  assert.deepEqual([image.readUInt32LE(1028), image.readUInt32LE(1032), image.readUInt16LE(1038), image.readUInt32LE(1060), image.readUInt32LE(1064), image.readUInt16LE(1112)], [0, 0x4000_0000, 128, 4096, 2, 11]);
  assert.ok(image.subarray(1152, 1408).every((byte) => byte === 1) && image.subarray(4096, 8192).every((byte) => byte === 2));
  assert.equal(image.toString('latin1', 1408, 1472), 'f'.repeat(64));
  // One block behind the image for the trailer, then the next multiple of 128.
  assert.deepEqual([image.readUInt32LE(1408 + 68), image.readUInt32LE(1536 + 68)], [128, 256]);
  assert.equal(image.readUInt16LE(12_288), 0x5, 'the root is one block behind the base');
  assert.equal(nids[0], 128);
  const b = 8192 + 32 * (nids.at(-1) as number);
  assert.equal(image.toString('hex', b + 64, b + 80), 'efbe020105000000' + '0000010106000000');
  // Kernels, and so we, look at the low part of the device number only.
  const seen: unknown[] = [];
  const { root } = await openErofs(new MemorySource(image), { chunks: { chunkSize: 4096, extents: ({ path, size, indexes }) => (seen.push([path, size, Buffer.from(indexes).toString('hex')]), []) } });
  assert.deepEqual(seen, [['b', 5000, 'efbe020105000000' + '0000010106000000']]);
  assert.ok(root.children.has('a'));
  await assert.rejects(imageOf(plan, { tables: [{ offset: 1300, bytes: Buffer.alloc(200) }] }), { code: 'INTERNAL' });
});

it('sealing twice changes nothing', () => {
  const bytes = Buffer.alloc(512, 3);
  sealSuperblock(bytes);
  const once = Buffer.from(bytes);
  sealSuperblock(bytes);
  assert.deepEqual(bytes, once);
});
