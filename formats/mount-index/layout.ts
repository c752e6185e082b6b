import { readU64LE } from '../../src/core/bytes.ts';
import { digestOf, isDigest, type Digest } from '../../src/core/digest.ts';
import { corrupt, LazypullError, printable } from '../../src/core/errors.ts';
import type { Compression } from '../../src/codec/compression.ts';
import { struct } from '../../src/erofs/struct.ts';
import { PieceTable } from './piece-table.ts';

// The blob about one layer: head (fixed part, table of pieces, digests of pieces), tree, windows. README.md has the byte map.

export const ARTIFACT_TYPE = 'application/vnd.lazypull.mount-index.v1+json';
/** Of the merged tree: an EROFS image without content, in one zstd frame. */
export const TREE_MEDIA_TYPE = 'application/vnd.lazypull.mount-index.tree.v1+zstd';
/** Of a blob about one layer. */
export const LAYER_MEDIA_TYPE = 'application/vnd.lazypull.mount-index.layer.v1';

/** On the descriptors of an artifact's blobs. */
export const ANNOTATION = {
  /** Digest of the image's layer that a blob is about. */
  layer: 'dev.lazypull.mount-index.layer',
  /** Size and digest of the head. */
  head: 'dev.lazypull.mount-index.head',
  /** Size and digest of the layer's tree, which follows the head. */
  tree: 'dev.lazypull.mount-index.tree',
  /** Never written: an image is not changed to name its mount index. */
  artifact: 'dev.lazypull.mount-index.digest',
  image: 'dev.lazypull.mount-index.image',
} as const;

/** Blocks of the merged tree: what tars are made of. */
export const BLOCK_SIZE = 512;

/** README.md has what spans of other sizes cost. */
export const DEFAULT_SPAN_SIZE = 32 << 10;
/** Where the content is kept beside the index, and few places are ever inflated from. */
export const LOCAL_SPAN_SIZE = 512 << 10;
/** So that what a span inflates to is a whole window for the next one. */
export const MIN_SPAN_SIZE = 32 << 10;
export const MAX_SPAN_SIZE = 16 << 20;
/** Pieces of one layer: 32 GiB in the smallest spans. */
export const MAX_PIECES = 1 << 20;
/** What can only be inflated as one: more than this, stored or inflated, and the layer is read from its start. */
export const MAX_UNIT = 32 << 20;

export interface MountIndexOptions {
  /** Bytes of plain tar that are fetched at a time, at least; default 32 KiB. */
  readonly spanSize?: number;
}

const MAGIC = Buffer.from('LPMNTIDX');
const VERSION = 1;
const HEAD_SIZE = 56;
const HEAD = struct(HEAD_SIZE, { magic: 8, version: 1, compression: 1, reserved: 2, entries: 4, packedSize: 8, tarSize: 8, windowsSize: 8, treeSize: 4, plainTreeSize: 4, pieces: 4, tableSize: 4 });
const COMPRESSIONS: readonly Compression[] = ['none', 'gzip', 'zstd'];
const DIGEST_SIZE = 32;
/** Bytes of a piece in the table, at most: three numbers of up to nine bytes. */
const MAX_ROW = 27;
/** Largest head that is read; follows from the number of pieces. */
const MAX_HEAD = HEAD_SIZE + MAX_PIECES * (MAX_ROW + DIGEST_SIZE);
/** Largest tree of a layer, packed and not; 12 and 30 bytes per file are usual. */
const MAX_TREE = 64 << 20;
export const MAX_PLAIN_TREE = 256 << 20;

/** The fixed part of a head, without what tells where its own parts end. */
export interface LayerFacts {
  /** How the layer is stored. */
  readonly compression: Compression;
  /** Entries of the tar. */
  readonly entries: number;
  /** Bytes of the layer as stored. */
  readonly packedSize: number;
  /** Bytes of the plain tar, padding behind it included. */
  readonly tarSize: number;
  /** Bytes of the packed tree, and of the tree. */
  readonly treeSize: number;
  readonly plainTreeSize: number;
}

export interface LayerHead extends LayerFacts {
  readonly pieces: PieceTable;
  /** Bytes of the head itself. */
  readonly size: number;
}

/** Size and digest of a part of a blob. */
export interface Part {
  readonly size: number;
  readonly digest: Digest;
}

