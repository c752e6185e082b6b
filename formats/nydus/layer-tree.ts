import { LazypullError } from '../../src/core/errors.ts';
import type { DirectoryNode, RegularNode } from '../../src/core/types.ts';
import { LinkBelow, NO_EXTENTS, withChildren, type NodeMaker } from '../../src/layer/nodes.ts';
import type { TreeBuilder } from '../../src/layer/tree.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { cleanPath } from '../../src/tar/path.ts';
import type { ChunkRef } from './layer-blobs.ts';

/**
 * A file whose content is in chunks of the image's blobs. It has no extents: `chunks` takes their place, filled in as the
 * chunks are digested.
 */
export interface NydusFile extends RegularNode {
  /** One per chunk, in order; a lone one as it is, which saves an array per small file. */
  chunks: ChunkRef | ChunkRef[] | undefined;
}

/** All fields at once, and without the owners' names, which the format does not keep: there may be millions. */
export function fileOf({ mode, uid, gid, mtime, xattrs, size }: TarEntry, make: NodeMaker): NydusFile {
  return { type: 'file', mode, uid, gid, mtime: make.time(mtime), xattrs: make.xattrs(xattrs), size, extents: NO_EXTENTS, chunks: undefined };
}

/** A file's next chunk. */
export function addChunk(file: NydusFile, ref: ChunkRef): void {
  if (file.chunks === undefined) file.chunks = ref;
  else if (typeof file.chunks === 'number') file.chunks = [file.chunks, ref];
  else file.chunks.push(ref);
}

/** The chunks of any file of such a tree. */
export function chunksOf(node: RegularNode): readonly ChunkRef[] {
  const { chunks } = node as NydusFile;
  return chunks === undefined ? NOTHING : typeof chunks === 'number' ? [chunks] : chunks;
}

const NOTHING: readonly ChunkRef[] = [];

/** The tree without hard links to files of lower layers: it stands for its layer alone, and there is nothing that could be said of them. */
export function withoutLinksBelow(root: DirectoryNode): DirectoryNode {
  const copy = withChildren(root, new Map());
  const todo = [{ from: root, to: copy }];
  for (let job = todo.pop(); job; job = todo.pop()) {
    for (const [name, node] of job.from.children) {
      if (node instanceof LinkBelow) continue;
      const child = node.type === 'directory' ? withChildren(node, new Map()) : node;
      job.to.children.set(name, child);
      if (node.type === 'directory' && child.type === 'directory') todo.push({ from: node, to: child });
    }
  }
  return copy;
}

/** Puts an entry into the layer's tree; `file` is its node when it is a file. */
export function addEntry(tree: TreeBuilder, path: string, entry: TarEntry, file: NydusFile | undefined): void {
  const { make } = tree;
  const { type, mode, uid, gid, mtime, xattrs } = entry;
  const attributes = { mode, uid, gid, mtime, xattrs };
  switch (type) {
    case 'file':
      if (!file) throw new LazypullError('INTERNAL', 'a file has no node', { path });
      return tree.add(path, file);
    case 'hardlink':
      return tree.link(path, cleanPath(entry.linkName));
    case 'directory':
      return tree.add(path, { ...attributes, type });
    case 'symlink':
      return tree.add(path, make.symlink(attributes, entry.linkName));
    case 'fifo':
      return tree.add(path, make.fifo(attributes));
    default:
      return tree.add(path, make.device(attributes, type, entry.major, entry.minor));
  }
}
