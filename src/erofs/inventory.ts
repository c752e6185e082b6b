import { corrupt, LazypullError, printable } from '../core/errors.ts';
import type { DirectoryNode, FileNode } from '../core/types.ts';
import { joinPath } from '../layer/walk.ts';
import { FILE_TYPE } from './layout.ts';
import { nameSize, sortNames } from './names.ts';
import { NodeNumbers } from './numbers.ts';

const TYPE_OF_NODE = { file: FILE_TYPE.file, directory: FILE_TYPE.directory, symlink: FILE_TYPE.symlink, char: FILE_TYPE.char, block: FILE_TYPE.block, fifo: FILE_TYPE.fifo } as const;

/**
 * A tree as flat tables. Inodes are numbered so that those of one directory follow each other and directories come in the
 * order of a walk, names sorted: what is read together lies together. The root is inode 0.
 */
export class Inventory {
  /** By inode. */
  readonly nodes: FileNode[];
  /** By inode: names of it; 2 + subdirectories for a directory. */
  readonly links: Uint32Array;
  /** By inode: for a directory, its number among the directories. */
  readonly directoryOf: Uint32Array;

  /** By directory: its inode, its parent directory, its first entry (one more at the end) and the entry that names it. */
  readonly #directories: Uint32Array;
  readonly #parents: Uint32Array;
  readonly #firstEntries: Uint32Array;
  readonly #ownEntries: Uint32Array;

  /** By entry, `.` and `..` included, in byte order within a directory: name, its bytes, the inode. */
  readonly names: string[];
  readonly nameSizes: Uint8Array;
  readonly targets: Uint32Array;

  /** So far. */
  #inodes = 0;
  #entries = 0;

  constructor(root: DirectoryNode) {
    // Counted first: tables that have to grow would take twice their room.
    const { directories, entries } = countIn(root);
    const inodes = entries - 2 * directories + 1;
    this.nodes = Array.from({ length: inodes });
    this.links = new Uint32Array(inodes);
    this.directoryOf = new Uint32Array(inodes);
    this.#directories = new Uint32Array(directories);
    this.#parents = new Uint32Array(directories);
    this.#firstEntries = new Uint32Array(directories + 1);
    this.#ownEntries = new Uint32Array(directories);
    this.names = Array.from({ length: entries });
    this.nameSizes = new Uint8Array(entries);
    this.targets = new Uint32Array(entries);
    this.#collect(root);
    // Hard links were counted as inodes.
    this.nodes.length = this.#inodes;
  }

  get inodes(): number {
    return this.#inodes;
  }

  firstEntry(directory: number): number {
    return this.#firstEntries[directory] as number;
  }

  endEntry(directory: number): number {
    return this.#firstEntries[directory + 1] as number;
  }

  /** FILE_TYPE of an inode. */
  typeOf(inode: number): number {
    return TYPE_OF_NODE[(this.nodes[inode] as FileNode).type];
  }

  /** A path of an inode, for messages: it is looked for. */
  pathOf(inode: number): string {
    for (const [directory, own] of this.#directories.entries()) {
      if (own === inode) return this.#directoryPath(directory);
      for (let entry = this.firstEntry(directory); entry < this.endEntry(directory); entry += 1) {
        const name = this.names[entry] as string;
        if (this.targets[entry] === inode && name !== '.' && name !== '..') return joinPath(this.#directoryPath(directory), name);
      }
    }
    return '';
  }

  #directoryPath(directory: number): string {
    const names: string[] = [];
    for (let at = directory; at !== 0; at = this.#parents[at] as number) names.push(this.names[this.#ownEntries[at] as number] as string);
    return names.reverse().join('/');
  }

  #collect(root: DirectoryNode): void {
    const seen = new NodeNumbers(this.nodes, this.links.length);
    seen.add(root, this.#addInode(root, 2));
    let directory = 0;
    // Directories that are still to be listed; the last one is next.
    const todo: { readonly node: DirectoryNode; readonly inode: number; readonly parent: number; readonly entry: number }[] = [{ node: root, inode: 0, parent: 0, entry: 0 }];
    for (let job = todo.pop(); job; job = todo.pop(), directory += 1) {
      const { node, inode, parent } = job;
      this.#directories[directory] = inode;
      this.directoryOf[inode] = directory;
      this.#parents[directory] = parent;
      this.#ownEntries[directory] = job.entry;
      this.#firstEntries[directory] = this.#entries;
      const found = todo.length;
      for (const name of sortedNames(node)) {
        const child = node.children.get(name);
        if (!child) {
          // `.` and `..`
          this.#addEntry(name, name.length, name === '.' ? inode : (this.#directories[parent] as number));
          continue;
        }
        const size = name === '.' || name === '..' ? 0 : nameSize(name);
        if (size === 0) throw corrupt(`${printable(name.slice(0, 300)) || 'an empty name'} cannot be a name in a directory`, { path: this.#directoryPath(directory) });
        let target = seen.find(child);
        if (target === undefined) {
          target = this.#addInode(child, child.type === 'directory' ? 2 : 1);
          seen.add(child, target);
          if (child.type === 'directory') todo.push({ node: child, inode: target, parent: directory, entry: this.#entries });
        } else {
          if (child.type === 'directory') throw new LazypullError('INTERNAL', 'a directory is in the tree twice', { path: joinPath(this.#directoryPath(directory), name) });
          this.links[target] = (this.links[target] as number) + 1;
        }
        if (child.type === 'directory') this.links[inode] = (this.links[inode] as number) + 1;
        this.#addEntry(name, size, target);
      }
      this.#firstEntries[directory + 1] = this.#entries;
      // First things first: the stack is emptied from its end.
      reverseFrom(todo, found);
    }
  }

  #addInode(node: FileNode, links: number): number {
    const inode = this.#inodes++;
    this.nodes[inode] = node;
    this.links[inode] = links;
    return inode;
  }

  #addEntry(name: string, size: number, inode: number): void {
    const entry = this.#entries++;
    this.names[entry] = name;
    this.nameSizes[entry] = size;
    this.targets[entry] = inode;
  }
}

/** Entries count `.` and `..`, hard links one for each name. */
function countIn(root: DirectoryNode): { readonly directories: number; readonly entries: number } {
  // One that is in the tree twice, or in itself, is an error, which is found when its name is known.
  const seen = new Set([root]);
  let entries = 0;
  for (const { children } of seen) {
    entries += children.size + 2;
    for (const child of children.values()) if (child.type === 'directory') seen.add(child);
  }
  return { directories: seen.size, entries };
}

function sortedNames(node: DirectoryNode): readonly string[] {
  const names = ['.', '..'];
  for (const name of node.children.keys()) names.push(name);
  sortNames(names);
  return names;
}

function reverseFrom<T>(items: T[], from: number): void {
  for (let a = from, b = items.length - 1; a < b; a += 1, b -= 1) {
    const swap = items[a] as T;
    items[a] = items[b] as T;
    items[b] = swap;
  }
}
