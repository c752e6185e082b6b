import { setMaxListeners } from 'node:events';
import { LazypullError } from '../../core/errors.ts';

/** Chunks that were asked for together. */
export class Delivery {
  readonly #controller = new AbortController();
  /** Those who wait for any of them. */
  waiting = 0;
  /** What is still to come. */
  left = 0;

  constructor() {
    // Each of many requests listens.
    setMaxListeners(0, this.#controller.signal);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  giveUp(): void {
    this.#controller.abort();
  }
}

/** A chunk that is being fetched, for whoever wants it meanwhile. */
export interface Arrival {
  readonly chunk: number;
  /** The chunk's bytes, held against its digests. */
  readonly bytes: Promise<Uint8Array>;
  resolve(bytes: Uint8Array): void;
  reject(error: unknown): void;
  /** Whether it is still to come. */
  readonly pending: boolean;
  /** Resolves once the bytes are in the local file as well, or cannot be. */
  readonly kept: Promise<void>;
  /** Whoever brings it has done what there was to do; once only. */
  done(): void;
  readonly delivery: Delivery;
  /** Those who have the bytes or will have them: whoever brings them, and all who wait. */
  users: number;
  /** One of them is done with the bytes; the last one gives them back. */
  leave(): void;
}

/** The chunks of a layer that are under way. What nobody waits for any more is given up. */
export class Arrivals {
  readonly #underWay = new Map<number, Arrival>();
  readonly #onLeft: (bytes: Uint8Array) => void;

  /** `onLeft`: nobody has these bytes any more. */
  constructor(onLeft: (bytes: Uint8Array) => void) {
    this.#onLeft = onLeft;
  }

  get(chunk: number): Arrival | undefined {
    return this.#underWay.get(chunk);
  }

  /** Bytes `[from, to)` of a chunk that is under way, for whoever asks to keep; undefined when it is not, or does not come. */
  async part(chunk: number, from: number, to: number): Promise<Uint8Array | undefined> {
    const arrival = this.#underWay.get(chunk);
    if (!arrival) return undefined;
    arrival.users += 1;
    try {
      return (await arrival.bytes).slice(from, to);
    } catch {
      return undefined;
    } finally {
      arrival.leave();
    }
  }

  /** Announces a chunk. */
  add(chunk: number, delivery: Delivery): Arrival {
    let settle: { resolve(value: Uint8Array): void; reject(error: unknown): void } | undefined;
    let finish: (() => void) | undefined;
    const bytes = new Promise<Uint8Array>((resolve, reject) => {
      settle = { resolve, reject };
    });
    const kept = new Promise<void>((resolve) => {
      finish = resolve;
    });
    delivery.left += 1;
    // Whoever waits gets the error; nobody has to.
    bytes.catch(() => undefined);
    let pending = true;
    let finished = false;
    let brought: Uint8Array | undefined;
    const settled = (): void => {
      if (pending) delivery.left -= 1;
      pending = false;
    };
    const arrival: Arrival = {
      chunk,
      bytes,
      kept,
      delivery,
      get pending() {
        return pending;
      },
      resolve: (value) => {
        settled();
        brought = value;
        settle?.resolve(value);
      },
      reject: (error) => {
        settled();
        settle?.reject(error);
      },
      done: () => {
        if (finished) return;
        finished = true;
        this.#remove(arrival);
        finish?.();
        arrival.leave();
      },
      users: 1,
      leave: () => {
        arrival.users -= 1;
        if (arrival.users === 0 && brought) this.#onLeft(brought);
      },
    };
    this.#underWay.set(chunk, arrival);
    return arrival;
  }

  /**
   * Waits for all of them and puts them to use; for as long as that takes their bytes are lent. What nobody waits for any more
   * is given up. CANCELLED when the signal says so.
   */
  async wait<T>(arrivals: readonly Arrival[], use: (loaded: ReadonlyMap<number, Uint8Array>) => Promise<T>, signal?: AbortSignal): Promise<T> {
    for (const arrival of arrivals) arrival.users += 1;
    try {
      return await this.#wanted(arrivals, async () => {
        const all = Promise.all(arrivals.map(async ({ chunk, bytes }) => [chunk, await bytes] as const));
        return use(new Map(await unlessAborted(all, signal)));
      });
    } finally {
      for (const arrival of arrivals) arrival.leave();
    }
  }

  /** The same for who does not want the bytes, only that they are in the local file, or cannot be: they need not all be there at a time. */
  async waitKept(arrivals: readonly Arrival[], signal?: AbortSignal): Promise<void> {
    await this.#wanted(arrivals, () => unlessAborted(Promise.all(arrivals.map(({ bytes }) => bytes.then(() => undefined))), signal));
    await Promise.all(arrivals.map(({ kept }) => kept));
  }

  /** While this goes on somebody waits for them. */
  async #wanted<T>(arrivals: readonly Arrival[], work: () => Promise<T>): Promise<T> {
    const deliveries = new Set(arrivals.map(({ delivery }) => delivery));
    for (const delivery of deliveries) delivery.waiting += 1;
    try {
      return await work();
    } finally {
      for (const delivery of deliveries) {
        delivery.waiting -= 1;
        if (delivery.waiting === 0 && delivery.left > 0) this.#giveUp(delivery);
      }
    }
  }

  #giveUp(delivery: Delivery): void {
    // Nobody is to join what is about to fail.
    for (const arrival of this.#underWay.values()) if (arrival.delivery === delivery && arrival.pending) this.#remove(arrival);
    delivery.giveUp();
  }

  #remove(arrival: Arrival): void {
    if (this.#underWay.get(arrival.chunk) === arrival) this.#underWay.delete(arrival.chunk);
  }
}

async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  let stop = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    stop = (): void => reject(new LazypullError('CANCELLED', 'cancelled', { cause: signal.reason }));
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
