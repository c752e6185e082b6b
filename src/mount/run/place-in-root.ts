import type { BigIntStats } from 'node:fs';
import { lstat, readlink } from 'node:fs/promises';
import { isUtf8Name } from '../../core/bytes.ts';
import { LazypullError, wrapError } from '../../core/errors.ts';

/** Symlinks that one path may lead through (Linux MAXSYMLINKS). */
const MAX_SYMLINKS = 40;

/** Where a path of a container is, seen from outside. */
export interface PlaceInRoot {
  /** On this machine: absolute, and no symlink on it or at its end below the root. */
  readonly path: string;
  /** In the container: absolute and clean, without symlinks. */
  readonly inside: string;
  /** Undefined when nothing is there; what is missing may begin further up. */
  readonly stats: BigIntStats | undefined;
}

/**
 * Finds what a process whose root is the folder `root` would find at a path. Names and links are a stranger's: nothing leads
 * out of the root. Asks for attributes only, never for content. Nobody may change the tree meanwhile.
 */
export async function placeInRoot(root: string, path: string): Promise<PlaceInRoot> {
  const todo = components(path);
  const way: string[] = [];
  const here = (): string => (way.length === 0 ? root : `${root}/${way.join('/')}`);
  let stats: BigIntStats | undefined = await statsOf(root);
  let followed = 0;
  for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
    if (name === '..') {
      way.pop();
      stats = await statsOf(here());
      continue;
    }
    if (stats && !stats.isDirectory()) throw new LazypullError('UNSUPPORTED', 'something on the way is not a directory', { path });
    way.push(name);
    stats = await statsOf(here());
    if (!stats?.isSymbolicLink()) continue;
    followed += 1;
    if (followed > MAX_SYMLINKS) throw new LazypullError('UNSUPPORTED', 'too many levels of symbolic links', { path });
    const target = await linkTarget(here(), path);
    way.pop();
    if (target.startsWith('/')) way.length = 0;
    stats = await statsOf(here());
    todo.push(...components(target));
  }
  return { path: here(), inside: `/${way.join('/')}`, stats };
}

async function linkTarget(at: string, path: string): Promise<string> {
  const bytes = await readlink(at, 'buffer');
  const target = bytes.toString('utf8');
  if (!isUtf8Name(target) || !Buffer.from(target, 'utf8').equals(bytes)) throw new LazypullError('UNSUPPORTED', 'a symlink on the way has a name that is not UTF-8', { path });
  return target;
}

async function statsOf(path: string): Promise<BigIntStats | undefined> {
  try {
    return await lstat(path, { bigint: true });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw wrapError(error, 'IO', 'cannot look at the container\'s files', { path });
  }
}

/** The last one first. */
function components(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.').reverse();
}
