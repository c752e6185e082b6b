import type { Attributes, RegularNode } from '../../src/core/types.ts';
import type { TreeBuilder } from '../../src/layer/tree.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { checkPath, cleanPath } from '../../src/tar/path.ts';

/** What of an entry decides where and what it is in the tree. */
export type EntryPlace = Pick<TarEntry, 'path' | 'type' | 'linkName' | 'major' | 'minor' | 'offset'>;

/** Puts an entry into a layer's tree under its clean name; CORRUPT when it climbs out of the layer or cannot exist. A file's node is returned. */
export function addEntry(tree: TreeBuilder, entry: EntryPlace, attributes: Attributes, file: Pick<RegularNode, 'size' | 'extents'>): RegularNode | undefined {
  checkPath(entry);
  const path = cleanPath(entry.path);
  const { type } = entry;
  if (type === 'file') {
    const node = tree.make.file(attributes, file.size, file.extents);
    tree.add(path, node);
    return node;
  }
  if (type === 'hardlink') tree.link(path, cleanPath(entry.linkName));
  else if (type === 'symlink') tree.add(path, tree.make.symlink(attributes, entry.linkName));
  else if (type === 'char' || type === 'block') tree.add(path, tree.make.device(attributes, type, entry.major, entry.minor));
  else if (type === 'fifo') tree.add(path, tree.make.fifo(attributes));
  else tree.add(path, { type, ...attributes });
  return undefined;
}
