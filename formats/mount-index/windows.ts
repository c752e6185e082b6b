import { LazypullError } from '../../src/core/errors.ts';
import { Spool } from '../../src/core/spool.ts';
import type { ByteStream, WorkerPool } from '../../src/core/types.ts';
import { WINDOW_LOOKAHEAD, WindowBatch, type PackedWindows } from '../../src/codec/needed-window.ts';
import type { Start } from './cut.ts';

/** A place whose stored bytes are still coming. */
interface Place {
  readonly batch: Batch;
  /** In the batch. */
  readonly number: number;
  /** Byte of the layer that it wants next. */
  next: number;
}

interface Batch {
  readonly windows: WindowBatch;
  readonly starts: Start[];
  /** Places that have what they want. */
  full: number;
}

/**
 * Finds out what the places that pieces begin at need of the tar in front of them, while a gzip layer goes by. Memory: a few
 * batches of 1.1 MiB; what is done goes to a spool.
 */
export class WindowPacker {
  readonly #workers: WorkerPool | undefined;
  /** Batches that may be under way. */
  readonly #limit: number;
  readonly #spool = new Spool();
  readonly #free: WindowBatch[] = [];
  #batch: Batch | undefined;
  #open: Place[] = [];
  /** Batches that are complete, in order. */
  #ready: Batch[] = [];
  #underWay = 0;
  #last: Promise<void> = Promise.resolve();
  #failure: unknown;
  #wake: (() => void) | undefined;
  /** Stored bytes that went by, and the last one. */
  #at = 0;
  #lastByte = 0;

  constructor(workers: WorkerPool | undefined) {
    this.#workers = workers;
    this.#limit = Math.min(workers?.jobs ?? 1, 4) + 1;
  }

  /** A piece begins at a place inside a gzip member; the stored bytes from there on follow. `window` is lent. */
  begin(start: Start, window: Uint8Array): void {
    const from = Math.floor(start.bit / 8);
    // The byte in which the place lies may have gone by with the block in front of it.
    const shared = from === this.#at - 1;
    if (from < this.#at && !shared) throw new LazypullError('INTERNAL', 'a place to inflate from comes after the stored bytes behind it', { offset: from });
    const batch = (this.#batch ??= { windows: this.#free.pop() ?? new WindowBatch(), starts: [], full: 0 });
    const number = batch.windows.add(start.bit % 8, window);
    batch.starts.push(start);
    if (batch.starts.length === WindowBatch.room) this.#batch = undefined;
    if (shared) batch.windows.take(number, Uint8Array.of(this.#lastByte));
    this.#open.push({ batch, number, next: from + (shared ? 1 : 0) });
  }

  packed(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const end = this.#at + bytes.length;
    let full = 0;
    for (const place of this.#open) {
      if (place.next >= end) break;
      const have = place.batch.windows.take(place.number, bytes.subarray(place.next - this.#at));
      place.next = end;
      if (have === WINDOW_LOOKAHEAD) full += 1;
    }
    this.#at = end;
    this.#lastByte = bytes[bytes.length - 1] as number;
    // Places are full in the order in which they began.
    if (full > 0) for (const place of this.#open.splice(0, full)) this.#fill(place.batch);
  }

  /** To be awaited from time to time: not too much piles up. */
  async settle(): Promise<void> {
    for (let batch = this.#ready.shift(); batch; batch = this.#ready.shift()) this.#submit(batch);
    while (this.#underWay > this.#limit && this.#failure === undefined) await new Promise<void>((resolve) => (this.#wake = resolve));
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** All bytes have gone by; resolves when every start knows the size of its window. */
  async finish(): Promise<void> {
    const batches = new Set(this.#open.splice(0).map(({ batch }) => batch));
    if (this.#batch) batches.add(this.#batch);
    this.#batch = undefined;
    this.#ready.push(...batches);
    await this.settle();
    await this.#last;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** The first bytes of all windows together. */
  read(size: number): ByteStream {
    return this.#spool.read(0, size);
  }

  /** Waits for what is under way, and removes the spool. */
  async close(): Promise<void> {
    this.#failure ??= new LazypullError('CANCELLED', 'the windows are given up');
    await this.#last;
    await this.#spool.close();
  }

  #fill(batch: Batch): void {
    batch.full += 1;
    if (batch.full === WindowBatch.room) this.#ready.push(batch);
  }

  #submit(batch: Batch): void {
    const packing = batch.windows.pack(this.#workers);
    // Whoever waits for it is told by `#failure`.
    packing.catch(() => undefined);
    this.#underWay += 1;
    this.#last = this.#keep(batch, packing, this.#last);
  }

  /** Never rejects. */
  async #keep({ windows, starts }: Batch, packing: Promise<PackedWindows>, before: Promise<void>): Promise<void> {
    try {
      const { bytes, sizes } = await packing;
      await before;
      if (this.#failure !== undefined) return;
      for (const [i, start] of starts.entries()) start.windowSize = sizes[i] as number;
      await this.#spool.append(bytes);
      windows.clear();
      this.#free.push(windows);
    } catch (error) {
      this.#failure ??= error;
    } finally {
      await before;
      this.#underWay -= 1;
      this.#wake?.();
      this.#wake = undefined;
    }
  }
}
