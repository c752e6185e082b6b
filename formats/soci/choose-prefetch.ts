import { LazypullError } from '../../src/core/errors.ts';
import type { Digest } from '../../src/core/digest.ts';
import type { Chunk, DirectoryNode, Extent, FileNode } from '../../src/core/types.ts';
import { matcherOf } from '../../src/layer/glob.ts';
import { lookup } from '../../src/layer/lookup.ts';
import { mergeLayers } from '../../src/layer/overlay.ts';
import { joinPath, walk } from '../../src/layer/walk.ts';
import { cleanPath } from '../../src/tar/path.ts';
import type { Ztoc } from './layout.ts';
import { mergeRuns, type SpanRun } from './prefetch.ts';
import { buildTree, type ZtocTree } from './toc-tree.ts';

/** A layer of the image, and its zTOC. */
export interface IndexedLayer {
  readonly digest: Digest;
  readonly ztoc: Ztoc;
}

export interface ChosenSpans {
  /** For layers of which anything is wanted. */
  readonly runs: ReadonlyMap<Digest, readonly SpanRun[]>;
  /** Lines of the list that nothing matches. */
  readonly unmatched: readonly string[];
}

/** Characters that make a path component a pattern. */
const MAGIC = /[*?[\](){}|!+@\\]/;

/**
 * The spans that hold the files of a prefetch list. The files are those that a container would see: whiteouts hide them,
 * symlinks lead to them, hard links share them. A line is a path or else a glob (`matcherOf`); what it matches besides
 * files has no spans. Layers that are not indexed are undefined: nothing is known of their files, nor needed, because they
 * are unpacked as a whole.
 */
export function chooseSpans(layers: readonly (IndexedLayer | undefined)[], patterns: readonly string[]): ChosenSpans {
  const trees = new Map<Digest, ZtocTree>();
  for (const layer of layers) if (layer && !trees.has(layer.digest)) trees.set(layer.digest, buildTree(layer.ztoc, `zTOC of layer ${layer.digest}`));
  const tree = mergeLayers(layers.flatMap((layer) => (layer ? [(trees.get(layer.digest) as ZtocTree).index.root] : [])));
  const chosen = new Set<FileNode>();
  const unmatched: string[] = [];
  for (const pattern of patterns) {
    const nodes = matches(tree, pattern);
    if (!nodes) unmatched.push(pattern);
    for (const node of nodes ?? []) chosen.add(node);
  }
  const runs = new Map<Digest, readonly SpanRun[]>();
  for (const [digest, layer] of trees) {
    const own = runsOf(layer, chosen);
    if (own.length > 0) runs.set(digest, own);
  }
  return { runs, unmatched };
}

/** The spans of a layer that hold its files among the chosen ones, each with the header that a snapshotter verifies at the first read. */
function runsOf({ index, spans, files }: ZtocTree, chosen: ReadonlySet<FileNode>): readonly SpanRun[] {
  const ids = new Map<Chunk, number>(index.chunks.map((chunk, id) => [chunk, id]));
  const runs: SpanRun[] = [];
  for (const [node, { record, headerStart }] of files) {
    // Nothing is read of an empty file, and nothing verified.
    if (!chosen.has(node) || record.size === 0) continue;
    const extents = spans.extents(headerStart, record.offset + record.size);
    const [start, end] = [extents[0], extents.at(-1)].map((extent) => ids.get((extent as Extent).chunk) as number) as [number, number];
    runs.push({ start, end });
  }
  return mergeRuns(runs);
}

/** What the names that match a line lead to, symlinks followed; undefined when there is no such name. */
function matches(tree: DirectoryNode, pattern: string): ReadonlySet<FileNode> | undefined {
  const literal = cleanPath(pattern);
  const named = find(tree, literal, false);
  if (named) return new Set(targets(tree, [literal]));
  // The components in front of the first that is a pattern may be symlinks, which no walk of the tree goes through.
  const components = literal.split('/');
  const fixed = components.findIndex((name) => MAGIC.test(name));
  if (fixed < 0) return undefined;
  const base = find(tree, components.slice(0, fixed).join('/'), true);
  if (base?.node.type !== 'directory') return undefined;
  const { glob } = matcherOf(pattern, components.slice(fixed).join('/'));
  const paths: string[] = [];
  for (const { path } of walk(base.node)) if (path !== '' && glob(path)) paths.push(joinPath(base.path, path));
  return paths.length > 0 ? new Set(targets(tree, paths)) : undefined;
}

function* targets(tree: DirectoryNode, paths: readonly string[]): Generator<FileNode> {
  for (const path of paths) {
    const found = find(tree, path, true);
    if (found) yield found.node;
  }
}

/** Links in a circle lead nowhere. */
function find(tree: DirectoryNode, path: string, followSymlinks: boolean): ReturnType<typeof lookup> {
  try {
    return lookup(tree, path, { followSymlinks });
  } catch (error) {
    if (error instanceof LazypullError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}
