import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { LazypullError, throwIfAborted, wrapError } from '../core/errors.ts';
import type { Lease, WorkerPool } from '../core/types.ts';

/** Leases of up to this many bytes share one size, so that their memory is used again: a 4 MiB chunk, its padding and headers behind it, its log. */
const STANDARD_LEASE = 3 * ((4 << 20) + (3 << 17));

interface Job {
  readonly kind: string;
  readonly job: unknown;
  resolve(result: never): void;
  reject(error: unknown): void;
}

/** A message from a worker thread: the result of its job, or why there is none. */
export type WorkerReply = { readonly result: unknown } | { readonly error: { readonly code?: string; readonly message: string } };

/** Threads to use when nobody says. */
export function defaultJobs(): number {
  return Math.max(1, Math.min(availableParallelism(), 64));
}

/**
 * A fixed number of worker threads, started when first needed unless told, and a budget of shared memory: a producer leases memory,
 * fills it, has it worked on and releases it once the result is written. The budget is what bounds a conversion's
 * memory however many layers run side by side, and what makes a fast reader wait for slow threads or a slow upload.
 */
export class ThreadPool implements WorkerPool {
  readonly jobs: number;
  readonly #workers: Worker[] = [];
  readonly #idle: Worker[] = [];
  readonly #busy = new Map<Worker, Job>();
  readonly #queue: Job[] = [];
  readonly #free: SharedArrayBuffer[] = [];
  readonly #waiting: (() => void)[] = [];
  #places: number;
  #failed: Error | undefined;

  constructor(jobs = defaultJobs()) {
    if (!Number.isInteger(jobs) || jobs < 1) throw new LazypullError('USAGE', `jobs must be a whole number above 0, not ${jobs}`);
    this.jobs = jobs;
    // One buffer in work per thread, one that is being filled and one that is being written out.
    this.#places = jobs + 2;
  }

  /** Starts the threads now: they load while the caller still reads what there is to do. */
  warm(): void {
    while (this.#workers.length < this.jobs) this.#idle.push(this.#start());
  }

  async lease(bytes: number, signal?: AbortSignal): Promise<Lease> {
    throwIfAborted(signal);
    if (this.#places > 0) this.#places -= 1;
    else await this.#wait(signal);
    const standard = bytes <= STANDARD_LEASE;
    const memory = (standard ? this.#free.pop() : undefined) ?? new SharedArrayBuffer(standard ? STANDARD_LEASE : bytes);
    let held = true;
    return {
      memory,
      release: () => {
        if (!held) return;
        held = false;
        if (standard) this.#free.push(memory);
        const next = this.#waiting.shift();
        if (next) next();
        else this.#places += 1;
      },
    };
  }

  run<J, R>(kind: string, job: J): Promise<R> {
    return new Promise<R>((resolve, reject) => {
      if (this.#failed) {
        reject(this.#failed);
        return;
      }
      const entry: Job = { kind, job, resolve, reject };
      const worker = this.#idle.pop() ?? (this.#workers.length < this.jobs ? this.#start() : undefined);
      if (worker) this.#give(worker, entry);
      else this.#queue.push(entry);
    });
  }

  /** Ends the threads; jobs under way are rejected. */
  async close(): Promise<void> {
    this.#fail(new LazypullError('CANCELLED', 'the worker pool was closed'));
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
    this.#free.length = 0;
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const take = (): void => {
        signal?.removeEventListener('abort', abort);
        resolve();
      };
      const abort = (): void => {
        const at = this.#waiting.indexOf(take);
        if (at >= 0) this.#waiting.splice(at, 1);
        reject(new LazypullError('CANCELLED', 'cancelled', { cause: signal?.reason }));
      };
      signal?.addEventListener('abort', abort, { once: true });
      this.#waiting.push(take);
    });
  }

  #start(): Worker {
    const worker = new Worker(new URL('./pool-worker.js', import.meta.url));
    // A thread that waits for work must not keep the process alive.
    worker.unref();
    this.#workers.push(worker);
    worker.on('message', (reply: WorkerReply) => this.#done(worker, reply));
    worker.on('error', (cause) => this.#fail(wrapError(cause, 'INTERNAL', 'a worker thread failed')));
    worker.on('exit', () => this.#fail(new LazypullError('INTERNAL', 'a worker thread ended')));
    return worker;
  }

  #give(worker: Worker, job: Job): void {
    this.#busy.set(worker, job);
    worker.ref();
    worker.postMessage({ kind: job.kind, job: job.job });
  }

  #done(worker: Worker, reply: WorkerReply): void {
    // A late reply must not let go of a thread that is being ended: who waits for its end would wait in an empty process.
    if (this.#failed) return;
    const job = this.#busy.get(worker);
    this.#busy.delete(worker);
    const next = this.#queue.shift();
    if (next) this.#give(worker, next);
    else {
      worker.unref();
      this.#idle.push(worker);
    }
    if ('result' in reply) job?.resolve(reply.result as never);
    else job?.reject(new LazypullError('INTERNAL', `a worker's job failed: ${reply.error.message}`));
  }

  /** A thread that dies takes the pool with it: its job is lost, and with it the conversion. */
  #fail(error: LazypullError): void {
    if (this.#failed) return;
    this.#failed = error;
    for (const job of this.#busy.values()) job.reject(error);
    for (const job of this.#queue.splice(0)) job.reject(error);
    this.#busy.clear();
  }
}
