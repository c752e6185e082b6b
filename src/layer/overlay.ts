import { corrupt } from '../core/errors.ts';
import type { DirectoryNode, FileNode } from '../core/types.ts';
import { impliedDirectory } from './tree.ts';
import { joinPath } from './walk.ts';

/** image-spec 1.1 layer.md, "Whiteouts". */
const WHITEOUT_PREFIX = '.wh.';
const OPAQUE_WHITEOUT = '.wh..wh..opq';

/**
 * The tree that a stack of layers shows, lowest first (image-spec 1.1 layer.md). The layers' trees are not changed:
 * directories are new objects, all other nodes are shared, so hard links inside one layer stay hard links.
 *
 * Whiteouts act on lower layers only, wherever they stand among their layer's entries, and never show themselves.
 * A directory over a directory merges and wins its attributes, unless it is only implied.
 */
export function mergeLayers(roots: readonly DirectoryNode[]): DirectoryNode {
  let merged = impliedDirectory();
  for (const root of roots) {
    merged = overDirectory(merged, root);
    apply(merged, root);
  }
  return merged;
}

/** Puts one layer's children over what is merged so far, with a stack of our own because trees may be very deep. */
function apply(merged: DirectoryNode, layer: DirectoryNode): void {
  const todo = [{ path: '', lower: merged.children, upper: layer.children }];
  for (let job = todo.pop(); job; job = todo.pop()) {
    const { path, lower, upper } = job;
    removeHidden(lower, upper, path);
    for (const [name, node] of upper) {
      if (name.startsWith(WHITEOUT_PREFIX)) continue;
      if (node.type !== 'directory') {
        lower.set(name, node);
        continue;
      }
      const below = lower.get(name);
      const directory = overDirectory(below?.type === 'directory' ? below : undefined, node);
      lower.set(name, directory);
      todo.push({ path: joinPath(path, name), lower: directory.children, upper: node.children });
    }
  }
}

function removeHidden(lower: Map<string, FileNode>, upper: ReadonlyMap<string, FileNode>, path: string): void {
  if (upper.has(OPAQUE_WHITEOUT)) lower.clear();
  for (const name of upper.keys()) {
    if (!name.startsWith(WHITEOUT_PREFIX) || name === OPAQUE_WHITEOUT) continue;
    const hidden = name.slice(WHITEOUT_PREFIX.length);
    if (hidden === '' || hidden === '.' || hidden === '..') throw corrupt('whiteout names nothing that can be hidden', { path: joinPath(path, name) });
    lower.delete(hidden);
  }
}

/** The directory that shows when `upper` lies over `lower`; it takes over the lower one's map of children. */
function overDirectory(lower: DirectoryNode | undefined, upper: DirectoryNode): DirectoryNode {
  if (!lower) return { ...upper, children: new Map() };
  return upper.implied ? lower : { ...upper, children: lower.children };
}
