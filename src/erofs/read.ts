import { decodeName, roundUp } from '../core/bytes.ts';
import { corrupt, LazypullError, printable } from '../core/errors.ts';
import type { ByteSource, DirectoryNode, Extent, FileNode } from '../core/types.ts';
import { NO_EXTENTS, NO_XATTRS, NodeMaker } from '../layer/nodes.ts';
import { joinPath } from '../layer/walk.ts';
import { Claims } from './claims.ts';
import { decodeInode, inodeSize, type Inode } from './inode.ts';
import { CHUNK_INDEX_SIZE, COMPACT_INODE_SIZE, decodeDevice, EXTENDED_INODE_SIZE, FILE_TYPE, LAYOUT, MAX_TARGET_SIZE, SLOT_SIZE, typeOfMode, type DeviceSlot, type Superblock } from './layout.ts';
import { Pages } from './pages.ts';
import type { DeviceRun } from './place.ts';
import { chunkFormat, ContentMap, extentsOf } from './read-content.ts';
import { DirectoryReader, type Dirent } from './read-directory.ts';
import { readHead, type Head } from './read-head.ts';
import { XattrReader } from './read-xattrs.ts';

/** A chunk-based file with 8-byte indexes, as the image has it. */
export interface ChunkedFile {
  readonly path: string;
  readonly nid: number;
  readonly size: number;
  /** `ceil(size / chunk size)` entries of 8 bytes, to be read with CHUNK_INDEX; lent. */
  readonly indexes: Uint8Array;
}

export interface ErofsReadOptions {
  /** Names in the image, more are refused with LIMIT; default 2 000 000. */
  readonly maxNames?: number;
  /** For RAFS: takes over chunk-based files. `chunkSize` (bytes) tells how many indexes a file has, whatever its inode says. */
  readonly chunks?: { readonly chunkSize: number; extents(file: ChunkedFile): readonly Extent[] };
  readonly signal?: AbortSignal;
}

export interface ErofsImage {
  readonly superblock: Superblock;
  readonly devices: readonly DeviceSlot[];
  /** Extents are those of `extentsOf`, unless the caller makes them. Children are sorted by bytes. */
  readonly root: DirectoryNode;
  /** By node id. */
  readonly nodes: ReadonlyMap<number, FileNode>;
  /** What had to be left out, one line each. */
  readonly problems: readonly string[];
}

const MAX_NAMES = 2_000_000;
/** UTF-16 units, as in layers. */
const MAX_PATH_LENGTH = 16_384;
/** Indexes of all files together: half a gigabyte of them. */
const MAX_INDEXES = 1 << 26;
/** Runs of all files together. */
const MAX_RUNS = 1 << 21;
/** Indexes read at once. */
const INDEXES = 1 << 14;
const MAX_PROBLEMS = 100;

/**
 * Reads the tree of an uncompressed EROFS image; nothing of its files' content is read. UNSUPPORTED for compressed files and
 * METABOX, CORRUPT (with the offset) for images that break the rules, LIMIT for ones that are too large.
 */
export async function openErofs(source: ByteSource, options: ErofsReadOptions = {}): Promise<ErofsImage> {
  const pages = new Pages(source, options.signal);
  const head = await readHead(pages);
  return new TreeReader(pages, head, options).read();
}

interface Open {
  readonly node: DirectoryNode;
  readonly inode: Inode;
  /** Of the inode, in the image. */
  readonly offset: number;
  readonly path: string;
}

class TreeReader {
  readonly #pages: Pages;
  readonly #head: Head;
  readonly #options: ErofsReadOptions;
  readonly #xattrs: XattrReader;
  readonly #content: ContentMap;
  readonly #claims = new Claims();
  readonly #nodes = new Map<number, FileNode>();
  readonly #maker = new NodeMaker();
  readonly #sockets = new Set<number>();
  readonly #problems: string[] = [];
  readonly #blockSize: number;
  /** Directories that are still to be read. */
  readonly #todo: Open[] = [];
  #names = 0;
  #indexes = 0;
  #runs = 0;

  constructor(pages: Pages, head: Head, options: ErofsReadOptions) {
    this.#pages = pages;
    this.#head = head;
    this.#options = options;
    this.#blockSize = head.superblock.blockSize;
    this.#xattrs = new XattrReader(pages, head);
    this.#content = new ContentMap(head, pages.size);
  }

