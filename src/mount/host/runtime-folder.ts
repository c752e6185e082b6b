import { lstatSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LazypullError, wrapError } from '../../core/errors.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Where the mounts of this user may have their files, the best place first: LAZYPULL_RUNTIME_DIR if it is set; for root
 * /run/lazypull; $XDG_RUNTIME_DIR/lazypull; a folder in the one for temporary files.
 */
export function runtimeFolders(env: Environment): readonly string[] {
  const { LAZYPULL_RUNTIME_DIR: own, XDG_RUNTIME_DIR: xdg } = env;
  if (own) return [own];
  const uid = process.geteuid?.() ?? 0;
  return [...(uid === 0 ? ['/run/lazypull'] : []), ...(xdg ? [join(xdg, 'lazypull')] : []), join(tmpdir(), `lazypull-${uid}`)];
}

/** The first of them that can be used, made if need be. IO when there is none. */
export function makeRuntimeFolder(env: Environment): string {
  let failure: unknown;
  for (const folder of runtimeFolders(env)) {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      checkPrivate(folder);
      return folder;
    } catch (error) {
      failure ??= error;
    }
  }
  throw wrapError(failure, 'IO', 'no folder for the state of mounts');
}

/** Others must not put anything into it: what is found there is believed. */
export function checkPrivate(folder: string): void {
  const stats = lstatSync(folder);
  const uid = process.geteuid?.() ?? 0;
  if (!stats.isDirectory()) throw new LazypullError('IO', 'is no folder', { path: folder });
  if (stats.uid !== uid) throw new LazypullError('IO', `belongs to user ${stats.uid}, not ${uid}`, { path: folder });
  if ((stats.mode & 0o022) !== 0) throw new LazypullError('IO', 'can be written by others', { path: folder });
}
