import { corrupt, LazypullError, printable } from '../core/errors.ts';
import type { DirectoryNode, FileNode } from '../core/types.ts';
import { joinPath } from '../layer/walk.ts';
import { FILE_TYPE } from './layout.ts';
import { NumberList } from './list.ts';
import { nameSize, sortNames } from './names.ts';

const TYPE_OF_NODE = { file: FILE_TYPE.file, directory: FILE_TYPE.directory, symlink: FILE_TYPE.symlink, char: FILE_TYPE.char, block: FILE_TYPE.block, fifo: FILE_TYPE.fifo } as const;

/**
 * A tree as flat tables. Inodes are numbered so that those of one directory follow each other and directories come in the
 * order of a walk, names sorted: what is read together lies together. The root is inode 0.
 */
export class Inventory {
  /** By inode. */
  readonly nodes: FileNode[] = [];
  /** By inode: names of it; 2 + subdirectories for a directory. */
  readonly links = new NumberList();
  /** By inode: for a directory, its number among the directories. */
  readonly directoryOf = new NumberList();

  /** By directory: its inode, its parent directory, its first entry (one more at the end) and the entry that names it. */
  readonly directories = new NumberList();
  readonly #parents = new NumberList();
  readonly #firstEntries = new NumberList();
  readonly #ownEntries = new NumberList();

  /** By entry, `.` and `..` included, in byte order within a directory: name, its bytes, the inode. */
  readonly names: string[] = [];
  readonly nameSizes = new NumberList();
  readonly targets = new NumberList();

  constructor(root: DirectoryNode) {
    this.#collect(root);
  }

  get inodes(): number {
    return this.nodes.length;
  }

  firstEntry(directory: number): number {
    return this.#firstEntries.at(directory);
  }

  endEntry(directory: number): number {
    return directory + 1 < this.#firstEntries.length ? this.#firstEntries.at(directory + 1) : this.names.length;
  }

  /** FILE_TYPE of an inode. */
  typeOf(inode: number): number {
    return TYPE_OF_NODE[(this.nodes[inode] as FileNode).type];
  }

  /** A path of an inode, for messages: it is looked for. */
  pathOf(inode: number): string {
    for (let directory = 0; directory < this.directories.length; directory += 1) {
      if (this.directories.at(directory) === inode) return this.#directoryPath(directory);
      for (let entry = this.firstEntry(directory); entry < this.endEntry(directory); entry += 1) {
        const name = this.names[entry] as string;
        if (this.targets.at(entry) === inode && name !== '.' && name !== '..') return joinPath(this.#directoryPath(directory), name);
      }
    }
    return '';
  }

  #directoryPath(directory: number): string {
    const names: string[] = [];
    for (let at = directory; at !== 0; at = this.#parents.at(at)) names.push(this.names[this.#ownEntries.at(at)] as string);
    return names.reverse().join('/');
  }

  #collect(root: DirectoryNode): void {
    const seen = new Map<FileNode, number>([[root, 0]]);
    this.#addInode(root);
    this.links.set(0, 2);
    // Directories that are still to be listed; the last one is next.
    const todo: { readonly node: DirectoryNode; readonly inode: number; readonly parent: number; readonly entry: number }[] = [{ node: root, inode: 0, parent: 0, entry: 0 }];
    for (let job = todo.pop(); job; job = todo.pop()) {
      const { node, inode } = job;
      const directory = this.directories.length;
      this.directories.push(inode);
      this.directoryOf.set(inode, directory);
      this.#parents.push(job.parent);
      this.#ownEntries.push(job.entry);
      this.#firstEntries.push(this.names.length);
      const found = todo.length;
      for (const name of sortedNames(node)) {
        const child = node.children.get(name);
        if (!child) {
          // `.` and `..`
          this.#addEntry(name, name.length, name === '.' ? inode : this.directories.at(job.parent));
          continue;
        }
        const size = name === '.' || name === '..' ? 0 : nameSize(name);
        if (size === 0) throw corrupt(`${printable(name.slice(0, 300)) || 'an empty name'} cannot be a name in a directory`, { path: this.#directoryPath(directory) });
        let target = seen.get(child);
        if (target === undefined) {
          target = this.#addInode(child);
          seen.set(child, target);
          if (child.type === 'directory') {
            this.links.set(target, 2);
            todo.push({ node: child, inode: target, parent: directory, entry: this.names.length });
          } else {
            this.links.set(target, 1);
          }
        } else {
          if (child.type === 'directory') throw new LazypullError('INTERNAL', 'a directory is in the tree twice', { path: joinPath(this.#directoryPath(directory), name) });
          this.links.increase(target);
        }
        if (child.type === 'directory') this.links.increase(inode);
        this.#addEntry(name, size, target);
      }
      // First things first: the stack is emptied from its end.
      reverseFrom(todo, found);
    }
  }

  #addInode(node: FileNode): number {
    this.links.push(0);
    this.directoryOf.push(0);
    return this.nodes.push(node) - 1;
  }

  #addEntry(name: string, size: number, inode: number): void {
    this.names.push(name);
    this.nameSizes.push(size);
    this.targets.push(inode);
  }
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
