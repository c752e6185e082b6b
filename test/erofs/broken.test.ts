import assert from 'node:assert/strict';
import { it } from 'node:test';
import { LazypullError } from '../../src/core/errors.ts';
import { CountingSource, MemorySource } from '../../src/core/source.ts';
import type { ByteSource, DirectoryNode, FileNode } from '../../src/core/types.ts';
import { sealSuperblock } from '../../src/erofs/layout.ts';
import { mapRuns } from '../../src/erofs/place.ts';
import { planErofs, type ErofsPlan } from '../../src/erofs/plan.ts';
import { openErofs, type ErofsImage } from '../../src/erofs/read.ts';
import { walk } from '../../src/layer/walk.ts';
import { attributes, file, symlink } from '../layer/nodes.ts';
import { imageOf } from './trees.ts';

// Images from strangers: whatever their bytes say, the answer is a tree or a typed error, soon and in little memory.

interface Base {
  readonly plan: ErofsPlan;
  readonly image: Buffer;
}

async function base(blockSize: 512 | 4096): Promise<Base> {
  const directory = (children: readonly (readonly [string, FileNode])[]): DirectoryNode => ({ ...attributes, type: 'directory', children: new Map(children) });
  const label = new Map([['security.selinux', Buffer.from('system_u:object_r:bin_t:s0\0')]]);
  const files = Array.from({ length: 30 }, (_, i) => [`file-${i}`, file('x'.repeat(i * 80), { xattrs: label })] as const);
  const root = directory([
    ['many', directory(files)],
    ['links', directory([['one', symlink('target')], ['long', symlink('t'.repeat(600))], ['hard', files[3]?.[1] as FileNode]])],
    ['nodes', directory([['fifo', { ...attributes, type: 'fifo' }], ['null', { ...attributes, type: 'char', major: 1, minor: 3 }]])],
    ['chunks', file('c'.repeat(20_000), { xattrs: new Map([...label, ['user.own', Buffer.from('value')]]) })],
    ['deep', directory([['er', directory([['est', directory([['file', file('1')]])]])]])],
  ]);
  let next = 0;
  const plan = planErofs(root, {
    blockSize, devices: [{ tag: 'one', size: 1 << 22 }, { tag: 'two', size: 1 << 22 }],
    place: ({ size }) => {
      if (size === 20_000) return mapRuns([0, 1, 2, 3, 4].map((i) => ({ length: Math.min(4096, size - i * 4096), device: 1 + (i % 2), offset: i * 8192 })), blockSize);
      if (size % 3 === 1) return { kind: 'bytes', bytes: Buffer.alloc(size) };
      next += 4096;
      return mapRuns([{ length: size, device: 1, offset: next }], blockSize);
    },
  });
  return { plan, image: Buffer.from(await imageOf(plan)) };
}

const opened = (image: Uint8Array): Promise<ErofsImage> => openErofs(new MemorySource(image), { maxNames: 20_000 });

/** Where a node's inode is. */
function inodeAt({ plan }: Base, path: string): number {
  const wanted = [...walk(plan.inventory.nodes[0] as DirectoryNode)].find((found) => found.path === path)?.node;
  let at = -1;
  plan.each((node, nid) => {
    if (node === wanted) at = nid * 32;
  });
  assert.ok(at > 0, path);
  return at;
}

function seal(image: Buffer, blockSize: number): Buffer {
  sealSuperblock(image.subarray(1024, 1024 + (blockSize > 1024 ? blockSize - 1024 : blockSize)));
  return image;
}

