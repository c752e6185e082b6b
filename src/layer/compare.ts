import { equalBytes } from '../core/bytes.ts';
import { printable } from '../core/errors.ts';
import type { DirectoryNode, FileNode, Time } from '../core/types.ts';
import { compareNames, joinPath } from './walk.ts';

/**
 * What can differ between two trees. `mtime-lost` is a time that a format could not express: cut or rounded to seconds, or
 * left out; `implied` is a directory that one side describes and the other only implies; `names` are user and group names.
 */
export type DifferenceKind =
  | 'missing' | 'extra' | 'implied' | 'type' | 'mode' | 'uid' | 'gid' | 'mtime' | 'mtime-lost' | 'xattrs'
  | 'size' | 'content' | 'target' | 'device' | 'hardlink' | 'names';

export interface Difference {
  readonly path: string;
  readonly kind: DifferenceKind;
  /** What each side has, in words. */
  readonly detail: string;
}

export interface CompareOptions {
  /** What to call the two sides in `detail`. Default `first` and `second`. */
  readonly labels?: readonly [string, string];
  /** Clean paths that are left out on both sides, with what is below them. */
  readonly ignore?: ReadonlySet<string>;
  /** Compare user and group names too. */
  readonly names?: boolean;
}

/**
 * Compares two trees name by name, sorted: types, attributes, link targets, devices, which names are links to one inode,
 * and contents by digest. Contents are compared only where both sides have a digest.
 */
export function* compareTrees(first: DirectoryNode, second: DirectoryNode, options: CompareOptions = {}): Generator<Difference> {
  const [one, two] = options.labels ?? ['first', 'second'];
  const links = new LinkGroups(one, two);
  yield* compareNodes('', first, second, one, two, options);
  const stack = [{ path: '', a: first, b: second, names: unionOfNames(first, second) }];
  for (let top = stack.at(-1); top; top = stack.at(-1)) {
    const next = top.names.next();
    if (next.done) {
      stack.pop();
      continue;
    }
    const path = joinPath(top.path, next.value);
    if (options.ignore?.has(path)) continue;
    const a = top.a.children.get(next.value);
    const b = top.b.children.get(next.value);
    if (!a || !b) {
      const there = a ?? b;
      const below = there?.type === 'directory' && there.children.size > 0 ? ', with everything below it' : '';
      yield { path, kind: a ? 'missing' : 'extra', detail: `${there?.type} is only in ${a ? one : two}${below}` };
      continue;
    }
    yield* compareNodes(path, a, b, one, two, options);
    yield* links.compare(path, a, b);
    if (a.type === 'directory' && b.type === 'directory') stack.push({ path, a, b, names: unionOfNames(a, b) });
  }
}

/**
 * Whether two times are equal, or equal but for what formats lose: one of them is the other cut or rounded to whole
 * seconds, or Go's zero time, which the reference implementation of eStargz shows for the epoch.
 */
export function compareTimes(a: Time, b: Time): 'equal' | 'lost' | 'different' {
  if (a.seconds === b.seconds && a.nanoseconds === b.nanoseconds) return 'equal';
  if (a.nanoseconds !== 0 && b.nanoseconds !== 0) return 'different';
  if (isNoTime(a) ? isEpoch(b) : isNoTime(b) && isEpoch(a)) return 'lost';
  return a.seconds === b.seconds || rounded(a) === rounded(b) ? 'lost' : 'different';
}

/** 0001-01-01T00:00:00Z. */
const GO_ZERO_TIME = -62_135_596_800;

function isNoTime(time: Time): boolean {
  return time.seconds === GO_ZERO_TIME;
}

function isEpoch(time: Time): boolean {
  return rounded(time) === 0 || time.seconds === 0;
}

function rounded(time: Time): number {
  return time.nanoseconds >= 500_000_000 ? time.seconds + 1 : time.seconds;
}

