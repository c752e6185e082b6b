import { Worker } from 'node:worker_threads';
import { LazypullError, wrapError } from '../core/errors.ts';

/** Threads of a kind that are kept for the next stream: to start one takes as long as to hash 40 MB. */
const SPARE = 2;

/** What lanes of a kind have in common. */
export interface LaneKind {
  readonly script: URL;
  /** Names a thread of this kind in error messages, as in "the thread that hashes". */
  readonly what: string;
  /** Bytes of memory that a thread shares with who puts it to work. */
  readonly size: number;
}

/** Memory shared with a thread, and the thread, once there is work for it. Serves one stream at a time. The thread gets the memory as its `workerData`. */
export class ThreadLane<Message, Reply> {
  readonly memory: SharedArrayBuffer;
  readonly #kind: LaneKind;
  /** Others of the kind that wait for work. */
  readonly #spare: ThreadLane<Message, Reply>[];
  #worker: Worker | undefined;
  #onReply: ((reply: Reply | LazypullError) => void) | undefined;

  constructor(kind: LaneKind, spare: ThreadLane<Message, Reply>[]) {
    this.#kind = kind;
    this.#spare = spare;
    this.memory = new SharedArrayBuffer(kind.size);
  }

  /** `onReply` is told all that the thread says until the lane is given back, and that it has failed or ended. */
  begin(message: Message, onReply: (reply: Reply | LazypullError) => void): void {
    this.#onReply = onReply;
    this.#worker ??= this.#start();
    this.#worker.ref();
    this.post(message);
  }

  post(message: Message): void {
    this.#worker?.postMessage(message);
  }

  /** `idle`: the thread has answered everything and may serve another stream. Otherwise it is ended. */
  async giveBack(idle: boolean): Promise<void> {
    this.#onReply = undefined;
    if (idle && this.#spare.length < SPARE) {
      // Nobody waits for it: it must not keep the process alive.
      this.#worker?.unref();
      this.#spare.push(this);
    } else {
      await this.#worker?.terminate();
    }
  }

  #start(): Worker {
    const { script, what } = this.#kind;
    const worker = new Worker(script, { workerData: this.memory });
    const failed = (failure: LazypullError): void => {
      // A thread that ended by itself is not for the next one.
      const at = this.#spare.indexOf(this);
      if (at >= 0) this.#spare.splice(at, 1);
      this.#onReply?.(failure);
    };
    worker.on('message', (reply: Reply) => this.#onReply?.(reply));
    worker.on('error', (error) => failed(wrapError(error, 'INTERNAL', `${what} failed`)));
    worker.on('exit', () => failed(new LazypullError('INTERNAL', `${what} ended`)));
    return worker;
  }
}

/** Returns a function that finds a lane of this kind: one that has served before, or a new one. */
export function threadLanes<Message, Reply>(kind: LaneKind): () => ThreadLane<Message, Reply> {
  const spare: ThreadLane<Message, Reply>[] = [];
  return () => spare.pop() ?? new ThreadLane(kind, spare);
}
