import type { Attributes, DirectoryNode, FileNode, RegularNode } from '../../src/core/types.ts';
import { Contents, type Blocks } from './trees.ts';

export interface Torture {
  readonly root: DirectoryNode;
  readonly contents: Contents;
}

const plain: Attributes = { mode: 0o644, uid: 0, gid: 0, mtime: { seconds: 1_700_000_000, nanoseconds: 0 }, xattrs: new Map() };

/** POSIX ACL as kernels store it: version 2; owner rw-, user 1000 r--, group r--, mask r--, others none. */
const ACL = Buffer.from('02000000' + '01000600ffffffff' + '02000400e8030000' + '04000400ffffffff' + '10000400ffffffff' + '20000000ffffffff', 'hex');
/** cap_net_raw+ep, version 2. */
const CAPABILITY = Buffer.from('0100000200200000000000000000000000000000', 'hex');
const LABEL = Buffer.from('some label\0');

/** A tree of everything that is hard, with content on two devices. `longest`: bytes of the longest names. */
export function tortureTree(blockSize: Blocks, longest = 255): Torture {
  const contents = new Contents(blockSize, 2);
  const file = (size: number, pieces: readonly (readonly [number | undefined, number])[], more: Partial<Attributes> = {}): RegularNode =>
    contents.add({ ...plain, ...more, type: 'file', size, extents: [] }, [...pieces, [1, Math.ceil(size / blockSize)]]);
  const directory = (children: Readonly<Record<string, FileNode>> | readonly (readonly [string, FileNode])[], more: Partial<Attributes> = {}): DirectoryNode =>
    ({ ...plain, mode: 0o755, ...more, type: 'directory', children: new Map(Array.isArray(children) ? children : Object.entries(children)) });
  const symlink = (target: string, more: Partial<Attributes> = {}): FileNode => ({ ...plain, mode: 0o777, ...more, type: 'symlink', target });
  const empty: FileNode = { ...plain, type: 'file', size: 0, extents: [] };
  const linked = file(777, [], { mode: 0o4755 });
  const blocks = (bytes: number): number => bytes / blockSize;
  let deep = directory({ bottom: file(3, []) });
  for (let level = 0; level < 60; level += 1) deep = directory({ d: deep });

  const root = directory({
    empty,
    one: file(1, []),
    large: file(5 * 1024 * 1024 + 123, []),
    exact: file(blockSize, []),
    below: file(blockSize - 1, []),
    above: file(blockSize + 1, []),
    'alternating-devices': file(40 * blockSize, Array.from({ length: 40 }, (_, i) => [1 + (i % 2), 1] as const)),
    'many-chunks': file(900 * blockSize - 5, Array.from({ length: 900 }, (_, i) => [1 + (i % 2), 1] as const)),
    'holes': file(blocks(1 << 20) * 3 * blockSize, [[undefined, blocks(1 << 20)], [2, blocks(1 << 20)], [undefined, blocks(1 << 20)]]),
    'all-hole': file(64 * 1024 * 1024 + 11, [[undefined, blocks(128 * 1024 * 1024)]]),
    'setuid': linked,
    'link-in-root': linked,
    'links': directory({ again: linked, 'once-more': linked, fifo: { ...plain, type: 'fifo' } }),
    'uid': file(5, [], { uid: 4_000_000_000, gid: 4_000_000_000 }),
    'before-1970': file(5, [], { mtime: { seconds: -86_400, nanoseconds: 5 } }),
    'after-2106': file(5, [], { mtime: { seconds: 5_000_000_000, nanoseconds: 999_999_999 } }),
    'char': { ...plain, type: 'char', major: 5, minor: 70_000 },
    'block': { ...plain, type: 'block', major: 4095, minor: 1_048_575, mode: 0o660 },
    'zero-zero': { ...plain, type: 'char', major: 0, minor: 0, mode: 0 },
    'sticky': directory({}, { mode: 0o1777 }),
    'link': symlink('target/that/is/not/there'),
    'link-one': symlink('x'),
    'link-447': symlink('4'.repeat(447)),
    'link-448': symlink('4'.repeat(448)),
    'link-449': symlink('4'.repeat(449)),
    'link-513': symlink('5'.repeat(513)),
    'link-4031': symlink('a'.repeat(4031)),
    'link-4095': symlink('b'.repeat(4095)),
    'link-bytes': symlink('caf\udce9/\udcff'),
    'link-xattr': symlink('c'.repeat(300), { xattrs: new Map([['trusted.on-a-link', Buffer.alloc(100, 1)]]) }),
    [`${'n'.repeat(longest)}`]: file(2, []),
    [`${'\u00fc'.repeat(127)}`]: empty,
    '\udcff\udcfe not utf-8': file(9, []),
    '\u{1f600}': empty,
    '\uff5e': empty,
    '!': empty,
    '-': empty,
    '.hidden': empty,
    '.-': empty,
    '..a': empty,
    deep,
    many: directory(Array.from({ length: 3000 }, (_, i) => [`entry-${(i * 1237) % 3000}`, i % 10 === 0 ? file(i, []) : empty] as const)),
    'long-names': directory(Array.from({ length: 100 }, (_, i) => [`${i}`.padEnd(longest, 'l'), empty] as const)),
    xattrs: directory(
      {
        user: file(5, [], { xattrs: new Map([['user.one', Buffer.from('value')], ['user.two', Buffer.from([0, 1, 255])]]) }),
        'no-value': file(5, [], { xattrs: new Map([['user.empty', new Uint8Array(0)]]) }),
        capability: file(5, [], { mode: 0o755, xattrs: new Map([['security.capability', CAPABILITY]]) }),
        acl: file(5, [], { mode: 0o640, xattrs: new Map([['system.posix_acl_access', ACL]]) }),
        large: file(5, [], { xattrs: new Map([['user.large', Buffer.alloc(20_000, 7)], ['user.larger', Buffer.alloc(40_000, 8)]]) }),
        'long-name': file(5, [], { xattrs: new Map([[`user.${'n'.repeat(250)}`, Buffer.from('v')]]) }),
        directory: directory({ inside: empty }, { xattrs: new Map([['trusted.lazypull', Buffer.from('t')], ['system.posix_acl_default', ACL]]) }),
        'tail-and-body': directory(Array.from({ length: 10 }, (_, i) => [`entry-${i}`, empty] as const), { xattrs: new Map([['user.body', Buffer.alloc(400, 9)]]) }),
        'body-larger-than-block': directory({ inside: empty }, { xattrs: new Map([['user.body', Buffer.alloc(5000, 9)]]) }),
        labels: directory(Array.from({ length: 50 }, (_, i) => [`labelled-${i}`, file(i, [], { xattrs: new Map([['trusted.label', LABEL], ['user.own', Buffer.from([i])]]) })] as const)),
      },
      { xattrs: new Map([['user.on-a-directory', Buffer.from('d')]]) },
    ),
  });
  return { root, contents };
}
