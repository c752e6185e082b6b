import { corrupt, LazypullError } from '../core/errors.ts';
import type { Time } from '../core/types.ts';
import { crc32c } from './crc32c.ts';
import { asBuffer, readI64, readU64, struct, viewOf, write64 } from './struct.ts';

// EROFS on disk (Linux fs/erofs/erofs_fs.h), uncompressed. All numbers are little-endian; section numbers are those of notes on
// the format (docs.kernel.org/filesystems/erofs.html and erofs.docs.kernel.org say the same).

export const MAGIC = 0xe0f5e1e2;
/** What is in front of the superblock is ignored (boot area). */
export const SUPERBLOCK_OFFSET = 1024;
export const SUPERBLOCK_SIZE = 128;
/** Inodes start at multiples of this from the metadata base: the unit of node ids. */
export const SLOT_SIZE = 32;
export const DEVICE_SLOT_SIZE = 128;
export const COMPACT_INODE_SIZE = 32;
export const EXTENDED_INODE_SIZE = 64;
export const DIRENT_SIZE = 12;
export const XATTR_HEADER_SIZE = 12;
export const XATTR_ENTRY_SIZE = 4;
export const CHUNK_INDEX_SIZE = 8;
export const BLOCK_MAP_SIZE = 4;
/** Bytes; NAME_MAX of Linux. */
export const MAX_NAME_SIZE = 255;
/** Bytes; PATH_MAX of Linux without its NUL. */
export const MAX_TARGET_SIZE = 4095;
/** "No block": a hole, or a start block that means nothing. */
export const NULL_BLOCK = 0xffff_ffff;

export const COMPAT = {
  checksum: 0x1,
  /** Times are those of modification. */
  mtime: 0x2,
  xattrFilter: 0x4,
  plainXattrPrefixes: 0x10,
  /** Nydus' mark for RAFS v6. */
  rafs: 0x4000_0000,
} as const;

/** Features that a reader has to know. */
export const INCOMPAT = {
  lz4ZeroPadding: 0x1,
  compressionConfigs: 0x2,
  chunkedFile: 0x4,
  /** Means COMPR_HEAD2 in an image without extra devices. */
  deviceTable: 0x8,
  tailPacking: 0x10,
  fragments: 0x20,
  xattrPrefixes: 0x40,
  bits48: 0x80,
  metabox: 0x100,
} as const;

/** Bits 1..3 of i_format. */
export const LAYOUT = { flatPlain: 0, compressedFull: 1, flatInline: 2, compressedCompact: 3, chunkBased: 4 } as const;

/** Bits of a chunk-based inode's format word, above the exponent in bits 0..4. */
export const CHUNK_FORMAT = { exponentMask: 0x1f, indexes: 0x20, bits48: 0x40 } as const;

export const FILE_TYPE = { unknown: 0, file: 1, directory: 2, char: 3, block: 4, fifo: 5, socket: 6, symlink: 7 } as const;

/** S_IFMT and its values, in the order of FILE_TYPE. */
const MODE_OF_TYPE = [0, 0o100000, 0o040000, 0o020000, 0o060000, 0o010000, 0o140000, 0o120000] as const;

export const XATTR_PREFIXES: ReadonlyMap<number, string> = new Map([
  [1, 'user.'],
  [2, 'system.posix_acl_access'],
  [3, 'system.posix_acl_default'],
  [4, 'trusted.'],
  [6, 'security.'],
]);
/** Name indexes from here on count the long prefixes of the image. */
export const LONG_PREFIX = 0x80;

// ---- Superblock (§2) ----

const SUPERBLOCK = struct(SUPERBLOCK_SIZE, {
  magic: 4,
  checksum: 4,
  featureCompat: 4,
  blkszbits: 1,
  extSlots: 1,
  /** With 48BIT the high 16 bits of the block count. */
  rootNid: 2,
  inos: 8,
  epoch: 8,
  fixedNsec: 4,
  blocksLow: 4,
  metaBlkaddr: 4,
  xattrBlkaddr: 4,
  uuid: 16,
  volumeName: 16,
  featureIncompat: 4,
  /** Available algorithms, or the LZ4 distance; 0 when nothing is compressed. */
  compression: 2,
  extraDevices: 2,
  /** Device table offset / 128. */
  devtSlotoff: 2,
  dirblkbits: 1,
  xattrPrefixCount: 1,
  /** Offset of the long xattr prefixes / 4. */
  xattrPrefixStart: 4,
  packedNid: 8,
  xattrFilterReserved: 1,
  ishareXattrPrefixId: 1,
  reserved: 2,
  buildTime: 4,
  /** With 48BIT. */
  rootNid8b: 8,
  reserved2: 8,
});

export interface Superblock {
  readonly featureCompat: number;
  readonly featureIncompat: number;
  /** Bytes per block. */
  readonly blockSize: number;
  readonly rootNid: number;
  /** Number of inodes; nothing depends on it. */
  readonly inodes: number;
  /** Time of compact inodes. */
  readonly epoch: Time;
  /** Blocks of the primary. */
  readonly blocks: number;
  readonly metaBlock: number;
  readonly xattrBlock: number;
  /** 16 bytes. */
  readonly uuid: Uint8Array;
  /** At most 16 bytes. */
  readonly volumeName: string;
  readonly extraDevices: number;
  /** Bytes. */
  readonly deviceTable: number;
  readonly xattrPrefixCount: number;
  /** Bytes. */
  readonly xattrPrefixes: number;
  readonly packedNid: number;
}

