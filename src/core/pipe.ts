import { LazypullError, wrapError } from './errors.ts';

type Piece = IteratorResult<Uint8Array, undefined>;

const DONE: Piece = { done: true, value: undefined };

/**
 * Turns pushing into pulling: what is written to it comes out as a stream, one piece at a time and without a copy. `write`
 * resolves when the reader asks for the next piece, so lent bytes stay valid for as long as the reader may look at them.
 * A reader that stops early makes that and all later writes resolve at once.
 */
export class Pipe implements AsyncIterable<Uint8Array> {
  /** Written and not taken yet. */
  #slot: Uint8Array | undefined;
  /** Ends the write whose bytes are in the slot or with the reader. */
  #written: (() => void) | undefined;
  /** The reader waits for a piece. */
  #wanted: { resolve(piece: Piece): void; reject(error: LazypullError): void } | undefined;
  #ended = false;
  #failure: LazypullError | undefined;
  #left = false;
  #read = false;

  /** Hands bytes to the reader. One write at a time, none after `end` or `fail`. */
  write(bytes: Uint8Array): Promise<void> {
    if (this.#left) return Promise.resolve();
    if (this.#ended || this.#failure) return Promise.reject(new LazypullError('INTERNAL', 'a pipe is written to after its end'));
    if (this.#written) return Promise.reject(new LazypullError('INTERNAL', 'a pipe is written to before the last write has resolved'));
    const wanted = this.#wanted;
    this.#wanted = undefined;
    if (wanted) wanted.resolve({ done: false, value: bytes });
    else this.#slot = bytes;
    return new Promise((resolve) => {
      this.#written = resolve;
    });
  }

  /** Nothing follows what was written. */
  end(): void {
    this.#ended = true;
    this.#wanted?.resolve(DONE);
    this.#wanted = undefined;
  }

  /** The reader is to meet this error once it has taken what was written; its writes no longer wait for it. */
  fail(error: unknown): void {
    if (this.#ended || this.#failure) return;
    this.#failure = wrapError(error, 'IO', 'a stream ends early');
    this.#wanted?.reject(this.#failure);
    this.#wanted = undefined;
    this.#release();
  }

  /** There is one reader. */
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array, undefined> {
    if (this.#read) throw new LazypullError('INTERNAL', 'a pipe is read twice');
    this.#read = true;
    return {
      next: () => this.#next(),
      return: () => {
        this.#left = true;
        this.#slot = undefined;
        this.#wanted?.resolve(DONE);
        this.#wanted = undefined;
        this.#release();
        return Promise.resolve(DONE);
      },
    };
  }

  #next(): Promise<Piece> {
    if (this.#left) return Promise.resolve(DONE);
    if (this.#slot && !this.#failure) {
      const value = this.#slot;
      this.#slot = undefined;
      return Promise.resolve({ done: false, value });
    }
    // Back for more: what was lent is no longer looked at.
    this.#release();
    if (this.#failure) return Promise.reject(this.#failure);
    if (this.#ended) return Promise.resolve(DONE);
    if (this.#wanted) return Promise.reject(new LazypullError('INTERNAL', 'a pipe is asked for a piece before it has given the last'));
    return new Promise((resolve, reject) => {
      this.#wanted = { resolve, reject };
    });
  }

  #release(): void {
    const written = this.#written;
    this.#written = undefined;
    written?.();
  }
}
