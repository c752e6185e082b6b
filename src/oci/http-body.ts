import type { Dispatcher } from 'undici';

/** Bytes that may wait for the reader before the connection is told to pause. */
const HIGH_WATER = 1024 * 1024;

/**
 * The body of one answer. Bytes that come faster than they are read make the connection pause, so that at most about
 * one mebibyte waits here. Breaking out of the loop ends the connection; reading to the end gives it back for reuse.
 */
export class Body implements AsyncIterableIterator<Uint8Array> {
  readonly #controller: Dispatcher.DispatchController;
  #parts: Uint8Array[] = [];
  #taken = 0;
  #size = 0;
  #paused = false;
  #ended = false;
  #failure: Error | undefined;
  #reader: { resolve(result: IteratorResult<Uint8Array>): void; reject(error: unknown): void } | undefined;
  /** Called once when no more bytes will come over the connection. */
  onClose: (() => void) | undefined;
  /** Called when the reader falls behind (true) and when it has caught up (false). */
  onStall: ((stalled: boolean) => void) | undefined;
  /** Translates a connection's error for the reader. */
  readonly #translate: (error: Error) => Error;

  constructor(controller: Dispatcher.DispatchController, translate: (error: Error) => Error) {
    this.#controller = controller;
    this.#translate = translate;
  }

  /** Whether no more bytes will come over the connection. */
  get closed(): boolean {
    return this.#ended;
  }

  push(bytes: Uint8Array): void {
    const reader = this.#reader;
    if (reader) {
      this.#reader = undefined;
      reader.resolve({ done: false, value: bytes });
      return;
    }
    this.#parts.push(bytes);
    this.#size += bytes.length;
    if (this.#size < HIGH_WATER || this.#paused) return;
    this.#paused = true;
    this.#controller.pause();
    this.onStall?.(true);
  }

  end(): void {
    if (!this.#close()) return;
    const reader = this.#reader;
    this.#reader = undefined;
    reader?.resolve({ done: true, value: undefined });
  }

  fail(error: Error): void {
    if (!this.#close()) return;
    this.#failure = this.#translate(error);
    const reader = this.#reader;
    this.#reader = undefined;
    if (reader) this.#fail(reader.reject);
  }

  next(): Promise<IteratorResult<Uint8Array>> {
    const part = this.#parts[this.#taken];
    if (part) return Promise.resolve({ done: false, value: this.#take(part) });
    if (this.#failure) return new Promise((_, reject) => this.#fail(reject));
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
    });
  }

  /** Drops what has not been read and, if bytes are still to come, the connection. */
  async return(): Promise<IteratorResult<Uint8Array>> {
    this.#parts = [];
    this.#taken = this.#size = 0;
    this.#failure = undefined;
    if (this.#close()) this.#controller.abort(new Error('no longer needed'));
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Reads a short rest so that the connection can be used again; a long one is dropped together with it. */
  async discard(limit = 64 * 1024): Promise<void> {
    try {
      let size = 0;
      for await (const part of this) if ((size += part.length) > limit) break;
    } catch {
      // The rest was not wanted, and so is the reason why it did not come.
    }
  }

  #take(part: Uint8Array): Uint8Array {
    this.#taken += 1;
    this.#size -= part.length;
    if (this.#taken === this.#parts.length) {
      this.#parts = [];
      this.#taken = 0;
      if (this.#paused) {
        this.#paused = false;
        this.onStall?.(false);
        this.#controller.resume();
      }
    }
    return part;
  }

  #close(): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    this.onClose?.();
    return true;
  }

  /** A failure is told once; after it the iterator is merely at its end. */
  #fail(reject: (error: unknown) => void): void {
    const failure = this.#failure;
    this.#failure = undefined;
    reject(failure);
  }
}
