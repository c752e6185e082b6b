import { equalBytes } from '../core/bytes.ts';
import type { Digest } from '../core/digest.ts';
import type { Attributes, Chunk, DeviceNode, DirectoryNode, Extent, FifoNode, FileNode, RegularNode, SymlinkNode, Time } from '../core/types.ts';

export const NO_XATTRS: ReadonlyMap<string, Uint8Array> = new Map();
export const NO_EXTENTS: readonly Extent[] = [];
const EPOCH: Time = { seconds: 0, nanoseconds: 0 };

/** Places for times that were met last: primes. There are more when they turn out to be too few. */
const TIMES: readonly number[] = [61, 1021, 16_381, 262_139];
/** The same for sets of extended attributes. */
const XATTRS = 61;

/**
 * Makes the nodes of a tree, which may have a million of them: about 90 bytes each. Objects put together by spreading others
 * take four times that, so every field is named. What repeats from node to node (times, extended attributes) is kept once.
 */
export class NodeMaker {
  #times = empty<Time>(TIMES[0] as number);
  #misses = 0;
  readonly #xattrs = empty<Attributes['xattrs']>(XATTRS);

  /** `extents` are not kept where they can be made again: most files are in one piece. */
  file(attributes: Attributes, size: number, extents: readonly Extent[], digest?: Digest): RegularNode {
    const { mode, uid, gid, mtime, xattrs, userName, groupName } = attributes;
    const [first] = extents;
    let node: Writable<RegularNode>;
    if (first && extents.length === 1 && first.fileOffset === 0 && first.length === size) {
      node = new FileInOnePiece(attributes, this.time(mtime), this.xattrs(xattrs), size, first);
    } else {
      node = { type: 'file', mode, uid, gid, mtime: this.time(mtime), xattrs: this.xattrs(xattrs), size, extents: first ? extents : NO_EXTENTS };
    }
    if (digest !== undefined) node.digest = digest;
    return named(node, userName, groupName);
  }

  directory({ mode, uid, gid, mtime, xattrs, userName, groupName }: Attributes, children: DirectoryNode['children'] = new Map()): DirectoryNode {
    return named({ type: 'directory', mode, uid, gid, mtime: this.time(mtime), xattrs: this.xattrs(xattrs), children }, userName, groupName);
  }

  symlink({ mode, uid, gid, mtime, xattrs, userName, groupName }: Attributes, target: string): SymlinkNode {
    return named({ type: 'symlink', mode, uid, gid, mtime: this.time(mtime), xattrs: this.xattrs(xattrs), target }, userName, groupName);
  }

  device({ mode, uid, gid, mtime, xattrs, userName, groupName }: Attributes, type: DeviceNode['type'], major: number, minor: number): DeviceNode {
    return named({ type, mode, uid, gid, mtime: this.time(mtime), xattrs: this.xattrs(xattrs), major, minor }, userName, groupName);
  }

  fifo({ mode, uid, gid, mtime, xattrs, userName, groupName }: Attributes): FifoNode {
    return named({ type: 'fifo', mode, uid, gid, mtime: this.time(mtime), xattrs: this.xattrs(xattrs) }, userName, groupName);
  }

