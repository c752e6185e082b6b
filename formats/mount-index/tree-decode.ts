import { decodeName } from '../../src/core/bytes.ts';
import { corrupt, LazypullError } from '../../src/core/errors.ts';
import type { Attributes, DirectoryNode, FileNode, Time } from '../../src/core/types.ts';
import { NO_XATTRS, NodeMaker } from '../../src/layer/nodes.ts';
import { impliedDirectory } from '../../src/layer/tree.ts';
import type { SparseRun } from '../../src/tar/entry.ts';
import { TarFile, type TarContent } from './tar-file.ts';
import { Before, FLAG, KIND, KIND_MASK, MAX_HOLES, TAR_BLOCK } from './tree-layout.ts';
import { VarintReader } from './varint.ts';

/** Limits of what is read: those of layers elsewhere. */
const MAX_NAME = 255;
const MAX_NAMES = 2_000_000;
const MAX_PATH = 16_384;
/** Of anything that is text or a value: a tar header has no more. */
const MAX_FIELD = 8 << 20;
const MAX_RUNS = 1 << 20;
const MAX_MODE = 0o7777;
const MAX_ID = 2 ** 32 - 1;
const MAX_DEVICE = 2 ** 32 - 1;
const MAX_NANOSECONDS = 999_999_999;

/**
 * The tree that `encodeTree` made rows of; its files are in `tar`, which has `tarSize` bytes. CORRUPT for names that cannot exist
 * and for files that lie outside the tar or in each other, LIMIT for trees that no layer has.
 */
export function decodeTree(bytes: Uint8Array, tar: TarContent, tarSize: number, what: string): DirectoryNode {
  return new TreeDecoder(bytes, tar, tarSize, what).decode();
}

interface Open {
  readonly children: Map<string, FileNode>;
  /** UTF-16 units. */
  readonly pathLength: number;
}

class TreeDecoder {
  readonly #rows: VarintReader;
  readonly #tar: TarContent;
  readonly #tarSize: number;
  readonly #what: string;
  readonly #make = new NodeMaker();
  readonly #texts: string[] = [''];
  readonly #sets: Attributes['xattrs'][] = [];
  readonly #before = new Before();
  /** What hard links may lead to, in the order of their rows. */
  readonly #nodes: FileNode[] = [];
  /** Where files begin and end in the tar. */
  readonly #taken: TarFile[] = [];
  #names = 0;
  #holes = 0;

  constructor(bytes: Uint8Array, tar: TarContent, tarSize: number, what: string) {
    this.#rows = new VarintReader(bytes, what);
    this.#tar = tar;
    this.#tarSize = tarSize;
    this.#what = what;
  }

