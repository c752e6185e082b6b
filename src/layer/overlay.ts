import { corrupt, printable } from '../core/errors.ts';
import type { DirectoryNode, FileNode } from '../core/types.ts';
import { lookup } from './lookup.ts';
import { LinkBelow, withChildren } from './nodes.ts';
import { impliedDirectory } from './tree.ts';
import { joinPath } from './walk.ts';

/** image-spec 1.1 layer.md, "Whiteouts". */
const WHITEOUT_PREFIX = '.wh.';
const OPAQUE_WHITEOUT = '.wh..wh..opq';

/**
 * The tree that a stack of layers shows, lowest first (image-spec 1.1 layer.md). The layers' trees are not changed, and
 * the result must not be: nodes are shared, and so are whole directories that only one layer knows, so that merging takes
 * memory only for directories that several layers have a say in. Hard links stay hard links, also those to files of lower
 * layers (`LinkBelow`, CORRUPT when there is none): what counts is what was there before the link's own layer hides anything.
 *
 * Whiteouts act on lower layers only, wherever they stand among their layer's entries, and never show themselves.
 * A directory over a directory merges and wins its attributes, unless it is only implied.
 */
export function mergeLayers(roots: readonly DirectoryNode[]): DirectoryNode {
  const merge = new Merge();
  let merged: DirectoryNode | undefined;
  for (const root of roots) merged = merge.over(merged, root);
  return merged ?? impliedDirectory();
}

interface Job {
  readonly path: string;
  /** Ours, its children are to be changed. */
  readonly merged: DirectoryNode;
  readonly upper: DirectoryNode;
}

class Merge {
  /** Directories that were made here: they may be changed. */
  readonly #own = new Set<DirectoryNode>();
  /** Of the layer at hand: directories that cannot be taken over as they are. */
  #stained: ReadonlySet<DirectoryNode> = new Set();
  /** What its links to lower layers stand for. */
  readonly #targets = new Map<LinkBelow, FileNode>();

  /** One layer over what is merged so far; with a stack of our own because trees may be very deep. */
  over(merged: DirectoryNode | undefined, root: DirectoryNode): DirectoryNode {
    this.#stained = stainedIn(root, (link, path) => this.#targets.set(link, targetOf(merged, link, path)));
    const todo: Job[] = [];
    const result = this.#directory(merged, root, '', todo);
    for (let job = todo.pop(); job; job = todo.pop()) this.#apply(job, todo);
    return result;
  }

  #apply({ path, merged: { children: lower }, upper }: Job, todo: Job[]): void {
    if (this.#stained.has(upper)) removeHidden(lower, upper.children, path);
    for (const [name, node] of upper.children) {
      if (name.startsWith(WHITEOUT_PREFIX)) continue;
      if (node.type === 'directory') {
        const below = lower.get(name);
        lower.set(name, this.#directory(below?.type === 'directory' ? below : undefined, node, joinPath(path, name), todo));
      } else {
        lower.set(name, node instanceof LinkBelow ? (this.#targets.get(node) as FileNode) : node);
      }
    }
  }

  /** The directory that shows when `upper` lies over `lower`; what is below the two is put on the list, unless one of them is all there is. */
  #directory(lower: DirectoryNode | undefined, upper: DirectoryNode, path: string, todo: Job[]): DirectoryNode {
    if (!lower && !this.#stained.has(upper)) return upper;
    const ours = lower !== undefined && this.#own.has(lower);
    let merged = lower;
    if (!merged || !ours || !upper.implied) {
      merged = withChildren(lower && upper.implied ? lower : upper, ours ? lower.children : new Map(lower?.children));
      this.#own.add(merged);
    }
    todo.push({ path, merged, upper });
    return merged;
  }
}

/** The directories of a layer that hold whiteouts or links to lower layers, and all above them. */
function stainedIn(root: DirectoryNode, found: (link: LinkBelow, path: () => string) => void): Set<DirectoryNode> {
  const stained = new Set<DirectoryNode>();
  const way = [{ name: '', node: root, children: root.children.entries() }];
  for (let top = way.at(-1); top; top = way.at(-1)) {
    const next = top.children.next();
    if (next.done) {
      way.pop();
      continue;
    }
    const [name, node] = next.value;
    const hides = name.startsWith(WHITEOUT_PREFIX);
    const link = node instanceof LinkBelow && !hides;
    if (link) found(node, () => [...way.slice(1).map((step) => step.name), name].join('/'));
    if (link || hides) {
      for (let at = way.length - 1, above = way[at]; above && !stained.has(above.node); at -= 1, above = way[at]) stained.add(above.node);
    } else if (node.type === 'directory') {
      way.push({ name, node, children: node.children.entries() });
    }
  }
  return stained;
}

/** The way there may lead over symlinks, as it does for who unpacks one layer upon the other. */
function targetOf(merged: DirectoryNode | undefined, { target }: LinkBelow, where: () => string): FileNode {
  const found = merged && lookup(merged, target)?.node;
  if (found && found.type !== 'directory') return found;
  const path = where();
  throw corrupt(`hard link ${printable(path)} points to ${printable(target)}, ${found ? 'which is a directory' : 'which is neither in its layer nor in one below'}`, { path });
}

function removeHidden(lower: DirectoryNode['children'], upper: DirectoryNode['children'], path: string): void {
  if (upper.has(OPAQUE_WHITEOUT)) lower.clear();
  for (const name of upper.keys()) {
    if (!name.startsWith(WHITEOUT_PREFIX) || name === OPAQUE_WHITEOUT) continue;
    const hidden = name.slice(WHITEOUT_PREFIX.length);
    if (hidden === '' || hidden === '.' || hidden === '..') throw corrupt('whiteout names nothing that can be hidden', { path: joinPath(path, name) });
    lower.delete(hidden);
  }
}
