import { randomUUID } from 'node:crypto';
import { link, open, readFile, stat, unlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { LazypullError, throwIfAborted, wrapError } from '../core/errors.ts';

/** How long to wait for another process, ms. The lock is held for one small rewrite, so a long wait means trouble. */
const WAIT = 30_000;
/** A lock of another machine (its processes cannot be asked) is given up on after this age, ms. */
const FOREIGN_AGE = 120_000;

export interface LockOptions {
  readonly signal?: AbortSignal | undefined;
  /** Longest wait, ms. */
  readonly wait?: number;
}

/** Within one process callers queue up here; only the first of them competes for the file. */
const queues = new Map<string, Promise<void>>();

/**
 * Runs `work` while holding the lock file at `path`. The file is created exclusively and names its holder; one whose
 * process is gone is broken. NFS and containers: a holder on another host counts as gone after two minutes.
 */
export async function withLock<T>(path: string, work: () => Promise<T>, options: LockOptions = {}): Promise<T> {
  const before = queues.get(path) ?? Promise.resolve();
  let leave = (): void => undefined;
  const turn = new Promise<void>((resolve) => {
    leave = resolve;
  });
  const queued = before.then(() => turn);
  queues.set(path, queued);
  try {
    await before;
    await acquire(path, options);
    try {
      return await work();
    } finally {
      await unlink(path).catch(() => undefined);
    }
  } finally {
    leave();
    if (queues.get(path) === queued) queues.delete(path);
  }
}

async function acquire(path: string, options: LockOptions): Promise<void> {
  const deadline = Date.now() + (options.wait ?? WAIT);
  for (let pause = 2; ; pause = Math.min(pause * 2, 100)) {
    throwIfAborted(options.signal);
    if (await create(path)) return;
    const holder = await look(path);
    if (holder === undefined) continue;
    if (await isStale(holder) && (await breakLock(path, holder))) continue;
    if (Date.now() >= deadline) {
      throw new LazypullError('IO', `another process (${holder.pid === undefined ? 'unknown' : `pid ${holder.pid} on ${holder.host}`}) keeps the layout locked; remove the file if it is not running`, { path });
    }
    try {
      await sleep(pause + Math.random() * pause, undefined, options.signal ? { signal: options.signal } : {});
    } catch (error) {
      throw wrapError(error, 'IO', 'cannot wait for the lock', { path });
    }
  }
}

async function create(path: string): Promise<boolean> {
  let handle;
  try {
    handle = await open(path, 'wx');
  } catch (error) {
    if (errno(error) === 'EEXIST') return false;
    throw wrapError(error, 'IO', 'cannot create the lock file', { path });
  }
  try {
    await handle.writeFile(`${process.pid} ${hostname()} ${(await startTime(process.pid)) ?? '-'} ${randomUUID()}\n`);
    return true;
  } catch (error) {
    await unlink(path).catch(() => undefined);
    throw wrapError(error, 'IO', 'cannot write the lock file', { path });
  } finally {
    await handle.close();
  }
}

interface Holder {
  readonly text: string;
  readonly inode: number;
  /** ms since the file was written. */
  readonly age: number;
  readonly pid: number | undefined;
  readonly host: string;
  readonly start: string;
}

async function look(path: string): Promise<Holder | undefined> {
  try {
    const [text, info] = await Promise.all([readFile(path, 'utf8'), stat(path)]);
    const [, pid, host = '', start = '-'] = /^(\d{1,10}) (\S+) (\S+) \S+\n$/.exec(text) ?? [];
    return { text, inode: info.ino, age: Date.now() - info.mtimeMs, pid: pid === undefined ? undefined : Number(pid), host, start };
  } catch (error) {
    if (errno(error) === 'ENOENT') return undefined;
    throw wrapError(error, 'IO', 'cannot read the lock file', { path });
  }
}

async function isStale(holder: Holder): Promise<boolean> {
  if (holder.pid === undefined || holder.host !== hostname()) return holder.age > FOREIGN_AGE;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    return errno(error) === 'ESRCH';
  }
  // The number may have been given to a new process since: where the system tells, the start time decides.
  const start = await startTime(holder.pid);
  return holder.start !== '-' && start !== undefined && start !== holder.start;
}

/**
 * Removes a stale lock, and only that one. The hard link under a name made from the holder is created exclusively, so
 * one breaker at a time gets on; having the holder's text it proves that `path` is still the stale file, because its
 * holder is dead and every other breaker is shut out. Without hard links nothing is broken and the wait runs out.
 */
async function breakLock(path: string, holder: Holder): Promise<boolean> {
  const claim = `${path}.${holder.inode}`;
  try {
    await link(path, claim);
  } catch (error) {
    return errno(error) === 'ENOENT';
  }
  try {
    const claimed = await look(claim);
    if (claimed?.inode === holder.inode && claimed.text === holder.text) await unlink(path);
    return true;
  } finally {
    await unlink(claim).catch(() => undefined);
  }
}

/** Start of a process in clock ticks since boot, where the system has /proc. */
async function startTime(pid: number): Promise<string | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The second field is the command in brackets and may hold anything; field 22 is counted from behind it.
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

function errno(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | null)?.code;
}
