import { corrupt, LazypullError } from '../core/errors.ts';
import type { Time } from '../core/types.ts';
import { COMPACT_INODE_SIZE, EXTENDED_INODE_SIZE, LAYOUT, XATTR_HEADER_SIZE } from './layout.ts';
import { asBuffer, readI64, readU64, struct, write64 } from './struct.ts';

// Inodes on disk (§5). We write extended ones only: before Linux 6.15 compact ones all show the superblock's time.

/** i_format: bit 0 extended, bits 1..3 data layout, bit 4 as below; the others are not in use. */
const EXTENDED = 0x1;
const LAYOUT_SHIFT = 1;
const LAYOUT_MASK = 0x7;
/** A file: its link count is 1 and its place holds high bits of the start block. A directory: it has no entry `.`. */
const NLINK_1 = 0x10;
const KNOWN_FORMAT = 0x1f;

const COMPACT_AT = struct(COMPACT_INODE_SIZE, {
  format: 2, xattrCount: 2, mode: 2, nlink: 2, size: 4, mtime: 4, union: 4, ino: 4, uid: 2, gid: 2, reserved: 4,
});
/** The first three fields are those of compact inodes. */
const EXTENDED_AT = struct(EXTENDED_INODE_SIZE, {
  format: 2, xattrCount: 2, mode: 2, startHigh: 2, size: 8, union: 4, ino: 4, uid: 4, gid: 4, mtime: 8, mtimeNsec: 4, nlink: 4, reserved: 16,
});

export interface Inode {
  /** 32 or 64: bytes of the struct itself. */
  readonly headerSize: number;
  /** One of LAYOUT. */
  readonly layout: number;
  /** Bytes of extended attributes behind the struct. */
  readonly xattrSize: number;
  /** With S_IFMT bits. */
  readonly mode: number;
  readonly nlink: number;
  readonly size: number;
  /** `i_u` as stored: start block, device number or chunk format. */
  readonly union: number;
  /** High 16 bits of the start block; 0 unless the image is 48BIT. */
  readonly startHigh: number;
  readonly ino: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: Time;
}

/** Writes the 64 bytes of an extended inode; they must be zero before. */
export function encodeInode(view: DataView, at: number, inode: Omit<Inode, 'headerSize'>): void {
  view.setUint16(at + EXTENDED_AT.format, EXTENDED | (inode.layout << LAYOUT_SHIFT), true);
  view.setUint16(at + EXTENDED_AT.xattrCount, xattrCountOf(inode.xattrSize), true);
  view.setUint16(at + EXTENDED_AT.mode, inode.mode, true);
  view.setUint16(at + EXTENDED_AT.startHigh, inode.startHigh, true);
  write64(view, at + EXTENDED_AT.size, inode.size);
  view.setUint32(at + EXTENDED_AT.union, inode.union, true);
  view.setUint32(at + EXTENDED_AT.ino, inode.ino, true);
  view.setUint32(at + EXTENDED_AT.uid, inode.uid, true);
  view.setUint32(at + EXTENDED_AT.gid, inode.gid, true);
  write64(view, at + EXTENDED_AT.mtime, inode.mtime.seconds);
  view.setUint32(at + EXTENDED_AT.mtimeNsec, inode.mtime.nanoseconds, true);
  view.setUint32(at + EXTENDED_AT.nlink, inode.nlink, true);
}

/** Bytes of the inode that starts with these two. */
export function inodeSize(firstByte: number): number {
  return (firstByte & EXTENDED) === 0 ? COMPACT_INODE_SIZE : EXTENDED_INODE_SIZE;
}

/**
 * Reads an inode. `offset` is where it is in the image, for messages; `epoch` is the time of compact ones; `wide` tells a
 * 48BIT image. UNSUPPORTED for compressed data, which is named.
 */
export function decodeInode(bytes: Uint8Array, offset: number, epoch: Time, wide: boolean): Inode {
  const buffer = asBuffer(bytes);
  const format = buffer.readUInt16LE(EXTENDED_AT.format);
  if ((format & ~KNOWN_FORMAT) !== 0) throw corrupt(`inode format 0x${format.toString(16)} has unknown bits`, { offset });
  const layout = (format >> LAYOUT_SHIFT) & LAYOUT_MASK;
  if (layout === LAYOUT.compressedFull || layout === LAYOUT.compressedCompact) {
    throw new LazypullError('UNSUPPORTED', `file is stored compressed (EROFS data layout ${layout}), which lazypull does not read`, { offset });
  }
  if (layout > LAYOUT.chunkBased) throw corrupt(`data layout ${layout} does not exist`, { offset });
  const xattrCount = buffer.readUInt16LE(EXTENDED_AT.xattrCount);
  const xattrSize = xattrCount === 0 ? 0 : XATTR_HEADER_SIZE + 4 * (xattrCount - 1);
  const mode = buffer.readUInt16LE(EXTENDED_AT.mode);
  if ((format & EXTENDED) === 0) {
    const one = (format & NLINK_1) !== 0 && wide && (mode & 0o170000) !== 0o040000;
    const word = buffer.readUInt16LE(COMPACT_AT.nlink);
    return {
      headerSize: COMPACT_INODE_SIZE,
      layout,
      xattrSize,
      mode,
      nlink: one ? 1 : word,
      size: buffer.readUInt32LE(COMPACT_AT.size),
      union: buffer.readUInt32LE(COMPACT_AT.union),
      startHigh: one ? word : 0,
      ino: buffer.readUInt32LE(COMPACT_AT.ino),
      uid: buffer.readUInt16LE(COMPACT_AT.uid),
      gid: buffer.readUInt16LE(COMPACT_AT.gid),
      mtime: checkTime(epoch.seconds + buffer.readUInt32LE(COMPACT_AT.mtime), epoch.nanoseconds, offset),
    };
  }
  return {
    headerSize: EXTENDED_INODE_SIZE,
    layout,
    xattrSize,
    mode,
    nlink: buffer.readUInt32LE(EXTENDED_AT.nlink),
    size: readU64(buffer, EXTENDED_AT.size, 'size of an inode', offset),
    union: buffer.readUInt32LE(EXTENDED_AT.union),
    startHigh: wide ? buffer.readUInt16LE(EXTENDED_AT.startHigh) : 0,
    ino: buffer.readUInt32LE(EXTENDED_AT.ino),
    uid: buffer.readUInt32LE(EXTENDED_AT.uid),
    gid: buffer.readUInt32LE(EXTENDED_AT.gid),
    mtime: checkTime(readI64(buffer, EXTENDED_AT.mtime, 'time of an inode', offset), buffer.readUInt32LE(EXTENDED_AT.mtimeNsec), offset),
  };
}

function checkTime(seconds: number, nanoseconds: number, offset: number): Time {
  if (nanoseconds > 999_999_999 || !Number.isSafeInteger(seconds)) throw corrupt(`time of an inode is ${seconds} s and ${nanoseconds} ns`, { offset });
  return { seconds, nanoseconds };
}

function xattrCountOf(size: number): number {
  return size === 0 ? 0 : (size - XATTR_HEADER_SIZE) / 4 + 1;
}