  async read(): Promise<ErofsImage> {
    const { superblock, devices } = this.#head;
    const root = await this.#node(superblock.rootNid, '', FILE_TYPE.directory);
    if (root?.type !== 'directory') throw corrupt('root of the image is no directory');
    for (let next = this.#todo.pop(); next; next = this.#todo.pop()) await this.#directory(next);
    return { superblock, devices, root, nodes: this.#nodes, problems: this.#problems };
  }

  async #directory(open: Open): Promise<void> {
    try {
      await this.#entries(open);
    } catch (error) {
      throw inFile(error, open.path);
    }
  }

  async #entries({ node, inode, offset, path }: Open): Promise<void> {
    const reader = new DirectoryReader();
    const blockSize = this.#blockSize;
    const whole = inode.layout === LAYOUT.flatInline ? Math.floor(inode.size / blockSize) * blockSize : inode.size;
    for (let done = 0; done < inode.size; done += blockSize) {
      const length = Math.min(blockSize, inode.size - done);
      let at = offset + inode.headerSize + inode.xattrSize;
      if (done < whole) {
        const run = this.#content.run(inode.union + inode.startHigh * 2 ** 32 + done / blockSize, length, offset);
        if (run.device !== 0) throw corrupt('directory is on another device', { offset });
        at = run.offset;
        this.#claims.take(at, length, 'directory');
      }
      const got = this.#pages.read(at, length, 'directory');
      for (const entry of reader.entries(got instanceof Promise ? await got : got, at)) await this.#entry(node, path, entry);
    }
  }

