import { Digester, type Digest } from '../core/digest.ts';
import { throwIfAborted } from '../core/errors.ts';
import type { Attributes, ByteStream, DirectoryNode } from '../core/types.ts';
import { TreeBuilder } from '../layer/tree.ts';
import type { TarEntry } from '../tar/entry.ts';
import { checkPath, cleanPath } from '../tar/path.ts';
import { TarReader } from '../tar/read.ts';

/** Looks at the content of one file while it flows by. */
export interface ContentWatcher {
  /** Lent bytes, in order, holes of sparse files filled in. */
  update(bytes: Uint8Array): void;
  /** Once, with the digest of the whole content. */
  finish(digest: Digest): void;
}

export interface ScanOptions {
  /** For messages. */
  readonly what: string;
  /** Most bytes the archive may have, holes counted (LIMIT above). */
  readonly maxSize?: number;
  readonly signal?: AbortSignal;
  /** There are layers below, which hard links may name files of (`LinkBelow`). */
  readonly linksBelow?: boolean;
  /** Asked for each regular file, by clean path. */
  readonly watch?: (path: string, size: number) => ContentWatcher | undefined;
}

export interface ScannedTar {
  /** Files have a digest and no extents. */
  readonly root: DirectoryNode;
  /** Entries of the archive, replaced ones included. */
  readonly entries: number;
  readonly files: number;
  /** Bytes of the archive. */
  readonly size: number;
}

/** Reads an archive from end to end into a tree with the digest of every file's content; nothing of the content is kept. */
export async function scanTar(stream: ByteStream, options: ScanOptions): Promise<ScannedTar> {
  const { what, maxSize, signal } = options;
  const reader = new TarReader(stream, { what, ...(maxSize !== undefined && { maxSize }) });
  const tree = new TreeBuilder({ linksBelow: options.linksBelow ?? false });
  let entries = 0;
  let files = 0;
  let size = 0;
  try {
    for (let entry = await reader.next(); entry; entry = await reader.next()) {
      throwIfAborted(signal);
      checkPath(entry);
      const path = cleanPath(entry.path);
      entries += 1;
      if (entry.type === 'file') {
        files += 1;
        const digest = await digestBody(reader, options.watch?.(path, entry.size));
        tree.add(path, { ...attributesOf(entry), type: 'file', size: entry.size, extents: [], digest });
      } else {
        addOther(tree, path, entry);
      }
    }
    // What follows the end of the archive belongs to the layer: its diffID covers it.
    for await (const bytes of reader.trailer()) {
      throwIfAborted(signal);
      void bytes;
    }
    size = reader.position;
  } finally {
    await reader.close();
  }
  return { root: tree.finish(), entries, files, size };
}

async function digestBody(reader: TarReader, watcher: ContentWatcher | undefined): Promise<Digest> {
  const digester = new Digester();
  const ready = reader.bodyReady();
  if (ready) {
    digester.update(ready);
    watcher?.update(ready);
  } else {
    for await (const bytes of reader.body()) {
      digester.update(bytes);
      watcher?.update(bytes);
    }
  }
  const digest = digester.finish();
  watcher?.finish(digest);
  return digest;
}

function addOther(tree: TreeBuilder, path: string, entry: TarEntry): void {
  const attributes = attributesOf(entry);
  switch (entry.type) {
    case 'directory':
      return tree.add(path, { ...attributes, type: 'directory' });
    case 'symlink':
      return tree.add(path, { ...attributes, type: 'symlink', target: entry.linkName });
    case 'hardlink':
      return tree.link(path, cleanPath(entry.linkName));
    case 'char':
    case 'block':
      return tree.add(path, { ...attributes, type: entry.type, major: entry.major, minor: entry.minor });
    default:
      return tree.add(path, { ...attributes, type: 'fifo' });
  }
}

function attributesOf({ mode, uid, gid, mtime, xattrs, userName, groupName }: TarEntry): Attributes {
  return { mode, uid, gid, mtime, xattrs, userName, groupName };
}
