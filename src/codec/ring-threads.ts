import { copyInto } from '../core/bytes.ts';
import {
  BAD, CHECKED, CHECKING, END, FILLED, FOR_CHECK, FOR_CONTENT, FOR_ROOM, HEAD, INFLATING, KNOWN, LENGTH, MEMBER_ENDS, PACKED, PACKED_IN, PACKED_OUT, PER_END, RingEnd, type SlotEnd, type SlotLog, SLOTS,
  SOURCE, SOURCE_STATE, type SourceState, TAKEN,
} from './content-ring.ts';
import type { MemberEnd } from './stream-check.ts';

/** A thread, which sleeps while it has nothing to do. */
class ThreadEnd extends RingEnd {
  readonly #bell: number;
  readonly #wake: () => void;

  constructor(memory: SharedArrayBuffer, bell: number, wake: () => void) {
    super(memory);
    this.#bell = bell;
    this.#wake = wake;
  }

  /** False when nobody wants the content any more. */
  protected sleepUntil(ready: () => boolean): boolean {
    for (;;) {
      const rung = this.count(this.#bell);
      if (this.count(SOURCE) === SOURCE_STATE.left) return false;
      if (ready()) return true;
      Atomics.wait(this.words, this.#bell, rung);
    }
  }

  protected wakeReader(wish: number): void {
    if (Atomics.exchange(this.words, wish, 0) !== 0) this.#wake();
  }
}

/** The thread that inflates. `wake` sends the reader a message. */
export class InflatingEnd extends ThreadEnd {
  readonly #packed: Uint8Array;

  constructor(memory: SharedArrayBuffer, wake: () => void) {
    super(memory, INFLATING, wake);
    this.#packed = new Uint8Array(memory, HEAD, PACKED);
  }

  /** Waits for packed bytes. Otherwise says why there are none. */
  packed(): Uint8Array | SourceState {
    // What was handed over comes before the word that there is no more.
    if (!this.sleepUntil(() => this.count(SOURCE) !== SOURCE_STATE.open || this.ahead(PACKED_IN, PACKED_OUT) > 0)) return SOURCE_STATE.left;
    const state = this.count(SOURCE) as SourceState;
    const size = this.ahead(PACKED_IN, PACKED_OUT);
    if (size === 0) return state;
    const at = (this.count(PACKED_OUT) >>> 0) % PACKED;
    return this.#packed.subarray(at, at + size);
  }

  /** Makes room. */
  consumed(size: number): void {
    Atomics.add(this.words, PACKED_OUT, size);
    if (this.ahead(PACKED_IN, PACKED_OUT) <= PACKED / 2) this.wakeReader(FOR_ROOM);
  }

  /** Fills a slot, once there is one. False when nobody wants it any more. */
  fill(bytes: Uint8Array, ends: readonly MemberEnd[], log: SlotLog | undefined, end: SlotEnd): boolean {
    const free = (word: number): boolean => this.ahead(FILLED, word) < SLOTS;
    if (!this.sleepUntil(() => free(CHECKED) && free(TAKEN))) return false;
    const slot = this.room(this.count(FILLED));
    copyInto(slot.bytes, bytes);
    if (log) {
      copyInto(bytesOf(slot.entries), bytesOf(log.entries));
      slot.marks.set(log.marks);
    }
    for (const [i, { at, crc, offset }] of ends.entries()) slot.ends.set([at, crc, offset], i * PER_END);
    slot.words[LENGTH] = bytes.length;
    slot.words[MEMBER_ENDS] = ends.length;
    slot.words[KNOWN] = log ? log.entries.length : -1;
    slot.words[END] = end;
    Atomics.add(this.words, FILLED, 1);
    this.ring(CHECKING);
    this.wakeReader(FOR_CONTENT);
    return true;
  }
}

/** The thread that looks at the content. */
export class CheckingEnd extends ThreadEnd {
  constructor(memory: SharedArrayBuffer, wake: () => void) {
    super(memory, CHECKING, wake);
  }

  /** Waits for a slot to look at; undefined when nobody wants to know any more. */
  next(): { readonly bytes: Uint8Array; readonly ends: readonly MemberEnd[]; readonly end: SlotEnd } | undefined {
    if (!this.sleepUntil(() => this.ahead(FILLED, CHECKED) > 0)) return undefined;
    const count = this.count(CHECKED);
    const { bytes, end } = this.slot(count);
    const { words, ends: numbers } = this.room(count);
    const ends = Array.from({ length: words[MEMBER_ENDS] as number }, (_, i): MemberEnd => {
      const [at = 0, crc = 0, offset = 0] = numbers.subarray(i * PER_END);
      return { at, crc, offset };
    });
    return { bytes, ends, end };
  }

  /** Done with the slot. `bad`: where the first bad trailer so far stands. `digest`: of everything, if this was the last. */
  checked(bad: number | undefined, digest: Uint8Array | undefined): void {
    if (bad !== undefined && this.count(BAD) === 0) {
      this.bad[0] = bad;
      Atomics.store(this.words, BAD, this.count(CHECKED) + 1);
    }
    if (digest) this.digest.set(digest);
    Atomics.add(this.words, CHECKED, 1);
    this.ring(INFLATING);
    this.wakeReader(FOR_CHECK);
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: Uint32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