export function encodeHead(facts: LayerFacts, pieces: PieceTable): Uint8Array {
  const table = pieces.encode();
  const bytes = Buffer.alloc(HEAD_SIZE + table.length + pieces.digests.length);
  MAGIC.copy(bytes, HEAD.magic);
  bytes.writeUInt8(VERSION, HEAD.version);
  bytes.writeUInt8(COMPRESSIONS.indexOf(facts.compression), HEAD.compression);
  bytes.writeUInt32LE(facts.entries, HEAD.entries);
  bytes.writeBigUInt64LE(BigInt(facts.packedSize), HEAD.packedSize);
  bytes.writeBigUInt64LE(BigInt(facts.tarSize), HEAD.tarSize);
  bytes.writeBigUInt64LE(BigInt(pieces.windowsSize), HEAD.windowsSize);
  bytes.writeUInt32LE(facts.treeSize, HEAD.treeSize);
  bytes.writeUInt32LE(facts.plainTreeSize, HEAD.plainTreeSize);
  bytes.writeUInt32LE(pieces.count, HEAD.pieces);
  bytes.writeUInt32LE(table.length, HEAD.tableSize);
  bytes.set(table, HEAD_SIZE);
  bytes.set(pieces.digests, HEAD_SIZE + table.length);
  return bytes;
}

/** `what` names the blob in messages. CORRUPT for anything that `encodeHead` would not write. */
export function decodeHead(bytes: Uint8Array, what: string): LayerHead {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (buffer.length < HEAD_SIZE || !buffer.subarray(0, MAGIC.length).equals(MAGIC)) throw corrupt(`${what} is no mount index of a layer`);
  const version = buffer.readUInt8(HEAD.version);
  if (version !== VERSION) throw new LazypullError('UNSUPPORTED', `${what} is a mount index of version ${version}`);
  const compression = COMPRESSIONS[buffer.readUInt8(HEAD.compression)];
  if (compression === undefined || buffer.readUInt16LE(HEAD.reserved) !== 0) throw corrupt(`${what} is about a layer that is stored in an unknown way`, { offset: HEAD.compression });
  const count = buffer.readUInt32LE(HEAD.pieces);
  const tableSize = buffer.readUInt32LE(HEAD.tableSize);
  if (count > MAX_PIECES) throw new LazypullError('LIMIT', `${what} has ${count} pieces, more than the ${MAX_PIECES} allowed`, { offset: HEAD.pieces });
  if (buffer.length !== HEAD_SIZE + tableSize + count * DIGEST_SIZE) throw corrupt(`${what} has a head of ${buffer.length} bytes, which is not what its ${count} pieces take`);
  const packedSize = readU64LE(buffer, HEAD.packedSize, `${what}: size of the layer`);
  const tarSize = readU64LE(buffer, HEAD.tarSize, `${what}: size of the tar`);
  const digestsAt = HEAD_SIZE + tableSize;
  const pieces = PieceTable.decode(buffer.subarray(HEAD_SIZE, digestsAt), buffer.subarray(digestsAt), { compression, count, packedSize, tarSize, what });
  if (pieces.windowsSize !== readU64LE(buffer, HEAD.windowsSize, `${what}: size of the windows`)) throw corrupt(`${what}: its windows do not add up`, { offset: HEAD.windowsSize });
  return {
    compression,
    entries: buffer.readUInt32LE(HEAD.entries),
    packedSize,
    tarSize,
    treeSize: buffer.readUInt32LE(HEAD.treeSize),
    plainTreeSize: buffer.readUInt32LE(HEAD.plainTreeSize),
    pieces,
    size: buffer.length,
  };
}

/** Bytes of the head that begins a blob; CORRUPT when it does not hold one. */
export function headSize(blob: Uint8Array, what: string): number {
  if (blob.length < HEAD_SIZE) throw corrupt(`${what} has ${blob.length} bytes`);
  const buffer = Buffer.from(blob.buffer, blob.byteOffset, HEAD_SIZE);
  const size = HEAD_SIZE + buffer.readUInt32LE(HEAD.tableSize) + buffer.readUInt32LE(HEAD.pieces) * DIGEST_SIZE;
  if (size > blob.length) throw corrupt(`${what} has ${blob.length} bytes, and a head of ${size}`);
  return size;
}

export function partOf(bytes: Uint8Array): Part {
  return { size: bytes.length, digest: digestOf(bytes) };
}

/** `12345 sha256:...` */
export function encodePart({ size, digest }: Part): string {
  return `${size} ${digest}`;
}

/** CORRUPT for anything else, LIMIT for more than is ever read. */
export function decodePart(text: string | undefined, key: typeof ANNOTATION.head | typeof ANNOTATION.tree, what: string): Part {
  const [, number = '', digest] = /^([1-9]\d{0,15}) (.*)$/.exec(text ?? '') ?? [];
  const size = Number(number);
  if (!isDigest(digest) || !Number.isSafeInteger(size)) throw corrupt(`${what} has no size and digest in its annotation ${key}${text === undefined ? '' : `: ${printable(text.slice(0, 200))}`}`);
  const limit = key === ANNOTATION.head ? MAX_HEAD : MAX_TREE;
  if (size > limit) throw new LazypullError('LIMIT', `${what} says that ${size} bytes of it are one part, more than the ${limit} allowed`);
  return { size, digest };
}
