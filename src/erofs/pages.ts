import { corrupt, throwIfAborted } from '../core/errors.ts';
import type { ByteSource } from '../core/types.ts';
import { asBuffer } from './struct.ts';

const PAGE = 1 << 18;
/** Pages kept: 16 MiB. */
const MAX_PAGES = 64;

/**
 * Small reads of a source, all over the place but mostly near each other. What is there already is returned at once: an
 * image has a few reads per file, and a promise for each would cost more than the work.
 */
export class Pages {
  readonly #source: ByteSource;
  readonly #signal: AbortSignal | undefined;
  readonly #pages = new Map<number, Buffer>();
  #lastNumber = -1;
  #last: Buffer = Buffer.alloc(0);

  constructor(source: ByteSource, signal: AbortSignal | undefined) {
    this.#source = source;
    this.#signal = signal;
  }

  get size(): number {
    return this.#source.size;
  }

  /** Exactly these bytes, not to be changed. CORRUPT, with `what`, when the image ends before. */
  read(offset: number, length: number, what: string): Buffer | Promise<Buffer> {
    if (!Number.isSafeInteger(offset + length) || offset + length > this.#source.size) {
      throw corrupt(`${what} of ${length} bytes reaches outside the image of ${this.#source.size} bytes`, { offset });
    }
    const number = Math.floor(offset / PAGE);
    const inside = offset - number * PAGE;
    if (inside + length > PAGE) return this.#across(offset, length);
    if (number === this.#lastNumber) return this.#last.subarray(inside, inside + length);
    const page = this.#pages.get(number);
    if (!page) return this.#fetch(number).then((fetched) => fetched.subarray(inside, inside + length));
    // The one used last goes to the end.
    this.#pages.delete(number);
    this.#keep(number, page);
    return page.subarray(inside, inside + length);
  }

  async #across(offset: number, length: number): Promise<Buffer> {
    throwIfAborted(this.#signal);
    return asBuffer(await this.#source.read(offset, length, this.#signal));
  }

  async #fetch(number: number): Promise<Buffer> {
    throwIfAborted(this.#signal);
    const start = number * PAGE;
    const page = asBuffer(await this.#source.read(start, Math.min(PAGE, this.#source.size - start), this.#signal));
    this.#keep(number, page);
    return page;
  }

  #keep(number: number, page: Buffer): void {
    this.#pages.set(number, page);
    this.#lastNumber = number;
    this.#last = page;
    if (this.#pages.size > MAX_PAGES) this.#pages.delete(this.#pages.keys().next().value as number);
  }
}