it('10 000 mutations: a tree or a typed error', async () => {
  for (const blockSize of [512, 4096] as const) {
    const { image } = await base(blockSize);
    await opened(image);
    let state = 12_345;
    const next = (below: number): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    // Nothing but zeros is in front of the superblock, and little behind the metadata.
    const place = (): number => 1024 + next(image.length - 1024 - 8);
    const codes = new Map<string, number>();
    for (let run = 0; run < 5000; run += 1) {
      let changed = Buffer.from(image);
      for (let n = 1 + next(3); n > 0; n -= 1) {
        const at = place();
        switch (next(7)) {
          case 0: changed[at] = (changed[at] as number) ^ (1 << next(8)); break;
          case 1: changed.writeUInt32LE([0, 1, 0xffffffff, 0x7fffffff, 0x80000000, 44][next(6)] as number, at); break;
          case 2: changed.writeUInt16LE(next(65_536), at); break;
          case 3: changed.copy(changed, at, place(), place()); break;
          case 4: changed.writeBigUInt64LE([0n, 2n ** 63n, 2n ** 53n, 2n ** 32n, 2n ** 64n - 1n][next(5)] as bigint, at - (at % 8)); break;
          case 5: changed.copyWithin(at - (at % 32), (place() >> 5) << 5, ((place() >> 5) << 5) + 96); break;
          default: if (next(8) === 0) changed = changed.subarray(0, at) as Buffer<ArrayBuffer>;
        }
        if (changed.length < image.length) break;
      }
      // Most of the time the checksum must not be what finds it.
      if (next(8) > 0 && changed.length >= 1024 + 3072) seal(changed, blockSize);
      try {
        const { root } = await opened(changed);
        let names = 0;
        for (const { node } of walk(root)) {
          names += 1;
          if (node.type !== 'file') continue;
          let at = 0;
          for (const extent of node.extents) {
            assert.equal(extent.fileOffset, at);
            at += extent.length;
            if (extent.chunk.blob === 0) assert.ok(extent.chunk.offset + extent.chunk.length <= changed.length);
          }
          assert.equal(at, node.size);
        }
        assert.ok(names <= 20_001);
        codes.set('tree', (codes.get('tree') ?? 0) + 1);
      } catch (error) {
        assert.ok(error instanceof LazypullError, `run ${run}: ${String((error as Error).stack)}`);
        assert.ok(['CORRUPT', 'UNSUPPORTED', 'LIMIT'].includes(error.code), `run ${run}: ${error.code} ${error.message}`);
        codes.set(error.code, (codes.get(error.code) ?? 0) + 1);
      }
    }
    // Neither everything is refused nor everything taken.
    assert.ok((codes.get('tree') ?? 0) > 500 && (codes.get('CORRUPT') ?? 0) > 1000, JSON.stringify([...codes]));
  }
});

