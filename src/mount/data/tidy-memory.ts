import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Below this the process is small enough, bytes. */
const SMALL = 120 << 20;
/** What may lie about, bytes. */
const MAX_GARBAGE = 32 << 20;

let collect: (() => void) | undefined;
let tried = false;
/** What was left the last time. */
let least = 0;

/**
 * Has the garbage collected when the process has become large by it. What has been fetched and kept is garbage a moment later, some
 * MiB at a time, and the engine lets a hundred of them pile up before it looks; a server that is to stay small has to ask. Takes
 * some 10 ms.
 */
export function tidyMemory(): void {
  const { arrayBuffers, rss } = process.memoryUsage();
  least = Math.min(least, arrayBuffers);
  if (rss < SMALL || arrayBuffers < least + MAX_GARBAGE) return;
  if (!tried) {
    tried = true;
    try {
      // The only way for a program that was not started with --expose-gc.
      setFlagsFromString('--expose-gc');
      collect = runInNewContext('typeof gc === "function" ? gc : undefined') as typeof collect;
    } catch {
      // Then it comes when it comes.
    }
  }
  collect?.();
  least = process.memoryUsage().arrayBuffers;
}
