import type { Inode } from '../../erofs/inode.ts';
import { FILE_TYPE, modeOfType } from '../../erofs/layout.ts';
import type { DeviceRun } from '../../erofs/place.ts';
import { walkView, type ErofsView } from '../../erofs/view.ts';
import { XattrView } from '../../erofs/view-xattrs.ts';
import { ERRNO } from '../native.ts';
import { Listings } from './listings.ts';
import { PAYLOAD, type Nodes, type Reply } from './nodes.ts';
import { ATTR_OUT_SIZE, DIRENT_SIZE, DIRENTPLUS_SIZE, direntSize, ENTRY_OUT_SIZE, GETXATTR_OUT_SIZE, putAttrOut, putDirent, putEntry, ROOT_ID, setU64, STATFS_OUT, STATFS_OUT_SIZE, type Attributes } from './wire.ts';

/** Node ids below this are the root's and the kernel's. */
const FIRST_ID = 2;
/** Bytes that programs should read at a time, whatever the block size. */
const IO_SIZE = 4096;
/** Names that are looked at to find out whether there are extended attributes; beyond, there are said to be some. */
const SCAN_LIMIT = 4_000_000;
const TRUSTED = Buffer.from('trusted.');
const ACL = Buffer.from('system.posix_acl_');

/** The nid of a node id. */
export function nidOfNode(node: number, view: ErofsView): number {
  return node === ROOT_ID ? view.rootNid : node - FIRST_ID;
}

/** The files of an image, from its EROFS metadata. Inode numbers are those that the kernel's own EROFS would show. */
export class TreeNodes implements Nodes {
  readonly #view: ErofsView;
  readonly #xattrs: XattrView;
  readonly #listings = new Listings();
  #scanned: { readonly xattrs: boolean; readonly acls: boolean } | undefined;

  constructor(view: ErofsView) {
    this.#view = view;
    this.#xattrs = new XattrView(view);
  }

  #nidOf(node: number): number {
    return nidOfNode(node, this.#view);
  }

