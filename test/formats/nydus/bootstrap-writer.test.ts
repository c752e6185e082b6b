import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { concat } from '../../../src/core/bytes.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import { MemorySource } from '../../../src/core/source.ts';
import type { DirectoryNode, FileNode } from '../../../src/core/types.ts';
import { openErofs } from '../../../src/erofs/read.ts';
import { viewOf } from '../../../src/erofs/struct.ts';
import { impliedDirectory } from '../../../src/layer/tree.ts';
import { Bootstrap, type NamedBlob } from '../../../formats/nydus/bootstrap-writer.ts';
import { CHUNK_ROW_SIZE, decodeChunkAddress, decodeChunkRow, type ChunkAddress } from '../../../formats/nydus/bootstrap-layout.ts';
import { BLOB_FEATURE } from '../../../formats/nydus/layout.ts';
import { refOf } from '../../../formats/nydus/layer-blobs.ts';
import { ChunkTable } from '../../../formats/nydus/layer-chunks.ts';
import type { NydusFile } from '../../../formats/nydus/layer-tree.ts';
import { readRafsHead } from '../../../formats/nydus/read-head.ts';

const SETTINGS = { chunkSize: 4096, compressor: 'zstd', digester: 'sha256' } as const;
const digestOfNumber = (n: number): Uint8Array => createHash('sha256').update(String(n)).digest();

function blobOf(id: number, chunks: number): NamedBlob {
  const table = new ChunkTable();
  for (let row = 0; row < chunks; row += 1) {
    table.add(digestOfNumber(id * 1e6 + row), 0, 4096);
    table.place(row, { offset: row * 100, size: 100, flags: 1 });
  }
  return {
    chunks: table,
    entry: {
      id: Buffer.from(digestOfNumber(-id)).toString('hex'), chunkSize: 4096, chunkCount: chunks, compressor: 3, digester: 1, features: BLOB_FEATURE.aligned | BLOB_FEATURE.inlinedChunkDigest, compressedSize: chunks * 100,
      uncompressedSize: table.uncompressedSize, tocSize: 0, contextCompressor: 0, contextOffset: chunks * 100, contextCompressedSize: chunks * 16, contextUncompressedSize: chunks * 16, tocDigest: new Uint8Array(32), metaDigest: new Uint8Array(32), metaSize: 0, cipher: 0,
    },
  };
}

const attributes = { mode: 0o644, uid: 0, gid: 0, mtime: { seconds: 1, nanoseconds: 2 }, xattrs: new Map() };
const fileWith = (chunks: NydusFile['chunks'], count: number): NydusFile => ({ ...attributes, type: 'file', size: count * 4096, extents: [], chunks });
const treeOf = (files: Record<string, FileNode>): DirectoryNode => ({ ...impliedDirectory(), children: new Map(Object.entries(files)) });

async function bytesOf(bootstrap: Bootstrap): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  await bootstrap.write(async (bytes) => void parts.push(new Uint8Array(bytes)));
  return concat(parts);
}

test('chunk numbers above 16 bits, blobs that no file needs, chunks that several files have', async () => {
  const many = 70_000;
  const blobs = [blobOf(1, 10), blobOf(2, 5), blobOf(3, many)];
  const root = treeOf({
    big: fileWith(Array.from({ length: many }, (_, row) => refOf(2, row)), many),
    mixed: fileWith([refOf(2, 69_999), refOf(0, 3)], 2),
    one: fileWith(refOf(0, 3), 1),
  });
  const bootstrap = new Bootstrap({ root, blobs, settings: SETTINGS });
  const bytes = await bytesOf(bootstrap);
  assert.equal(bytes.length, bootstrap.size);
  assert.deepEqual(bootstrap.used, [0, 2]);
  const head = await readRafsHead(new MemorySource(bytes));
  assert.deepEqual(head.problems, []);
  assert.deepEqual(head.blobs.map(({ id, index }) => ({ id, index })), [{ id: blobs[0]?.entry.id, index: 0 }, { id: blobs[2]?.entry.id, index: 1 }]);
  const addresses = new Map<string, ChunkAddress[]>();
  await openErofs(new MemorySource(bytes), {
    chunks: {
      chunkSize: 4096,
      extents: ({ path, indexes }) => {
        addresses.set(path, Array.from({ length: indexes.length / 8 }, (_, i) => decodeChunkAddress(viewOf(indexes), i * 8, 2, 0)));
        return [];
      },
    },
  });
  assert.deepEqual(addresses.get('mixed'), [{ blob: 1, index: 69_999, block: 69_999 }, { blob: 0, index: 3, block: 3 }]);
  assert.deepEqual(addresses.get('one'), [{ blob: 0, index: 3, block: 3 }]);
  assert.ok(addresses.get('big')?.every(({ blob, index, block }, i) => blob === 1 && index === i && block === i));
  const rows = Array.from({ length: head.chunkRows.length / CHUNK_ROW_SIZE }, (_, i) => decodeChunkRow(head.chunkRows.subarray(i * CHUNK_ROW_SIZE, (i + 1) * CHUNK_ROW_SIZE), 0));
  assert.equal(rows.length, many + 1);
  const shared = rows.find(({ blobIndex }) => blobIndex === 0);
  assert.deepEqual([shared?.index, shared?.fileOffset, shared?.compressedOffset, shared?.uncompressedOffset], [3, 4096, 300, 12_288]);
  for (let i = 1; i < rows.length; i += 1) assert.ok(Buffer.compare(rows[i - 1]?.digest ?? Buffer.alloc(0), rows[i]?.digest ?? Buffer.alloc(0)) < 0);
});

test('more blobs than a byte can name are LIMIT, as many as it can are not', async () => {
  const blobs = Array.from({ length: 255 }, (_, i) => blobOf(i, 1));
  const files = (count: number): DirectoryNode => treeOf(Object.fromEntries(Array.from({ length: count }, (_, i) => [`f${i}`, fileWith(refOf(i, 0), 1)])));
  assert.equal((await readRafsHead(new MemorySource(await bytesOf(new Bootstrap({ root: files(254), blobs, settings: SETTINGS }))))).blobs.length, 254);
  assert.throws(() => new Bootstrap({ root: files(255), blobs, settings: SETTINGS }), (error) => error instanceof LazypullError && error.code === 'LIMIT');
});

test('attributes that EROFS cannot hold are left out with a warning', () => {
  const root = treeOf({ odd: { ...fileWith(undefined, 0), xattrs: new Map([['system.nfs4_acl', new Uint8Array(4)]]) } });
  assert.match(new Bootstrap({ root, blobs: [], settings: SETTINGS }).warnings.join(), /system\.nfs4_acl of \/odd/);
});
