import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { dropRooms } from '../../core/room.ts';

/** Below this the process is small enough, bytes. */
const SMALL = 120 << 20;
/** What may lie about, bytes. */
const MAX_GARBAGE = 32 << 20;
/** The same for a process that has nothing else to do. */
const MAX_IDLE_GARBAGE = 8 << 20;
/** When nothing has been fetched or worked out for so long, ms. */
const QUIET = 500;

let collect: (() => void) | undefined;
let tried = false;
/** What was left the last time. */
let least = 0;
let timer: NodeJS.Timeout | undefined;

/**
 * Has the garbage collected when the process has become large by it. What has been fetched and kept is garbage a moment later, some
 * MiB at a time, and the engine lets a hundred of them pile up before it looks; a server that is to stay small has to ask. Takes
 * some 10 ms.
 */
export function tidyMemory(most = MAX_GARBAGE): void {
  const { rss } = process.memoryUsage();
  const used = inUse();
  least = Math.min(least, used);
  if (rss < SMALL || used < least + most) return;
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
  least = inUse();
}

/** The same and more once there is nothing to do: trees and indexes that were needed for once, and memory that waits for its next user, are garbage then. */
export function tidyWhenQuiet(): void {
  if (timer) {
    timer.refresh();
    return;
  }
  timer = setTimeout(() => {
    dropRooms();
    tidyMemory(MAX_IDLE_GARBAGE);
  }, QUIET).unref();
}

/** Bytes of objects and buffers, garbage included. */
function inUse(): number {
  const { arrayBuffers, heapUsed } = process.memoryUsage();
  return arrayBuffers + heapUsed;
}
