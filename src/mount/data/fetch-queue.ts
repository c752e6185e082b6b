import { throwIfAborted } from '../../core/errors.ts';
import { tidyMemory, tidyWhenQuiet } from './tidy-memory.ts';
import type { FetchClass } from './types.ts';

/** Requests of each class at a time. Those that nobody waits for leave room for those that somebody does. */
const LIMITS: Readonly<Record<FetchClass, number>> = { demand: 24, ahead: 4, prefetch: 4, background: 4 };
const CLASSES = Object.keys(LIMITS) as readonly FetchClass[];
/** Prefetches at a time while somebody waits. */
const PREFETCH_BESIDE = 2;
/** The background waits until nobody has waited for this long, ms. */
const QUIET = 50;

/** Bytes of one request: what the line carries in this time (ms), so that nobody waits long behind it. */
const TARGET = 250;
const MIN_REQUEST = 512 << 10;
const MAX_REQUEST = 8 << 20;
/** Smaller requests say more about delay than about the line. */
const TELLING = 64 << 10;
const WEIGHT = 0.3;
/** Bytes that may be on their way, stored and inflated, unless it is one request alone; more for those who wait. */
const MAX_UNDER_WAY = 24 << 20;
const MAX_WAITED_FOR = 40 << 20;
/** After so many bytes it is looked whether memory should be tidied up. */
const LOOK_AFTER = 8 << 20;

interface Waiting {
  readonly bytes: number;
  readonly start: () => void;
}

/** Who may fetch now: on demand before what is read ahead, that before prefetches, and the background when nobody else does anything. */
export class FetchQueue {
  readonly #active: Record<FetchClass, number> = { demand: 0, ahead: 0, prefetch: 0, background: 0 };
  readonly #waiting: Record<FetchClass, Waiting[]> = { demand: [], ahead: [], prefetch: [], background: [] };
  #lastDemand = 0;
  #timer: NodeJS.Timeout | undefined;
  /** Bytes per ms of one request among others. */
  #rate = MIN_REQUEST / TARGET;
  #garbage = 0;
  /** Of what is under way. */
  #bytes = 0;

  /** Bytes that a request should have when there is a choice. */
  get requestSize(): number {
    return Math.min(MAX_REQUEST, Math.max(MIN_REQUEST, Math.round(this.#rate * TARGET)));
  }

  /** The line took so long to carry so many stored bytes. */
  measured(bytes: number, milliseconds: number): void {
    if (bytes < TELLING) return;
    this.#rate += (bytes / Math.max(1, milliseconds) - this.#rate) * WEIGHT;
  }

  /** Runs `work` when it is its turn. `bytes`: what it takes in memory. */
  async run<T>(of: FetchClass, bytes: number, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    throwIfAborted(signal);
    if (!this.#mayStart(of, bytes) || this.#waiting[of].length > 0) await this.#turn(of, bytes, signal);
    else this.#start(of, bytes);
    try {
      throwIfAborted(signal);
      return await work();
    } finally {
      this.#active[of] -= 1;
      this.#bytes -= bytes;
      this.#garbage += bytes;
      if (this.#garbage > LOOK_AFTER) {
        this.#garbage = 0;
        tidyMemory();
      }
      tidyWhenQuiet();
      if (of !== 'background') this.#lastDemand = performance.now();
      this.#wake();
    }
  }

  #start(of: FetchClass, bytes: number): void {
    this.#active[of] += 1;
    this.#bytes += bytes;
  }

  #turn(of: FetchClass, bytes: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const waiting = {
        bytes,
        start: (): void => {
          signal?.removeEventListener('abort', leave);
          this.#start(of, bytes);
          resolve();
        },
      };
      // It goes on at once, and finds that it was aborted.
      const leave = (): void => {
        const at = this.#waiting[of].indexOf(waiting);
        if (at < 0) return;
        this.#waiting[of].splice(at, 1);
        waiting.start();
      };
      signal?.addEventListener('abort', leave, { once: true });
      this.#waiting[of].push(waiting);
      this.#wake();
    });
  }

  #mayStart(of: FetchClass, bytes: number): boolean {
    const { demand, ahead, prefetch } = this.#active;
    if (this.#active[of] >= LIMITS[of]) return false;
    if (this.#bytes > 0 && this.#bytes + bytes > (of === 'demand' ? MAX_WAITED_FOR : MAX_UNDER_WAY)) return false;
    if (of === 'prefetch') return demand + ahead === 0 || prefetch < PREFETCH_BESIDE;
    if (of === 'background') return demand + ahead + prefetch === 0 && performance.now() - this.#lastDemand >= QUIET;
    return true;
  }

  #wake(): void {
    for (const of of CLASSES) {
      for (let [next] = this.#waiting[of]; next && this.#mayStart(of, next.bytes); [next] = this.#waiting[of]) {
        this.#waiting[of].shift();
        next.start();
      }
    }
    const { demand, ahead, prefetch } = this.#active;
    if (this.#timer || this.#waiting.background.length === 0 || demand + ahead + prefetch > 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#wake();
    }, QUIET);
  }
}