function* compareNodes(path: string, a: FileNode, b: FileNode, one: string, two: string, options: CompareOptions): Generator<Difference> {
  const differ = (kind: DifferenceKind, x: string | number, y: string | number): Difference =>
    ({ path, kind, detail: `${one} has ${x}, ${two} has ${y}` });
  if (a.type !== b.type) {
    yield differ('type', a.type, b.type);
    return;
  }
  const impliedA = a.type === 'directory' && a.implied === true;
  const impliedB = b.type === 'directory' && b.implied === true;
  if (impliedA !== impliedB) yield { path, kind: 'implied', detail: `directory has no entry of its own in ${impliedA ? one : two}` };
  if (a.mode !== b.mode) yield differ('mode', octal(a.mode), octal(b.mode));
  if (a.uid !== b.uid) yield differ('uid', a.uid, b.uid);
  if (a.gid !== b.gid) yield differ('gid', a.gid, b.gid);
  const times = impliedA === impliedB ? compareTimes(a.mtime, b.mtime) : 'equal';
  if (times !== 'equal') yield differ(times === 'lost' ? 'mtime-lost' : 'mtime', spellTime(a.mtime), spellTime(b.mtime));
  if (options.names && impliedA === impliedB && !(sameName(a.userName, b.userName) && sameName(a.groupName, b.groupName))) {
    yield differ('names', spellNames(a), spellNames(b));
  }
  yield* compareXattrs(path, a, b, one, two);
  if (a.type === 'file' && b.type === 'file') {
    if (a.size !== b.size) yield differ('size', `${a.size} bytes`, `${b.size} bytes`);
    else if (a.digest !== undefined && b.digest !== undefined && a.digest !== b.digest) yield differ('content', a.digest, b.digest);
  } else if (a.type === 'symlink' && b.type === 'symlink') {
    if (a.target !== b.target) yield differ('target', printable(a.target), printable(b.target));
  } else if ((a.type === 'char' || a.type === 'block') && (b.type === 'char' || b.type === 'block')) {
    if (a.major !== b.major || a.minor !== b.minor) yield differ('device', `${a.major}:${a.minor}`, `${b.major}:${b.minor}`);
  }
}

function* compareXattrs(path: string, a: FileNode, b: FileNode, one: string, two: string): Generator<Difference> {
  if (a.xattrs.size === 0 && b.xattrs.size === 0) return;
  for (const name of [...new Set([...a.xattrs.keys(), ...b.xattrs.keys()])].sort(compareNames)) {
    const x = a.xattrs.get(name);
    const y = b.xattrs.get(name);
    if (x && y && equalBytes(x, y)) continue;
    const detail = x && y ? `values of ${printable(name)} differ` : `${printable(name)} is only in ${x ? one : two}`;
    yield { path, kind: 'xattrs', detail };
  }
}

/** Names that share an inode must be the same names on both sides: the first name seen of each inode stands for it. */
class LinkGroups {
  readonly #first = new Map<FileNode, string>();
  readonly #second = new Map<FileNode, string>();
  readonly #one: string;
  readonly #two: string;

  constructor(one: string, two: string) {
    this.#one = one;
    this.#two = two;
  }

  *compare(path: string, a: FileNode, b: FileNode): Generator<Difference> {
    if (a.type === 'directory' || b.type === 'directory') return;
    const x = this.#first.get(a);
    const y = this.#second.get(b);
    if (x === undefined) this.#first.set(a, path);
    if (y === undefined) this.#second.set(b, path);
    if (x === y) return;
    const spell = (name: string | undefined): string => (name === undefined ? 'an inode of its own' : `a hard link to ${printable(name)}`);
    yield { path, kind: 'hardlink', detail: `${this.#one} has ${spell(x)}, ${this.#two} has ${spell(y)}` };
  }
}

function unionOfNames(a: DirectoryNode, b: DirectoryNode): Iterator<string> {
  const names = [...a.children.keys()];
  for (const name of b.children.keys()) if (!a.children.has(name)) names.push(name);
  return names.sort(compareNames).values();
}

function sameName(a: string | undefined, b: string | undefined): boolean {
  return (a ?? '') === (b ?? '');
}

function spellNames(node: FileNode): string {
  return printable(`${node.userName ?? ''}:${node.groupName ?? ''}`);
}

function spellTime(time: Time): string {
  return time.nanoseconds === 0 ? `${time.seconds} s` : `${time.seconds}.${String(time.nanoseconds).padStart(9, '0')} s`;
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}
