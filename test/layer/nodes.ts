import { digestOf } from '../../src/core/digest.ts';
import type { Attributes, DeviceNode, FifoNode, RegularNode, SymlinkNode } from '../../src/core/types.ts';
import type { DirectoryAttributes } from '../../src/layer/tree.ts';

/** Attributes that are unlike the ones of implied directories. */
export const attributes: Attributes = { mode: 0o750, uid: 1, gid: 2, mtime: { seconds: 1_700_000_000, nanoseconds: 0 }, xattrs: new Map() };

export function directory(changes: Partial<Attributes> = {}): DirectoryAttributes {
  return { ...attributes, ...changes, type: 'directory' };
}

export function file(content = '', changes: Partial<RegularNode> = {}): RegularNode {
  const bytes = Buffer.from(content);
  return { ...attributes, type: 'file', size: bytes.length, extents: [], digest: digestOf(bytes), ...changes };
}

export function symlink(target: string, changes: Partial<Attributes> = {}): SymlinkNode {
  return { ...attributes, ...changes, type: 'symlink', target };
}

export function device(type: 'char' | 'block', major: number, minor: number): DeviceNode {
  return { ...attributes, type, major, minor };
}

export function fifo(): FifoNode {
  return { ...attributes, type: 'fifo' };
}
