import { closeSync, openSync, rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { throwIfAborted, wrapError } from '../../core/errors.ts';
import type { ToDaemon, ToStarter } from './messages.ts';
import { MountFolder } from './mount-folder.ts';
import { markOf, type ProcessMark } from './processes.ts';
import { spawnProcess, type Spawned } from './spawn.ts';

export interface LaunchOptions {
  /** See `MountOptions`. */
  readonly program: readonly string[];
  readonly log?: string;
  readonly logToStderr?: boolean;
  /** As a user writes it: decides what is loaded beforehand. */
  readonly image: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Nothing is started when it says so already. */
  readonly signal?: AbortSignal | undefined;
}

/** A daemon that is on its way up, and does not know yet what to serve. */
export interface Launched {
  readonly folder: MountFolder;
  readonly process: Spawned<ToDaemon, ToStarter>;
  readonly mark: ProcessMark | undefined;
  /** Where its log goes: a path, or a descriptor's number. */
  readonly log: string | number;
  /** Ends it before it has been told anything; what belongs to it goes. */
  abandon(): Promise<void>;
}

/**
 * Starts the process that is to serve a mount, before it is known what: it takes a moment to load what it needs, and this one can
 * use that moment. IO when there is no place for its files, CANCELLED when the signal says so.
 */
export function launchDaemon({ program, log, logToStderr = false, image, env = process.env, signal }: LaunchOptions): Launched {
  throwIfAborted(signal);
  const folder = MountFolder.create(env);
  const target = logToStderr ? 2 : log === undefined ? folder.log : resolve(log);
  try {
    return { folder, log: target, ...launchInto(folder, program, target, image) };
  } catch (error) {
    rmSync(folder.path, { recursive: true, force: true });
    throw error;
  }
}

/** The same once more, for a mount whose first daemon could not do it. */
export function launchInto(folder: MountFolder, program: readonly string[], log: string | number, image: string): Pick<Launched, 'process' | 'mark' | 'abandon'> {
  const output = typeof log === 'string' ? openLog(log) : undefined;
  const spawned = spawnProcess<ToDaemon, ToStarter>({ program: [...program, image.startsWith('oci:') ? 'serve' : 'serve-remote'], output: output ?? 'inherit' });
  if (output !== undefined) closeSync(output);
  return {
    process: spawned,
    mark: spawned.child.pid === undefined ? undefined : markOf(spawned.child.pid),
    async abandon() {
      await spawned.channel.close();
      folder.remove();
    },
  };
}

function openLog(path: string): number {
  try {
    return openSync(path, 'a', 0o600);
  } catch (error) {
    throw wrapError(error, 'IO', 'cannot write the log', { path });
  }
}