/** The checksum field stays 0; `sealSuperblock` fills it in. */
export function encodeSuperblock(sb: Superblock): Uint8Array {
  const bytes = Buffer.alloc(SUPERBLOCK_SIZE);
  const view = viewOf(bytes);
  const at = SUPERBLOCK;
  bytes.writeUInt32LE(MAGIC, at.magic);
  bytes.writeUInt32LE(sb.featureCompat, at.featureCompat);
  bytes.writeUInt8(Math.log2(sb.blockSize), at.blkszbits);
  bytes.writeUInt16LE(sb.rootNid, at.rootNid);
  write64(view, at.inos, sb.inodes);
  write64(view, at.epoch, sb.epoch.seconds);
  bytes.writeUInt32LE(sb.epoch.nanoseconds, at.fixedNsec);
  bytes.writeUInt32LE(sb.blocks, at.blocksLow);
  bytes.writeUInt32LE(sb.metaBlock, at.metaBlkaddr);
  bytes.writeUInt32LE(sb.xattrBlock, at.xattrBlkaddr);
  bytes.set(sb.uuid.subarray(0, 16), at.uuid);
  bytes.write(sb.volumeName, at.volumeName, 16, 'utf8');
  bytes.writeUInt32LE(sb.featureIncompat, at.featureIncompat);
  bytes.writeUInt16LE(sb.extraDevices, at.extraDevices);
  bytes.writeUInt16LE(sb.deviceTable / DEVICE_SLOT_SIZE, at.devtSlotoff);
  bytes.writeUInt8(sb.xattrPrefixCount, at.xattrPrefixCount);
  bytes.writeUInt32LE(sb.xattrPrefixes / 4, at.xattrPrefixStart);
  write64(view, at.packedNid, sb.packedNid);
  return bytes;
}

/** `bytes` are those from the superblock's first on. */
export function decodeSuperblock(bytes: Uint8Array): Superblock & { readonly checksum: number } {
  const buffer = asBuffer(bytes);
  const at = SUPERBLOCK;
  const here = (field: number): { offset: number } => ({ offset: SUPERBLOCK_OFFSET + field });
  const magic = buffer.readUInt32LE(at.magic);
  if (magic !== MAGIC) throw corrupt(`no EROFS image: the magic number is 0x${magic.toString(16)}`, here(at.magic));
  const featureIncompat = buffer.readUInt32LE(at.featureIncompat);
  const blkszbits = buffer.readUInt8(at.blkszbits);
  if (blkszbits < 9 || blkszbits > 16) throw corrupt(`block size of 2^${blkszbits} bytes`, here(at.blkszbits));
  if (buffer.readUInt8(at.dirblkbits) !== 0) throw new LazypullError('UNSUPPORTED', 'EROFS image with directory blocks of their own size', here(at.dirblkbits));
  const wide = (featureIncompat & INCOMPAT.bits48) !== 0;
  const name = buffer.subarray(at.volumeName, at.volumeName + 16);
  const end = name.indexOf(0);
  return {
    checksum: buffer.readUInt32LE(at.checksum),
    featureCompat: buffer.readUInt32LE(at.featureCompat),
    featureIncompat,
    blockSize: 2 ** blkszbits,
    rootNid: wide ? readU64(buffer, at.rootNid8b, 'root nid', SUPERBLOCK_OFFSET) : buffer.readUInt16LE(at.rootNid),
    inodes: readU64(buffer, at.inos, 'number of inodes', SUPERBLOCK_OFFSET),
    epoch: { seconds: readI64(buffer, at.epoch, 'epoch', SUPERBLOCK_OFFSET), nanoseconds: buffer.readUInt32LE(at.fixedNsec) },
    blocks: buffer.readUInt32LE(at.blocksLow) + (wide ? buffer.readUInt16LE(at.rootNid) * 2 ** 32 : 0),
    metaBlock: buffer.readUInt32LE(at.metaBlkaddr),
    xattrBlock: buffer.readUInt32LE(at.xattrBlkaddr),
    uuid: Uint8Array.from(buffer.subarray(at.uuid, at.uuid + 16)),
    volumeName: name.toString('utf8', 0, end < 0 ? 16 : end),
    extraDevices: (featureIncompat & INCOMPAT.deviceTable) === 0 ? 0 : buffer.readUInt16LE(at.extraDevices),
    deviceTable: buffer.readUInt16LE(at.devtSlotoff) * DEVICE_SLOT_SIZE,
    xattrPrefixCount: (featureIncompat & INCOMPAT.xattrPrefixes) === 0 ? 0 : buffer.readUInt8(at.xattrPrefixCount),
    xattrPrefixes: buffer.readUInt32LE(at.xattrPrefixStart) * 4,
    packedNid: (featureIncompat & INCOMPAT.fragments) === 0 ? 0 : readU64(buffer, at.packedNid, 'packed nid', SUPERBLOCK_OFFSET),
  };
}

