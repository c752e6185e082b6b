import { mountAt } from '../fuse/mountinfo.ts';
import { runQuietly } from '../host/kernel-calls.ts';
import { awaitEnd, bootId, isAlive, signalProcess } from '../host/processes.ts';
import { knownScratches, pidNamespace, type Scratch } from './scratch.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** A folder without a record may be one that is just being made. */
const YOUNG_MS = 60_000;
/** Milliseconds for a killed container to be gone. */
const PATIENCE = 5_000;

export interface ReapOptions {
  readonly env: Environment;
  /** Takes a mounted image away, whoever serves it. */
  readonly unmount: (dir: string) => Promise<void>;
}

/** What a run left behind whose process was killed. */
export interface Reaped {
  readonly id: string;
  readonly image: string;
  /** Why some of it is still there; undefined when all of it is gone. */
  readonly problem?: string;
}

/** Removes what is left of runs that were killed: container, mount, files. Runs that are alive stay as they are. */
export async function reapRuns(options: ReapOptions): Promise<readonly Reaped[]> {
  const reaped: Reaped[] = [];
  for (const scratch of knownScratches(options.env)) {
    const done = await reap(scratch, options).catch((error: unknown): Reaped => ({ id: scratch.id, image: '', problem: error instanceof Error ? error.message : String(error) }));
    if (done) reaped.push(done);
  }
  return reaped;
}

async function reap(scratch: Scratch, { unmount }: ReapOptions): Promise<Reaped | undefined> {
  const record = scratch.read();
  if (!record) {
    // It died before it could say anything, is about to say it, or says it in the words of a later version.
    if (!scratch.hasRecord && scratch.ageMs > YOUNG_MS) await scratch.remove();
    return undefined;
  }
  const sameBoot = record.boot === bootId();
  if (sameBoot) {
    // What a number stands for in another namespace cannot be told from here.
    if (record.pidNamespace !== pidNamespace() || isAlive(record.owner)) return undefined;
    if (record.runtime !== undefined) await runQuietly(record.runtime, ['--root', scratch.runtimeState, 'delete', '--force', record.id]);
    signalProcess(record.launched, 'SIGKILL');
    await awaitEnd([record.launched], PATIENCE);
    if (mountAt(scratch.lower)) await unmount(scratch.lower);
  }
  await scratch.remove();
  return { id: record.id, image: record.image };
}
