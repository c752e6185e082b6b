import { struct } from '../../erofs/struct.ts';

// The FUSE protocol as /dev/fuse speaks it (Linux include/uapi/linux/fuse.h, protocol 7.45). Numbers are in the byte order of
// the machine; ours are all little-endian. A request is one read, a reply is one write.

/** Major version, and the newest minor one whose structs these are. */
export const VERSION = { major: 7, minor: 45 } as const;
/** Older kernels (before Linux 3.15) have shorter structs. */
export const MIN_MINOR = 23;

export const ROOT_ID = 1;

export const OP = {
  lookup: 1, forget: 2, getattr: 3, setattr: 4, readlink: 5, symlink: 6, mknod: 8, mkdir: 9, unlink: 10, rmdir: 11, rename: 12, link: 13, open: 14, read: 15,
  write: 16, statfs: 17, release: 18, fsync: 20, setxattr: 21, getxattr: 22, listxattr: 23, removexattr: 24, flush: 25, init: 26, opendir: 27, readdir: 28,
  releasedir: 29, fsyncdir: 30, getlk: 31, setlk: 32, setlkw: 33, access: 34, create: 35, interrupt: 36, bmap: 37, destroy: 38, ioctl: 39, poll: 40,
  notifyReply: 41, batchForget: 42, fallocate: 43, readdirplus: 44, rename2: 45, lseek: 46, copyFileRange: 47, setupMapping: 48, removeMapping: 49, syncfs: 50,
  tmpfile: 51, statx: 52,
} as const;

const OP_NAMES = new Map<number, string>(Object.entries(OP).map(([name, code]) => [code, name]));

/** The name of an operation, such as `lookup`; `op 4096` for one without. */
export function opName(opcode: number): string {
  return OP_NAMES.get(opcode) ?? `op ${opcode}`;
}

/** Bits of init's flags (0..31) and flags2 (32 and up, here counted from 0). */
export const INIT_FLAG = {
  asyncRead: 1 << 0, exportSupport: 1 << 4, bigWrites: 1 << 5, readdirplus: 1 << 13, asyncDio: 1 << 15, noOpen: 1 << 17, parallelDirops: 1 << 18, posixAcl: 1 << 20,
  abortError: 1 << 21, maxPages: 1 << 22, cacheSymlinks: 1 << 23, noOpendir: 1 << 24, explicitInval: 1 << 25, initExt: 1 << 30,
} as const;
export const INIT_FLAG2 = { hasResend: 1 << 7 } as const;

/** Bits of open_out's open_flags. */
export const FOPEN = { directIo: 1 << 0, keepCache: 1 << 1, cacheDir: 1 << 3, noFlush: 1 << 5 } as const;

/** Codes of notifications: what a server says without being asked. */
export const NOTIFY = { retrieve: 5, resend: 7 } as const;

// ---- Structs, fields in the order of their offsets ----

export const IN_HEADER_SIZE = 40;
export const IN_HEADER = struct(IN_HEADER_SIZE, { len: 4, opcode: 4, unique: 8, nodeid: 8, uid: 4, gid: 4, pid: 4, totalExtlen: 2, padding: 2 });

export const OUT_HEADER_SIZE = 16;
/** `error` is 0 or a negative errno; with unique 0, the code of a notification. */
export const OUT_HEADER = struct(OUT_HEADER_SIZE, { len: 4, error: 4, unique: 8 });

export const ATTR_SIZE = 88;
export const ATTR = struct(ATTR_SIZE, {
  ino: 8, size: 8, blocks: 8, atime: 8, mtime: 8, ctime: 8, atimensec: 4, mtimensec: 4, ctimensec: 4, mode: 4, nlink: 4, uid: 4, gid: 4, rdev: 4, blksize: 4, flags: 4,
});

export const ENTRY_OUT_SIZE = 128;
export const ENTRY_OUT = struct(ENTRY_OUT_SIZE, { nodeid: 8, generation: 8, entryValid: 8, attrValid: 8, entryValidNsec: 4, attrValidNsec: 4, attr: ATTR_SIZE });

export const ATTR_OUT_SIZE = 104;
export const ATTR_OUT = struct(ATTR_OUT_SIZE, { attrValid: 8, attrValidNsec: 4, dummy: 4, attr: ATTR_SIZE });

