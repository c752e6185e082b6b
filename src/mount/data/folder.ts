import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rename, stat, unlink, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { LazypullError, wrapError } from '../../core/errors.ts';
import { isRealRoot } from '../host/processes.ts';

/** What is in a cache folder. */
const PARTS = ['devices', 'trees', 'plans', 'users'] as const;
/** Others could read what a registry gave to this user only. */
const PRIVATE = 0o700;
const OTHERS_WRITE = 0o022;
/** Not zeros: no file system takes them for nothing. */
const RESERVE = Buffer.alloc(1 << 16, 'reserve ');

/** Where the cache is when no option says: `$LAZYPULL_CACHE_DIR`, `/var/cache/lazypull` for root (of the machine, not of a user namespace), else `$XDG_CACHE_HOME/lazypull`. */
export function defaultCacheDir(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const { LAZYPULL_CACHE_DIR: own, XDG_CACHE_HOME: base, HOME: home } = env;
  if (own) return resolve(own);
  if (isRealRoot()) return '/var/cache/lazypull';
  return join(base?.startsWith('/') ? base : join(home?.startsWith('/') ? home : homedir(), '.cache'), 'lazypull');
}

/** The files of a cache. Names are digests in hex or made here, never a stranger's. */
export class CacheFolder {
  readonly dir: string;
  readonly lock: string;
  readonly #reserve: string;

  constructor(dir: string) {
    this.dir = dir;
    this.lock = join(dir, 'lock');
    this.#reserve = join(dir, 'reserve');
  }

  /** Puts a little room aside: tidying up a full disk takes some. */
  async reserve(): Promise<void> {
    await writeFile(this.#reserve, RESERVE, { flag: 'wx', mode: 0o600 }).catch(() => undefined);
  }

  async useReserve(): Promise<void> {
    await removeFile(this.#reserve).catch(() => undefined);
  }

  /** Makes what is missing. UNAUTHORIZED when other users could put something in. */
  async make(): Promise<void> {
    try {
      await makeFolder(this.dir, true);
      await this.#check();
      for (const part of PARTS) await makeFolder(join(this.dir, part));
    } catch (error) {
      throw wrapError(error, 'IO', 'cannot make the cache folder', { path: this.dir });
    }
  }

  /** Whoever can write here decides what is mounted. */
  async #check(): Promise<void> {
    const { uid, mode } = await stat(this.dir);
    const own = process.getuid?.();
    if (own !== undefined && uid !== own && uid !== 0) throw new LazypullError('UNAUTHORIZED', `the cache folder belongs to user ${uid}, who could change what is mounted`, { path: this.dir });
    if ((mode & OTHERS_WRITE) !== 0) throw new LazypullError('UNAUTHORIZED', `other users can write to the cache folder (mode ${(mode & 0o7777).toString(8)})`, { path: this.dir });
  }

  path(part: (typeof PARTS)[number], name: string): string {
    return join(this.dir, part, name);
  }

  /** Bytes of a device. */
  device(key: string): string {
    return this.path('devices', key);
  }

  /** Which of them are there. */
  presence(key: string): string {
    return `${this.device(key)}.pages`;
  }

  /** Names in a part of the folder; none when it is not there. */
  async names(part: (typeof PARTS)[number]): Promise<readonly string[]> {
    try {
      return (await readdir(join(this.dir, part))).sort();
    } catch (error) {
      if (isMissing(error)) return [];
      throw wrapError(error, 'IO', 'cannot list the cache', { path: join(this.dir, part) });
    }
  }
}

/** Unlike mkdir's own `recursive` it comes to an end in /proc, and says why on file systems that cannot be written. */
async function makeFolder(path: string, parents = false): Promise<void> {
  try {
    await mkdir(path, { mode: PRIVATE });
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return;
    if (!parents || !isMissing(error) || dirname(path) === path) throw error;
    await makeFolder(dirname(path), true);
    await makeFolder(path);
  }
}

/** What a crash of the machine may do to a replaced file: anything, bring the old one back, nothing. */
type Lasting = 'no' | 'content' | 'yes';

/** Puts a whole file in place of an old one, or of none: readers see one or the other. */
export async function replaceFile(path: string, bytes: Uint8Array, lasting: Lasting): Promise<void> {
  const temporary = `${path}.${process.pid}-${randomUUID()}${TEMPORARY}`;
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(bytes);
      if (lasting !== 'no') await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    if (lasting === 'yes') await syncFolder(path);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw wrapError(error, 'IO', 'cannot write', { path });
  }
}

/** End of the names of files that are being written. */
export const TEMPORARY = '.tmp';

/** Makes what happened to a file's name last. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(join(path, '..'), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Removes a file that may be gone already; whether it was there. */
export async function removeFile(path: string): Promise<boolean> {
  try {
    await unlink(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw wrapError(error, 'IO', 'cannot remove', { path });
  }
}

export function isMissing(error: unknown): boolean {
  return errnoOf(error) === 'ENOENT';
}

/** `ENOSPC` and the like, of an error or of what it was made of. */
export function errnoOf(error: unknown): string | undefined {
  const { code, cause } = (error ?? {}) as { code?: unknown; cause?: unknown };
  if (error instanceof LazypullError) return errnoOf(cause);
  return typeof code === 'string' ? code : undefined;
}