it('says what is wrong, and where', async () => {
  const good = await base(512);
  const root = (good.plan.superblock.rootNid as number) * 32;
  const many = inodeAt(good, 'many');
  const one = inodeAt(good, 'links/one');
  const chunks = inodeAt(good, 'chunks');
  const links = inodeAt(good, 'links');
  const est = inodeAt(good, 'deep/er/est');
  const slot = 1152;
  // The root's entries: `.`, `..`, chunks, deep, links, many, nodes.
  const entry = (i: number): number => root + 64 + i * 12;
  const names = root + 64 + good.image.readUInt16LE(root + 64 + 8);
  const cases: readonly (readonly [what: string, change: (image: Buffer) => void, code: string, message: RegExp, offset?: number])[] = [
    ['no image', (b) => b.writeUInt32LE(1, 1024), 'CORRUPT', /no EROFS image/, 1024],
    ['checksum', (b) => b.writeUInt32LE(1, 1028), 'CORRUPT', /checksum 0x1/, 1024],
    ['block size', (b) => b.writeUInt8(60, 1036), 'CORRUPT', /2\^60/, 1036],
    ['features', (b) => b.writeUInt32LE(0x200c, 1104), 'UNSUPPORTED', /unknown features 0x2000/, 1024],
    ['metabox', (b) => b.writeUInt32LE(0x10c, 1104), 'UNSUPPORTED', /METABOX/, 1024],
    ['directory blocks', (b) => b.writeUInt8(1, 1114), 'UNSUPPORTED', /directory blocks/],
    ['device table beyond the end', (b) => b.writeUInt16LE(0xffff, 1112), 'CORRUPT', /device table/, 0xffff * 128],
    ['too many devices', (b) => b.writeUInt16LE(0xffff, 1110), 'CORRUPT', /device table/, slot],
    ['root is a file', (b) => b.writeUInt16LE(chunks / 32, 1038), 'CORRUPT', /entry of type 2/, chunks],
    ['root outside', (b) => b.writeUInt16LE(0xffff, 1038), 'CORRUPT', /inode of nid 65535/, 0xffff * 32],
    ['metadata base outside', (b) => b.writeUInt32LE(0xffffff00, 1064), 'CORRUPT', /inode of nid/],
    ['shared attributes outside', (b) => b.writeUInt32LE(0xffffff00, 1068), 'CORRUPT', /shared attribute/],
    ['format bits', (b) => b.writeUInt16LE(0x8005, one), 'CORRUPT', /format 0x8005/, one],
    ['layout 7', (b) => b.writeUInt16LE(0xf, one), 'CORRUPT', /layout 7/, one],
    ['compressed', (b) => b.writeUInt16LE(0x3, chunks), 'UNSUPPORTED', /stored compressed/, chunks],
    ['no file type', (b) => b.writeUInt16LE(0o644, one + 4), 'CORRUPT', /entry of type 7/, one],
    ['size of 2^63', (b) => b.writeBigUInt64LE(2n ** 63n, chunks + 8), 'CORRUPT', /size of an inode/, chunks + 8],
    ['size of 2^52', (b) => b.writeBigUInt64LE(2n ** 52n, chunks + 8), 'LIMIT', /chunk indexes/, chunks],
    ['size of 2^30', (b) => b.writeBigUInt64LE(2n ** 30n, chunks + 8), 'CORRUPT', /chunk indexes reach outside/],
    ['directory of 2^40', (b) => b.writeBigUInt64LE(2n ** 40n, many + 8), 'CORRUPT', /reaches outside the image|names of a directory/],
    ['inline data across blocks', (b) => b.writeBigUInt64LE(511n, links + 8), 'CORRUPT', /across blocks/],
    ['target too long', (b) => b.writeBigUInt64LE(5000n, one + 8), 'CORRUPT', /symlink target of 5000|lies where/],
    ['nanoseconds', (b) => b.writeUInt32LE(2 ** 31, one + 40), 'CORRUPT', /time of an inode/, one],
    ['chunk format', (b) => b.writeUInt32LE(0x1_0020, chunks + 16), 'CORRUPT', /chunk format/, chunks],
    ['device 3', (b) => b.writeUInt16LE(3, chunkArray(b, chunks) + 2), 'CORRUPT', /device 3 of 2/],
    ['past the device', (b) => b.writeUInt32LE(8192, chunkArray(b, chunks) + 4), 'CORRUPT', /which has 8192/],
    ['past the primary', (b) => (b.writeUInt16LE(0, chunkArray(b, chunks) + 2), b.writeUInt32LE(0x7fff, chunkArray(b, chunks) + 4)), 'CORRUPT', /device|outside/],
    ['xattrs past the end', (b) => b.writeUInt16LE(0xffff, inodeAt(good, 'deep/er/est/file') + 2), 'CORRUPT', /extended attributes|lies where/],
    ['shared count', (b) => b.writeUInt8(200, chunks + 64 + 4), 'CORRUPT', /200 shared attributes/],
    ['shared id', (b) => b.writeUInt32LE(0xffffffff, chunks + 64 + 12), 'CORRUPT', /shared attribute/],
    ['xattr prefix', (b) => b.writeUInt8(77, chunks + 64 + 12 + 4 + 1), 'CORRUPT', /unknown prefix 77/],
    ['cycle', (b) => b.writeBigUInt64LE(BigInt(root / 32), entry(3)), 'CORRUPT', /directory has a second name/, entry(3)],
    ['directory twice', (b) => b.writeBigUInt64LE(BigInt(many / 32), entry(3)), 'CORRUPT', /second name/],
    ['nid past the end', (b) => b.writeBigUInt64LE(2n ** 40n, entry(3)), 'CORRUPT', /outside the image/],
    ['nid of 2^60', (b) => b.writeBigUInt64LE(2n ** 60n, entry(3)), 'CORRUPT', /nid is beyond/],
    ['overlapping inodes', (b) => b.writeBigUInt64LE(BigInt(many / 32 + 1), entry(3)), 'CORRUPT', /./],
    ['type of an entry', (b) => b.writeUInt8(9, entry(3) + 10), 'CORRUPT', /type 9/, entry(3)],
    ['name offset', (b) => b.writeUInt16LE(13, entry(0) + 8), 'CORRUPT', /begin at 13/],
    ['name offset backwards', (b) => b.writeUInt16LE(b.readUInt16LE(entry(2) + 8) - 1, entry(3) + 8), 'CORRUPT', /name from/],
    ['slash', (b) => b.write('/', names + 4), 'CORRUPT', /slash/, entry(2)],
    ['NUL', (b) => b.writeUInt8(0, names + 4), 'CORRUPT', /NUL/, entry(2)],
    ['unsorted', (b) => b.write('z', names + 3), 'CORRUPT', /not sorted/, entry(3)],
    ['twice the same', (b) => b.write('many' + 'z', names + 3 + 6 + 4), 'CORRUPT', /not sorted|appears twice|second|name/],
    ['cut off', () => undefined, 'CORRUPT', /outside the image/],
  ];
  for (const [what, change, code, message, offset] of cases) {
    const image = Buffer.from(good.image);
    change(image);
    if (what !== 'checksum' && image[1036] === 9) seal(image, 512);
    const given = what === 'cut off' ? image.subarray(0, est) : image;
    await assert.rejects(opened(given), (error: unknown) => {
      assert.ok(error instanceof LazypullError, `${what}: ${String(error)}`);
      assert.equal(error.code, code, `${what}: ${error.message}`);
      assert.match(error.message, message, what);
      assert.ok(error.offset !== undefined || code === 'LIMIT', `${what}: ${error.message} names no offset`);
      if (offset !== undefined) assert.equal(error.offset, offset, `${what}: ${error.message}`);
      return true;
    }, what);
  }
});