/** Kernels before Linux 5.17 send its first 16 bytes only. */
export const INIT_IN_SIZE = 64;
export const INIT_IN = struct(INIT_IN_SIZE, { major: 4, minor: 4, maxReadahead: 4, flags: 4, flags2: 4, unused: 44 });
export const INIT_IN_MIN = 16;

export const INIT_OUT_SIZE = 64;
export const INIT_OUT = struct(INIT_OUT_SIZE, {
  major: 4, minor: 4, maxReadahead: 4, flags: 4, maxBackground: 2, congestionThreshold: 2, maxWrite: 4, timeGran: 4, maxPages: 2, mapAlignment: 2, flags2: 4,
  maxStackDepth: 4, requestTimeout: 2, unused: 22,
});

export const OPEN_OUT_SIZE = 16;
export const OPEN_OUT = struct(OPEN_OUT_SIZE, { fh: 8, openFlags: 4, backingId: 4 });

/** Of read, readdir and readdirplus. */
export const READ_IN_SIZE = 40;
export const READ_IN = struct(READ_IN_SIZE, { fh: 8, offset: 8, size: 4, readFlags: 4, lockOwner: 8, flags: 4, padding: 4 });

export const DIRENT_SIZE = 24;
/** The name follows, and zeros up to a multiple of 8. */
export const DIRENT = struct(DIRENT_SIZE, { ino: 8, off: 8, namelen: 4, type: 4 });
/** readdirplus: an entry_out in front of each dirent. */
export const DIRENTPLUS_SIZE = ENTRY_OUT_SIZE + DIRENT_SIZE;

/** Of getxattr and listxattr; getxattr's name follows, with a NUL. */
export const GETXATTR_IN_SIZE = 8;
export const GETXATTR_IN = struct(GETXATTR_IN_SIZE, { size: 4, padding: 4 });
/** The answer to a size of 0: how much there is. */
export const GETXATTR_OUT_SIZE = 8;
export const GETXATTR_OUT = struct(GETXATTR_OUT_SIZE, { size: 4, padding: 4 });

export const STATFS_OUT_SIZE = 80;
export const STATFS_OUT = struct(STATFS_OUT_SIZE, { blocks: 8, bfree: 8, bavail: 8, files: 8, ffree: 8, bsize: 4, namelen: 4, frsize: 4, padding: 4, spare: 24 });

export const INTERRUPT_IN_SIZE = 8;
/** `unique` of the request that somebody no longer waits for. */
export const INTERRUPT_IN = struct(INTERRUPT_IN_SIZE, { unique: 8 });

export const RETRIEVE_OUT_SIZE = 32;
export const RETRIEVE_OUT = struct(RETRIEVE_OUT_SIZE, { notifyUnique: 8, nodeid: 8, offset: 8, size: 4, padding: 4 });

// ---- Numbers ----

/** Reads an unsigned 64-bit number; above 2^53 it is not exact. */
export function getU64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

/** Writes a whole number of up to 53 bits, negative ones in two's complement. */
export function setU64(view: DataView, at: number, value: number): void {
  const high = Math.floor(value / 2 ** 32);
  view.setUint32(at, value - high * 2 ** 32, true);
  view.setInt32(at + 4, high, true);
}

// ---- Messages ----

/** The header of a reply of `length` payload bytes. `unique` is copied from the request, whatever its upper bits say. */
export function putOutHeader(view: DataView, length: number, error: number, request: DataView): void {
  view.setUint32(OUT_HEADER.len, OUT_HEADER_SIZE + length, true);
  view.setInt32(OUT_HEADER.error, error, true);
  view.setUint32(OUT_HEADER.unique, request.getUint32(IN_HEADER.unique, true), true);
  view.setUint32(OUT_HEADER.unique + 4, request.getUint32(IN_HEADER.unique + 4, true), true);
}

/** A reply's header for whoever has the request's number only. */
export function encodeOutHeader(unique: bigint, length: number, error: number): Uint8Array {
  const bytes = Buffer.alloc(OUT_HEADER_SIZE);
  bytes.writeUInt32LE(OUT_HEADER_SIZE + length, OUT_HEADER.len);
  bytes.writeInt32LE(error, OUT_HEADER.error);
  bytes.writeBigUInt64LE(unique, OUT_HEADER.unique);
  return bytes;
}

