import { corrupt } from '../core/errors.ts';
import { MemorySource } from '../core/source.ts';
import { decodeInode, inodeSize, type Inode } from './inode.ts';
import { DIRENT, DIRENT_SIZE, EXTENDED_INODE_SIZE, FILE_TYPE, LAYOUT, MAX_TARGET_SIZE, SLOT_SIZE } from './layout.ts';
import { Pages } from './pages.ts';
import type { DeviceRun } from './place.ts';
import { chunkFormat, ContentMap } from './read-content.ts';
import { readHead, type Head } from './read-head.ts';
import { asBuffer, viewOf } from './struct.ts';

/** What a name in a directory points to. */
export interface Found {
  readonly nid: number;
  /** FILE_TYPE; not held against the inode. */
  readonly type: number;
}

/** Takes one name: its bytes are `[start, end)` of the image. False ends the walk. `next` is the position behind it. */
export type VisitEntry = (nid: number, type: number, start: number, end: number, next: number) => boolean;

/**
 * An uncompressed EROFS image in memory, asked for one inode at a time, as a kernel would: nothing is built up, nothing but
 * the superblock is looked at before it is needed. Every method throws CORRUPT (with the offset) for what the image says
 * wrongly, and UNSUPPORTED for compressed files; no image makes one run long.
 */
export class ErofsView {
  readonly head: Head;
  readonly bytes: Buffer;
  readonly #view: DataView;
  readonly #content: ContentMap;
  readonly #base: number;

  private constructor(bytes: Uint8Array, head: Head) {
    this.bytes = asBuffer(bytes);
    this.head = head;
    this.#view = viewOf(bytes);
    this.#content = new ContentMap(head, bytes.length);
    this.#base = head.superblock.metaBlock * head.superblock.blockSize;
  }

  /** Checks superblock and device table. */
  static async open(bytes: Uint8Array): Promise<ErofsView> {
    return new ErofsView(bytes, await readHead(new Pages(new MemorySource(bytes), undefined)));
  }

  get rootNid(): number {
    return this.head.superblock.rootNid;
  }

  /** Bytes per block. */
  get blockSize(): number {
    return this.head.superblock.blockSize;
  }

  /** Where an inode is. */
  offsetOf(nid: number): number {
    const offset = this.#base + nid * SLOT_SIZE;
    if (nid < 0 || !Number.isSafeInteger(offset) || offset + SLOT_SIZE > this.bytes.length) throw corrupt(`inode of nid ${nid} is outside the image of ${this.bytes.length} bytes`, { offset });
    return offset;
  }

  inode(nid: number): Inode {
    const offset = this.offsetOf(nid);
    if (offset + inodeSize(this.bytes[offset] as number) > this.bytes.length) throw corrupt(`inode of nid ${nid} is cut off`, { offset });
    return decodeInode(this.bytes.subarray(offset, offset + EXTENDED_INODE_SIZE), offset, this.head.superblock.epoch, this.head.wide);
  }

