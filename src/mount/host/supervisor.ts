import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as wait } from 'node:timers/promises';
import type { Channel } from './channel.ts';
import type { Log } from './log.ts';
import { FUSE_FD, type FromSupervisor, type Order, type SentError, type ServeOptions, type ToSupervisor } from './messages.ts';
import { awaitEnd, isAlive, markOf, ownMark, signalProcess, type ProcessMark } from './processes.ts';
import { spawnProcess } from './spawn.ts';

type Pipe = Channel<FromSupervisor, ToSupervisor>;

interface Daemon {
  readonly pipe: Pipe;
  readonly mark: ProcessMark | undefined;
  /** Absent for the first one, which has started the supervisor. */
  readonly child?: ChildProcess;
  /** Milliseconds since the epoch: when it began to answer reads. */
  servingSince: number | undefined;
}

/** A daemon that ends so soon after it began has ended at once. */
const AT_ONCE_MS = 250;
/**
 * How often that may happen in a row without pauses, and with growing ones if it crashes by itself; then readers get errors
 * instead of waiting for ever. One that somebody kills is started again for as long as they do that, after a short pause.
 */
const PATIENCE = { deaths: 3, maxCrashes: 14, firstPauseMs: 100, maxPauseMs: 8000, killedPauseMs: 200 };
/** For a new daemon to get ready beside the old one. */
const STAND_BY_MS = 60_000;
const LEAVE_MS = 10_000;

/**
 * Holds the FUSE connection, so that it outlives a daemon that crashes, and starts another one. It uses no network and looks at no
 * file below a mount. Ends when the daemon says so, or when no daemon stays alive.
 */
export class Supervisor {
  readonly #log: Log;
  readonly #patience: typeof PATIENCE;
  #options: ServeOptions;
  #daemon: Daemon;
  #restarts: number;
  /** Ends at once in a row, and those of them that were crashes. */
  #deaths = 0;
  #crashes = 0;
  #stopping = false;

  constructor(order: Extract<Order, { role: 'supervise' }>, pipe: Pipe, log: Log, patience = PATIENCE) {
    this.#log = log;
    this.#patience = patience;
    this.#options = order.options;
    this.#restarts = order.restarts;
    this.#daemon = { pipe, mark: order.daemon, servingSince: Date.now() };
  }

  async run(signal: AbortSignal): Promise<void> {
    const stop = (): void => {
      this.#stopping = true;
      this.#daemon.pipe.send({ type: 'stop' });
    };
    signal.addEventListener('abort', stop, { once: true });
    this.#daemon.pipe.send({ type: 'watching', supervisor: ownMark() });
    try {
      for (;;) {
        const message = await this.#daemon.pipe.receive();
        if (message?.type === 'bye') return;
        if (message) await this.#take(message);
        // Before it is known what is served there is nothing to take over.
        else if (this.#stopping || !this.#options.planned || !(await this.#respawn())) return;
      }
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  async #take(message: ToSupervisor): Promise<void> {
    switch (message.type) {
      case 'options':
        this.#options = message.options;
        break;
      case 'serving':
        this.#daemon.servingSince = Date.now();
        break;
      case 'replace':
        await this.#replace();
        break;
      case 'failed':
        this.#log.error('daemon-failed', { code: message.error.code, error: message.error.message });
        break;
      default:
    }
  }

  /** False when there is no point in trying again. */
  async #respawn(): Promise<boolean> {
    const { servingSince, mark, child } = this.#daemon;
    // Two of them must not answer for one mount.
    if (isAlive(mark)) {
      signalProcess(mark, 'SIGKILL');
      await awaitEnd([mark], LEAVE_MS);
    }
    const atOnce = servingSince === undefined || Date.now() - servingSince < AT_ONCE_MS;
    const killed = await wasKilled(child);
    this.#deaths = atOnce ? this.#deaths + 1 : 0;
    this.#crashes = atOnce ? this.#crashes + (killed ? 0 : 1) : 0;
    const { deaths, maxCrashes, firstPauseMs, maxPauseMs, killedPauseMs } = this.#patience;
    if (this.#crashes > maxCrashes) {
      this.#log.error('given-up', { crashes: this.#crashes });
      return false;
    }
    if (this.#deaths > deaths) await wait(Math.min(killed ? killedPauseMs : maxPauseMs, firstPauseMs * 2 ** (this.#deaths - deaths - 1)));
    if (this.#stopping) return false;
    this.#restarts += 1;
    this.#log.warning('daemon-died', { restarts: this.#restarts });
    this.#daemon = this.#start(false);
    return true;
  }

  #start(standBy: boolean): Daemon {
    const order: Order = { role: 'resume', options: this.#options, restarts: this.#restarts, standBy, supervisor: ownMark() };
    const { child, channel } = spawnProcess<FromSupervisor, ToSupervisor>({ program: this.#options.program, order, fuse: FUSE_FD, output: 'inherit' });
    return { pipe: channel, mark: child.pid === undefined ? undefined : markOf(child.pid), child, servingSince: undefined };
  }

  /** A new daemon gets ready beside the old one, and takes over when that one has left: no reader waits longer than for that. */
  async #replace(): Promise<void> {
    this.#restarts += 1;
    const next = this.#start(true);
    const failure = await standsBy(next.pipe);
    if (failure) {
      this.#restarts -= 1;
      signalProcess(next.mark, 'SIGKILL');
      this.#log.error('not-replaced', { code: failure.code, error: failure.message });
      this.#daemon.pipe.send({ type: 'not-replaced', error: failure });
      return;
    }
    const old = this.#daemon;
    old.pipe.send({ type: 'leave' });
    if (!(await awaitEnd([old.mark], LEAVE_MS))) {
      signalProcess(old.mark, 'SIGKILL');
      await awaitEnd([old.mark], LEAVE_MS);
    }
    this.#deaths = 0;
    this.#crashes = 0;
    this.#daemon = next;
    next.pipe.send(this.#stopping ? { type: 'stop' } : { type: 'go' });
    this.#log.info('replaced', { restarts: this.#restarts });
  }
}

/** Whether it was ended from outside: by a user, or for want of memory. */
async function wasKilled(child: ChildProcess | undefined): Promise<boolean> {
  if (!child) return true;
  if (child.exitCode === null && child.signalCode === null) await Promise.race([once(child, 'exit'), wait(LEAVE_MS)]);
  return child.signalCode === 'SIGKILL';
}

/** Why a new daemon is not ready; undefined when it is. */
async function standsBy(pipe: Pipe): Promise<SentError | undefined> {
  const late = new AbortController();
  const timeout = wait(STAND_BY_MS, undefined, { signal: late.signal }).then(
    () => ({ type: 'failed', error: { code: 'INTERNAL', message: `the new daemon is not ready after ${STAND_BY_MS / 1000} s` } }) as const,
    () => undefined,
  );
  const message = await Promise.race([pipe.receive(), timeout]);
  late.abort();
  if (message?.type === 'standing-by') return undefined;
  return message?.type === 'failed' ? message.error : { code: 'INTERNAL', message: 'the new daemon ended before it was ready' };
}
