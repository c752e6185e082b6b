import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { dropRooms, idleRoom } from '../../core/room.ts';
import { loadNative } from '../native.ts';

/** Below this the process is small enough, bytes. */
const SMALL = 110 << 20;
/** What may lie about, bytes. */
const MAX_GARBAGE = 16 << 20;
/** The same for a process that has nothing else to do. */
const MAX_IDLE_GARBAGE = 8 << 20;
/** What may be empty of the heap's pages when there is nothing else to do, bytes. */
const MAX_HOLES = 12 << 20;
/** When nothing has been fetched or worked out for so long, ms. */
const QUIET = 200;
/**
 * By how much (percent) the heap may grow until the engine collects by itself. It counts buffers, and by its own measure collects after
 * each 10 MB of them: with a small heap and much to fetch that is half of what such a server does.
 */
const GROWTH = 300;

/** Freed memory is given back this long (ms) after it was looked: what was collected then is freed by another thread. */
const TRIM_AFTER = 20;
/** And not again for so long, ms: it takes some 3 ms. */
const TRIM_PAUSE = 200;

let collect: (() => void) | undefined;
let prepared = false;
/** What was left the last time. */
let least = 0;
let timer: NodeJS.Timeout | undefined;
let trimming: NodeJS.Timeout | undefined;
let trimmed = 0;

/**
 * Has the garbage collected when the process has become large by it. What has been fetched and kept is garbage a moment later, some
 * MiB at a time, and the engine lets a hundred of them pile up before it looks; a server that is to stay small has to ask. Takes
 * some 10 ms.
 */
export function tidyMemory(most = MAX_GARBAGE): void {
  prepare();
  const { rss } = process.memoryUsage();
  const used = inUse();
  least = Math.min(least, used);
  if (rss < SMALL) return;
  trimming ??= setTimeout(trim, Math.max(TRIM_AFTER, trimmed + TRIM_PAUSE - performance.now())).unref();
  if (used < least + most) return;
  collect?.();
  least = inUse();
}

/** Without this the engine keeps what its heap once had: half of it, when large indexes have been read. Takes room for a copy of what is left, and some 30 ms. */
function compact(): void {
  const { heapTotal, heapUsed } = process.memoryUsage();
  if (!collect || process.memoryUsage.rss() < SMALL || heapTotal - heapUsed < MAX_HOLES) return;
  setFlagsFromString('--compact-on-every-full-gc');
  collect();
  setFlagsFromString('--no-compact-on-every-full-gc');
  least = inUse();
}

/** The C library keeps what was freed in the middle of its heap: of a server that has fetched for a while that is a third. */
function trim(): void {
  trimming = undefined;
  loadNative()?.trimHeap();
  trimmed = performance.now();
}

/** From now on it is asked here when garbage is to be collected. */
function prepare(): void {
  if (prepared) return;
  prepared = true;
  try {
    // The only way for a program that was not started with --expose-gc.
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('typeof gc === "function" ? gc : undefined') as typeof collect;
    if (collect) setFlagsFromString(`--heap-growing-percent=${GROWTH}`);
  } catch {
    // Then it comes when it comes.
  }
}

/** The same and more once there is nothing to do: trees and indexes that were needed for once, and memory that waits for its next user, are garbage then. */
export function tidyWhenQuiet(): void {
  prepare();
  if (timer) {
    timer.refresh();
    return;
  }
  timer = setTimeout(() => {
    dropRooms();
    tidyMemory(MAX_IDLE_GARBAGE);
    compacting.refresh();
  }, QUIET).unref();
  // Once what was collected has been freed: it would stand beside the copy.
  const compacting = setTimeout(compact, QUIET + TRIM_AFTER).unref();
}

/** Bytes of objects and buffers, garbage included, but for those that wait for their next user. */
function inUse(): number {
  const { arrayBuffers, heapUsed } = process.memoryUsage();
  return arrayBuffers + heapUsed - idleRoom();
}
