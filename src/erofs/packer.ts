import { roundUp } from '../core/bytes.ts';
import { LazypullError } from '../core/errors.ts';
import { SLOT_SIZE } from './layout.ts';

/** A block may be left early for this part of it, when enough waits to fill the next one. */
const NEGLIGIBLE = 1 / 64;

/** Inodes that wait, oldest first. */
interface Queue {
  /** Bytes of each. */
  readonly size: number;
  readonly inodes: number[];
  next: number;
}

/**
 * Gives inodes their places, one behind the other. One that has to lie in a single block (because its content's end is with
 * it) and does not fit into what is left of the current one waits for the next; inodes of files, which may lie across blocks,
 * go on meanwhile and fill up what is left. So nearly nothing is wasted, however many directories of half a block there are:
 * each of them comes with files or directories that fill the other half.
 */
export class Packer {
  /** Inodes in the order of their places. */
  readonly order: Uint32Array;
  /** By inode: its place / 32, counted from the base. */
  readonly nids: Uint32Array;
  readonly #base: number;
  readonly #blockSize: number;
  /** By size / 32. */
  readonly #queues: readonly Queue[];
  /** Bytes. */
  #waiting = 0;
  #at: number;
  #placed = 0;

  /** `start` and `base` are multiples of 32. */
  constructor(start: number, base: number, blockSize: number, inodes: number) {
    this.order = new Uint32Array(inodes);
    this.nids = new Uint32Array(inodes);
    this.#base = base;
    this.#blockSize = blockSize;
    this.#queues = Array.from({ length: blockSize / SLOT_SIZE + 1 }, (_, slots) => ({ size: slots * SLOT_SIZE, inodes: [], next: 0 }));
    this.#at = start;
  }

  /** Bytes: behind the last inode so far. */
  get end(): number {
    return this.#at;
  }

  /** `whole`: all of it in one block, which it is no larger than. The first one added is the first in place, too. */
  add(inode: number, size: number, whole: boolean): void {
    const rounded = roundUp(size, SLOT_SIZE);
    if (!whole || rounded <= this.#room()) return this.#go(inode, rounded);
    if (this.#placed === 0) {
      this.#at = roundUp(this.#at, this.#blockSize);
      return this.#go(inode, rounded);
    }
    (this.#queues[rounded / SLOT_SIZE] as Queue).inodes.push(inode);
    this.#waiting += rounded;
    if (this.#waiting >= this.#blockSize && this.#room() <= this.#blockSize * NEGLIGIBLE) this.#nextBlock();
  }

  /** Nothing else comes: the rest is packed as densely as it goes. */
  finish(): void {
    while (this.#waiting > 0) {
      const queue = this.#largest();
      if (queue) this.#take(queue);
      else this.#at = roundUp(this.#at, this.#blockSize);
    }
  }

  /** Bytes left of the current block: all of a new one at its start. */
  #room(): number {
    return this.#blockSize - (this.#at % this.#blockSize);
  }

  #go(inode: number, size: number): void {
    const room = this.#room();
    this.#put(inode, size);
    // Only a new block has room for what did not fit before.
    if (size >= room && this.#waiting > 0) this.#fill();
  }

  #nextBlock(): void {
    this.#at = roundUp(this.#at, this.#blockSize);
    this.#fill();
  }

  /** Those that have waited longest come first, so that they do not get far from what they belong to. */
  #fill(): void {
    for (let queue = this.#oldest(); queue; queue = this.#oldest()) this.#take(queue);
  }

  #oldest(): Queue | undefined {
    let found: Queue | undefined;
    for (let slots = this.#room() / SLOT_SIZE; slots > 0; slots -= 1) {
      const queue = this.#queues[slots] as Queue;
      const inode = queue.inodes[queue.next];
      if (inode !== undefined && inode < (found?.inodes[found.next] ?? Infinity)) found = queue;
    }
    return found;
  }

  #largest(): Queue | undefined {
    for (let slots = this.#room() / SLOT_SIZE; slots > 0; slots -= 1) {
      const queue = this.#queues[slots] as Queue;
      if (queue.next < queue.inodes.length) return queue;
    }
    return undefined;
  }

  #take(queue: Queue): void {
    const inode = queue.inodes[queue.next++] as number;
    if (queue.next === queue.inodes.length) {
      queue.inodes.length = 0;
      queue.next = 0;
    }
    this.#waiting -= queue.size;
    this.#put(inode, queue.size);
  }

  #put(inode: number, size: number): void {
    const nid = (this.#at - this.#base) / SLOT_SIZE;
    if (nid >= 2 ** 32) throw new LazypullError('LIMIT', 'metadata of more than 128 GiB');
    this.nids[inode] = nid;
    this.order[this.#placed++] = inode;
    this.#at += size;
  }
}