  /** An equal time, where one was met lately the very same. */
  time(time: Time): Time {
    const { seconds, nanoseconds } = time;
    const place = Math.abs(seconds + nanoseconds) % this.#times.length;
    const known = this.#times[place];
    if (known?.seconds === seconds && known.nanoseconds === nanoseconds) return known;
    this.#times[place] = time;
    this.#misses += 1;
    if (this.#misses > 2 * this.#times.length) this.#moreTimes();
    return time;
  }

  #moreTimes(): void {
    this.#misses = 0;
    const more = TIMES.find((places) => places > this.#times.length);
    if (more !== undefined) this.#times = empty<Time>(more);
  }

  /** The same for extended attributes. */
  xattrs(xattrs: Attributes['xattrs']): Attributes['xattrs'] {
    if (xattrs.size === 0) return NO_XATTRS;
    let sum = xattrs.size;
    for (const [name, value] of xattrs) sum = (sum * 31 + name.length + value.length * 7 + (value[0] ?? 0) + (value.at(-1) ?? 0)) % XATTRS;
    const known = this.#xattrs[sum];
    if (known && (known === xattrs || sameXattrs(known, xattrs))) return known;
    this.#xattrs[sum] = xattrs;
    return xattrs;
  }
}

/** Half the size of one with an array of one extent, and a million of them are no rarity. */
class FileInOnePiece implements RegularNode {
  readonly type = 'file';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: Time;
  readonly xattrs: Attributes['xattrs'];
  readonly size: number;
  readonly #chunk: Chunk;
  readonly #chunkOffset: number;

  constructor({ mode, uid, gid }: Attributes, mtime: Time, xattrs: Attributes['xattrs'], size: number, { chunk, chunkOffset }: Extent) {
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
    this.mtime = mtime;
    this.xattrs = xattrs;
    this.size = size;
    this.#chunk = chunk;
    this.#chunkOffset = chunkOffset;
  }

  get extents(): readonly Extent[] {
    return [{ fileOffset: 0, length: this.size, chunk: this.#chunk, chunkOffset: this.#chunkOffset }];
  }
}

/**
 * A hard link to a file that only a layer below has: what it is shows when layers are merged. By itself it is an empty file that
 * nobody owns, and nothing to be written anywhere.
 */
export class LinkBelow implements RegularNode {
  readonly type = 'file';
  readonly mode = 0;
  readonly uid = 0;
  readonly gid = 0;
  readonly mtime: Time = EPOCH;
  readonly xattrs: Attributes['xattrs'] = NO_XATTRS;
  readonly size = 0;
  readonly extents: readonly Extent[] = NO_EXTENTS;
  /** Clean path. */
  readonly target: string;

  constructor(target: string) {
    this.target = target;
  }
}

/** A directory with the attributes of one and the children of another. */
export function withChildren(directory: DirectoryNode, children: DirectoryNode['children'], xattrs: Attributes['xattrs'] = directory.xattrs): DirectoryNode {
  const { mode, uid, gid, mtime, userName, groupName, implied } = directory;
  const node: Writable<DirectoryNode> = { type: 'directory', mode, uid, gid, mtime, xattrs, children };
  if (implied) node.implied = implied;
  return named(node, userName, groupName);
}

/** Shorter parts of a string V8 copies by itself. */
const SLICED = 13;
const scratch = Buffer.allocUnsafeSlow(256);

/** An equal name that stands for itself: a part of a path keeps all of the path in memory. */
export function ownName(name: string): string {
  if (name.length < SLICED) return name;
  if (name.length <= scratch.length) {
    const copy = scratch.toString('latin1', 0, scratch.write(name, 'latin1'));
    if (copy === name) return copy;
  }
  return Buffer.from(name, 'utf16le').toString('utf16le');
}

function empty<T>(places: number): (T | undefined)[] {
  return Array.from({ length: places });
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

/** Most trees have no names of owners, and their nodes no room for them. */
function named<N extends Writable<FileNode>>(node: N, userName: string | undefined, groupName: string | undefined): N {
  if (userName !== undefined) node.userName = userName;
  if (groupName !== undefined) node.groupName = groupName;
  return node;
}

/** In the same order, too: what is written from a tree keeps it. */
function sameXattrs(a: Attributes['xattrs'], b: Attributes['xattrs']): boolean {
  if (a.size !== b.size) return false;
  const others = b.entries();
  for (const [name, value] of a) {
    const [otherName, otherValue] = others.next().value as [string, Uint8Array];
    if (name !== otherName || !equalBytes(value, otherValue)) return false;
  }
  return true;
}
