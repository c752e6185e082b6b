import { corrupt, LazypullError } from '../core/errors.ts';
import type { DeviceNode, DirectoryNode, FifoNode, FileNode, RegularNode, SymlinkNode } from '../core/types.ts';
import { lookup } from '../layer/lookup.ts';
import { nodeAt } from '../layer/tree.ts';
import { joinPath, walk } from '../layer/walk.ts';

/** One inode of the selection under all its selected names: clean paths, at least one. */
export interface Planned<N extends FileNode> {
  readonly node: N;
  readonly paths: readonly [string, ...string[]];
}

/** What is to be extracted, taken apart by how it is made. */
export interface ExtractPlan {
  /** Of everything that was asked for: clean paths, without those that lie below another one. */
  readonly roots: readonly string[];
  /** Parents first, the root among them, sorted by name within each other. */
  readonly directories: readonly { readonly path: string; readonly node: DirectoryNode }[];
  readonly files: readonly Planned<RegularNode>[];
  readonly symlinks: readonly Planned<SymlinkNode>[];
  readonly specials: readonly Planned<DeviceNode | FifoNode>[];
  /** Bytes of all files, hard links counted once. */
  readonly bytes: number;
}

/** How many symlinks a chain may have (Linux MAXSYMLINKS). */
const MAX_SYMLINKS = 40;

/**
 * Selects paths of a merged tree: whole directories, single files, and with a symlink also what it leads to. Each lies at
 * its real place in the selection, with the directories above it. A path that is not in the tree is NOT_FOUND.
 */
export function planExtract(tree: DirectoryNode, paths: readonly string[]): ExtractPlan {
  const roots = outermost(tree, paths.flatMap((path) => selected(tree, path)));
  const directories = new Map<string, DirectoryNode>();
  const leaves = new Map<Exclude<FileNode, DirectoryNode>, [string, ...string[]]>();
  const add = (path: string, node: FileNode): void => {
    if (node !== tree) checkPlace(path, directories);
    if (node.type === 'directory') {
      directories.set(path, node);
      return;
    }
    const names = leaves.get(node);
    if (names) names.push(path);
    else leaves.set(node, [path]);
  };
  for (const root of roots) {
    for (const above of parents(root)) add(above, nodeAt(tree, above) as DirectoryNode);
    const node = nodeAt(tree, root) as FileNode;
    if (node.type !== 'directory') add(root, node);
    else for (const below of walk(node, { sorted: true })) add(below.path === '' ? root : joinPath(root, below.path), below.node);
  }
  const files: Planned<RegularNode>[] = [];
  const symlinks: Planned<SymlinkNode>[] = [];
  const specials: Planned<DeviceNode | FifoNode>[] = [];
  let bytes = 0;
  for (const [node, names] of leaves) {
    if (node.type === 'file') {
      files.push({ node, paths: names });
      bytes += node.size;
    } else if (node.type === 'symlink') {
      symlinks.push({ node, paths: names });
    } else {
      specials.push({ node, paths: names });
    }
  }
  return { roots, directories: [...directories].map(([path, node]) => ({ path, node })), files, symlinks, specials, bytes };
}

/** Where a path leads: one place, and for a symlink also each place on the way to its end. A link to nowhere is extracted as it is. */
function selected(tree: DirectoryNode, path: string): string[] {
  let found = lookup(tree, path);
  if (!found) throw new LazypullError('NOT_FOUND', 'no such file in the image', { path });
  const places = [found.path];
  for (let hops = 0; found?.node.type === 'symlink' && hops < MAX_SYMLINKS; hops++) {
    const { target } = found.node;
    const slash: number = found.path.lastIndexOf('/');
    found = lookup(tree, target.startsWith('/') ? target : `${found.path.slice(0, slash + 1)}${target}`);
    if (found) places.push(found.path);
  }
  return places;
}

/** Each path once, without what lies below another one; in the order of their first appearance. */
function outermost(tree: DirectoryNode, paths: readonly string[]): string[] {
  const all = new Set(paths);
  const whole = new Set(paths.filter((path) => nodeAt(tree, path)?.type === 'directory'));
  return [...all].filter((path) => !parents(path).some((above) => whole.has(above)));
}

/** Readers of formats refuse such names. This is where they would do harm, so it does not take their word for it. */
function checkPlace(path: string, directories: ReadonlyMap<string, unknown>): void {
  if (UNSAFE.test(path) || path.includes('\0') || !directories.has(parentOf(path))) throw corrupt('tree has a name that leaves its directory', { path });
}

const UNSAFE = /(?:^|\/)\.{0,2}(?:\/|$)/;

export function parentOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '' : path.slice(0, slash);
}

/** The directories above a path, the root first. */
function parents(path: string): string[] {
  const above: string[] = [];
  if (path === '') return above;
  above.push('');
  for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) above.push(path.slice(0, slash));
  return above;
}
