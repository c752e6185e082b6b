import { roundUp } from './bytes.ts';

/** Less is left to the garbage collector. */
const LEAST = 32 << 10;
/** Sizes are rounded up to one of a few between two powers of two, so that memory fits its next user. */
const STEPS = 4;
/** Memory that waits for its next user, at most. */
const MAX_IDLE = 16 << 20;

/** Memory that is in use, and how much of it was asked for. */
const taken = new WeakMap<ArrayBufferLike, number>();
const idle: ArrayBuffer[] = [];
let idleBytes = 0;

/**
 * Memory for a result of up to some MiB, with anything in it. It is like any other and needs no care; but whoever gives it back
 * spares the garbage collector, which lets a hundred megabytes of such results pile up, its work.
 */
export function takeRoom(size: number): Buffer<ArrayBuffer> {
  if (size < LEAST) return Buffer.allocUnsafeSlow(size);
  const rounded = roundUp(size, 2 ** Math.floor(Math.log2(size)) / STEPS);
  let best = -1;
  for (const [i, { byteLength }] of idle.entries()) {
    // Half of a large one would be waste.
    if (byteLength >= rounded && byteLength <= rounded * 1.5 && byteLength < (idle[best]?.byteLength ?? Infinity)) best = i;
  }
  const [found] = best < 0 ? [] : idle.splice(best, 1);
  if (found) idleBytes -= found.byteLength;
  const room = found ?? Buffer.allocUnsafeSlow(rounded).buffer;
  taken.set(room, size);
  return Buffer.from(room, 0, size);
}

/** Leaves what nobody uses at present to the garbage collector. */
export function dropRooms(): void {
  idle.length = 0;
  idleBytes = 0;
}

/** Gives back all of what `takeRoom` gave: nobody may look at it any more. Whatever else it is given stays as it is. */
export function giveBack(bytes: Uint8Array): void {
  const room = bytes.buffer;
  if (bytes.byteOffset !== 0 || taken.get(room) !== bytes.byteLength) return;
  taken.delete(room);
  idle.push(room as ArrayBuffer);
  idleBytes += room.byteLength;
  // What has waited longest goes: what is needed now is of other sizes.
  while (idleBytes > MAX_IDLE) idleBytes -= (idle.shift() as ArrayBuffer).byteLength;
}
