import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { constants, userInfo } from 'node:os';
import { LazypullError, printable, wrapError } from '../../core/errors.ts';
import { runQuietly } from '../host/kernel-calls.ts';
import { findProgram } from './runtime.ts';
import { exitCodeOf, sendSignal, type Ended, type TakeSignals } from './supervise.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Tells the process inside which descriptor ends with the one outside. */
const LEASH = 'LAZYPULL_RUN_LEASH';
const LEASH_FD = 3;

/**
 * Runs this program once more, in a user namespace in which it is root, and resolves with its exit status. Signals are passed
 * on; when this process is killed, the other one learns of it. UNSUPPORTED where no user namespace can be had.
 */
export async function runInUserNamespace(program: readonly string[], env: Environment, takeSignals: TakeSignals | undefined): Promise<number> {
  const unshare = findProgram('unshare', env);
  if (unshare === undefined) throw new LazypullError('UNSUPPORTED', 'running an image without root needs unshare of util-linux');
  const flags = ['--user', '--map-root-user', ...(hasMoreIds(env) ? ['--map-auto'] : []), '--mount'];
  const tried = await runQuietly(unshare, [...flags, '--', 'true']);
  if (tried?.code !== 0) throw new LazypullError('UNSUPPORTED', `running an image needs root, or user namespaces for everybody, which this machine does not allow: ${printable(tried?.output.trim().slice(0, 300) ?? '')}`);
  const child = spawn(unshare, [...flags, '--', ...program], { stdio: ['inherit', 'inherit', 'inherit', 'pipe'], detached: true, env: { ...env, [LEASH]: String(LEASH_FD) } });
  const release = takeSignals?.((name) => {
    if (child.pid !== undefined) sendSignal(child.pid, constants.signals[name]);
  });
  try {
    return exitCodeOf(await new Promise<Ended>((resolve, reject) => {
      child.once('error', (error) => reject(wrapError(error, 'IO', `cannot run ${unshare}`)));
      child.once('exit', (code, signal) => resolve({ code, signal }));
    }));
  } finally {
    release?.();
  }
}

/** For the process inside: aborted when the one outside has been killed; undefined for one that nobody has started so. */
export function outerGone(env: Environment): AbortSignal | undefined {
  if (env[LEASH] !== String(LEASH_FD)) return undefined;
  const gone = new AbortController();
  const socket = new Socket({ fd: LEASH_FD, readable: true, writable: false });
  socket.on('error', () => gone.abort());
  socket.once('close', () => gone.abort());
  socket.resume();
  socket.unref();
  return gone.signal;
}

/** The environment without what is between the two processes. */
export function withoutLeash(env: Environment): Environment {
  const { [LEASH]: _leash, ...rest } = env;
  return rest;
}

/** With ids of others besides one's own, an image's users can be what they are. */
function hasMoreIds(env: Environment): boolean {
  if (!findProgram('newuidmap', env) || !findProgram('newgidmap', env)) return false;
  try {
    const { uid, username } = userInfo();
    return ['/etc/subuid', '/etc/subgid'].every((path) => readFileSync(path, 'utf8').split('\n').some((line) => line.startsWith(`${username}:`) || line.startsWith(`${uid}:`)));
  } catch {
    return false;
  }
}
