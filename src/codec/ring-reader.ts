import { copyInto } from '../core/bytes.ts';
import { BAD, CHECKED, CHECKING, type ContentSlot, FILLED, HEAD, INFLATING, PACKED, PACKED_IN, PACKED_OUT, RingEnd, SOURCE, type SourceState, TAKEN } from './content-ring.ts';

/** The thread that reads, and must not sleep. */
export class ReaderEnd extends RingEnd {
  readonly #packed: Uint8Array;

  constructor(memory: SharedArrayBuffer) {
    super(memory);
    this.#packed = new Uint8Array(memory, HEAD, PACKED);
  }

  /** Before a stream, while the threads have nothing to do. */
  reset(): void {
    this.words.fill(0);
  }

  /** Whether it is worth handing over packed bytes. */
  hasRoom(): boolean {
    return this.ahead(PACKED_IN, PACKED_OUT) <= PACKED / 2;
  }

  /** Copies in as much as there is room for and returns how much that was. */
  handOver(bytes: Uint8Array): number {
    const size = Math.min(bytes.length, PACKED - this.ahead(PACKED_IN, PACKED_OUT));
    const at = (this.count(PACKED_IN) >>> 0) % PACKED;
    const first = Math.min(size, PACKED - at);
    copyInto(this.#packed, bytes.subarray(0, first), at);
    if (first < size) copyInto(this.#packed, bytes.subarray(first, size));
    Atomics.add(this.words, PACKED_IN, size);
    this.ring(INFLATING);
    return size;
  }

  /** Says that no more packed bytes come, and why. */
  endWith(state: SourceState): void {
    Atomics.store(this.words, SOURCE, state);
    this.ring(INFLATING);
    this.ring(CHECKING);
  }

  /** Slots that are filled, and that were looked at. */
  get filled(): number {
    return this.count(FILLED) >>> 0;
  }

  get checkedSlots(): number {
    return this.count(CHECKED) >>> 0;
  }

  /** A slot, by how many came before it; not for longer than until it is told to be taken. */
  read(count: number): ContentSlot {
    return this.slot(count);
  }

  /** Done with the oldest slot. */
  taken(): void {
    Atomics.add(this.words, TAKEN, 1);
    this.ring(INFLATING);
  }

  /** Where the first bad trailer stands, as far as content in the first `slots` slots was looked at. */
  badWithin(slots: number): number | undefined {
    const bad = this.count(BAD);
    return bad !== 0 && bad <= slots ? this.bad[0] : undefined;
  }

  /** Once the last slot was looked at: sha256 of everything, hex. */
  hex(): string {
    return Buffer.from(this.digest).toString('hex');
  }

  /** Asks to be woken when something may have changed; whoever asks looks once more afterwards. */
  wish(wish: number): void {
    Atomics.store(this.words, wish, 1);
  }
}
