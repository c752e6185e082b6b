import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { LazypullError, wrapError } from '../../core/errors.ts';

/** How a process ended. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** What a shell would say: the exit status, or 128 and the signal's number. */
export function exitCodeOf({ code, signal }: Ended): number {
  return code ?? (signal ? 128 + constants.signals[signal] : 255);
}

/** Hands the signals that this process gets to a listener until the function it returns is called. */
export type TakeSignals = (listener: (signal: NodeJS.Signals) => void) => () => void;

export interface SuperviseOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The number of the process that signals are for, once there is one; until then they are for what was started. */
  readonly target: () => number | undefined;
  readonly takeSignals?: TakeSignals | undefined;
  /** Asks the container to stop. */
  readonly signal?: AbortSignal | undefined;
  /** Ends it without asking. */
  readonly abandoned?: AbortSignal | undefined;
  /** Number of the signal by which it is asked to. */
  readonly stopSignal: number;
  /** It is on our terminal, and has nobody to talk to once that is gone. */
  readonly terminal?: boolean;
  /** Ends the container at once, whatever it is doing. */
  readonly kill: () => void;
  readonly onStart: (pid: number) => void;
}

/** Milliseconds that a container has between being asked to stop and being made to. */
const GRACE = 10_000;
/** Whoever presses Ctrl-C three times within so many milliseconds means it, even if the program does not. */
const IMPATIENCE = 2_000;

/**
 * Runs a program with our own standard streams to its end. It is in a session of its own: what a terminal sends to everybody
 * in the foreground it would otherwise get twice, once from the terminal and once from here.
 */
export async function supervise(command: string, args: readonly string[], options: SuperviseOptions): Promise<Ended> {
  const { signal, abandoned, kill } = options;
  let child: ChildProcess;
  try {
    child = spawn(command, args, { stdio: 'inherit', detached: true, env: { ...options.env } });
  } catch (error) {
    throw wrapError(error, 'IO', `cannot run ${command}`);
  }
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', (error) => reject(new LazypullError('IO', `cannot run ${command}: ${error.message}`, { cause: error })));
    child.once('exit', (code, by) => resolve({ code, signal: by }));
  });
  ended.catch(() => undefined);
  const send = (number: number): void => {
    // Whoever made the terminal is to hear that it has another size.
    const pid = (number === constants.signals.SIGWINCH ? undefined : options.target()) ?? child.pid;
    if (pid !== undefined && child.exitCode === null && child.signalCode === null) sendSignal(pid, number);
  };
  let grace: NodeJS.Timeout | undefined;
  const stop = (number: number): void => {
    send(number);
    grace ??= setTimeout(kill, GRACE);
  };
  const abort = (): void => stop(options.stopSignal);
  const pressed: number[] = [];
  const release = options.takeSignals?.((name) => {
    if (name === 'SIGHUP' && options.terminal) return stop(constants.signals.SIGHUP);
    send(constants.signals[name]);
    if (name !== 'SIGINT' && name !== 'SIGTERM') return;
    const now = Date.now();
    if (pressed.push(now) >= 3 && now - (pressed.at(-3) as number) < IMPATIENCE) kill();
  });
  signal?.addEventListener('abort', abort, { once: true });
  abandoned?.addEventListener('abort', kill, { once: true });
  try {
    if (child.pid !== undefined) options.onStart(child.pid);
    if (signal?.aborted) abort();
    if (abandoned?.aborted) kill();
    return await ended;
  } finally {
    clearTimeout(grace);
    signal?.removeEventListener('abort', abort);
    abandoned?.removeEventListener('abort', kill);
    release?.();
  }
}

/** The number in a file that somebody else writes; undefined as long as there is none. */
export function readPid(path: string): number | undefined {
  try {
    const pid = Number(readFileSync(path, 'latin1').trim() || Number.NaN);
    return Number.isSafeInteger(pid) && pid > 1 ? pid : undefined;
  } catch {
    return undefined;
  }
}

export function sendSignal(pid: number, signal: number | NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Gone already; its end is being waited for.
  }
}