  #idOf(nid: number): number {
    return nid === this.#view.rootNid ? ROOT_ID : nid + FIRST_ID;
  }

  lookup(parent: number, name: Uint8Array, reply: Reply): number {
    const directory = this.#nidOf(parent);
    const found = this.#view.find(directory, name);
    if (!found) {
      putEntry(reply.view, PAYLOAD, 0, undefined);
    } else {
      if (found.type !== FILE_TYPE.directory) this.#listings.asked(directory);
      putEntry(reply.view, PAYLOAD, this.#idOf(found.nid), this.#attributes(found.nid, this.#view.inode(found.nid)));
    }
    return ENTRY_OUT_SIZE;
  }

  getattr(node: number, reply: Reply): number {
    const nid = this.#nidOf(node);
    putAttrOut(reply.view, PAYLOAD, this.#attributes(nid, this.#view.inode(nid)));
    return ATTR_OUT_SIZE;
  }

  readlink(node: number, reply: Reply): number {
    const target = this.#view.target(this.#nidOf(node));
    reply.bytes.set(target, PAYLOAD);
    return target.length;
  }

  open(): number {
    return -ERRNO.ENOSYS;
  }

  readdir(node: number, offset: number, size: number, plus: boolean, reply: Reply): number {
    const { bytes } = this.#view;
    const directory = this.#nidOf(node);
    const full = plus && this.#listings.withAttributes(directory, offset, this.#view.inode(directory).size);
    const header = plus ? DIRENTPLUS_SIZE : DIRENT_SIZE;
    const limit = Math.min(PAYLOAD + size, reply.bytes.length);
    let at = PAYLOAD;
    let begun = false;
    try {
      this.#view.entries(directory, offset, (nid, type, start, end, next) => {
        const length = end - start;
        const total = direntSize(header, length);
        if (at + total > limit) return false;
        begun = true;
        if (plus) this.#putEntry(nid, full || type === FILE_TYPE.directory, start, length, reply.view, at);
        const dirent = at + header - DIRENT_SIZE;
        putDirent(reply.view, dirent, nid, next, length, modeOfType(type) >> 12);
        const target = reply.bytes;
        const nameAt = dirent + DIRENT_SIZE;
        for (let i = 0; i < length; i += 1) target[nameAt + i] = bytes[start + i] as number;
        at += total;
        for (let i = nameAt + length; i < at; i += 1) target[i] = 0;
        return true;
      });
    } catch (error) {
      // What is right is told; the next call comes straight to what is not.
      if (!begun) throw error;
    }
    return at - PAYLOAD;
  }

  /** Attributes of a name, if they are wanted and it is not `.` or `..`. With node id 0 the kernel asks again once somebody looks. */
  #putEntry(nid: number, wanted: boolean, start: number, length: number, out: DataView, at: number): void {
    const { bytes } = this.#view;
    const dots = length <= 2 && bytes[start] === DOT && bytes[start + length - 1] === DOT;
    let inode: Inode | undefined;
    try {
      inode = dots || !wanted ? undefined : this.#view.inode(nid);
    } catch {
      inode = undefined;
    }
    putEntry(out, at, inode ? this.#idOf(nid) : 0, inode && this.#attributes(nid, inode));
  }

  statfs(reply: Reply): number {
    const { superblock, devices } = this.#view.head;
    const { view } = reply;
    for (let word = 0; word < STATFS_OUT_SIZE; word += 4) view.setUint32(PAYLOAD + word, 0, true);
    setU64(view, PAYLOAD + STATFS_OUT.blocks, devices.reduce((sum, { blocks }) => sum + blocks, superblock.blocks));
    setU64(view, PAYLOAD + STATFS_OUT.files, superblock.inodes);
    view.setUint32(PAYLOAD + STATFS_OUT.bsize, superblock.blockSize, true);
    view.setUint32(PAYLOAD + STATFS_OUT.namelen, 255, true);
    view.setUint32(PAYLOAD + STATFS_OUT.frsize, superblock.blockSize, true);
    return STATFS_OUT_SIZE;
  }

  /** ENOSYS, which the kernel remembers, when no file of the image has any: overlayfs asks about every file that it sees. */
  getxattr(node: number, name: Uint8Array, size: number, reply: Reply): number {
    if (!this.#scan().xattrs) return -ERRNO.ENOSYS;
    const nid = this.#nidOf(node);
    const value = this.#xattrs.get(nid, this.#view.inode(nid), name);
    return value ? putSized(value, size, reply) : -ERRNO.ENODATA;
  }

  listxattr(node: number, size: number, trusted: boolean, reply: Reply): number {
    if (!this.#scan().xattrs) return -ERRNO.ENOSYS;
    const nid = this.#nidOf(node);
    const names = this.#xattrs.names(nid, this.#view.inode(nid)).filter((name) => trusted || !startsWith(name, TRUSTED));
    return putSized(Buffer.concat(names.flatMap((name) => [name, NUL])), size, reply);
  }

  content(node: number, offset: number, length: number): readonly DeviceRun[] {
    const nid = this.#nidOf(node);
    return this.#view.runs(nid, this.#view.inode(nid), offset, length);
  }

  hasAcls(): boolean {
    return this.#scan().acls;
  }

  /** Looks at every inode once. Bad ones count as having attributes: then each request finds out for itself. */
  #scan(): { readonly xattrs: boolean; readonly acls: boolean } {
    if (this.#scanned) return this.#scanned;
    const view = this.#view;
    const found = { xattrs: false, acls: false };
    let left = SCAN_LIMIT;
    const look = (nid: number): boolean => {
      const inode = view.inode(nid);
      left -= 1;
      if (inode.xattrSize > 0) {
        found.xattrs = true;
        found.acls ||= this.#xattrs.names(nid, inode).some((name) => startsWith(name, ACL));
      }
      return !found.acls;
    };
    try {
      look(view.rootNid);
      walkView(view, (_, nid) => look(nid), SCAN_LIMIT);
    } catch {
      found.xattrs = true;
    }
    if (left <= 0) found.xattrs = true;
    this.#scanned = found;
    return found;
  }

  #attributes(nid: number, inode: Inode): Attributes {
    const { mode, size, mtime } = inode;
    const type = mode & 0o170000;
    const { blockSize } = this.#view;
    return {
      ino: nid,
      size,
      blocks: (Math.ceil(size / blockSize) * blockSize) / 512,
      seconds: mtime.seconds,
      nanoseconds: mtime.nanoseconds,
      mode,
      nlink: inode.nlink,
      uid: inode.uid,
      gid: inode.gid,
      rdev: type === CHAR || type === BLOCK ? inode.union : 0,
      blksize: IO_SIZE,
    };
  }
}

const DOT = 0x2e;
const NUL = Buffer.alloc(1);
const CHAR = modeOfType(FILE_TYPE.char);
const BLOCK = modeOfType(FILE_TYPE.block);

function startsWith(name: Buffer, prefix: Buffer): boolean {
  return name.length >= prefix.length && name.compare(prefix, 0, prefix.length, 0, prefix.length) === 0;
}

/** A value for a caller with room for `size` bytes; for one with none, how many they are. */
function putSized(value: Buffer, size: number, reply: Reply): number {
  if (size === 0) {
    setU64(reply.view, PAYLOAD, value.length);
    return GETXATTR_OUT_SIZE;
  }
  if (value.length > size) return -ERRNO.ERANGE;
  reply.bytes.set(value, PAYLOAD);
  return value.length;
}
