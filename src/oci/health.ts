import { setTimeout as sleep } from 'node:timers/promises';
import { throwIfAborted } from '../core/errors.ts';
import { HttpError } from './http-error.ts';

export interface HealthOptions {
  /** `host[:port]`, for messages. */
  readonly name: string;
  /** How long nothing is asked after the first failure, ms; each further one doubles that. */
  readonly first?: number;
  /** The longest such time, ms. */
  readonly most?: number;
  /** Milliseconds that only go on; tests replace it. */
  readonly now?: () => number;
  /** It has stopped answering. */
  readonly onDown?: (error: HttpError) => void;
  /** It answers again. */
  readonly onUp?: (milliseconds: number) => void;
}

/** Whoever asks while somebody else finds out whether it answers again waits for that so long, ms. */
const PATIENCE = 1000;

interface Down {
  readonly since: number;
  readonly error: HttpError;
  until: number;
  /** How long nothing is asked after the next failure. */
  pause: number;
  /** Settles, well or not, when the one who tries has found out. */
  trial: Promise<void> | undefined;
}

/**
 * Whether a host answers. One that has not, however often it was asked, is not asked by everybody again: what is asked of it fails at once,
 * but for one request now and then. The first answer to that ends it.
 */
export class Health {
  readonly #options: Required<Pick<HealthOptions, 'name' | 'first' | 'most' | 'now'>> & HealthOptions;
  #down: Down | undefined;
  #answered: number | undefined;

  constructor(options: HealthOptions) {
    this.#options = { first: 500, most: 3000, now: () => performance.now(), ...options };
  }

  /** Not worth asking now, if somebody else can be asked. */
  get down(): boolean {
    return this.#down !== undefined && (this.#down.trial !== undefined || this.#options.now() < this.#down.until);
  }

  /** The next request is to find out whether it answers again. */
  get onTrial(): boolean {
    return this.#down !== undefined;
  }

  /** Whether it has ever answered. */
  get known(): boolean {
    return this.#answered !== undefined;
  }

  /** Runs `steady`, or once `trial` when nobody knows whether it answers again. Throws the last failure anew while it is not worth asking. */
  async run<T>(steady: () => Promise<T>, trial: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const down = this.#down;
    if (!down) return this.#watch(steady);
    if (down.trial) {
      await Promise.race([down.trial, sleep(PATIENCE, undefined, { ref: false, ...(signal && { signal }) }).catch(() => undefined)]);
      throwIfAborted(signal);
      if (!this.#down) return this.#watch(steady);
      throw this.#refusal(this.#down);
    }
    if (this.#options.now() < down.until) throw this.#refusal(down);
    const trying = this.#watch(trial);
    down.trial = trying.then(() => undefined, () => undefined).finally(() => (down.trial = undefined));
    return trying;
  }

  /** It has answered, whatever. */
  answered(): void {
    const down = this.#down;
    this.#down = undefined;
    this.#answered = this.#options.now();
    if (down) this.#options.onUp?.(this.#answered - down.since);
  }

  /** A request that was sent at `sent` has failed for good, or has waited in vain for so long that it might as well have. */
  failed(error: unknown, sent: number): void {
    if (!isSilence(error) || (this.#answered ?? -Infinity) > sent) return;
    const { first, most, now } = this.#options;
    const down = this.#down;
    if (down) {
      if (down.until > now()) return;
      down.pause = Math.min(most, down.pause * 2);
      down.until = now() + down.pause;
      return;
    }
    this.#down = { since: sent, error, until: now() + first, pause: first, trial: undefined };
    this.#options.onDown?.(error);
  }

  now(): number {
    return this.#options.now();
  }

  async #watch<T>(work: () => Promise<T>): Promise<T> {
    const sent = this.#options.now();
    try {
      return await work();
    } catch (error) {
      this.failed(error, sent);
      throw error;
    }
  }

  #refusal({ since, error }: Down): HttpError {
    const seconds = Math.max(1, Math.round((this.#options.now() - since) / 1000));
    return new HttpError('NETWORK', `${this.#options.name} has not answered for ${seconds} s, and is not asked again yet; last: ${error.message}`, {
      path: '', cause: error, ...(error.status === undefined ? {} : { status: error.status }),
    });
  }
}

/** Failures of a host, not of what was asked of it. */
function isSilence(error: unknown): error is HttpError {
  return error instanceof HttpError && error.code === 'NETWORK' && (error.status === undefined || error.retryable);
}