  decode(): DirectoryNode {
    this.#readTables();
    const first = this.#rows.byte();
    if ((first & KIND_MASK) !== KIND.directory) throw this.#wrong('does not begin with a directory');
    if (this.#rows.counted(0).length > 0) throw this.#wrong('has a root with a name');
    const root = this.#directory(first);
    const open: Open[] = [{ children: root.children, pathLength: 0 }];
    for (let top = open.at(-1); top; top = open.at(-1)) {
      const head = this.#rows.byte();
      if (head === KIND.end) {
        open.pop();
        continue;
      }
      const name = this.#name(top);
      const kind = head & KIND_MASK;
      if (kind === KIND.directory) {
        const directory = this.#directory(head);
        top.children.set(name, directory);
        open.push({ children: directory.children, pathLength: top.pathLength + name.length + 1 });
      } else if (kind === KIND.link) {
        const node = this.#nodes[this.#rows.number()];
        if (!node || head !== KIND.link) throw this.#wrong('has a hard link that leads nowhere');
        top.children.set(name, node);
      } else {
        const node = this.#other(kind, head);
        this.#nodes.push(node);
        top.children.set(name, node);
      }
    }
    this.#rows.end();
    this.#checkOverlap();
    return root;
  }

  #readTables(): void {
    const rows = this.#rows;
    // Every entry takes at least a byte.
    for (let count = this.#count(); count > 0; count -= 1) this.#texts.push(decodeName(rows.counted(MAX_FIELD)));
    for (let count = this.#count(); count > 0; count -= 1) {
      const xattrs = new Map<string, Uint8Array>();
      for (let left = this.#count(); left > 0; left -= 1) {
        const name = decodeName(rows.counted(MAX_FIELD));
        if (name === '' || name.includes('\0') || xattrs.has(name)) throw this.#wrong('has an extended attribute without a proper name');
        xattrs.set(name, new Uint8Array(rows.counted(MAX_FIELD)));
      }
      this.#sets.push(xattrs);
    }
  }

  #count(): number {
    const count = this.#rows.number();
    if (count > this.#rows.left) throw this.#wrong(`speaks of ${count} things in ${this.#rows.left} bytes`);
    return count;
  }

  #name({ children, pathLength }: Open): string {
    this.#names += 1;
    if (this.#names > MAX_NAMES) throw new LazypullError('LIMIT', `${this.#what} has more than ${MAX_NAMES} names`);
    const name = decodeName(this.#rows.counted(MAX_NAME));
    if (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0')) throw this.#wrong('has a name that cannot be');
    if (children.has(name)) throw this.#wrong('has a name twice in one directory');
    if (pathLength + name.length > MAX_PATH) throw this.#wrong('has a path that is too long');
    return name;
  }

  #directory(head: number): DirectoryNode {
    if (head === (KIND.directory | FLAG.special)) return impliedDirectory();
    if ((head & FLAG.special) !== 0) throw this.#wrong('has a directory that nobody describes, with attributes');
    return this.#make.directory(this.#attributes(head));
  }

  #other(kind: number, head: number): FileNode {
    if ((head & FLAG.special) !== 0 && kind !== KIND.file) throw this.#wrong('has a row of an unknown kind');
    const attributes = this.#attributes(head);
    const rows = this.#rows;
    switch (kind) {
      case KIND.file:
        return this.#file(attributes, (head & FLAG.special) !== 0);
      case KIND.symlink:
        return this.#make.symlink(attributes, decodeName(rows.counted(MAX_FIELD)));
      case KIND.char:
      case KIND.block: {
        const major = this.#upTo(MAX_DEVICE, 'device number');
        return this.#make.device(attributes, kind === KIND.char ? 'char' : 'block', major, this.#upTo(MAX_DEVICE, 'device number'));
      }
      case KIND.fifo:
        return this.#make.fifo(attributes);
      default:
        throw this.#wrong('has a row of an unknown kind');
    }
  }

  #attributes(head: number): Attributes {
    if (head >= 0x80) throw this.#wrong('has a row of an unknown kind');
    const before = this.#before;
    const mode = this.#upTo(MAX_MODE, 'mode');
    if ((head & FLAG.sameOwner) === 0) {
      before.uid = this.#upTo(MAX_ID, 'user');
      before.gid = this.#upTo(MAX_ID, 'group');
      before.user = this.#rows.number();
      before.group = this.#rows.number();
    }
    const userName = this.#texts[before.user];
    const groupName = this.#texts[before.group];
    if (before.uid < 0 || userName === undefined || groupName === undefined) throw this.#wrong('has a row without an owner');
    before.seconds += this.#rows.signed();
    if (!Number.isSafeInteger(before.seconds)) throw this.#wrong('has a time beyond 2^53');
    const mtime: Time = { seconds: before.seconds, nanoseconds: this.#upTo(MAX_NANOSECONDS, 'nanoseconds') };
    const xattrs = (head & FLAG.xattrs) === 0 ? NO_XATTRS : this.#sets[this.#rows.number()];
    if (!xattrs) throw this.#wrong('has a row whose extended attributes are not there');
    return { mode, uid: before.uid, gid: before.gid, mtime, xattrs, userName, groupName };
  }

  #file(attributes: Attributes, sparse: boolean): TarFile {
    const size = this.#rows.number();
    const runs = sparse ? this.#runs(size) : undefined;
    const stored = runs ? runs.reduce((sum, { length }) => sum + length, 0) : size;
    this.#holes += size - stored;
    if (this.#holes > MAX_HOLES) throw new LazypullError('LIMIT', `${this.#what} has holes of more than ${MAX_HOLES} bytes`);
    let payload = 0;
    if (stored > 0) {
      const before = this.#before;
      const block = before.block + this.#rows.signed();
      payload = block * TAR_BLOCK;
      if (payload < 0 || payload + stored > this.#tarSize) throw this.#wrong(`has a file at bytes ${payload} to ${payload + stored} of a tar of ${this.#tarSize}`);
      before.block = block + Math.ceil(stored / TAR_BLOCK);
    }
    const file = new TarFile({ ...attributes, mtime: this.#make.time(attributes.mtime) }, size, this.#tar, payload, runs);
    if (stored > 0) this.#taken.push(file);
    return file;
  }

  #runs(size: number): readonly SparseRun[] {
    const runs: SparseRun[] = [];
    const count = this.#count();
    if (count > MAX_RUNS) throw new LazypullError('LIMIT', `${this.#what} has a file in ${count} pieces`);
    let at = 0;
    for (let i = 0; i < count; i += 1) {
      const offset = at + this.#rows.number();
      const length = this.#rows.number();
      at = offset + length;
      if (length === 0 || at > size) throw this.#wrong(`has a sparse file of ${size} bytes with content up to ${at}`);
      runs.push({ offset, length });
    }
    return runs;
  }

  /** Otherwise a small tree could stand for any number of extents. */
  #checkOverlap(): void {
    const files = this.#taken.sort((a, b) => a.payload - b.payload);
    let end = 0;
    for (const { payload, stored } of files) {
      if (payload < end) throw this.#wrong(`has two files at byte ${payload} of the tar`);
      end = payload + stored;
    }
  }

  #upTo(most: number, field: string): number {
    const value = this.#rows.number();
    if (value > most) throw this.#wrong(`has a ${field} of ${value}`);
    return value;
  }

  #wrong(why: string): LazypullError {
    return corrupt(`${this.#what} ${why}`, { offset: this.#rows.position });
  }
}