/** The chunk indexes behind an inode and its attributes. */
function chunkArray(image: Buffer, inode: number): number {
  const count = image.readUInt16LE(inode + 2);
  return inode + 64 + Math.ceil((count === 0 ? 0 : 12 + 4 * (count - 1)) / 8) * 8;
}

it('directories that share their blocks, and so stand for a great many names, are refused', async () => {
  const { plan, image } = await base(512);
  // `many` has blocks of its own; `links` is made to point to them, with the same size.
  const [many, links] = [inodeAt({ plan, image }, 'many'), inodeAt({ plan, image }, 'links')];
  image.copy(image, links + 16, many + 16, many + 20);
  image.writeBigUInt64LE(512n, links + 8);
  image.writeUInt16LE(0x1, links);
  await assert.rejects(opened(seal(image, 512)), { code: 'CORRUPT', message: /lies where something else is/ });
});

it('more names than allowed end the reading', async () => {
  const { image } = await base(4096);
  await assert.rejects(openErofs(new MemorySource(image), { maxNames: 40 }), { code: 'LIMIT' });
});

it('a source of 2^53 bytes that is all zeros behind the image costs nothing', async () => {
  const { plan, image } = await base(512);
  const big: ByteSource = {
    size: Number.MAX_SAFE_INTEGER,
    async read(offset, length) {
      const bytes = new Uint8Array(length);
      if (offset < image.length) bytes.set(image.subarray(offset, offset + length));
      return bytes;
    },
  };
  const chunks = inodeAt({ plan, image }, 'chunks');
  for (const size of [2n ** 40n, 2n ** 52n]) {
    image.writeBigUInt64LE(size, chunks + 8);
    await assert.rejects(openErofs(big), (error: unknown) => error instanceof LazypullError && ['CORRUPT', 'LIMIT'].includes(error.code));
  }
});

it('reads what it needs and no content; errors of the source come through; it can be cancelled', async () => {
  const { image } = await base(4096);
  const padded = Buffer.concat([image, Buffer.alloc(4 << 20)]);
  const source = new CountingSource(new MemorySource(padded));
  await openErofs(source);
  assert.ok(source.requests <= 2 && source.bytes <= 2 << 18, `${source.requests} reads of ${source.bytes} bytes`);
  const failing: ByteSource = { size: image.length, read: () => Promise.reject(new LazypullError('NETWORK', 'gone')) };
  await assert.rejects(openErofs(failing), { code: 'NETWORK' });
  await assert.rejects(openErofs(new MemorySource(image), { signal: AbortSignal.abort() }), { code: 'CANCELLED' });
});
