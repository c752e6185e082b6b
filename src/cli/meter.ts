import type { ConvertProgress } from '../image/convert-report.ts';
import { count, formatSeconds, formatSize } from './units.ts';

/** The rate is taken over this much of the past, so that it follows the network without jumping. */
const WINDOW_MS = 5000;

/** Counts what is done and says it in one line. Knows no terminal; the clock (milliseconds) is handed in. */
export class Meter {
  readonly #verb: string;
  readonly #noun: string;
  readonly #now: () => number;
  readonly #samples: { readonly at: number; readonly bytes: number }[] = [];
  #items = { done: 0, total: 0 };
  #bytes = { done: 0, total: 0 };

  constructor(verb: string, noun: string, now: () => number = () => performance.now()) {
    this.#verb = verb;
    this.#noun = noun;
    this.#now = now;
    this.#sample();
  }

  /** May be called again when more work turns up. */
  total(items: number, bytes: number): void {
    this.#items.total = items;
    this.#bytes.total = bytes;
  }

  /** `bytes` of work are done that will not be reported piece by piece. */
  itemDone(bytes = 0): void {
    this.#items.done += 1;
    this.advance(bytes);
  }

  advance(bytes: number): void {
    this.#bytes.done += bytes;
    this.#sample();
  }

  /** Bytes per second over the last seconds, or undefined before there is anything to go by. */
  rate(): number | undefined {
    const first = this.#samples[0];
    if (!first) return undefined;
    const seconds = (this.#now() - first.at) / 1000;
    return seconds < 0.5 ? undefined : (this.#bytes.done - first.bytes) / seconds;
  }

  /** `converting 1/3 layers  12.4 MB of 60.0 MB  31.0 MB/s  1.5 s left`. */
  text(): string {
    const { done, total } = this.#bytes;
    if (this.#items.total === 0) return this.#verb;
    const parts = [`${this.#verb} ${this.#items.done}/${count(this.#items.total, this.#noun)}`];
    parts.push(total > 0 ? `${formatSize(Math.min(done, total))} of ${formatSize(total)}` : formatSize(done));
    const rate = this.rate();
    if (rate !== undefined && rate > 0) {
      parts.push(`${formatSize(Math.round(rate))}/s`);
      if (total > done) parts.push(`${formatSeconds((total - done) / rate)} left`);
    }
    return parts.join('  ');
  }

  #sample(): void {
    const at = this.#now();
    const last = this.#samples.at(-1);
    // Chunks come by the thousand; a sample each 100 ms is plenty.
    if (last && at - last.at < 100) return;
    this.#samples.push({ at, bytes: this.#bytes.done });
    while (this.#samples.length > 2 && at - (this.#samples[0] as { at: number }).at > WINDOW_MS) this.#samples.shift();
  }
}

/** Follows a conversion: all its layers and their stored bytes. */
export function showConversion(meter: Meter): (event: ConvertProgress) => void {
  return (event) => {
    if (event.type === 'total') meter.total(event.layers, event.bytes);
    else if (event.type === 'bytes') meter.advance(event.packed);
    else if (event.phase !== 'start') meter.itemDone();
  };
}
