import { isAbort } from '../../core/errors.ts';
import type { MountContent } from '../data/types.ts';
import type { AnswerMiss, Miss } from '../types.ts';
import { errorFields, type Log, type LogFields } from './log.ts';

/** A read that takes longer is worth a line in the log; milliseconds. */
const SLOW_MS = 2000;
/** Upper ends of the histogram's buckets, seconds. */
export const BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30] as const;

/** How long reads that had to be waited for took. */
export class ReadTimes {
  /** By bucket; the last one is for all above. */
  readonly counts: number[] = Array.from({ length: BUCKETS.length + 1 }, () => 0);
  /** Seconds. */
  sum = 0;
  failed = 0;

  add(seconds: number): void {
    this.sum += seconds;
    const bucket = BUCKETS.findIndex((end) => seconds <= end);
    const place = bucket < 0 ? BUCKETS.length : bucket;
    this.counts[place] = (this.counts[place] as number) + 1;
  }
}

const told = new WeakSet<Error>();

/** Whether the log has a line about it already. */
export function wasLogged(error: Error): boolean {
  return told.has(error);
}

/** Answers misses, measures them, and writes a line for each that was slow or failed: with the file and the layer. */
export function watchReads(content: Pick<MountContent, 'read' | 'locate'>, times: ReadTimes, log: Log): AnswerMiss {
  const tell = async (event: 'slow-read' | 'failed-read', miss: Miss, ms: number, fields: LogFields): Promise<void> => {
    const place = await content.locate(miss.device, miss.address).catch(() => undefined);
    const line = { ...(place ? { path: place.path, offset: place.offset, layer: place.layer } : { device: miss.device, address: miss.address }), bytes: miss.length, ms: Math.round(ms), ...fields };
    if (event === 'slow-read') log.warning(event, line);
    else log.error(event, line);
  };
  return async (miss, signal) => {
    const began = performance.now();
    try {
      const bytes = await content.read(miss, signal);
      const ms = performance.now() - began;
      times.add(ms / 1000);
      if (ms >= SLOW_MS) void tell('slow-read', miss, ms, {});
      return bytes;
    } catch (error) {
      // Somebody who is no longer waiting has not been failed.
      if (signal?.aborted && isAbort(error)) throw error;
      times.failed += 1;
      if (error instanceof Error) told.add(error);
      void tell('failed-read', miss, performance.now() - began, errorFields(error));
      throw error;
    }
  };
}
