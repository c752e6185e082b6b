import { mkdirSync, rmSync, rmdirSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { LazypullError, wrapError } from '../../core/errors.ts';
import { MNT, MS, NativeError } from '../native.ts';
import { isRefusal, mountCall } from './kernel-calls.ts';
import type { Backend } from './options.ts';
import { isRealRoot, mayMount } from './processes.ts';
import { takeAway } from './take-away.ts';
import { tinyImage } from './tiny-image.ts';

/** Who shows the tree, and why. */
export interface Choice {
  readonly backend: Backend;
  /** Where the kernel reads the tree from; `file` for the `fuse` backend. */
  readonly metadata: 'file' | 'fuse' | 'loop';
  /** One clause. */
  readonly why: string;
}

interface Wish {
  readonly wanted: Backend | 'auto';
  /** Where the tree's metadata will be: what the kernel can do depends on the file system. */
  readonly cacheDir: string;
  /** A folder of our own, for trying. */
  readonly staging: string;
  /** For tests. */
  readonly kernel?: string;
}

/** Below, mounts straight from files crash or bypass the page cache (6.12.0 to 6.12.6), or do not exist. */
const FILE_BACKED = [6, 12, 7] as const;
/** Below, EROFS takes no blocks smaller than a page, and tars have blocks of 512 bytes. */
const SMALL_BLOCKS = [6, 4, 0] as const;

/** UNSUPPORTED, with the reason, when the wanted backend cannot be had. */
export async function chooseBackend(wish: Wish): Promise<Choice> {
  if (wish.wanted === 'fuse') return { backend: 'fuse', metadata: 'file', why: 'asked for' };
  const tried = await tryErofs(wish);
  if ('metadata' in tried) return { backend: 'erofs', ...tried };
  if (wish.wanted === 'erofs') throw new LazypullError('UNSUPPORTED', `the erofs backend cannot be used: ${tried.cannot}`);
  return { backend: 'fuse', metadata: 'file', why: `erofs is not possible: ${tried.cannot}` };
}

type Tried = Pick<Choice, 'metadata' | 'why'> | { readonly cannot: string };

async function tryErofs({ wanted, cacheDir, staging, kernel = release() }: Wish): Promise<Tried> {
  if (!isRealRoot()) return { cannot: process.geteuid?.() === 0 ? 'root of a user namespace may not mount it' : 'it needs root' };
  if (!mayMount()) return { cannot: 'it needs the right to mount (CAP_SYS_ADMIN)' };
  if (!isAtLeast(kernel, FILE_BACKED)) {
    const old = `Linux ${kernel} cannot mount it from files (6.12.7 can)`;
    // Two loop devices per layer are nothing to choose unasked.
    if (wanted !== 'erofs' || !isAtLeast(kernel, SMALL_BLOCKS)) return { cannot: old };
    return { metadata: 'loop', why: `asked for, by loop devices because ${old}` };
  }
  const refusal = await probe(cacheDir, staging);
  if (refusal === undefined) return { metadata: 'file', why: `Linux ${kernel} shows the tree from the cache's file` };
  if (refusal === 'unwritable') return { metadata: 'fuse', why: `Linux ${kernel} shows the tree, served by FUSE because the cache's folder cannot be written` };
  // The file system of the cache is one that the kernel does not read metadata from (tmpfs, overlayfs); FUSE is not.
  if (isRefusal(refusal, 'ENOTBLK')) return { metadata: 'fuse', why: `Linux ${kernel} shows the tree, served by FUSE because of the cache's file system` };
  if (isRefusal(refusal, 'ENODEV')) return { cannot: `Linux ${kernel} has no EROFS` };
  return { cannot: refusal.message };
}

/** Mounts a tiny image from the folder; what the kernel says when it refuses. */
async function probe(cacheDir: string, staging: string): Promise<LazypullError | 'unwritable' | undefined> {
  const image = join(cacheDir, `probe-${process.pid}.erofs`);
  try {
    mkdirSync(cacheDir, { recursive: true, mode: 0o700 });
    writeFileSync(image, tinyImage(), { mode: 0o600 });
  } catch {
    return 'unwritable';
  }
  try {
    mkdirSync(staging, { recursive: true, mode: 0o700 });
    await mountCall({ source: image, target: staging, type: 'erofs', flags: MS.readOnly | MS.noSuid | MS.noDev });
    await takeAway(staging, MNT.detach);
    rmdirSync(staging);
    return undefined;
  } catch (error) {
    if (error instanceof NativeError || (error instanceof LazypullError && error.code === 'UNSUPPORTED')) return error;
    throw wrapError(error, 'IO', 'cannot try what the kernel can mount', { path: cacheDir });
  } finally {
    rmSync(image, { force: true });
  }
}

/** Compares `6.12.7-arch1` with [6, 12, 7]. */
export function isAtLeast(kernel: string, wanted: readonly [number, number, number]): boolean {
  const parts = /^(\d+)\.(\d+)(?:\.(\d+))?/.exec(kernel);
  if (!parts) return false;
  const have = [Number(parts[1]), Number(parts[2]), Number(parts[3] ?? 0)];
  for (const [i, number] of wanted.entries()) {
    if ((have[i] as number) !== number) return (have[i] as number) > number;
  }
  return true;
}
