import { roundUp } from './bytes.ts';

/** Less is left to the garbage collector. */
const LEAST = 32 << 10;
/** Sizes are rounded up to one of a few between two powers of two, so that memory fits its next user. */
const STEPS = 4;
/** Memory that waits for its next user, at most. */
const MAX_IDLE = 24 << 20;

/** Memory that is in use, and how much of it was asked for. */
const taken = new WeakMap<ArrayBufferLike, number>();
/** By size; the size that was needed last comes last. */
const idle = new Map<number, ArrayBuffer[]>();
let idleBytes = 0;

/**
 * Memory for a result of up to some MiB, with anything in it. It is like any other and needs no care; but whoever gives it back
 * spares the garbage collector, which lets a hundred megabytes of such results pile up, its work.
 */
export function takeRoom(size: number): Buffer<ArrayBuffer> {
  if (size < LEAST) return Buffer.allocUnsafeSlow(size);
  const rounded = roundUp(size, step(size));
  let room: ArrayBuffer | undefined;
  // Half of a large one would be waste.
  for (let fit = rounded; !room && fit <= rounded * 1.5; fit += step(fit)) room = idle.get(fit)?.pop();
  if (room) idleBytes -= room.byteLength;
  else room = Buffer.allocUnsafeSlow(rounded).buffer;
  taken.set(room, size);
  return Buffer.from(room, 0, size);
}

/** Bytes that wait for their next user. */
export function idleRoom(): number {
  return idleBytes;
}

/** Leaves what nobody uses at present to the garbage collector. */
export function dropRooms(): void {
  idle.clear();
  idleBytes = 0;
}

/** Gives back all of what `takeRoom` gave: nobody may look at it any more. Whatever else it is given stays as it is. */
export function giveBack(bytes: Uint8Array): void {
  const room = bytes.buffer;
  if (bytes.byteOffset !== 0 || taken.get(room) !== bytes.byteLength) return;
  taken.delete(room);
  const { byteLength } = room;
  const same = idle.get(byteLength) ?? [];
  same.push(room as ArrayBuffer);
  idle.delete(byteLength);
  idle.set(byteLength, same);
  idleBytes += byteLength;
  if (idleBytes > MAX_IDLE) shrink();
}

/** Sizes that have waited longest go: what is needed now is of other sizes. */
function shrink(): void {
  for (const [size, rooms] of idle) {
    while (rooms.length > 0 && idleBytes > MAX_IDLE) {
      rooms.pop();
      idleBytes -= size;
    }
    if (rooms.length === 0) idle.delete(size);
    if (idleBytes <= MAX_IDLE) return;
  }
}

/** Between a size and the next one. */
function step(size: number): number {
  return 2 ** Math.floor(Math.log2(size)) / STEPS;
}
