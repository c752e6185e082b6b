import { LazypullError, wrapError } from '../core/errors.ts';
import type { ByteReader } from '../core/stream.ts';
import type { ByteStream } from '../core/types.ts';
import type { TarEntry } from './entry.ts';
import { paddingOf } from './layout.ts';
import type { Place } from './place.ts';

/** Bytes of a hole that are yielded at once. */
const HOLE_PIECE = 64 * 1024;

type Piece = IteratorResult<Uint8Array, undefined>;

const DONE: Piece = { done: true, value: undefined };

/** The payload of the entry that is open, as a reader leaves it to its caller and passes over what the caller left. */
export class Payload {
  readonly #reader: ByteReader;
  readonly #place: Place;
  /** Stored bytes still in the stream, and the padding behind them. */
  #left = 0;
  #padding = 0;
  #entry: TarEntry | undefined;
  /** Tells a stream of an earlier entry from one of this entry. */
  #serial = 0;
  #view: 'stored' | 'expanded' | undefined;
  /** Place in the expanded file, and the run that is at or after it. */
  #at = 0;
  #run = 0;
  #zeros: Uint8Array | undefined;

  constructor(reader: ByteReader, place: Place) {
    this.#reader = reader;
    this.#place = place;
  }

  begin(entry: TarEntry): void {
    this.#entry = entry;
    this.#left = entry.storedSize;
    this.#padding = paddingOf(entry.storedSize);
    this.#view = undefined;
    this.#at = 0;
    this.#run = 0;
  }

  /** Passes over what is left of the entry; a promise only when the stream has to be waited for. */
  finish(): Promise<void> | undefined {
    this.#serial += 1;
    const left = this.#left + this.#padding;
    if (left === 0 || this.#reader.takeReady(left)) {
      this.#left = 0;
      this.#padding = 0;
      return undefined;
    }
    return this.#skip();
  }

  /** The whole payload as one lent view if it is plain, untouched and at hand already. */
  ready(): Uint8Array | undefined {
    const entry = this.#entry;
    if (!entry || entry.sparse || this.#left !== entry.storedSize) return undefined;
    const bytes = this.#reader.takeReady(this.#left);
    if (bytes) this.#left = 0;
    return bytes;
  }

  stored(): ByteStream {
    return this.#stream('stored');
  }

  expanded(): ByteStream {
    return this.#stream('expanded');
  }

  #stream(view: 'stored' | 'expanded'): ByteStream {
    const serial = this.#serial;
    // Written out rather than as a generator, of which every small file would need a new one.
    const iterator: AsyncIterator<Uint8Array> = {
      next: () => this.#next(serial, view),
      return: () => Promise.resolve(DONE),
    };
    return { [Symbol.asyncIterator]: () => iterator };
  }

  async #next(serial: number, view: 'stored' | 'expanded'): Promise<Piece> {
    const entry = this.#entry;
    if (serial !== this.#serial || !entry) throw new LazypullError('INTERNAL', `${this.#place.what}: the payload of an earlier entry is read`);
    if (entry.sparse) {
      if (this.#view !== undefined && this.#view !== view) throw new LazypullError('INTERNAL', `${this.#place.what}: a sparse payload is read both stored and expanded`);
      this.#view = view;
      if (view === 'expanded') return this.#nextExpanded(entry, entry.sparse);
    }
    if (this.#left === 0) return DONE;
    return { done: false, value: await this.#take(this.#left) };
  }

  async #nextExpanded(entry: TarEntry, runs: NonNullable<TarEntry['sparse']>): Promise<Piece> {
    const at = this.#at;
    if (at === entry.size) return DONE;
    const run = runs[this.#run];
    if (run && at >= run.offset) {
      const end = run.offset + run.length;
      const value = await this.#take(end - at);
      this.#at = at + value.length;
      if (this.#at === end) this.#run += 1;
      return { done: false, value };
    }
    const hole = (run ? run.offset : entry.size) - at;
    this.#zeros ??= new Uint8Array(HOLE_PIECE);
    const value = this.#zeros.subarray(0, Math.min(hole, HOLE_PIECE));
    this.#at = at + value.length;
    return { done: false, value };
  }

  /** The next stored bytes, at most `limit`. */
  async #take(limit: number): Promise<Uint8Array> {
    const { ready } = this.#reader;
    const bytes = (ready > 0 ? this.#reader.takeReady(Math.min(limit, ready)) : undefined) ?? (await this.#pull(limit));
    this.#left -= bytes.length;
    return bytes;
  }

  async #skip(): Promise<void> {
    while (this.#left > 0) this.#left -= (await this.#pull(this.#left)).length;
    while (this.#padding > 0) this.#padding -= (await this.#pull(this.#padding)).length;
  }

  async #pull(limit: number): Promise<Uint8Array> {
    let bytes: Uint8Array;
    try {
      bytes = await this.#reader.some(limit);
    } catch (error) {
      throw wrapError(error, 'IO', `${this.#place.what}: cannot read`, { offset: this.#reader.position });
    }
    if (bytes.length > 0) return bytes;
    const place = this.#place;
    place.path = this.#entry?.path ?? '';
    place.offset = this.#reader.position;
    throw place.corrupt(this.#left > 0 ? `archive ends inside a payload: ${this.#left} bytes are missing` : `archive ends inside the padding of a payload: ${this.#padding} bytes are missing`);
  }
}