  async #entry(parent: DirectoryNode, parentPath: string, { name, nid, type, offset }: Dirent): Promise<void> {
    this.#names += 1;
    const { maxNames = MAX_NAMES } = this.#options;
    if (this.#names > maxNames) throw new LazypullError('LIMIT', `image has more than ${maxNames} names`);
    const path = joinPath(parentPath, name);
    if (path.length > MAX_PATH_LENGTH) throw corrupt(`path of more than ${MAX_PATH_LENGTH} characters`, { offset });
    if (this.#sockets.has(nid)) return;
    const known = this.#nodes.get(nid);
    if (known?.type === 'directory') throw corrupt(`directory has a second name, ${printable(path)}`, { offset });
    const node = known ?? (await this.#node(nid, path, type));
    if (node) parent.children.set(name, node);
  }

  /** Reads an inode; undefined for a socket, which layers do not have. */
  async #node(nid: number, path: string, type: number): Promise<FileNode | undefined> {
    const { superblock, wide } = this.#head;
    const offset = superblock.metaBlock * this.#blockSize + nid * SLOT_SIZE;
    try {
      const available = Math.min(EXTENDED_INODE_SIZE, Math.max(COMPACT_INODE_SIZE, this.#pages.size - offset));
      const got = this.#pages.read(offset, available, `inode of nid ${nid}`);
      const bytes = got instanceof Promise ? await got : got;
      const size = inodeSize(bytes[0] as number);
      if (size > bytes.length) throw corrupt(`inode of nid ${nid} is cut off`, { offset });
      const inode = decodeInode(bytes, offset, superblock.epoch, wide);
      const real = typeOfMode(inode.mode);
      if (type !== FILE_TYPE.unknown && type !== real) throw corrupt(`inode with mode 0${inode.mode.toString(8)} has an entry of type ${type}`, { offset });
      this.#claims.take(offset, inode.headerSize + inode.xattrSize + inlineSize(inode, this.#blockSize), `inode of nid ${nid}`);
      const node = await this.#make(inode, real, offset, path, nid);
      if (node) this.#nodes.set(nid, node);
      return node;
    } catch (error) {
      throw inFile(error, path);
    }
  }

  async #make(inode: Inode, type: number, offset: number, path: string, nid: number): Promise<FileNode | undefined> {
    const { uid, gid, mtime } = inode;
    const make = this.#maker;
    const xattrs = inode.xattrSize === 0 ? NO_XATTRS : await this.#xattrs.read(offset + inode.headerSize, inode.xattrSize);
    const attributes = { mode: inode.mode & 0o7777, uid, gid, mtime, xattrs };
    this.#checkInline(inode, offset);
    switch (type) {
      case FILE_TYPE.file:
        return make.file(attributes, inode.size, await this.#extents(inode, offset, path, nid));
      case FILE_TYPE.directory: {
        if (inode.layout === LAYOUT.chunkBased) throw new LazypullError('UNSUPPORTED', 'directory is stored in chunks', { offset });
        const node = make.directory(attributes);
        this.#todo.push({ node, inode, offset, path });
        return node;
      }
      case FILE_TYPE.symlink:
        return make.symlink(attributes, await this.#target(inode, offset));
      case FILE_TYPE.char:
      case FILE_TYPE.block: {
        const { major, minor } = decodeDevice(inode.union);
        return make.device(attributes, type === FILE_TYPE.char ? 'char' : 'block', major, minor);
      }
      case FILE_TYPE.fifo:
        return make.fifo(attributes);
      case FILE_TYPE.socket:
        this.#sockets.add(nid);
        if (this.#problems.length < MAX_PROBLEMS) this.#problems.push(`${printable(path)} is a socket, which layers do not have: left out`);
        return undefined;
      default:
        throw corrupt(`inode has mode 0${inode.mode.toString(8)}, which is no file type`, { offset });
    }
  }

  async #target(inode: Inode, offset: number): Promise<string> {
    const { size } = inode;
    if (size > MAX_TARGET_SIZE) throw corrupt(`symlink target of ${size} bytes`, { offset });
    if (inode.layout === LAYOUT.chunkBased) throw new LazypullError('UNSUPPORTED', 'symlink target is stored in chunks', { offset });
    const parts: Buffer[] = [];
    for (const run of this.#flatRuns(inode, offset)) {
      if (run.device !== 0) throw corrupt('symlink target is on another device', { offset });
      parts.push(await this.#pages.read(run.offset, run.length, 'symlink target'));
    }
    const target = Buffer.concat(parts);
    if (target.includes(0)) throw corrupt('symlink target has a NUL', { offset });
    return decodeName(target);
  }

  async #extents(inode: Inode, offset: number, path: string, nid: number): Promise<readonly Extent[]> {
    if (inode.layout !== LAYOUT.chunkBased) return this.#count(this.#flatRuns(inode, offset));
    const format = chunkFormat(inode, this.#blockSize, offset);
    const { chunks } = this.#options;
    const own = chunks && format.entrySize === CHUNK_INDEX_SIZE ? chunks : undefined;
    const count = Math.ceil(inode.size / (own?.chunkSize ?? format.chunkSize));
    this.#indexes += count;
    if (this.#indexes > MAX_INDEXES) throw new LazypullError('LIMIT', `image has more than ${MAX_INDEXES} chunk indexes`, { offset });
    // What is in front of the array is claimed already, up to the next multiple of 32 bytes.
    const header = inode.headerSize + inode.xattrSize;
    const start = offset + roundUp(header, format.entrySize);
    const claimed = roundUp(offset + header, SLOT_SIZE);
    const end = start + count * format.entrySize;
    const runs: DeviceRun[] = [];
    let left = inode.size;
    if (end > this.#pages.size) throw corrupt(`${count} chunk indexes reach outside the image of ${this.#pages.size} bytes`, { offset: start });
    if (end > claimed) this.#claims.take(claimed, end - claimed, 'chunk indexes');
    if (own) return own.extents({ path, nid, size: inode.size, indexes: await this.#pages.read(start, count * format.entrySize, 'chunk indexes') });
    for (let at = start; at < end; at += INDEXES * format.entrySize) {
      const got = this.#pages.read(at, Math.min(end - at, INDEXES * format.entrySize), 'chunk indexes');
      left = this.#content.addChunks(runs, got instanceof Promise ? await got : got, format, left, at);
      if (this.#runs + runs.length > MAX_RUNS) throw new LazypullError('LIMIT', `image has more than ${MAX_RUNS} pieces of content`, { offset });
    }
    return this.#count(runs);
  }

  #count(runs: readonly DeviceRun[]): readonly Extent[] {
    this.#runs += runs.length;
    return runs.length === 0 ? NO_EXTENTS : extentsOf(runs);
  }

  #flatRuns(inode: Inode, offset: number): readonly DeviceRun[] {
    const tail = inlineSize(inode, this.#blockSize);
    const whole = inode.size - tail;
    const runs: DeviceRun[] = [];
    if (whole > 0) runs.push(this.#content.run(inode.union + inode.startHigh * 2 ** 32, whole, offset));
    if (tail > 0) runs.push({ length: tail, device: 0, offset: offset + inode.headerSize + inode.xattrSize });
    return runs;
  }

  #checkInline(inode: Inode, offset: number): void {
    const tail = inlineSize(inode, this.#blockSize);
    const start = offset + inode.headerSize + inode.xattrSize;
    if (tail === 0) return;
    if ((start % this.#blockSize) + tail > this.#blockSize) throw corrupt(`${tail} bytes beside the inode lie across blocks`, { offset: start });
    if (start + tail > this.#pages.size) throw corrupt(`${tail} bytes beside the inode reach outside the image of ${this.#pages.size} bytes`, { offset: start });
  }
}

/** The error with the path it is about, unless it has one. */
function inFile(error: unknown, path: string): unknown {
  if (!(error instanceof LazypullError) || error.path !== undefined || (error.code !== 'CORRUPT' && error.code !== 'UNSUPPORTED')) return error;
  const { offset } = error;
  // The constructor names the place, now with the path.
  return new LazypullError(error.code, error.message.replace(/ \(at offset \d+\)$/, ''), { path: `/${path}`, ...(offset !== undefined && { offset }), cause: error });
}

/** Bytes of content that lie beside the inode. */
function inlineSize({ layout, size }: Inode, blockSize: number): number {
  return layout === LAYOUT.flatInline ? size % blockSize : 0;
}
