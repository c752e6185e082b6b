import { closeSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { LazypullError, wrapError } from '../../core/errors.ts';
import { ErofsView } from '../../erofs/view.ts';
import { loadNative } from '../native.ts';
import type { AnswerMiss, Served } from '../types.ts';
import { Counters, type FuseStats } from './counters.ts';
import { MissDesk, type ReadReport } from './misses.ts';
import { PathIndex } from './paths.ts';
import { encodeResend, encodeRetrieve, opName } from './wire.ts';
import type { SessionEnd, WorkerJob, WorkerMessage } from './worker.ts';

export type { FuseStats } from './counters.ts';
export type { SessionEnd } from './worker.ts';

/** What a problem or a slow read is about; what is not known is left out. */
export interface RequestReport extends Partial<ReadReport> {
  /** Name of the operation, such as `read`. */
  readonly operation: string;
  /** In the image, without a slash in front. */
  readonly path?: string;
}

export interface FuseSessionOptions {
  /** /dev/fuse of a mount; stays the caller's. */
  readonly fd: number;
  readonly served: Served;
  /** Called in this thread, many at a time. */
  readonly answer: AnswerMiss;
  /** Somebody has served this mount before: what was read from `fd` and not answered is asked for once more. */
  readonly resend: boolean;
  /** A request that ended with an error, or something else that somebody should know. */
  onProblem(error: LazypullError, about: RequestReport): void;
  /** Told about reads that took longer than `slowMs` (default 5000). */
  onSlow?(about: RequestReport): void;
  readonly slowMs?: number;
  /** One that was started in time. */
  readonly thread?: FuseThread | undefined;
}

export interface FuseSession {
  /** Resolves when the mount is gone or `close` was called; rejects when serving failed, which leaves the mount waiting for somebody else. */
  readonly ended: Promise<SessionEnd>;
  stats(): FuseStats;
  /**
   * Stops serving and leaves the mount as it is: requests wait for the next server, also those that were read already.
   * Resolves at once if the session has ended.
   */
  close(): Promise<void>;
}

/** A thread that will serve a mount, and loads what it needs until it is told which. Serves once. */
export class FuseThread {
  readonly worker = new Worker(new URL('./worker.js', import.meta.url));
  #ended = false;

  constructor() {
    this.worker.on('exit', () => (this.#ended = true));
    // Whoever wants to use it starts another one then, and hears of it.
    this.worker.on('error', () => undefined);
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** It is not needed. */
  async abandon(): Promise<void> {
    await this.worker.terminate();
  }
}

/** Without koffi the thread may not be woken by anything but a request; milliseconds. */
const PATIENCE = 2000;

/**
 * Serves a mount from a thread of its own. Resolves when it does. CORRUPT when the metadata cannot be read at all.
 * The process must not touch the mount itself.
 */
export async function startFuseSession(options: FuseSessionOptions): Promise<FuseSession> {
  const session = new Session(options);
  await session.ready;
  return session;
}

class Session implements FuseSession {
  readonly ended: Promise<SessionEnd>;
  readonly ready: Promise<void>;
  readonly #options: FuseSessionOptions;
  readonly #counters = new Counters();
  readonly #stop = new Int32Array(new SharedArrayBuffer(4));
  readonly #desk: MissDesk;
  /** Undefined without koffi. */
  readonly #wakeFd: number | undefined;
  #over = false;
  #paths: Promise<PathIndex> | undefined;
  readonly #atExit = (): void => this.#wake();

  constructor(options: FuseSessionOptions) {
    const { fd, served, answer, thread } = options;
    this.#options = options;
    this.#desk = new MissDesk(fd, served.metadata, answer, this.#counters, (read, error) => this.#report(read, error));
    if (options.resend) this.#resend();
    this.#wakeFd = loadNative()?.eventfd();
    const job: WorkerJob = { fd, wake: this.#wakeFd, served, stop: this.#stop.buffer as SharedArrayBuffer, counters: this.#counters.memory };
    const { worker } = thread && !thread.ended ? thread : new FuseThread();
    // A thread that waits in a system call would keep the process from ending.
    process.on('exit', this.#atExit);
    let why: SessionEnd | undefined;
    let failure: LazypullError | undefined;
    this.ready = new Promise((resolve, reject) => {
      worker.on('message', (message: WorkerMessage) => {
        if (message.kind === 'ready') resolve();
        else if (message.kind === 'end') why = message.why;
        else if (message.kind === 'failed') failure = new LazypullError(message.code, message.message);
        else this.#hear(message);
      });
      worker.on('exit', () => reject(failure ?? new LazypullError('INTERNAL', 'the thread that serves a mount ended early')));
    });
    this.ended = new Promise((resolve, reject) => {
      worker.on('error', (error) => (failure ??= wrapError(error, 'INTERNAL', 'the thread that serves a mount failed')));
      worker.on('exit', () => {
        this.#release();
        if (why !== undefined) resolve(why);
        else reject(failure ?? new LazypullError('INTERNAL', 'the thread that serves a mount ended'));
      });
    });
    // Whoever does not look at it is told by `ready`, or does not care.
    this.ended.catch(() => undefined);
    worker.postMessage(job);
  }

  stats(): FuseStats {
    const counters = this.#counters;
    return {
      requests: counters.requests(),
      localReads: counters.get('localReads'),
      localBytes: counters.get('localBytes'),
      misses: counters.get('misses'),
      missBytes: this.#desk.bytes,
      pending: this.#desk.pending,
      errors: counters.get('errors'),
      interrupted: this.#desk.interrupted,
    };
  }

  async close(): Promise<void> {
    this.#desk.close();
    this.#wake();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, PATIENCE).unref()));
    const ended = this.ended.then(() => undefined, () => undefined);
    await (this.#wakeFd === undefined ? Promise.race([ended, late]) : ended);
    clearTimeout(timer);
  }

  #hear(message: Exclude<WorkerMessage, { readonly kind: 'ready' | 'end' | 'failed' }>): void {
    switch (message.kind) {
      case 'miss':
        void this.#desk.take(message.read);
        break;
      case 'interrupt':
        this.#desk.interrupt(message.unique);
        break;
      case 'problem':
        this.#tell(new LazypullError(message.code, message.message), { operation: opName(message.opcode), node: message.node });
        break;
      default:
        break;
    }
  }

  #report(read: ReadReport, error: LazypullError | undefined): void {
    const { slowMs = 5000, onSlow } = this.#options;
    if (error) this.#tell(error, { operation: 'read', ...read });
    else if (read.milliseconds > slowMs && onSlow) void this.#located({ operation: 'read', ...read }).then(onSlow).catch(() => undefined);
  }

  /** Adds the path, as far as it can be found. */
  async #located(about: RequestReport): Promise<RequestReport> {
    const { served } = this.#options;
    if (served.shape !== 'tree' || about.node === undefined || about.node === 0) return about;
    try {
      this.#paths ??= ErofsView.open(new Uint8Array(served.metadata)).then((view) => new PathIndex(view));
      const path = (await this.#paths).pathOfNode(about.node);
      return path === undefined ? about : { ...about, path };
    } catch {
      return about;
    }
  }

  /** What goes wrong in telling is not worth the end of serving. */
  #tell(error: LazypullError, about: RequestReport): void {
    void this.#located(about).then((located) => this.#options.onProblem(error, located)).catch(() => undefined);
  }

  /** The first thing that a server which takes over does: the kernel queues again what the other one has left. */
  #resend(): void {
    try {
      writeSync(this.#options.fd, encodeResend());
    } catch (error) {
      this.#options.onProblem(wrapError(error, 'UNSUPPORTED', 'the kernel does not send requests again (Linux 6.9 does), so that reads may hang'), { operation: 'resend' });
    }
  }

  #wake(): void {
    // Descriptors that are closed may be somebody else's by now.
    if (this.#over) return;
    Atomics.store(this.#stop, 0, 1);
    try {
      if (this.#wakeFd === undefined) writeSync(this.#options.fd, encodeRetrieve());
      else writeSync(this.#wakeFd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
    } catch {
      // The mount is gone, and so is the thread.
    }
    Atomics.notify(this.#stop, 0);
  }

  #release(): void {
    this.#over = true;
    process.off('exit', this.#atExit);
    this.#desk.close();
    if (this.#wakeFd !== undefined) closeSync(this.#wakeFd);
  }
}