  /** Looks a name up by bisection (§10). */
  find(directory: number, name: Uint8Array): Found | undefined {
    const inode = this.#directory(directory);
    const { blockSize } = this;
    // The last block that begins with this name or one before it.
    let low = 0;
    let high = Math.ceil(inode.size / blockSize);
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      this.#openBlock(directory, inode, middle);
      if (this.#compare(0, name) <= 0) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return undefined;
    this.#openBlock(directory, inode, low - 1);
    let first = 0;
    let end = this.#count;
    while (first < end) {
      const middle = (first + end) >>> 1;
      const order = this.#compare(middle, name);
      if (order === 0) return { nid: this.#nid(middle), type: this.#type(middle) };
      if (order < 0) first = middle + 1;
      else end = middle;
    }
    return undefined;
  }

  /** Visits the names of a directory from a position on, `.` and `..` as well: 0, or what an earlier visit was told. */
  entries(directory: number, position: number, visit: VisitEntry): void {
    const inode = this.#directory(directory);
    const { blockSize } = this;
    const blocks = Math.ceil(inode.size / blockSize);
    let entry = Math.floor((position % blockSize) / DIRENT_SIZE);
    for (let block = Math.floor(position / blockSize); block < blocks; block += 1) {
      this.#openBlock(directory, inode, block);
      const count = this.#count;
      const start = this.#start;
      for (; entry < count; entry += 1) {
        const nameAt = this.#nameAt(entry);
        const nameEnd = this.#nameEnd(entry);
        const next = entry + 1 < count ? block * blockSize + (entry + 1) * DIRENT_SIZE : (block + 1) * blockSize;
        if (!visit(this.#nid(entry), this.#type(entry), start + nameAt, start + nameEnd, next)) return;
        // The visitor may have looked into another directory.
        if (this.#start !== start) this.#openBlock(directory, inode, block);
      }
      entry = 0;
    }
  }

  /** The target of a symlink; lent. */
  target(nid: number): Buffer {
    const inode = this.inode(nid);
    const at = this.offsetOf(nid);
    if (inode.size > MAX_TARGET_SIZE) throw corrupt(`symlink target of ${inode.size} bytes`, { offset: at });
    const parts = this.runs(nid, inode, 0, inode.size).map(({ device, offset, length }) => {
      if (device !== 0) throw corrupt('symlink target is not in the image', { offset: at });
      return this.bytes.subarray(offset, offset + length);
    });
    return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
  }

  /** Where `length` bytes of a file's content are, from `offset` on and up to its end; in order, joined where they lie together. */
  runs(nid: number, inode: Inode, offset: number, length: number): DeviceRun[] {
    const end = Math.min(offset + length, inode.size);
    if (offset >= end) return [];
    const at = this.offsetOf(nid);
    return inode.layout === LAYOUT.chunkBased ? this.#chunkRuns(inode, at, offset, end) : this.#flatRuns(inode, at, offset, end);
  }

  #chunkRuns(inode: Inode, at: number, offset: number, end: number): DeviceRun[] {
    const format = chunkFormat(inode, this.blockSize, at);
    const { chunkSize, entrySize } = format;
    const first = Math.floor(offset / chunkSize);
    const header = inode.headerSize + inode.xattrSize;
    const start = at + Math.ceil(header / entrySize) * entrySize + first * entrySize;
    const size = (Math.ceil(end / chunkSize) - first) * entrySize;
    if (start + size > this.bytes.length) throw corrupt(`chunk indexes reach outside the image of ${this.bytes.length} bytes`, { offset: start });
    const runs: DeviceRun[] = [];
    this.#content.addChunks(runs, this.bytes.subarray(start, start + size), format, inode.size - first * chunkSize, start);
    return cut(runs, offset - first * chunkSize, end - offset);
  }

  #flatRuns(inode: Inode, at: number, offset: number, end: number): DeviceRun[] {
    const tail = inode.layout === LAYOUT.flatInline ? inode.size % this.blockSize : 0;
    const whole = inode.size - tail;
    const runs: DeviceRun[] = [];
    if (whole > 0) runs.push(this.#content.run(inode.union + inode.startHigh * 2 ** 32, whole, at));
    if (tail > 0) runs.push({ length: tail, device: 0, offset: this.#inline(inode, at, tail) });
    return cut(runs, offset, end - offset);
  }

  /** Where bytes beside an inode are: they lie in one block. */
  #inline(inode: Inode, at: number, length: number): number {
    const start = at + inode.headerSize + inode.xattrSize;
    if ((start % this.blockSize) + length > this.blockSize || start + length > this.bytes.length) throw corrupt(`${length} bytes beside the inode lie across blocks or outside the image`, { offset: start });
    return start;
  }

  // ---- The directory block that was looked at last: kept in fields, because an object for each would be most of the work ----

  #start = 0;
  #length = 0;
  #count = 0;

  #directory(nid: number): Inode {
    const inode = this.inode(nid);
    const bad = (inode.mode & 0o170000) !== 0o040000 ? 'is no directory' : inode.layout === LAYOUT.chunkBased ? 'is a directory in chunks' : undefined;
    if (bad !== undefined) throw corrupt(`inode of nid ${nid} ${bad}`, { offset: this.offsetOf(nid) });
    // What cannot be there need not be searched for.
    if (inode.size > this.bytes.length) throw corrupt(`directory of ${inode.size} bytes in an image of ${this.bytes.length}`, { offset: this.offsetOf(nid) });
    return inode;
  }

  #openBlock(nid: number, inode: Inode, block: number): void {
    const { blockSize } = this;
    const done = block * blockSize;
    this.#length = Math.min(blockSize, inode.size - done);
    const inline = inode.layout === LAYOUT.flatInline && this.#length < blockSize;
    this.#start = inline ? this.#inline(inode, this.offsetOf(nid), this.#length) : (inode.union + inode.startHigh * 2 ** 32 + block) * blockSize;
    const offset = this.#start;
    if (offset + this.#length > this.bytes.length) throw corrupt(`directory reaches outside the image of ${this.bytes.length} bytes`, { offset });
    if (this.#length < DIRENT_SIZE) throw corrupt(`directory block of ${this.#length} bytes`, { offset });
    const names = this.#view.getUint16(offset + DIRENT.nameoff, true);
    if (names === 0 || names % DIRENT_SIZE !== 0 || names > this.#length) throw corrupt(`names of a directory block of ${this.#length} bytes begin at ${names}`, { offset });
    this.#count = names / DIRENT_SIZE;
  }

  #nid(entry: number): number {
    const at = this.#start + entry * DIRENT_SIZE + DIRENT.nid;
    return this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * 2 ** 32;
  }

  #type(entry: number): number {
    return this.bytes[this.#start + entry * DIRENT_SIZE + DIRENT.fileType] as number;
  }

  /** Relative to the block, as is the end. */
  #nameAt(entry: number): number {
    return this.#view.getUint16(this.#start + entry * DIRENT_SIZE + DIRENT.nameoff, true);
  }

  #nameEnd(entry: number): number {
    const start = this.#nameAt(entry);
    let end = this.#length;
    if (entry + 1 < this.#count) {
      end = this.#nameAt(entry + 1);
    } else {
      // What is behind the last name is filled up with zeros.
      const limit = Math.min(end, start + MAX_NAME + 1);
      for (end = start; end < limit && this.bytes[this.#start + end] !== 0; ) end += 1;
    }
    if (start < this.#count * DIRENT_SIZE || end <= start || end > this.#length || end - start > MAX_NAME) {
      throw corrupt(`name from ${start} to ${end} in a directory block of ${this.#length} bytes`, { offset: this.#start + entry * DIRENT_SIZE });
    }
    return end;
  }

  /** Bytes against bytes; the shorter one of equals comes first. */
  #compare(entry: number, name: Uint8Array): number {
    const start = this.#start + this.#nameAt(entry);
    const length = this.#start + this.#nameEnd(entry) - start;
    const common = Math.min(length, name.length);
    for (let i = 0; i < common; i += 1) {
      const difference = (this.bytes[start + i] as number) - (name[i] as number);
      if (difference !== 0) return difference;
    }
    return length - name.length;
  }
}

const MAX_NAME = 255;

/** `length` bytes of consecutive runs, from `skip` on. */
function cut(runs: readonly DeviceRun[], skip: number, length: number): DeviceRun[] {
  const kept: DeviceRun[] = [];
  let at = 0;
  for (const run of runs) {
    const from = Math.max(skip - at, 0);
    const to = Math.min(skip + length - at, run.length);
    at += run.length;
    if (from < to) kept.push({ length: to - from, device: run.device, offset: run.device === undefined ? 0 : run.offset + from });
  }
  return kept;
}

/** Visits every name of an image once, each directory once; no more than `limit` names. `visit` returns false to end it. */
export function walkView(view: ErofsView, visit: (parent: number, nid: number, type: number, start: number, end: number) => boolean, limit: number): void {
  const seen = new Set([view.rootNid]);
  let left = limit;
  for (const directory of seen) {
    let more = true;
    view.entries(directory, 0, (nid, type, start, end) => {
      const dots = end - start <= 2 && view.bytes[start] === DOT && view.bytes[end - 1] === DOT;
      if (dots) return true;
      left -= 1;
      more = left >= 0 && visit(directory, nid, type, start, end);
      if (more && type === FILE_TYPE.directory) seen.add(nid);
      return more;
    });
    if (!more) return;
  }
}

const DOT = 0x2e;
