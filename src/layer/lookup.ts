import { LazypullError } from '../core/errors.ts';
import type { DirectoryNode, FileNode } from '../core/types.ts';
import { joinPath } from './walk.ts';

/** Symlinks that one lookup follows before it gives up (Linux MAXSYMLINKS). */
const MAX_SYMLINKS = 40;

/** What a path leads to, and the path of it without any symlink. */
export interface Found {
  readonly path: string;
  readonly node: FileNode;
}

/**
 * Finds what a process whose root is this tree would find: the path may be absolute, hold `.` and `..`, and never
 * leaves the tree. Symlinks on the way are followed; one at the end only with `followSymlinks`. Undefined when there is
 * nothing, or when something on the way is not a directory. More than 40 symlinks are NOT_FOUND.
 */
export function lookup(root: DirectoryNode, path: string, options: { readonly followSymlinks?: boolean } = {}): Found | undefined {
  const todo = components(path);
  const way: { name: string; node: DirectoryNode }[] = [];
  let followed = 0;
  for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
    const parent = way.at(-1)?.node ?? root;
    if (name === '.') continue;
    if (name === '..') {
      way.pop();
      continue;
    }
    const node = parent.children.get(name);
    if (!node) return undefined;
    if (node.type === 'symlink' && (todo.length > 0 || options.followSymlinks)) {
      followed += 1;
      if (followed > MAX_SYMLINKS) throw new LazypullError('NOT_FOUND', 'too many levels of symbolic links', { path });
      if (node.target.startsWith('/')) way.length = 0;
      for (const part of components(node.target)) todo.push(part);
    } else if (node.type === 'directory') {
      way.push({ name, node });
    } else {
      return todo.length === 0 ? { path: joinPath(spell(way), name), node } : undefined;
    }
  }
  return { path: spell(way), node: way.at(-1)?.node ?? root };
}

/** Path components, the first one last; a trailing slash asks for a directory and counts as `.`. */
function components(path: string): string[] {
  const names = path.split('/').filter((name) => name !== '');
  if (path.endsWith('/') && names.length > 0) names.push('.');
  return names.reverse();
}

function spell(way: readonly { readonly name: string }[]): string {
  return way.map(({ name }) => name).join('/');
}
