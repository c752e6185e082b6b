import { throwIfAborted } from '../core/errors.ts';
import type { Sink } from '../core/types.ts';
import { viewOf } from './struct.ts';

const SIZE = 1 << 20;

/** Collects small things into pieces for a sink. The first piece is shown to its owner before it leaves. */
export class Output {
  /** Room for at most this many bytes can be asked for at once. */
  static readonly maxRoom = SIZE;
  readonly bytes = Buffer.allocUnsafeSlow(SIZE);
  readonly view = viewOf(this.bytes);
  /** Place in `bytes` of the next byte. */
  at = 0;
  #flushed = 0;
  readonly #sink: Sink;
  readonly #first: (bytes: Uint8Array) => void;
  readonly #signal: AbortSignal | undefined;

  constructor(sink: Sink, first: (bytes: Uint8Array) => void, signal: AbortSignal | undefined) {
    this.#sink = sink;
    this.#first = first;
    this.#signal = signal;
  }

  /** Bytes so far. */
  get position(): number {
    return this.#flushed + this.at;
  }

  /** Whether `size` more bytes go into the current piece; otherwise `flush` is due. */
  has(size: number): boolean {
    return this.at + size <= SIZE;
  }

  /** Zeros for the next bytes; their place. The caller has seen that there is room. */
  take(size: number): number {
    const { at } = this;
    this.at += size;
    this.bytes.fill(0, at, this.at);
    return at;
  }

  async flush(): Promise<void> {
    throwIfAborted(this.#signal);
    if (this.at === 0) return;
    const piece = this.bytes.subarray(0, this.at);
    if (this.#flushed === 0) this.#first(piece);
    await this.#sink(piece);
    this.#flushed += this.at;
    this.at = 0;
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      if (this.at === SIZE) await this.flush();
      const part = bytes.subarray(done, done + SIZE - this.at);
      this.bytes.set(part, this.at);
      this.at += part.length;
      done += part.length;
    }
  }

  /** Zeros up to a position. */
  async pad(position: number): Promise<void> {
    while (this.position < position) {
      if (this.at === SIZE) await this.flush();
      this.take(Math.min(position - this.position, SIZE - this.at));
    }
  }
}
