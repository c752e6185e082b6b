import { LazypullError } from '../../core/errors.ts';
import type { Channel } from './channel.ts';
import type { Log } from './log.ts';
import { RemoteError, sendable, type FromSupervisor, type ServeOptions, type ToSupervisor } from './messages.ts';
import { ownMark, type ProcessMark } from './processes.ts';
import { spawnProcess } from './spawn.ts';

type Pipe = Channel<ToSupervisor, FromSupervisor>;

interface Promised<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: LazypullError) => void;
}

function promised<T>(): Promised<T> {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: LazypullError) => void = () => undefined;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  promise.catch(() => undefined);
  return { promise, resolve, reject };
}

/** A daemon's end of the pipe to its supervisor. Each of them starts the other anew when that one dies. */
export class SupervisorLink {
  #options: ServeOptions;
  readonly #fuse: number;
  readonly #restarts: number;
  readonly #log: Log;
  #pipe: Pipe;
  #watching = promised<ProcessMark>();
  #left = promised<void>();
  #go = promised<boolean>();
  #replaced: Promised<void> | undefined;
  #over = false;
  /** The supervisor was told to end the mount. */
  onStop: () => void = () => undefined;
  /** A supervisor was started in place of another one. */
  onSupervisor: (mark: ProcessMark) => void = () => undefined;

  private constructor(options: ServeOptions, fuse: number, restarts: number, log: Log, pipe: Pipe) {
    this.#options = options;
    this.#fuse = fuse;
    this.#restarts = restarts;
    this.#log = log;
    this.#pipe = pipe;
    void this.#listen();
  }

  /** Starts a supervisor for a daemon that has none. */
  static start(options: ServeOptions, fuse: number, restarts: number, log: Log): SupervisorLink {
    return new SupervisorLink(options, fuse, restarts, log, startSupervisor(options, fuse, restarts));
  }

  /** The supervisor has started this process. */
  static of(options: ServeOptions, fuse: number, restarts: number, log: Log, pipe: Pipe): SupervisorLink {
    return new SupervisorLink(options, fuse, restarts, log, pipe);
  }

  /** Resolves when a supervisor that was started holds the connection. */
  get watching(): Promise<ProcessMark> {
    return this.#watching.promise;
  }

  /** What is served: from now on another daemon can take over. */
  serve(options: ServeOptions): void {
    this.#options = options;
    this.#pipe.send({ type: 'options', options });
  }

  /** Resolves when another daemon is to go on. */
  get left(): Promise<void> {
    return this.#left.promise;
  }

  serving(): void {
    this.#pipe.send({ type: 'serving' });
  }

  failed(error: unknown): void {
    this.#pipe.send({ type: 'failed', error: sendable(error) });
  }

  /** False when there is nothing to take over any more. */
  async standBy(): Promise<boolean> {
    this.#pipe.send({ type: 'standing-by' });
    return this.#go.promise;
  }

  /** Resolves when a new daemon is ready to take over, which it does when this one leaves. */
  async replace(): Promise<void> {
    if (this.#replaced) return this.#replaced.promise;
    this.#replaced = promised<void>();
    this.#pipe.send({ type: 'replace' });
    return this.#replaced.promise;
  }

  /** From now on nobody takes over. */
  bye(): void {
    if (this.#over) return;
    this.#over = true;
    this.#pipe.send({ type: 'bye' });
    this.#pipe.unref();
  }

  async #listen(): Promise<void> {
    for (;;) {
      const message = await this.#pipe.receive().catch(() => undefined);
      if (message) this.#take(message);
      else if (!this.#again()) return;
    }
  }

  #take(message: FromSupervisor): void {
    switch (message.type) {
      case 'watching':
        this.#watching.resolve(message.supervisor);
        this.onSupervisor(message.supervisor);
        break;
      case 'go':
        this.#go.resolve(true);
        break;
      case 'leave':
        this.#over = true;
        this.#replaced?.resolve();
        this.#left.resolve();
        break;
      case 'not-replaced':
        this.#replaced?.reject(new RemoteError(message.error));
        this.#replaced = undefined;
        break;
      case 'stop':
        this.#go.resolve(false);
        this.onStop();
        break;
    }
  }

  /** The supervisor has died. False when that is as it should be. */
  #again(): boolean {
    this.#go.resolve(false);
    this.#replaced?.reject(new LazypullError('IO', 'the supervisor has died'));
    this.#replaced = undefined;
    if (this.#over) return false;
    this.#log.warning('supervisor-died');
    this.#pipe = startSupervisor(this.#options, this.#fuse, this.#restarts);
    return true;
  }
}

function startSupervisor(options: ServeOptions, fuse: number, restarts: number): Pipe {
  const order = { role: 'supervise', options, daemon: ownMark(), restarts } as const;
  return spawnProcess<ToSupervisor, FromSupervisor>({ program: options.program, order, fuse, output: 'inherit' }).channel;
}
