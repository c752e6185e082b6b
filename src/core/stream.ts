import { concat } from './bytes.ts';
import { corrupt, LazypullError } from './errors.ts';
import type { ByteStream } from './types.ts';

/**
 * Reads a stream by position. Needing look-ahead is `upTo`, needing bytes is `exactly`; both know where they are.
 * Returned bytes are lent until the next call.
 */
export class ByteReader {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #have: Uint8Array = new Uint8Array(0);
  #at = 0;
  #position = 0;
  #ended = false;

  constructor(stream: ByteStream) {
    this.#iterator = stream[Symbol.asyncIterator]();
  }

  /** Bytes taken so far. */
  get position(): number {
    return this.#position;
  }

  /** Bytes that can be taken without waiting. */
  get ready(): number {
    return this.#have.length - this.#at;
  }

  /** Takes `length` bytes if they are at hand, without waiting: the fast path of header parsers. */
  takeReady(length: number): Uint8Array | undefined {
    if (this.ready < length) return undefined;
    const bytes = this.#have.subarray(this.#at, this.#at + length);
    this.#at += length;
    this.#position += length;
    return bytes;
  }

  /** Exactly `length` bytes; a stream that ends before is CORRUPT. */
  async exactly(length: number, what = 'data'): Promise<Uint8Array> {
    const ready = this.takeReady(length);
    if (ready) return ready;
    const bytes = await this.upTo(length);
    if (bytes.length < length) throw corrupt(`${what} ends early: ${length} bytes needed, ${bytes.length} left`, { offset: this.#position });
    return bytes;
  }

  /** `length` bytes, or fewer at the end of the stream. */
  async upTo(length: number): Promise<Uint8Array> {
    const ready = this.takeReady(length);
    if (ready) return ready;
    // The stream lends its bytes only until it is asked for more, so a value that spans elements is put together by copying.
    const parts: Uint8Array[] = [];
    let size = 0;
    while (size < length) {
      if (this.ready === 0 && !(await this.#pull())) break;
      const part = this.#have.subarray(this.#at, this.#at + Math.min(length - size, this.ready));
      this.#at += part.length;
      size += part.length;
      parts.push(size < length ? new Uint8Array(part) : part);
    }
    this.#position += size;
    return concat(parts);
  }

  /** At most `length` bytes, whatever is at hand, without joining; empty only at the end of the stream. */
  async some(length: number): Promise<Uint8Array> {
    if (this.ready === 0 && !(await this.#pull())) return new Uint8Array(0);
    return this.takeReady(Math.min(length, this.ready)) as Uint8Array;
  }

  /** Passes over `length` bytes. */
  async skip(length: number, what = 'data'): Promise<void> {
    let left = length;
    while (left > 0) {
      const bytes = await this.some(left);
      if (bytes.length === 0) throw corrupt(`${what} ends early: ${left} bytes missing`, { offset: this.#position });
      left -= bytes.length;
    }
  }

  /** Tells the stream that no more will be read. */
  async close(): Promise<void> {
    this.#ended = true;
    await this.#iterator.return?.();
  }

  async #pull(): Promise<boolean> {
    while (!this.#ended) {
      const next = await this.#iterator.next();
      if (next.done) {
        this.#ended = true;
        break;
      }
      if (next.value.length > 0) {
        this.#have = next.value;
        this.#at = 0;
        return true;
      }
    }
    this.#have = new Uint8Array(0);
    this.#at = 0;
    return false;
  }
}

/** All bytes of a stream in one array; more than `limit` is refused before it is kept. */
export async function collect(stream: ByteStream, limit: number, what = 'data'): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const bytes of stream) {
    size += bytes.length;
    if (size > limit) throw new LazypullError('LIMIT', `${what} is larger than the ${limit} bytes allowed`, { offset: limit });
    // Not `slice`: for a Buffer that is a view of the same memory.
    parts.push(new Uint8Array(bytes));
  }
  return concat(parts);
}

/** Given bytes as a stream. */
export async function* streamOf(...parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}

/** Calls `each` with every element on its way through. */
export async function* tap(stream: ByteStream, each: (bytes: Uint8Array) => void): AsyncGenerator<Uint8Array> {
  for await (const bytes of stream) {
    each(bytes);
    yield bytes;
  }
}
