import { roundUp } from '../core/bytes.ts';
import { SLOT_SIZE } from './layout.ts';

/** Inodes that wait for a block with enough room. */
const WAITING = 16;

interface Waiting {
  readonly inode: number;
  readonly size: number;
}

/**
 * Gives inodes their places, one behind the other. One that has to lie in a single block and does not fit into what is left
 * of the current one waits while smaller ones fill that up: in directories of usual size nearly nothing is wasted.
 */
export class Packer {
  /** Inodes in the order of their places. */
  readonly order: Uint32Array;
  /** By inode: place / 32. A double holds what 32 bits do not. */
  readonly #slots: Float64Array;
  readonly #blockSize: number;
  readonly #waiting: Waiting[] = [];
  #at: number;
  #placed = 0;

  /** `start` is a multiple of 32. */
  constructor(start: number, blockSize: number, inodes: number) {
    this.order = new Uint32Array(inodes);
    this.#slots = new Float64Array(inodes);
    this.#blockSize = blockSize;
    this.#at = start;
  }

  /** Bytes: behind the last inode so far. */
  get end(): number {
    return this.#at;
  }

  slotOf(inode: number): number {
    return this.#slots[inode] as number;
  }

  /** `whole`: all of it in one block, which it is no larger than. The first one added is the first in place, too. */
  add(inode: number, size: number, whole: boolean): void {
    if (whole && !this.#fits(size)) {
      if (this.#placed > 0) {
        this.#waiting.push({ inode, size });
        if (this.#waiting.length > WAITING) this.#nextBlock();
        return;
      }
      this.#at = roundUp(this.#at, this.#blockSize);
    }
    this.#put(inode, size);
    if (this.#waiting.length > 0) this.#putWaiting();
  }

  finish(): void {
    while (this.#waiting.length > 0) this.#nextBlock();
  }

  #fits(size: number): boolean {
    return size <= this.#blockSize - (this.#at % this.#blockSize);
  }

  #nextBlock(): void {
    this.#at = roundUp(this.#at, this.#blockSize);
    this.#putWaiting();
  }

  #putWaiting(): void {
    for (let i = 0; i < this.#waiting.length; ) {
      const { inode, size } = this.#waiting[i] as Waiting;
      if (this.#fits(size)) {
        this.#waiting.splice(i, 1);
        this.#put(inode, size);
      } else {
        i += 1;
      }
    }
  }

  #put(inode: number, size: number): void {
    this.#slots[inode] = this.#at / SLOT_SIZE;
    this.order[this.#placed++] = inode;
    this.#at = roundUp(this.#at + size, SLOT_SIZE);
  }
}
