import { Worker } from 'node:worker_threads';
import { digestOf, type Digest } from '../core/digest.ts';
import { LazypullError, wrapError } from '../core/errors.ts';

/** Bytes that are handed over at a time. */
const SLOT = 1 << 20;
/** Slots: one that is being filled, others on their way. */
const SLOTS = 4;

/** What the thread is told: bytes of a slot, or (length -1) that there are no more. */
export interface DigestMessage {
  readonly slot: number;
  readonly length: number;
}

/** What it answers: that a slot is free again, or the digest in hex. */
export type DigestReply = { readonly slot: number } | { readonly hex: string };

/**
 * sha256 of a stream, computed by a thread of its own, for one that the thread which reads has no time for. The thread is
 * started once there is more than one piece to hash. `close` in any case.
 */
export class DigestThread {
  readonly #memory = new SharedArrayBuffer(SLOT * SLOTS);
  readonly #bytes = new Uint8Array(this.#memory);
  #worker: Worker | undefined;
  #slot = 0;
  #used = 0;
  /** Slots that the thread has not answered for. */
  #away = 0;
  #size = 0;
  #hex: string | undefined;
  #failure: LazypullError | undefined;
  #wake: (() => void) | undefined;

  /** Bytes seen so far. */
  get size(): number {
    return this.#size;
  }

  /** Copies the bytes; waits only when the thread cannot keep up. */
  async update(bytes: Uint8Array): Promise<void> {
    this.#size += bytes.length;
    for (let at = 0; at < bytes.length; ) {
      if (this.#used === SLOT) await this.#send();
      const part = bytes.subarray(at, at + SLOT - this.#used);
      this.#bytes.set(part, this.#slot * SLOT + this.#used);
      this.#used += part.length;
      at += part.length;
    }
  }

  /** The digest of everything; once only. */
  async finish(): Promise<Digest> {
    const start = this.#slot * SLOT;
    if (!this.#worker) return digestOf(this.#bytes.subarray(start, start + this.#used));
    if (this.#used > 0) await this.#send();
    this.#post({ slot: 0, length: -1 });
    await this.#until(() => this.#hex !== undefined);
    return `sha256:${this.#hex}`;
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  /** Hands the slot over and finds another. */
  async #send(): Promise<void> {
    this.#away += 1;
    this.#post({ slot: this.#slot, length: this.#used });
    this.#slot = (this.#slot + 1) % SLOTS;
    this.#used = 0;
    // Slots come back in order, so the next one is free unless all are away.
    await this.#until(() => this.#away < SLOTS);
  }

  async #until(done: () => boolean): Promise<void> {
    while (!done()) {
      if (this.#failure) throw this.#failure;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  #post(message: DigestMessage): void {
    this.#worker ??= this.#start();
    this.#worker.postMessage(message);
  }

  #start(): Worker {
    const worker = new Worker(new URL('./digest-worker.js', import.meta.url), { workerData: this.#memory });
    const wake = (): void => {
      this.#wake?.();
      this.#wake = undefined;
    };
    worker.on('message', (reply: DigestReply) => {
      if ('hex' in reply) this.#hex = reply.hex;
      else this.#away -= 1;
      wake();
    });
    worker.on('error', (error) => {
      this.#failure = wrapError(error, 'INTERNAL', 'the thread that hashes failed');
      wake();
    });
    worker.on('exit', () => {
      this.#failure ??= new LazypullError('INTERNAL', 'the thread that hashes ended');
      wake();
    });
    return worker;
  }
}