/** Bytes from the superblock's first on that its checksum covers (§3). */
export function checksumSpan(blockSize: number): number {
  return blockSize > SUPERBLOCK_OFFSET ? blockSize - SUPERBLOCK_OFFSET : blockSize;
}

/** CRC-32C without the final inversion over `checksumSpan` bytes, the field itself taken as 0. */
export function superblockChecksum(bytes: Uint8Array): number {
  const zero = new Uint8Array(4);
  const head = crc32c(bytes.subarray(0, SUPERBLOCK.checksum));
  return ~crc32c(bytes.subarray(SUPERBLOCK.checksum + 4), crc32c(zero, head)) >>> 0;
}

/** Puts the checksum in place. */
export function sealSuperblock(bytes: Uint8Array): void {
  asBuffer(bytes).writeUInt32LE(superblockChecksum(bytes), SUPERBLOCK.checksum);
}

// ---- Device slots (§9) ----

const DEVICE_SLOT = struct(DEVICE_SLOT_SIZE, { tag: 64, blocksLow: 4, uniaddrLow: 4, blocksHigh: 2, uniaddrHigh: 2, reserved: 52 });

export interface DeviceSlot {
  /** At most 64 bytes; nobody checks it against anything. */
  readonly tag: string;
  /** Size in blocks. */
  readonly blocks: number;
  /** Where the device's first block is when primary and devices are taken as one (in blocks). */
  readonly address: number;
}

export function encodeDeviceSlot(slot: DeviceSlot): Uint8Array {
  const bytes = Buffer.alloc(DEVICE_SLOT_SIZE);
  bytes.write(slot.tag, DEVICE_SLOT.tag, 64, 'utf8');
  bytes.writeUInt32LE(slot.blocks % 2 ** 32, DEVICE_SLOT.blocksLow);
  bytes.writeUInt32LE(slot.address % 2 ** 32, DEVICE_SLOT.uniaddrLow);
  bytes.writeUInt16LE(Math.floor(slot.blocks / 2 ** 32), DEVICE_SLOT.blocksHigh);
  bytes.writeUInt16LE(Math.floor(slot.address / 2 ** 32), DEVICE_SLOT.uniaddrHigh);
  return bytes;
}

/** The high parts count in 48BIT images only: in others the place was reserved. */
export function decodeDeviceSlot(bytes: Uint8Array, wide: boolean): DeviceSlot {
  const buffer = asBuffer(bytes);
  const high = wide ? 2 ** 32 : 0;
  const tag = buffer.subarray(DEVICE_SLOT.tag, DEVICE_SLOT.tag + 64);
  const end = tag.indexOf(0);
  return {
    tag: tag.toString('utf8', 0, end < 0 ? 64 : end),
    blocks: buffer.readUInt32LE(DEVICE_SLOT.blocksLow) + high * buffer.readUInt16LE(DEVICE_SLOT.blocksHigh),
    address: buffer.readUInt32LE(DEVICE_SLOT.uniaddrLow) + high * buffer.readUInt16LE(DEVICE_SLOT.uniaddrHigh),
  };
}

// ---- Small structs: chunk indexes (§8), directory entries (§10), extended attributes (§12) ----

export const CHUNK_INDEX = struct(CHUNK_INDEX_SIZE, { startHigh: 2, deviceId: 2, startLow: 4 });
export const DIRENT = struct(DIRENT_SIZE, { nid: 8, nameoff: 2, fileType: 1, reserved: 1 });
export const XATTR_HEADER = struct(XATTR_HEADER_SIZE, { nameFilter: 4, sharedCount: 1, reserved: 7 });
export const XATTR_ENTRY = struct(XATTR_ENTRY_SIZE, { nameLength: 1, nameIndex: 1, valueSize: 2 });

export function encodeDirent(view: DataView, at: number, nid: number, nameoff: number, fileType: number): void {
  view.setUint32(at + DIRENT.nid, nid % 2 ** 32, true);
  view.setUint32(at + DIRENT.nid + 4, Math.floor(nid / 2 ** 32), true);
  view.setUint16(at + DIRENT.nameoff, nameoff, true);
  view.setUint16(at + DIRENT.fileType, fileType, true);
}

// ---- Numbers ----

/** S_IFMT bits of a FILE_TYPE. */
export function modeOfType(fileType: number): number {
  return MODE_OF_TYPE[fileType] ?? 0;
}

/** The FILE_TYPE of a mode with S_IFMT bits; `unknown` for bits that mean nothing. */
export function typeOfMode(mode: number): number {
  const type = MODE_OF_TYPE.indexOf((mode & 0o170000) as 0);
  return type < 0 ? FILE_TYPE.unknown : type;
}

/** Linux' new-style device number (§11). */
export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

export function decodeDevice(device: number): { readonly major: number; readonly minor: number } {
  return { major: (device >>> 8) & 0xfff, minor: (device & 0xff) | ((device >>> 12) & 0xfff00) };
}
