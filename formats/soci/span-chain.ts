import { Digester, type Digest } from '../../src/core/digest.ts';
import { LazypullError } from '../../src/core/errors.ts';
import type { Checkpoint } from './layout.ts';

/** Stored bytes that may wait for one decision. A layer needs some 100 KiB; only one built to be odd needs more. */
const HELD_LIMIT = 16 << 20;

/**
 * The checkpoints chosen for a layer, and the digests of the spans between them, from one pass over the stored bytes.
 *
 * A checkpoint may turn out to be none after all: when no tar byte follows it, or when a better one stands at the same tar
 * byte. Stored bytes behind a checkpoint are therefore held back until it is settled, so that each is hashed once.
 */
export class SpanChain {
  readonly checkpoints: Checkpoint[] = [];
  readonly digests: Digest[] = [];
  /** Of the open span; undefined in front of the first checkpoint. */
  #digester: Digester | undefined;
  /** Checkpoints whose stored byte has been reached. */
  #reached = 0;
  /** Stored bytes dealt with. */
  #position = 0;
  /** The last of them, which belongs to two spans when a checkpoint lies inside it. */
  #lastByte = 0;
  /** What follows `#position` and had to wait. */
  #held = new Uint8Array(0);
  #heldSize = 0;

  /** Tar offset of the last checkpoint. */
  get last(): number | undefined {
    return this.checkpoints.at(-1)?.out;
  }

  /**
   * Adds a checkpoint; one at the same tar byte is replaced: it would be the start of an empty span. When that was settled
   * by a tar that runs ahead of the stored bytes, it stays instead.
   */
  add(checkpoint: Checkpoint): void {
    if (this.last === checkpoint.out) {
      if (this.#reached === this.checkpoints.length) return;
      this.#pop();
    }
    this.checkpoints.push(checkpoint);
  }

  /** Takes back the checkpoints at or after a tar offset, all but the first. */
  cut(out: number): void {
    while (this.checkpoints.length > 1 && (this.last as number) >= out) this.#pop();
  }

  /** Takes stored bytes. Checkpoints in front of tar offset `settled` stay. False when too many bytes have to wait. */
  packed(bytes: Uint8Array, settled: number): boolean {
    let taken = 0;
    if (this.#heldSize > 0) this.#release(settled);
    if (this.#heldSize === 0) taken = this.#take(bytes, settled);
    return taken === bytes.length || this.#hold(bytes.subarray(taken));
  }

  /** Ends the last span. Returns how many stored bytes there were. */
  finish(): number {
    this.#release(Number.POSITIVE_INFINITY);
    if (this.#reached < this.checkpoints.length) throw new LazypullError('INTERNAL', 'a checkpoint lies behind the last stored byte');
    if (this.#digester) this.digests.push(this.#digester.finish());
    this.#digester = undefined;
    return this.#position;
  }

  /** Another chain that has seen the same and goes its own way. */
  fork(): SpanChain {
    const fork = new SpanChain();
    fork.checkpoints.push(...this.checkpoints);
    fork.digests.push(...this.digests);
    fork.#digester = this.#digester?.copy();
    fork.#reached = this.#reached;
    fork.#position = this.#position;
    fork.#lastByte = this.#lastByte;
    if (this.#heldSize > 0) fork.#hold(this.#held.subarray(0, this.#heldSize));
    return fork;
  }

  #pop(): void {
    if (this.#reached === this.checkpoints.length) throw new LazypullError('INTERNAL', 'a checkpoint is taken back after its span was closed');
    this.checkpoints.pop();
  }

  /** Deals with bytes from `#position` on; returns how many, up to the first checkpoint that is not settled. */
  #take(bytes: Uint8Array, settled: number): number {
    let at = 0;
    for (let next = this.checkpoints[this.#reached]; next; next = this.checkpoints[this.#reached]) {
      const until = next.in - this.#position;
      if (until < 0) throw new LazypullError('INTERNAL', 'a checkpoint comes after the stored bytes behind it');
      if (until > bytes.length - at) break;
      this.#hash(bytes.subarray(at, at + until));
      at += until;
      if (next.out >= settled) return at;
      this.#startSpan(next);
    }
    this.#hash(bytes.subarray(at));
    return bytes.length;
  }

  #hash(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#digester?.update(bytes);
    this.#position += bytes.length;
    this.#lastByte = bytes[bytes.length - 1] as number;
  }

  #startSpan(checkpoint: Checkpoint): void {
    if (this.#digester) this.digests.push(this.#digester.finish());
    this.#digester = new Digester();
    if (checkpoint.bits !== 0) this.#digester.update(Uint8Array.of(this.#lastByte));
    this.#reached += 1;
  }

  #release(settled: number): void {
    const taken = this.#take(this.#held.subarray(0, this.#heldSize), settled);
    this.#held.copyWithin(0, taken, this.#heldSize);
    this.#heldSize -= taken;
  }

  #hold(bytes: Uint8Array): boolean {
    const size = this.#heldSize + bytes.length;
    if (size > HELD_LIMIT) return false;
    if (size > this.#held.length) {
      const larger = new Uint8Array(Math.min(HELD_LIMIT, Math.max(2 * size, 1 << 16)));
      larger.set(this.#held.subarray(0, this.#heldSize));
      this.#held = larger;
    }
    this.#held.set(bytes, this.#heldSize);
    this.#heldSize = size;
    return true;
  }
}
