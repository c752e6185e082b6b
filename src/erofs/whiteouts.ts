import { corrupt } from '../core/errors.ts';
import type { DeviceNode, DirectoryNode, FileNode } from '../core/types.ts';
import { NO_XATTRS, withChildren } from '../layer/nodes.ts';
import { joinPath } from '../layer/walk.ts';

/** image-spec 1.1 layer.md, "Whiteouts". */
const WHITEOUT_PREFIX = '.wh.';
const OPAQUE_WHITEOUT = '.wh..wh..opq';
/** AUFS' own files, which say nothing about the layer. */
const AUFS_PREFIX = '.wh..wh.';

/** Attributes of overlayfs; the second kind is for mounts with `userxattr`. */
export type OverlayXattrs = 'trusted' | 'user';

const OPAQUE = Buffer.from('y');
const NO_BYTES = new Uint8Array(0);

interface Job {
  readonly path: string;
  readonly from: DirectoryNode;
  readonly to: DirectoryNode;
}

/**
 * One layer's tree as overlayfs wants to find it in a lower directory (Documentation/filesystems/overlayfs.rst): whiteouts
 * are character devices 0:0, opaque directories have an attribute. A directory with whiteouts gets the attribute `origin`:
 * without it overlayfs shows the whiteouts where no lower layer has the directory, too. The given tree is not changed.
 */
export function overlayTree(root: DirectoryNode, xattrs: OverlayXattrs = 'trusted'): DirectoryNode {
  // One inode under all names, as overlayfs itself makes them.
  const whiteout: DeviceNode = { type: 'char', major: 0, minor: 0, mode: 0, uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, xattrs: NO_XATTRS };
  const top = copyOf(root, root.children, false, xattrs);
  const todo: Job[] = [{ path: '', from: root, to: top }];
  for (let job = todo.pop(); job; job = todo.pop()) {
    const { path, from, to } = job;
    for (const [name, node] of from.children) {
      if (name.startsWith(AUFS_PREFIX)) continue;
      if (name.startsWith(WHITEOUT_PREFIX)) {
        const hidden = name.slice(WHITEOUT_PREFIX.length);
        if (hidden === '' || hidden === '.' || hidden === '..') throw corrupt('whiteout names nothing that can be hidden', { path: joinPath(path, name) });
        // Whiteouts act on lower layers: what this layer has under the name stays.
        if (!from.children.has(hidden)) to.children.set(hidden, whiteout);
      } else if (node.type === 'directory') {
        const copy = copyOf(node, node.children, from.children.has(WHITEOUT_PREFIX + name), xattrs);
        to.children.set(name, copy);
        todo.push({ path: joinPath(path, name), from: node, to: copy });
      } else {
        to.children.set(name, node);
      }
    }
  }
  return top;
}

/** The directory without its children, marked as they demand. */
function copyOf(node: DirectoryNode, children: ReadonlyMap<string, FileNode>, hidden: boolean, kind: OverlayXattrs): DirectoryNode {
  const marks = new Map<string, Uint8Array>();
  if (hidden || children.has(OPAQUE_WHITEOUT)) marks.set(`${kind}.overlay.opaque`, OPAQUE);
  for (const name of children.keys()) {
    if (!name.startsWith(WHITEOUT_PREFIX) || name.startsWith(AUFS_PREFIX)) continue;
    marks.set(`${kind}.overlay.origin`, NO_BYTES);
    break;
  }
  return withChildren(node, new Map(), marks.size === 0 ? node.xattrs : new Map([...node.xattrs, ...marks]));
}
