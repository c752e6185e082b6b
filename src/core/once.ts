import { isAbort } from './errors.ts';

/**
 * A value that is made when first asked for and then kept. Failures are not kept: the next one to ask tries again, and so
 * does somebody who was waiting for an attempt that its owner cancelled.
 */
export class Once<T> {
  readonly #make: (signal: AbortSignal | undefined) => Promise<T>;
  #attempt: Promise<T> | undefined;

  constructor(make: (signal: AbortSignal | undefined) => Promise<T>) {
    this.#make = make;
  }

  async get(signal?: AbortSignal): Promise<T> {
    const borrowed = this.#attempt;
    if (!borrowed) return this.#start(signal);
    try {
      return await borrowed;
    } catch (error) {
      if (!isAbort(error) || signal?.aborted) throw error;
      return this.get(signal);
    }
  }

  /** What there is or is being made; undefined when nobody has asked for it, or when it fails. */
  async made(): Promise<T | undefined> {
    return this.#attempt?.catch(() => undefined);
  }

  async #start(signal: AbortSignal | undefined): Promise<T> {
    const attempt = this.#make(signal);
    this.#attempt = attempt;
    try {
      return await attempt;
    } catch (error) {
      if (this.#attempt === attempt) this.#attempt = undefined;
      throw error;
    }
  }
}

/** A value for each of many things, made when first asked for about it and then kept as long as the thing is. */
export class OnceFor<K extends object, T> {
  readonly #make: (key: K, signal: AbortSignal | undefined) => Promise<T>;
  readonly #made = new WeakMap<K, Once<T>>();

  constructor(make: (key: K, signal: AbortSignal | undefined) => Promise<T>) {
    this.#make = make;
  }

  get(key: K, signal?: AbortSignal): Promise<T> {
    let once = this.#made.get(key);
    if (!once) {
      once = new Once((either) => this.#make(key, either));
      this.#made.set(key, once);
    }
    return once.get(signal);
  }
}