/** Asks the kernel to send once more what has been read and not answered; such requests have bit 63 of `unique` set. Linux 6.9. */
export function encodeResend(): Uint8Array {
  return encodeOutHeader(0n, 0, NOTIFY.resend);
}

/** Asks the kernel for cached bytes of the root, of which there are none: it answers with an empty request, and so wakes a blocked read. */
export function encodeRetrieve(): Uint8Array {
  const bytes = Buffer.alloc(OUT_HEADER_SIZE + RETRIEVE_OUT_SIZE);
  bytes.set(encodeOutHeader(0n, RETRIEVE_OUT_SIZE, NOTIFY.retrieve));
  bytes.writeBigUInt64LE(BigInt(ROOT_ID), OUT_HEADER_SIZE + RETRIEVE_OUT.nodeid);
  return bytes;
}

/** What stat(2) tells of a file. Seconds may be negative. */
export interface Attributes {
  readonly ino: number;
  readonly size: number;
  /** Of 512 bytes. */
  readonly blocks: number;
  readonly seconds: number;
  readonly nanoseconds: number;
  /** With S_IFMT bits. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  /** As `encodeDevice` makes it. */
  readonly rdev: number;
  /** Bytes that programs should read at a time. */
  readonly blksize: number;
}

/** Seconds for which the kernel may keep what it is told: 34 years. Nothing of ours ever changes. */
export const FOREVER = 2 ** 30;

/** The 88 bytes of an attr; all three times are that of modification. */
export function putAttr(view: DataView, at: number, attributes: Attributes): void {
  const { seconds, nanoseconds } = attributes;
  setU64(view, at + ATTR.ino, attributes.ino);
  setU64(view, at + ATTR.size, attributes.size);
  setU64(view, at + ATTR.blocks, attributes.blocks);
  setU64(view, at + ATTR.atime, seconds);
  setU64(view, at + ATTR.mtime, seconds);
  setU64(view, at + ATTR.ctime, seconds);
  view.setUint32(at + ATTR.atimensec, nanoseconds, true);
  view.setUint32(at + ATTR.mtimensec, nanoseconds, true);
  view.setUint32(at + ATTR.ctimensec, nanoseconds, true);
  view.setUint32(at + ATTR.mode, attributes.mode, true);
  view.setUint32(at + ATTR.nlink, attributes.nlink, true);
  view.setUint32(at + ATTR.uid, attributes.uid, true);
  view.setUint32(at + ATTR.gid, attributes.gid, true);
  view.setUint32(at + ATTR.rdev, attributes.rdev, true);
  view.setUint32(at + ATTR.blksize, attributes.blksize, true);
  view.setUint32(at + ATTR.flags, 0, true);
}

/** An entry_out. Node id 0 says that there is no such name, and may be kept as long. */
export function putEntry(view: DataView, at: number, nodeid: number, attributes: Attributes | undefined): void {
  setU64(view, at + ENTRY_OUT.nodeid, nodeid);
  setU64(view, at + ENTRY_OUT.generation, 0);
  setU64(view, at + ENTRY_OUT.entryValid, FOREVER);
  setU64(view, at + ENTRY_OUT.attrValid, FOREVER);
  setU64(view, at + ENTRY_OUT.entryValidNsec, 0);
  if (attributes) putAttr(view, at + ENTRY_OUT.attr, attributes);
  else for (let word = 0; word < ATTR_SIZE; word += 8) setU64(view, at + ENTRY_OUT.attr + word, 0);
}

export function putAttrOut(view: DataView, at: number, attributes: Attributes): void {
  setU64(view, at + ATTR_OUT.attrValid, FOREVER);
  setU64(view, at + ATTR_OUT.attrValidNsec, 0);
  putAttr(view, at + ATTR_OUT.attr, attributes);
}

/** Bytes of a directory entry with a name of this many. */
export function direntSize(header: number, nameLength: number): number {
  return Math.ceil((header + nameLength) / 8) * 8;
}

/** A dirent without its name. */
export function putDirent(view: DataView, at: number, ino: number, off: number, nameLength: number, type: number): void {
  setU64(view, at + DIRENT.ino, ino);
  setU64(view, at + DIRENT.off, off);
  view.setUint32(at + DIRENT.namelen, nameLength, true);
  view.setUint32(at + DIRENT.type, type, true);
}
