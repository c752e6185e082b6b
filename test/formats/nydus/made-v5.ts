import { createHash } from 'node:crypto';
import { roundUp } from '../../../src/core/bytes.ts';
import { CHUNK_ROW_FLAG, encodeChunkRow } from '../../../formats/nydus/bootstrap-layout.ts';
import { RAFS_FLAG } from '../../../formats/nydus/layout.ts';
import { V5_INODE_FLAG, V5_INODE_SIZE, V5_SUPERBLOCK_SIZE } from '../../../formats/nydus/v5-layout.ts';

/** A node of a v5 image; `content` is cut into chunks of `CHUNK`, `null` is a hole of one chunk. */
export interface V5Node {
  readonly name: string;
  readonly mode: number;
  readonly ino?: number;
  readonly nlink?: number;
  readonly content?: readonly (Uint8Array | null)[];
  readonly target?: string;
  readonly rdev?: number;
  readonly xattrs?: Readonly<Record<string, string>>;
  readonly children?: readonly V5Node[];
}

export const CHUNK = 4096;
export const BLOB_ID = 'b'.repeat(64);

/** A bootstrap of RAFS v5 with plain chunks, and its blob: written by the notes alone, no writer of v5 is part of lazypull. */
export function madeV5(root: V5Node, prefetch: readonly number[] = []): { bootstrap: Uint8Array; blob: Uint8Array } {
  const order: V5Node[] = [root];
  const firstChild = new Map<V5Node, number>();
  for (let i = 0; i < order.length; i += 1) {
    const node = order[i] as V5Node;
    if (!node.children) continue;
    firstChild.set(node, order.length + 1);
    order.push(...node.children);
  }
  const data: Uint8Array[] = [];
  let stored = 0;
  const inodes = order.map((node, i) => {
    const rows: Uint8Array[] = [];
    let size = 0;
    for (const [at, piece] of (node.content ?? []).entries()) {
      const length = piece?.length ?? CHUNK;
      rows.push(encodeChunkRow({
        digest: createHash('sha256').update(piece ?? new Uint8Array(length)).digest(), blobIndex: 0, flags: piece ? 0 : CHUNK_ROW_FLAG.hole, compressedSize: piece ? length : 0, uncompressedSize: length,
        compressedOffset: piece ? stored : 0, uncompressedOffset: at * CHUNK, fileOffset: size, index: at, crc32: 0,
      }));
      if (piece) {
        data.push(piece);
        stored += length;
      }
      size += length;
    }
    return encodeInode(node, i + 1, { size: node.target?.length ?? size, rows, firstChild: firstChild.get(node) ?? 0 });
  });
  const tableAt = V5_SUPERBLOCK_SIZE;
  const prefetchAt = roundUp(tableAt + order.length * 4, 8);
  const blobsAt = roundUp(prefetchAt + prefetch.length * 4, 8);
  const extensionsAt = roundUp(blobsAt + 8 + 64, 8);
  let at = extensionsAt + 64;
  const starts = inodes.map((bytes) => (at += bytes.length) - bytes.length);
  const bootstrap = Buffer.alloc(at);
  const head = [0x5241_4653, 0x500, V5_SUPERBLOCK_SIZE, CHUNK];
  for (const [i, value] of head.entries()) bootstrap.writeUInt32LE(value, i * 4);
  const wide = [RAFS_FLAG.compressNone | RAFS_FLAG.digestSha256, order.length, tableAt, prefetchAt, blobsAt];
  for (const [i, value] of wide.entries()) bootstrap.writeBigUInt64LE(BigInt(value), 16 + i * 8);
  for (const [i, value] of [order.length, prefetch.length, 8 + 64, 1].entries()) bootstrap.writeUInt32LE(value, 56 + i * 4);
  bootstrap.writeBigUInt64LE(BigInt(extensionsAt), 72);
  for (const [i, start] of starts.entries()) bootstrap.writeUInt32LE(start / 8, tableAt + i * 4);
  for (const [i, number] of prefetch.entries()) bootstrap.writeUInt32LE(number, prefetchAt + i * 4);
  bootstrap.write(BLOB_ID, blobsAt + 8, 'latin1');
  bootstrap.writeBigUInt64LE(BigInt(stored), extensionsAt + 16);
  for (const [i, bytes] of inodes.entries()) bytes.copy(bootstrap, starts[i]);
  return { bootstrap, blob: Buffer.concat(data) };
}

function encodeInode(node: V5Node, number: number, { size, rows, firstChild }: { size: number; rows: readonly Uint8Array[]; firstChild: number }): Buffer {
  const name = Buffer.from(node.name);
  const target = Buffer.from(node.target ?? '');
  const pairs = Object.entries(node.xattrs ?? {}).map(([key, value]) => {
    const pair = Buffer.from(`${key}\0${value}`);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(pair.length);
    return Buffer.concat([length, pair]);
  });
  const bytes = Buffer.alloc(V5_INODE_SIZE);
  bytes.writeBigUInt64LE(BigInt(node.ino ?? number), 40);
  for (const [i, value] of [1000, 1001, 0, node.mode].entries()) bytes.writeUInt32LE(value, 48 + i * 4);
  bytes.writeBigUInt64LE(BigInt(size), 64);
  const flags = (node.target === undefined ? 0 : V5_INODE_FLAG.symlink) | (pairs.length > 0 ? V5_INODE_FLAG.xattr : 0);
  bytes.writeBigUInt64LE(BigInt(flags), 80);
  for (const [i, value] of [node.nlink ?? 1, firstChild, node.children?.length ?? rows.length].entries()) bytes.writeUInt32LE(value, 88 + i * 4);
  bytes.writeUInt16LE(name.length, 100);
  bytes.writeUInt16LE(target.length, 102);
  bytes.writeUInt32LE(node.rdev ?? 0, 104);
  bytes.writeUInt32LE(5, 108);
  bytes.writeBigInt64LE(-7n, 112);
  const area = Buffer.concat(pairs);
  const sized = Buffer.alloc(8);
  sized.writeUInt32LE(area.length);
  return Buffer.concat([bytes, padded(name), ...(node.target === undefined ? [] : [padded(target)]), ...(pairs.length > 0 ? [sized, padded(area)] : []), ...rows]);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(roundUp(bytes.length, 8) - bytes.length)]);
}
