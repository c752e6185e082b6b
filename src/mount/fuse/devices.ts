import { roundUp } from '../../core/bytes.ts';
import type { DeviceRun } from '../../erofs/place.ts';
import { ERRNO } from '../native.ts';
import type { Served } from '../types.ts';
import { PAYLOAD, type Nodes, type Reply } from './nodes.ts';
import {
  ATTR_OUT_SIZE, DIRENT_SIZE, DIRENTPLUS_SIZE, direntSize, ENTRY_OUT_SIZE, FOPEN, OPEN_OUT, OPEN_OUT_SIZE, putAttrOut, putDirent, putEntry, ROOT_ID, setU64, STATFS_OUT, STATFS_OUT_SIZE,
  type Attributes,
} from './wire.ts';

const BLOCK = 4096;
/** File n has node id n + 2. */
const FIRST_ID = 2;

/**
 * One flat folder for the kernel's EROFS: the metadata as `0`, the devices as `1` and so on. Devices are read without a
 * cache of their own, because EROFS keeps what it reads; the metadata is kept, because EROFS reads it through this cache.
 */
export class DeviceNodes implements Nodes {
  readonly #sizes: readonly number[];
  readonly #owner = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };

  constructor({ metadata, devices }: Served) {
    // A read that reaches behind the end of a device would fail with EIO as a whole.
    this.#sizes = [metadata.byteLength, ...devices.map(({ size }) => size)].map((size) => roundUp(size, BLOCK));
  }

  lookup(parent: number, name: Uint8Array, reply: Reply): number {
    const text = Buffer.from(name).toString('latin1');
    const file = parent === ROOT_ID && /^(?:0|[1-9]\d{0,5})$/.test(text) ? Number(text) : -1;
    const known = file in this.#sizes;
    const itself = parent === ROOT_ID && (text === '.' || text === '..');
    putEntry(reply.view, PAYLOAD, itself ? ROOT_ID : known ? file + FIRST_ID : 0, itself ? this.#attributes(ROOT_ID) : known ? this.#attributes(file + FIRST_ID) : undefined);
    return ENTRY_OUT_SIZE;
  }

  getattr(node: number, reply: Reply): number {
    putAttrOut(reply.view, PAYLOAD, this.#attributes(node));
    return ATTR_OUT_SIZE;
  }

  readlink(): number {
    return -ERRNO.EINVAL;
  }

  open(node: number, reply: Reply): number {
    setU64(reply.view, PAYLOAD + OPEN_OUT.fh, 0);
    reply.view.setUint32(PAYLOAD + OPEN_OUT.openFlags, FOPEN.noFlush | (node === FIRST_ID ? FOPEN.keepCache : FOPEN.directIo), true);
    reply.view.setInt32(PAYLOAD + OPEN_OUT.backingId, 0, true);
    return OPEN_OUT_SIZE;
  }

  readdir(node: number, offset: number, size: number, plus: boolean, reply: Reply): number {
    if (node !== ROOT_ID) return -ERRNO.ENOTDIR;
    const header = plus ? DIRENTPLUS_SIZE : DIRENT_SIZE;
    let at = PAYLOAD;
    for (let entry = offset; entry < this.#sizes.length + 2; entry += 1) {
      const [name, id] = entry === 0 ? ['.', ROOT_ID] : entry === 1 ? ['..', ROOT_ID] : [`${entry - 2}`, entry - 2 + FIRST_ID];
      const total = direntSize(header, name.length);
      if (at + total > Math.min(PAYLOAD + size, reply.bytes.length)) break;
      reply.bytes.fill(0, at, at + total);
      if (plus && entry > 1) putEntry(reply.view, at, id, this.#attributes(id));
      putDirent(reply.view, at + header - DIRENT_SIZE, id, entry + 1, name.length, this.#attributes(id).mode >> 12);
      reply.bytes.write(name, at + header, 'latin1');
      at += total;
    }
    return at - PAYLOAD;
  }

  statfs(reply: Reply): number {
    const { view } = reply;
    for (let word = 0; word < STATFS_OUT_SIZE; word += 4) view.setUint32(PAYLOAD + word, 0, true);
    setU64(view, PAYLOAD + STATFS_OUT.blocks, this.#sizes.reduce((sum, size) => sum + size / BLOCK, 0));
    setU64(view, PAYLOAD + STATFS_OUT.files, this.#sizes.length + 1);
    for (const field of [STATFS_OUT.bsize, STATFS_OUT.frsize]) view.setUint32(PAYLOAD + field, BLOCK, true);
    view.setUint32(PAYLOAD + STATFS_OUT.namelen, 255, true);
    return STATFS_OUT_SIZE;
  }

  getxattr(): number {
    return -ERRNO.ENOSYS;
  }

  listxattr(): number {
    return -ERRNO.ENOSYS;
  }

  content(node: number, offset: number, length: number): readonly DeviceRun[] {
    const device = node - FIRST_ID;
    const end = Math.min(offset + length, this.#sizes[device] ?? 0);
    return offset < end ? [{ device, offset, length: end - offset }] : [];
  }

  hasAcls(): boolean {
    return false;
  }

  #attributes(node: number): Attributes {
    const size = node === ROOT_ID ? 0 : (this.#sizes[node - FIRST_ID] ?? 0);
    const mode = node === ROOT_ID ? 0o040700 : 0o100400;
    return { ino: node, size, blocks: size / 512, seconds: 0, nanoseconds: 0, mode, nlink: node === ROOT_ID ? 2 : 1, ...this.#owner, rdev: 0, blksize: BLOCK };
  }
}
