import { asBuffer, readI64, readU64, struct } from '../../src/erofs/struct.ts';

// RAFS v5 (§15), which is only read: no EROFS image. Everything begins at a multiple of 8; chunk rows are those of v6.

const MAGIC = 0x5241_4653;
const VERSION = 0x500;
export const V5_SUPERBLOCK_SIZE = 8192;
export const V5_INODE_SIZE = 128;
export const V5_BLOB_EXTENSION_SIZE = 64;
export const V5_ALIGNMENT = 8;
/** Inode table entries are offsets in this unit. */
export const V5_OFFSET_UNIT = 8;

const SUPERBLOCK = struct(V5_SUPERBLOCK_SIZE, {
  magic: 4,
  version: 4,
  size: 4,
  chunkSize: 4,
  flags: 8,
  inodes: 8,
  inodeTableOffset: 8,
  prefetchTableOffset: 8,
  blobTableOffset: 8,
  inodeTableEntries: 4,
  prefetchTableEntries: 4,
  blobTableSize: 4,
  blobExtensions: 4,
  blobExtensionsOffset: 8,
  reserved: V5_SUPERBLOCK_SIZE - 80,
});

export interface V5Superblock {
  readonly size: number;
  readonly chunkSize: number;
  /** RAFS_FLAG. */
  readonly flags: number;
  readonly inodeTableOffset: number;
  readonly prefetchTableOffset: number;
  readonly blobTableOffset: number;
  readonly inodeTableEntries: number;
  readonly prefetchTableEntries: number;
  /** Bytes. */
  readonly blobTableSize: number;
  readonly blobExtensions: number;
  readonly blobExtensionsOffset: number;
}

/** Whether a bootstrap is one of v5. */
export function isV5(bytes: Uint8Array): boolean {
  const buffer = asBuffer(bytes);
  return buffer.length >= 8 && buffer.readUInt32LE(SUPERBLOCK.magic) === MAGIC && buffer.readUInt32LE(SUPERBLOCK.version) === VERSION;
}

/** `bytes` are the first V5_SUPERBLOCK_SIZE at least. */
export function decodeV5Superblock(bytes: Uint8Array): V5Superblock {
  const buffer = asBuffer(bytes);
  const at = SUPERBLOCK;
  const u64 = (field: number, what: string): number => readU64(buffer, field, what, 0);
  return {
    size: buffer.readUInt32LE(at.size),
    chunkSize: buffer.readUInt32LE(at.chunkSize),
    flags: u64(at.flags, 'RAFS flags'),
    inodeTableOffset: u64(at.inodeTableOffset, 'inode table offset'),
    prefetchTableOffset: u64(at.prefetchTableOffset, 'prefetch table offset'),
    blobTableOffset: u64(at.blobTableOffset, 'blob table offset'),
    inodeTableEntries: buffer.readUInt32LE(at.inodeTableEntries),
    prefetchTableEntries: buffer.readUInt32LE(at.prefetchTableEntries),
    blobTableSize: buffer.readUInt32LE(at.blobTableSize),
    blobExtensions: buffer.readUInt32LE(at.blobExtensions),
    blobExtensionsOffset: u64(at.blobExtensionsOffset, 'offset of the extended blob table'),
  };
}

const BLOB_EXTENSION = struct(V5_BLOB_EXTENSION_SIZE, { chunkCount: 4, features: 4, uncompressedSize: 8, compressedSize: 8, reserved: 40 });

export interface V5BlobExtension {
  readonly chunkCount: number;
  readonly features: number;
  readonly uncompressedSize: number;
  readonly compressedSize: number;
}

export function decodeV5BlobExtension(bytes: Uint8Array, base: number): V5BlobExtension {
  const buffer = asBuffer(bytes);
  return {
    chunkCount: buffer.readUInt32LE(BLOB_EXTENSION.chunkCount),
    features: buffer.readUInt32LE(BLOB_EXTENSION.features),
    uncompressedSize: readU64(buffer, BLOB_EXTENSION.uncompressedSize, 'uncompressed size of a blob', base),
    compressedSize: readU64(buffer, BLOB_EXTENSION.compressedSize, 'stored size of a blob', base),
  };
}

const INODE = struct(V5_INODE_SIZE, {
  digest: 32,
  parent: 8,
  ino: 8,
  uid: 4,
  gid: 4,
  projectId: 4,
  mode: 4,
  size: 8,
  blocks: 8,
  flags: 8,
  nlink: 4,
  childIndex: 4,
  childCount: 4,
  nameSize: 2,
  symlinkSize: 2,
  rdev: 4,
  mtimeNsec: 4,
  mtime: 8,
  reserved: 8,
});

export const V5_INODE_FLAG = { symlink: 0x1, hardlink: 0x2, xattr: 0x4, hasHole: 0x8 } as const;

/** Behind it: name, symlink target and xattrs, each filled up to a multiple of 8, then the chunk rows of a file. */
export interface V5Inode {
  /** Names of one hard-linked file have inodes of their own with this number in common. */
  readonly ino: number;
  readonly uid: number;
  readonly gid: number;
  /** With S_IFMT bits. */
  readonly mode: number;
  readonly size: number;
  /** V5_INODE_FLAG. */
  readonly flags: number;
  readonly nlink: number;
  /** Number of the first child, from 1. */
  readonly childIndex: number;
  /** Children of a directory, chunks of a file. */
  readonly childCount: number;
  readonly nameSize: number;
  readonly symlinkSize: number;
  readonly rdev: number;
  readonly mtime: { readonly seconds: number; readonly nanoseconds: number };
}

export function decodeV5Inode(bytes: Uint8Array, base: number): V5Inode {
  const buffer = asBuffer(bytes);
  const u32 = (at: number): number => buffer.readUInt32LE(at);
  return {
    ino: readU64(buffer, INODE.ino, 'inode number', base),
    uid: u32(INODE.uid),
    gid: u32(INODE.gid),
    mode: u32(INODE.mode),
    size: readU64(buffer, INODE.size, 'size of an inode', base),
    flags: u32(INODE.flags),
    nlink: u32(INODE.nlink),
    childIndex: u32(INODE.childIndex),
    childCount: u32(INODE.childCount),
    nameSize: buffer.readUInt16LE(INODE.nameSize),
    symlinkSize: buffer.readUInt16LE(INODE.symlinkSize),
    rdev: u32(INODE.rdev),
    mtime: { seconds: readI64(buffer, INODE.mtime, 'time of an inode', base), nanoseconds: u32(INODE.mtimeNsec) },
  };
}
