import type { Attributes, ByteStream, DirectoryNode, Extent } from '../../src/core/types.ts';
import { mapRuns, type Place } from '../../src/erofs/place.ts';
import { TreeBuilder } from '../../src/layer/tree.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { cleanPath } from '../../src/tar/path.ts';
import { TarReader } from '../../src/tar/read.ts';

/** The tree of a plain tar whose files' content is where the tar has it: chunks of blob `layer`, offsets in the tar. */
export async function tarTree(stream: ByteStream, layer: number): Promise<{ readonly root: DirectoryNode; readonly size: number }> {
  const reader = new TarReader(stream);
  const tree = new TreeBuilder({ linksBelow: true });
  for (let entry = await reader.next(); entry; entry = await reader.next()) {
    const path = cleanPath(entry.path);
    const attributes = attributesOf(entry);
    if (entry.type === 'file') {
      if (entry.sparse) throw new Error(`${path} is sparse`);
      tree.add(path, { ...attributes, type: 'file', size: entry.size, extents: extentsOf(entry, reader.position, layer) });
    } else if (entry.type === 'directory') tree.add(path, { ...attributes, type: 'directory' });
    else if (entry.type === 'symlink') tree.add(path, { ...attributes, type: 'symlink', target: entry.linkName });
    else if (entry.type === 'hardlink') tree.link(path, cleanPath(entry.linkName));
    else if (entry.type === 'fifo') tree.add(path, { ...attributes, type: 'fifo' });
    else tree.add(path, { ...attributes, type: entry.type, major: entry.major, minor: entry.minor });
  }
  for await (const bytes of reader.trailer()) void bytes;
  return { root: tree.finish(), size: reader.position };
}

function attributesOf({ mode, uid, gid, mtime, xattrs }: TarEntry): Attributes {
  return { mode, uid, gid, mtime, xattrs };
}

function extentsOf({ size }: TarEntry, offset: number, layer: number): readonly Extent[] {
  return size === 0 ? [] : [{ fileOffset: 0, length: size, chunk: { blob: layer, offset, length: size, size }, chunkOffset: 0 }];
}

/** Content of such trees: each layer's tar is a device. */
export function placeInTars(blockSize: number): Place {
  return ({ extents }) => (extents.length === 0 ? undefined : mapRuns(extents.map(({ length, chunk }) => ({ length, device: chunk.blob + 1, offset: chunk.offset })), blockSize));
}
