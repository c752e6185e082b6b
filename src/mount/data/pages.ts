/** Bytes of a page: the unit that is present in a cache file or not. */
export const PAGE_SIZE = 4096;

/** Pages of `[address, address + length)` that lie in it as wholes: from, to. */
export function wholePages(address: number, length: number): readonly [number, number] {
  const from = Math.ceil(address / PAGE_SIZE);
  return [from, Math.max(from, Math.floor((address + length) / PAGE_SIZE))];
}

/** Pages that `[address, address + length)` touches: from, to. */
export function touchedPages(address: number, length: number): readonly [number, number] {
  const from = Math.floor(address / PAGE_SIZE);
  return [from, length === 0 ? from : Math.ceil((address + length) / PAGE_SIZE)];
}

/**
 * A set of pages, one bit each: bit n % 8 of byte n / 8. Over shared memory other threads may look while this one, the only
 * one that writes, goes on.
 */
export class PageSet {
  /** How many pages there are to choose from. */
  readonly pages: number;
  readonly #bits: Uint8Array;
  readonly #shared: boolean;
  #count = 0;

  constructor(pages: number, memory?: SharedArrayBuffer) {
    this.pages = pages;
    this.#bits = memory ? new Uint8Array(memory) : new Uint8Array(bytesFor(pages));
    this.#shared = memory !== undefined;
  }

  /** Pages in the set. */
  get count(): number {
    return this.#count;
  }

  has(page: number): boolean {
    return (((this.#bits[page >>> 3] as number) >>> (page & 7)) & 1) === 1;
  }

  hasAll(from: number, to: number): boolean {
    return this.next(from, to, false) === to;
  }

  /** Puts the pages `[from, to)` in. */
  add(from: number, to: number): void {
    this.#change(from, to, true);
  }

  /** Takes the pages `[from, to)` out. */
  delete(from: number, to: number): void {
    this.#change(from, to, false);
  }

  /** The first page of `[from, to)` that is in the set (`inside`) or not in it; `to` when there is none. */
  next(from: number, to: number, inside: boolean): number {
    const bits = this.#bits;
    const skip = inside ? 0x00 : 0xff;
    let page = from;
    while (page < to) {
      const byte = bits[page >>> 3] as number;
      if (byte === skip) {
        page = (page | 7) + 1;
      } else if ((((byte >>> (page & 7)) & 1) === 1) === inside) {
        return page;
      } else {
        page += 1;
      }
    }
    return to;
  }

  /** Runs of pages inside `[from, to)` that are in the set (`inside`) or not in it. */
  *runs(from = 0, to = this.pages, inside = true): Generator<readonly [number, number]> {
    for (let start = this.next(from, to, inside); start < to; ) {
      const end = this.next(start, to, !inside);
      yield [start, end];
      start = this.next(end, to, inside);
    }
  }

  #change(from: number, to: number, on: boolean): void {
    for (let page = from; page < to; ) {
      const at = page >>> 3;
      const end = Math.min(to, (page | 7) + 1);
      // Never more than eight bits.
      const mask = ((1 << (end - page)) - 1) << (page & 7);
      const old = this.#bits[at] as number;
      const changed = (on ? ~old : old) & mask;
      if (changed !== 0) {
        this.#count += on ? bitsIn(changed) : -bitsIn(changed);
        this.#put(at, on ? old | mask : old & ~mask);
      }
      page = end;
    }
  }

  #put(at: number, value: number): void {
    if (this.#shared) Atomics.store(this.#bits, at, value);
    else this.#bits[at] = value;
  }
}

/** Bytes of a set's bits. */
export function bytesFor(pages: number): number {
  return Math.ceil(pages / 8);
}

function bitsIn(byte: number): number {
  let count = 0;
  for (let rest = byte; rest !== 0; rest &= rest - 1) count += 1;
  return count;
}
