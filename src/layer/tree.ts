import { encodeName } from '../core/bytes.ts';
import { corrupt, LazypullError, printable } from '../core/errors.ts';
import type { Attributes, DirectoryNode, FileNode } from '../core/types.ts';
import { LinkBelow, NO_XATTRS, NodeMaker, ownName, withChildren } from './nodes.ts';

/** A directory as an archive names it: attributes only, its children arrive as entries of their own. */
export interface DirectoryAttributes extends Attributes {
  readonly type: 'directory';
}

export interface TreeLimits {
  /** Names in the tree, implied directories included; more are refused with LIMIT. Default 2 000 000. */
  readonly maxNodes?: number;
  /** Hard links to what this layer does not have stay as `LinkBelow`; otherwise they are CORRUPT. */
  readonly linksBelow?: boolean;
}

/** Longest name of one directory entry, bytes (NAME_MAX of Linux). */
const MAX_NAME_BYTES = 255;
/** Longest path of an entry, UTF-16 units: four times PATH_MAX. Deeper trees can exist on disk, but no tool could unpack them. */
const MAX_PATH_LENGTH = 16_384;

const MAX_NODES = 2_000_000;
const IMPLIED: DirectoryNode = { type: 'directory', mode: 0o755, uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, xattrs: NO_XATTRS, children: new Map(), implied: true };

/** A directory nobody described: mode 0755, root's, epoch. */
export function impliedDirectory(): DirectoryNode {
  return withChildren(IMPLIED, new Map());
}

/**
 * Builds a layer's tree from its entries in archive order. Later entries win: a directory met again keeps its children
 * and takes the new attributes, anything else is replaced together with what was below it. Missing parents are implied,
 * and so is a directory in place of whatever else stands where a later entry needs one.
 *
 * Paths are clean: no leading slash, no empty, `.` or `..` component; '' is the root. Anything else is CORRUPT.
 */
export class TreeBuilder {
  /** For the nodes that are added: what repeats in the tree is then in memory once. */
  readonly make = new NodeMaker();
  #root = impliedDirectory();
  #nodes = 0;
  readonly #maxNodes: number;
  /** By target; undefined when there may be none. */
  readonly #linksBelow: Map<string, LinkBelow> | undefined;
  /** Stand-ins for hard links whose target has not been seen yet. */
  readonly #pending = new Map<FileNode, { readonly path: string; readonly target: string }>();
  /** Archives list a directory's files together, so the last parent is nearly always the next one. */
  #lastPath = '';
  #last: DirectoryNode | undefined;

  constructor(limits: TreeLimits = {}) {
    this.#maxNodes = limits.maxNodes ?? MAX_NODES;
    this.#linksBelow = limits.linksBelow ? new Map() : undefined;
  }

  /** Names put into the tree so far, implied directories included; replaced ones still count. */
  get nodes(): number {
    return this.#nodes;
  }

  add(path: string, node: Exclude<FileNode, DirectoryNode> | DirectoryAttributes): void {
    if (path === '') {
      if (node.type !== 'directory') throw corrupt(`the root of the layer is a ${node.type}, not a directory`);
      this.#root = this.make.directory(node, this.#root.children);
      this.#last = undefined;
      return;
    }
    const { parent, name } = this.#place(path);
    const old = parent.children.get(name);
    if (node.type !== 'directory') {
      this.#put(parent, name, node, old);
    } else if (old?.type === 'directory') {
      parent.children.set(name, this.make.directory(node, old.children));
      // The parent's map holds a new object now; a remembered one would be the old.
      this.#last = undefined;
    } else {
      this.#put(parent, name, this.make.directory(node), old);
    }
  }

