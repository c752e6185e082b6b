import { realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { LazypullError, wrapError } from '../../core/errors.ts';

/** An absolute path without symbolic links, found without looking into what may be mounted at it. NOT_FOUND without a folder around it. */
export function mountPoint(dir: string): string {
  const path = resolve(dir);
  try {
    return path === '/' ? path : join(realpathSync(dirname(path)), basename(path));
  } catch (error) {
    throw new LazypullError('NOT_FOUND', 'there is no folder to mount at', { path, cause: error });
  }
}

/** Refuses what is no folder. */
export function checkFolder(dir: string): void {
  try {
    if (!statSync(dir).isDirectory()) throw new LazypullError('USAGE', 'what is to be mounted at is no folder', { path: dir });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') throw new LazypullError('NOT_FOUND', 'there is no folder to mount at', { path: dir, cause: error });
    throw wrapError(error, 'IO', 'cannot mount at this folder', { path: dir });
  }
}

/**
 * Refuses (USAGE) to hide what the processes of a mount need below the mount: they would wait for themselves. `needed` are paths, by
 * what a user knows them as.
 */
export function checkNotHidden(dir: string, needed: Readonly<Record<string, string | undefined>>): void {
  const top = realOf(dir);
  for (const [what, path] of Object.entries(needed)) {
    if (path === undefined) continue;
    const real = realOf(path);
    if (real === top || real.startsWith(top === '/' ? '/' : `${top}/`)) throw new LazypullError('USAGE', `${what} is below the folder to mount at, and would be hidden: ${path}`, { path: dir });
  }
}

/** As far as the path is there; what is not there yet has no links. */
function realOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : join(realOf(parent), basename(path));
  }
}
