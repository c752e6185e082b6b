import { readlinkSync, readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { LazypullError, printable } from '../../core/errors.ts';
import { mountAt } from '../fuse/mountinfo.ts';
import { clearAway, isThere, takeAwayRecord, type How } from './clear.ts';
import { askControl } from './control.ts';
import { isRefusal } from './kernel-calls.ts';
import { RemoteError } from './messages.ts';
import { awaitEnd, isAlive, mountNamespace, signalProcess } from './processes.ts';
import { mountPoint } from './mount-point.ts';
import { knownMounts, readState, type KnownMount } from './state.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export interface StopOptions {
  /** Default `clean`: fails when somebody uses it. `lazy`: out of sight now, gone with the last user. `force`: whoever uses it gets errors. */
  readonly how?: How;
  readonly env?: Environment;
}

/** For a daemon to say that it has unmounted. */
const ANSWER_MS = 20_000;
/** The same when its consent is not needed. */
const FORCE_MS = 3000;
const RETRY_MS = 50;
/** For processes to be gone after that: what they have fetched last is still to be written to disk. */
const END_MS = 120_000;
/** For processes that were killed. */
const KILLED_MS = 10_000;

/**
 * Unmounts what `startMount` has mounted and resolves with its folder when nothing of it is left, neither mounted nor running (`lazy`:
 * when it cannot be seen any more). NOT_FOUND when nothing of ours is mounted there; IO, naming the processes, when somebody uses it.
 */
export async function stopMount(dir: string, { how = 'clean', env = process.env }: StopOptions = {}): Promise<string> {
  const known = findMount(dir, env);
  if (!known) throw new LazypullError('NOT_FOUND', 'lazypull has mounted nothing here', { path: resolve(dir) });
  const { folder, state } = known;
  const marks = [state.supervisor, state.daemon];
  if (marks.some(isAlive)) {
    const asked = await ask(known, how);
    if (asked && how === 'lazy') return state.dir;
    if (asked && (await awaitEnd(marks, how === 'force' ? FORCE_MS : END_MS))) {
      await forget(known);
      return state.dir;
    }
    if (how !== 'force') {
      const what = asked ? 'the mount is gone, but the process that served it has not ended' : 'the process that serves the mount does not answer';
      throw new LazypullError('IO', `${what}: --force ends it`, { path: state.dir });
    }
    // Nobody is to take over from the one that is ended: the supervisor goes first. With both, the connection ends.
    for (const mark of [readState(folder)?.supervisor, ...marks, readState(folder)?.daemon]) signalProcess(mark, 'SIGKILL');
    await awaitEnd(marks, KILLED_MS);
  }
  if (state.namespace !== mountNamespace()) return state.dir;
  try {
    for (const record of state.mounts.toReversed()) await takeAwayRecord(record, how);
  } catch (error) {
    throw busy(error, state.dir);
  }
  await clearAway(folder, state);
  return state.dir;
}

/** True when the daemon has unmounted; false when it does not answer. It may be on its way up: a new one takes a moment. */
async function ask({ folder, state }: KnownMount, how: How): Promise<boolean> {
  const until = Date.now() + (how === 'force' ? FORCE_MS : ANSWER_MS);
  while (Date.now() < until) {
    try {
      await askControl(folder.control, { verb: 'stop', how }, until - Date.now());
      return true;
    } catch (error) {
      if (error instanceof RemoteError) {
        if (how === 'force') return false;
        throw error.errno === 'EBUSY' ? busyError(state.dir, error) : error;
      }
      const now = readState(folder);
      // Gone in the meantime: what there was to do has been done.
      if (!now) return true;
      if (!isAlive(now.daemon) && !isAlive(now.supervisor)) return false;
      await wait(RETRY_MS);
    }
  }
  return false;
}

/** The daemon takes its folder away when it ends, unless it was ended itself. */
async function forget({ folder, state }: KnownMount): Promise<void> {
  if (state.mounts.some(isThere)) {
    try {
      for (const record of state.mounts.toReversed()) await takeAwayRecord(record, 'clean');
    } catch (error) {
      throw busy(error, state.dir);
    }
  }
  if (readState(folder)) await clearAway(folder, state);
}

/** The mount at a folder, by the name it was given or by any other name of the same place. */
export function findMount(dir: string, env: Environment): KnownMount | undefined {
  const mounts = knownMounts(env);
  const place = placeOf(dir);
  // Of several on one folder the newest is on top.
  return mounts.findLast(({ state }) => state.dir === place) ?? mounts.findLast(({ state }) => state.dir === resolve(dir));
}

/** Where a path leads, without a look into a mount that may not answer. */
function placeOf(dir: string): string {
  const place = mountPoint(dir);
  if (mountAt(place)) return place;
  try {
    return mountPoint(resolve(place, '..', readlinkSync(place)));
  } catch {
    return place;
  }
}

function busy(error: unknown, dir: string): unknown {
  return isRefusal(error, 'EBUSY') ? busyError(dir, error) : error;
}

function busyError(dir: string, cause: unknown): LazypullError {
  const users = usersOf(dir);
  const who = users.length === 0 ? 'somebody uses it' : `in use by ${users.slice(0, 5).join(', ')}${users.length > 5 ? ` and ${users.length - 5} more` : ''}`;
  return new LazypullError('IO', `cannot unmount: ${who}; --force takes it away all the same`, { path: dir, cause });
}

/** Processes that work below a folder or have something open there: what links in /proc say, which asks no file system. */
export function usersOf(dir: string): readonly string[] {
  const inside = (path: string): boolean => path === dir || path.startsWith(`${dir}/`);
  const users: string[] = [];
  for (const pid of list('/proc')) {
    if (!/^\d+$/.test(pid) || pid === `${process.pid}`) continue;
    const links = ['cwd', 'root', 'exe', ...list(`/proc/${pid}/fd`).map((fd) => `fd/${fd}`)];
    if (links.some((link) => inside(target(`/proc/${pid}/${link}`)))) users.push(`${nameOf(pid)} (${pid})`);
  }
  return users;
}

function list(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function target(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    return '';
  }
}

function nameOf(pid: string): string {
  try {
    return printable(readFileSync(`/proc/${pid}/comm`, 'utf8').trim());
  } catch {
    return 'process';
  }
}