  /**
   * Gives the inode at `target` a further name. A target that comes later in the archive is resolved by `finish`;
   * one that is a directory or part of a circle is CORRUPT, and so is a missing one unless it may be in a layer below.
   */
  link(path: string, target: string): void {
    if (path === '') throw corrupt('the root of the layer is a hard link');
    if (target === path || target.startsWith(`${path}/`)) throw badLink(path, target, 'which is itself or below it');
    checkPath(target, `target of hard link ${printable(path)}`);
    const found = nodeAt(this.#root, target);
    if (found?.type === 'directory') throw badLink(path, target, 'which is a directory');
    const { parent, name } = this.#place(path);
    let node = found;
    if (!node || this.#pending.has(node)) {
      node = this.make.fifo(IMPLIED);
      this.#pending.set(node, { path, target });
    }
    this.#put(parent, name, node, parent.children.get(name));
  }

  /** Files of layers below that hard links name; complete after `finish`. */
  get linksBelow(): number {
    return this.#linksBelow?.size ?? 0;
  }

  /** The finished tree; the builder must not be used afterwards. */
  finish(): DirectoryNode {
    for (const [standIn, { path }] of this.#pending) {
      // A later entry may have taken the name, and the link is forgotten with it.
      if (nodeAt(this.#root, path) === standIn) this.#resolve(path);
    }
    this.#pending.clear();
    return this.#root;
  }

  /** Follows a chain of pending links to its end and gives every link on it the inode found there. */
  #resolve(start: string): void {
    const chain: string[] = [];
    const seen = new Set<FileNode>();
    let path = start;
    for (;;) {
      const from = chain.at(-1) ?? start;
      const node = nodeAt(this.#root, path) ?? this.#below(path);
      if (!node) throw badLink(from, path, 'which is not in this layer');
      if (node.type === 'directory') throw badLink(from, path, 'which is a directory');
      const link = this.#pending.get(node);
      if (!link) {
        for (const name of chain) {
          const { parent, name: last } = this.#place(name);
          parent.children.set(last, node);
        }
        return;
      }
      if (seen.has(node)) throw badLink(start, link.target, 'in a circle of hard links');
      seen.add(node);
      chain.push(path);
      path = link.target;
    }
  }

  #below(target: string): LinkBelow | undefined {
    const known = this.#linksBelow?.get(target);
    if (known || !this.#linksBelow) return known;
    const link = new LinkBelow(target);
    this.#linksBelow.set(target, link);
    return link;
  }

  #place(path: string): { parent: DirectoryNode; name: string } {
    const slash = path.lastIndexOf('/');
    const parentPath = slash < 0 ? '' : path.slice(0, slash);
    const name = path.slice(slash + 1);
    checkName(name, path);
    if (this.#last && this.#lastPath === parentPath) return { parent: this.#last, name };
    checkPath(path, 'entry');
    const parent = this.#directory(parentPath);
    this.#lastPath = parentPath;
    this.#last = parent;
    return { parent, name };
  }

  #directory(path: string): DirectoryNode {
    let at = this.#root;
    if (path === '') return at;
    for (const name of path.split('/')) {
      const next = at.children.get(name);
      if (next?.type === 'directory') {
        at = next;
        continue;
      }
      const made = impliedDirectory();
      this.#put(at, name, made, next);
      at = made;
    }
    return at;
  }

  #put(parent: DirectoryNode, name: string, node: FileNode, old: FileNode | undefined): void {
    this.#nodes += 1;
    if (this.#nodes > this.#maxNodes) throw new LazypullError('LIMIT', `layer has more than ${this.#maxNodes} entries`);
    if (old) {
      // Archive order is the order of the map: a replaced entry sits where the later one was.
      parent.children.delete(name);
      if (old.type === 'directory') this.#last = undefined;
    }
    parent.children.set(ownName(name), node);
  }
}

/** The node at a clean path, symlinks not followed. */
export function nodeAt(root: DirectoryNode, path: string): FileNode | undefined {
  let at: FileNode | undefined = root;
  if (path === '') return at;
  let from = 0;
  while (at) {
    if (at.type !== 'directory') return undefined;
    const slash = path.indexOf('/', from);
    at = at.children.get(slash < 0 ? path.slice(from) : path.slice(from, slash));
    if (slash < 0) return at;
    from = slash + 1;
  }
  return undefined;
}

/** CORRUPT unless every component is a name that can exist and stays below the root. */
function checkPath(path: string, what: string): void {
  if (path.length > MAX_PATH_LENGTH) throw corrupt(`${what} has a path of ${path.length} characters`, { path: `${path.slice(0, 80)}...` });
  if (path === '') return;
  for (const name of path.split('/')) checkName(name, path);
}

function checkName(name: string, path: string): void {
  if (name === '' || name === '.' || name === '..' || name.includes('\0')) throw corrupt('path is not clean or leaves the layer', { path });
  // UTF-8 needs at most three bytes for one UTF-16 unit.
  if (name.length * 3 > MAX_NAME_BYTES && (name.length > MAX_NAME_BYTES || encodeName(name).length > MAX_NAME_BYTES)) {
    throw corrupt(`name is longer than ${MAX_NAME_BYTES} bytes`, { path: path.length > 600 ? `${path.slice(0, 600)}...` : path });
  }
}

function badLink(path: string, target: string, why: string): LazypullError {
  return corrupt(`hard link ${printable(path)} points to ${printable(target)}, ${why}`, { path });
}
