import { setTimeout as wait } from 'node:timers/promises';
import { LazypullError, throwIfAborted, wrapError } from '../core/errors.ts';

export interface RetryOptions {
  /** Tries in all, the first included; default 5. */
  readonly attempts?: number;
  /** Delay before the first repetition in milliseconds, doubled for each further one; default 250. */
  readonly baseDelayMs?: number;
  /** Waits; tests replace it. */
  readonly sleep?: (ms: number, signal?: AbortSignal) => Promise<void>;
  /** 0 <= n < 1; tests replace it. */
  readonly random?: () => number;
}

/** What the loop needs to know about a failure: see `HttpError`. */
interface Repeatable {
  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;
}

const MAX_DELAY_MS = 30_000;
/** A registry that asks for more patience than this is reported instead of waited for. */
const MAX_RETRY_AFTER_MS = 120_000;

/** Statuses that another try may well change (registry.md §5). */
const RETRYABLE = new Set([408, 425, 429, 499, 500, 502, 503, 504, 522]);

export function isRetryableStatus(status: number): boolean {
  return RETRYABLE.has(status);
}

/** `Retry-After` in milliseconds from now (RFC 9110 §10.2.3: seconds or a date); undefined when it says neither. */
export function parseRetryAfter(value: string | undefined, now = Date.now()): number | undefined {
  const text = value?.trim();
  if (!text) return undefined;
  if (/^\d{1,10}$/.test(text)) return Number(text) * 1000;
  // Date.parse takes far more than dates of HTTP, bare negative numbers among them.
  if (!/^[A-Za-z]{3,9},? /.test(text)) return undefined;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}

/** Repeats work that failed for a passing reason. */
export class Retrier {
  readonly attempts: number;
  readonly #base: number;
  readonly #sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
  readonly #random: () => number;

  constructor(options: RetryOptions = {}) {
    this.attempts = Math.max(1, Math.floor(options.attempts ?? 5));
    this.#base = options.baseDelayMs ?? 250;
    this.#sleep = options.sleep ?? sleep;
    this.#random = options.random ?? Math.random;
  }

  /** Runs `work` until it succeeds, fails for good, or the tries are used up. */
  async run<T>(work: (attempt: number) => Promise<T>, signal?: AbortSignal): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      throwIfAborted(signal);
      try {
        return await work(attempt);
      } catch (error) {
        await this.pause(error, attempt, signal);
      }
    }
  }

  /** Waits before the repetition that follows the failed try number `attempt` (from 0), or throws if there is none. */
  async pause(error: unknown, attempt: number, signal?: AbortSignal): Promise<void> {
    if (!isRepeatable(error) || attempt + 1 >= this.attempts || signal?.aborted) throw error;
    const asked = error.retryAfterMs;
    if (asked !== undefined && asked > MAX_RETRY_AFTER_MS) {
      throw new LazypullError('NETWORK', `${error.message}; the registry asks to wait ${Math.ceil(asked / 1000)} s, which is too long`, { cause: error });
    }
    const backoff = Math.min(MAX_DELAY_MS, this.#base * 2 ** attempt);
    try {
      await this.#sleep(asked ?? Math.min(MAX_DELAY_MS, backoff + this.#random() * backoff), signal);
    } catch (cause) {
      throw wrapError(cause, 'INTERNAL', 'cannot wait');
    }
  }
}

function isRepeatable(error: unknown): error is Repeatable & Error {
  return error instanceof Error && 'retryable' in error && error.retryable === true;
}

async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  await wait(ms, undefined, signal ? { signal } : undefined);
}
