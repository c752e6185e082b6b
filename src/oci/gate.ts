import { LazypullError, throwIfAborted } from '../core/errors.ts';

/** Permission to have one request under way. */
export interface Slot {
  /** The transfer waits for this side: while others queue, its place may be given away. */
  stalled(stalled: boolean): void;
  release(): void;
}

interface Held {
  counted: boolean;
  stalledSince: number | undefined;
}

/** Good answers in a row after which one more request is allowed again. */
const RECOVER_AFTER = 16;
const RECLAIM_MS = 100;

/**
 * Limits the requests that one host sees at a time. A stream that waits for its reader longer than a moment does not
 * count while others queue: otherwise readers that wait for each other's uploads would wait for ever.
 */
export class Gate {
  readonly #max: number;
  #limit: number;
  #active = 0;
  #good = 0;
  readonly #held = new Set<Held>();
  readonly #queue: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(limit: number) {
    if (!Number.isSafeInteger(limit) || limit < 1) throw new LazypullError('USAGE', `concurrency must be a whole number from 1, not ${limit}`);
    this.#max = this.#limit = limit;
  }

  get limit(): number {
    return this.#limit;
  }

  /** Requests that count at present. */
  get active(): number {
    return this.#active;
  }

  async acquire(signal?: AbortSignal): Promise<Slot> {
    throwIfAborted(signal);
    return this.#active >= this.#limit || this.#queue.length > 0 ? this.#wait(signal) : this.#grant();
  }

  /** The host said 429: half as many from now on. */
  slowDown(): void {
    this.#good = 0;
    this.#limit = Math.max(1, Math.floor(this.#limit / 2));
  }

  /** The host answered well; enough of that raises the limit again, one at a time. */
  succeed(): void {
    if (this.#limit === this.#max) return;
    this.#good += 1;
    if (this.#good < RECOVER_AFTER) return;
    this.#good = 0;
    this.#limit += 1;
    this.#wake();
  }

  #grant(): Slot {
    const held: Held = { counted: true, stalledSince: undefined };
    this.#active += 1;
    this.#held.add(held);
    return {
      stalled: (stalled) => {
        held.stalledSince = stalled ? performance.now() : undefined;
        if (!stalled && !held.counted && this.#held.has(held)) {
          // It moves again, whether there is room or not: what has begun is not interrupted.
          held.counted = true;
          this.#active += 1;
        }
      },
      release: () => {
        if (!this.#held.delete(held)) return;
        if (held.counted) this.#active -= 1;
        this.#wake();
      },
    };
  }

  #wait(signal: AbortSignal | undefined): Promise<Slot> {
    this.#timer ??= setInterval(() => this.#reclaim(), RECLAIM_MS);
    return new Promise((resolve, reject) => {
      const enter = (): void => {
        signal?.removeEventListener('abort', leave);
        resolve(this.#grant());
      };
      const leave = (): void => {
        const at = this.#queue.indexOf(enter);
        if (at >= 0) this.#queue.splice(at, 1);
        this.#settleTimer();
        reject(new LazypullError('CANCELLED', 'cancelled', { cause: signal?.reason }));
      };
      signal?.addEventListener('abort', leave, { once: true });
      this.#queue.push(enter);
    });
  }

  /** Lets in as many as there is room for. */
  #wake(): void {
    while (this.#active < this.#limit) {
      const enter = this.#queue.shift();
      if (!enter) break;
      enter();
    }
    this.#settleTimer();
  }

  #reclaim(): void {
    const before = performance.now() - RECLAIM_MS;
    for (const held of this.#held) {
      if (!held.counted || held.stalledSince === undefined || held.stalledSince > before) continue;
      held.counted = false;
      this.#active -= 1;
    }
    this.#wake();
  }

  #settleTimer(): void {
    if (this.#queue.length > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
