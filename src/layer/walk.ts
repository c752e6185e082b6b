import { encodeName } from '../core/bytes.ts';
import type { DirectoryNode, FileNode } from '../core/types.ts';

/** One name of a tree: its clean path ('' is the root) and the inode behind it. */
export interface Walked {
  readonly path: string;
  readonly node: FileNode;
}

/**
 * Every name of a tree, a directory before what is below it, the root first. Archive order, or names sorted by their
 * bytes within each directory. Hard links appear once per name.
 */
export function* walk(root: DirectoryNode, options: { readonly sorted?: boolean } = {}): Generator<Walked> {
  yield { path: '', node: root };
  // A stack of our own: a stranger's tree may be deeper than the call stack.
  const stack = [{ path: '', children: listing(root, options.sorted) }];
  for (let top = stack.at(-1); top; top = stack.at(-1)) {
    const next = top.children.next();
    if (next.done) {
      stack.pop();
      continue;
    }
    const [name, node] = next.value;
    const path = joinPath(top.path, name);
    yield { path, node };
    if (node.type === 'directory') stack.push({ path, children: listing(node, options.sorted) });
  }
}

/** How many links each inode has: names for files, 2 + subdirectories for directories. */
export function linkCounts(root: DirectoryNode): Map<FileNode, number> {
  const counts = new Map<FileNode, number>();
  for (const { node } of walk(root)) {
    if (node.type !== 'directory') {
      counts.set(node, (counts.get(node) ?? 0) + 1);
      continue;
    }
    let count = 2;
    for (const child of node.children.values()) if (child.type === 'directory') count += 1;
    counts.set(node, count);
  }
  return counts;
}

export function joinPath(parent: string, name: string): string {
  return parent === '' ? name : `${parent}/${name}`;
}

/** Order of names by their bytes, which differs from the order of UTF-16 units above U+D7FF. */
export function compareNames(a: string, b: string): number {
  if (a === b) return 0;
  if (HIGH.test(a) || HIGH.test(b)) return Buffer.compare(encodeName(a), encodeName(b));
  return a < b ? -1 : 1;
}

const HIGH = /[\ud800-\uffff]/;

function listing(node: DirectoryNode, sorted: boolean | undefined): Iterator<[string, FileNode]> {
  if (!sorted) return node.children.entries();
  return [...node.children].sort((a, b) => compareNames(a[0], b[0])).values();
}
