import { LazypullError } from '../../src/core/errors.ts';
import type { Attributes, FileNode, RegularNode } from '../../src/core/types.ts';
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

const NO_EXTENTS: RegularNode['extents'] = [];
const NO_XATTRS: Attributes['xattrs'] = new Map();

export function fileOf(entry: TarEntry): NydusFile {
  return { ...attributesOf(entry), type: 'file', size: entry.size, extents: NO_EXTENTS, chunks: undefined };
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

/** Puts an entry into the layer's tree; `file` is its node when it is a file. */
export function addEntry(tree: TreeBuilder, path: string, entry: TarEntry, file: NydusFile | undefined): void {
  switch (entry.type) {
    case 'file':
      if (!file) throw new LazypullError('INTERNAL', 'a file has no node', { path });
      tree.add(path, file);
      break;
    case 'hardlink':
      tree.link(path, cleanPath(entry.linkName));
      break;
    default:
      tree.add(path, nodeOf(entry, entry.type));
  }
}

type OtherNode = Exclude<FileNode, { type: 'file' | 'directory' }> | (Attributes & { readonly type: 'directory' });

function nodeOf(entry: TarEntry, type: Exclude<TarEntry['type'], 'file' | 'hardlink'>): OtherNode {
  const attributes = attributesOf(entry);
  switch (type) {
    case 'symlink':
      return { ...attributes, type, target: entry.linkName };
    case 'char':
    case 'block':
      return { ...attributes, type, major: entry.major, minor: entry.minor };
    default:
      return { ...attributes, type };
  }
}

function attributesOf({ mode, uid, gid, mtime, xattrs }: TarEntry): Attributes {
  return { mode, uid, gid, mtime, xattrs: xattrs.size === 0 ? NO_XATTRS : xattrs };
}
