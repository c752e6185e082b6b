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
    const node: RegularNode = { type, ...attributes, ...file };
    tree.add(path, node);
    return node;
  }
  if (type === 'hardlink') tree.link(path, cleanPath(entry.linkName));
  else if (type === 'symlink') tree.add(path, { type, ...attributes, target: entry.linkName });
  else if (type === 'char' || type === 'block') tree.add(path, { type, ...attributes, major: entry.major, minor: entry.minor });
  else tree.add(path, { type, ...attributes });
  return undefined;
}
