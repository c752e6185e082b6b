import { setTimeout as wait } from 'node:timers/promises';
import { resolve } from 'node:path';
import { LazypullError } from '../../core/errors.ts';
import { askControl } from './control.ts';
import { isAlive } from './processes.ts';
import { knownMounts, readState, type KnownMount } from './state.ts';
import { findMount } from './stop.ts';

/** For a new daemon to get ready, and for it to take over then. */
const READY_MS = 60_000;
const TAKEN_MS = 20_000;

export interface RestartedMount {
  readonly dir: string;
  /** Of the new daemon. */
  readonly pid: number;
}

/**
 * Has the daemons of mounts followed by new ones, of whatever version the program has now; the mounts stay, and no read fails.
 * Of all mounts unless some are named. NOT_FOUND when nothing of ours is mounted at a folder.
 */
export async function restartMounts(dirs: readonly string[], env: Readonly<Record<string, string | undefined>> = process.env): Promise<readonly RestartedMount[]> {
  const wanted = dirs.length === 0 ? knownMounts(env).filter(({ state }) => isAlive(state.daemon)) : dirs.map((dir) => findMount(dir, env) ?? notMounted(dir));
  const restarted: RestartedMount[] = [];
  for (const mount of wanted) restarted.push(await restart(mount));
  return restarted;
}

async function restart({ folder, state }: KnownMount): Promise<RestartedMount> {
  const { dir } = state;
  if (!isAlive(state.daemon)) throw new LazypullError('IO', 'nobody serves this mount', { path: dir });
  await askControl(folder.control, { verb: 'restart' }, READY_MS);
  for (const until = Date.now() + TAKEN_MS; Date.now() < until; await wait(20)) {
    const now = readState(folder);
    if (!now) throw new LazypullError('NOT_FOUND', 'the mount has gone in the meantime', { path: dir });
    if (now.daemon && now.daemon.pid !== state.daemon?.pid && isAlive(now.daemon)) return { dir, pid: now.daemon.pid };
  }
  throw new LazypullError('IO', 'the new daemon has not taken over', { path: dir });
}

function notMounted(dir: string): never {
  throw new LazypullError('NOT_FOUND', 'lazypull has mounted nothing here', { path: resolve(dir) });
}
