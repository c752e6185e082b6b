import type { FileHandle } from 'node:fs/promises';
import { LazypullError, wrapError } from '../../core/errors.ts';
import { takeRoom } from '../../core/room.ts';
import { checkRange } from '../../core/source.ts';
import type { ServedDevice } from '../types.ts';
import { bytesFor, PageSet, PAGE_SIZE, touchedPages, wholePages } from './pages.ts';
import type { Presence } from './presence.ts';
import { TornPages, type PagePart } from './torn-pages.ts';
import { writeParts, type StoredPart } from './write-parts.ts';

/** Bytes that are evicted together. */
export const REGION_SIZE = 4 << 20;
const REGION_PAGES = REGION_SIZE / PAGE_SIZE;
/**
 * Evicted pages that are fetched again are kept from other threads for this long (ms): one that has been stopped in the middle
 * of reading the emptied page must not find it marked as present when it looks again.
 */
const COOLING = 2000;

type Run = readonly [number, number];

/** What a device wants of the cache that it is in. */
export interface DeviceHome {
  /** Whether bytes may be written; what is in the way has been evicted by then. */
  room(bytes: number): Promise<boolean>;
  wrote(bytes: number): void;
  failed(error: LazypullError): void;
}

/**
 * A device's local file, and which pages of it are there. Bytes are put in once they are proven, so whatever is there is
 * right. With a file that does not store (`/dev/null`) nothing is ever there.
 */
export class CachedDevice implements ServedDevice {
  readonly key: string;
  readonly size: number;
  readonly fd: number;
  readonly present: SharedArrayBuffer;
  /** By region of 4 MiB: set to 1 by other threads that have read from the file there. */
  readonly touched: SharedArrayBuffer;
  /** Nothing is taken out of the file any more. */
  sealed = false;
  /** All bytes are in the file, and those that cannot be read yet are only to be proven by the layer's index. */
  whole = false;
  /** Whether bytes can be kept at all. */
  readonly stores: boolean;
  /** Which version of the list on disk was taken over last. */
  seen = '';
  readonly #file: FileHandle;
  readonly #home: DeviceHome;
  /** What is in the file; `#shown` of it is what other threads may read by themselves. */
  readonly #written: PageSet;
  readonly #shown: PageSet;
  /** What of it is on disk for sure. */
  readonly #durable: PageSet;
  readonly #torn = new TornPages();
  #durableParts: readonly PagePart[] = [];
  #tornChanged = false;
  readonly #hidden = new Set<number>();
  /** By region: until when its pages are not shown. */
  readonly #cooling = new Map<number, number>();
  readonly #held = new Set<Run>();
  readonly #writes = new Set<{ readonly pages: readonly Run[]; readonly done: Promise<unknown> }>();
  /** Evicted since the last sync began. */
  #gone: Run[] = [];
  /** By region: when it was last used, ms. */
  readonly #used: Float64Array;

  /** `stores`: whether the file is one that bytes can be put into. */
  constructor(key: string, size: number, home: DeviceHome, handle: FileHandle, stores: boolean) {
    const pages = size / PAGE_SIZE;
    this.key = key;
    this.size = size;
    this.fd = handle.fd;
    this.stores = stores;
    this.#file = handle;
    this.#home = home;
    this.present = new SharedArrayBuffer(bytesFor(pages));
    this.#shown = new PageSet(pages, this.present);
    this.#written = new PageSet(pages);
    this.#durable = new PageSet(pages);
    this.#used = new Float64Array(Math.ceil(size / REGION_SIZE));
    this.touched = new SharedArrayBuffer(this.#used.length);
  }

  /** Bytes in the file, in whole pages. */
  get localBytes(): number {
    return this.#written.count * PAGE_SIZE;
  }

  has(address: number, length: number): boolean {
    const [from, to] = touchedPages(address, length);
    return this.#written.hasAll(from, to) || this.missing(address, length).next().done === true;
  }

  /** The bytes of a range that are not here, as [address, end). */
  *missing(address: number, length: number): Generator<Run> {
    const end = address + length;
    for (const [first, last] of this.#written.runs(...touchedPages(address, length), false)) {
      let from = Math.max(address, first * PAGE_SIZE);
      const to = Math.min(end, last * PAGE_SIZE);
      for (const [start, stop] of this.#torn.size === 0 ? [] : this.#torn.within(first, last)) {
        if (start > from && from < to) yield [from, Math.min(start, to)];
        from = Math.max(from, stop);
      }
      if (from < to) yield [from, to];
    }
  }

  /** Puts proven bytes into the file. False when they could not be kept: somebody evicts there just now, or there is no room. */
  async write(parts: readonly StoredPart[]): Promise<boolean> {
    if (!this.stores) return false;
    if (this.whole) {
      for (const { address, cover } of parts) this.#mark(address, cover);
      return true;
    }
    let bytes = 0;
    for (const part of parts) bytes += part.bytes.length;
    if (!(await this.#home.room(bytes))) return false;
    const pages = parts.map(({ address, cover }) => touchedPages(address, cover));
    if (pages.some((run) => overlaps(run, this.#held))) return false;
    const done = this.#write(parts);
    const write = { pages, done };
    this.#writes.add(write);
    try {
      await done;
      this.#home.wrote(bytes);
      return true;
    } catch (error) {
      this.#home.failed(wrapError(error, 'IO', 'cannot write to the cache', { path: this.key }));
      return false;
    } finally {
      this.#writes.delete(write);
    }
  }

  async #write(parts: readonly StoredPart[]): Promise<void> {
    await writeParts(this.#file, parts);
    // Nothing waits from here on: whoever waits for this write finds all of it marked.
    const now = Date.now();
    for (const { address, cover } of parts) {
      this.#mark(address, cover);
      for (let region = Math.floor(address / REGION_SIZE); region * REGION_SIZE < address + cover; region += 1) this.#used[region] = now;
    }
  }

  #mark(address: number, length: number): void {
    const [first, last] = touchedPages(address, length);
    const [from, to] = wholePages(address, length);
    this.#written.add(from, to);
    for (const page of new Set([first, last - 1])) {
      if (page >= from && page < to) continue;
      this.#tornChanged = true;
      const start = page * PAGE_SIZE;
      const whole = this.#torn.add(page, Math.max(0, address - start), Math.min(PAGE_SIZE, address + length - start));
      if (whole) this.#written.add(page, page + 1);
    }
    this.#show(first, last);
  }

  /** Bytes from the file; undefined when they are not there, or not any more. */
  async read(address: number, length: number): Promise<Uint8Array | undefined> {
    checkRange(this, address, length);
    if (!this.stores || !this.has(address, length)) return undefined;
    const bytes = await this.#readFile(address, length);
    return this.has(address, length) ? bytes : undefined;
  }

  /** The same for a file that is whole, whether others see the bytes yet or not. */
  async readWhole(address: number, length: number): Promise<Uint8Array | undefined> {
    checkRange(this, address, length);
    return this.whole ? this.#readFile(address, length) : undefined;
  }

  async #readFile(address: number, length: number): Promise<Uint8Array> {
    const bytes = takeRoom(length);
    try {
      for (let done = 0; done < length; ) {
        const { bytesRead } = await this.#file.read(bytes, done, length - done, address + done);
        if (bytesRead === 0) throw new LazypullError('SIZE_MISMATCH', 'the file of the cache has become shorter', { path: this.key, offset: address + done });
        done += bytesRead;
      }
    } catch (error) {
      throw wrapError(error, 'IO', 'cannot read from the cache', { path: this.key, offset: address });
    }
    return bytes;
  }

  /** Other threads may read what is there of these bytes by themselves. */
  show(address: number, length: number): void {
    const [from, to] = touchedPages(address, length);
    for (const page of this.#hidden) if (page >= from && page < to) this.#hidden.delete(page);
    const now = Date.now();
    for (let region = Math.floor(address / REGION_SIZE); region * REGION_SIZE < address + length; region += 1) this.#used[region] = now;
    this.#show(from, to);
  }

  /** Other threads are to ask for this page the next time, even if it is there. */
  hide(page: number): void {
    this.#hidden.add(page);
    this.#shown.delete(page, page + 1);
  }

  #show(from: number, to: number): void {
    for (const [start, end] of this.#written.runs(from, to)) {
      if (this.#hidden.size === 0 && this.#cooling.size === 0) {
        this.#shown.add(start, end);
        continue;
      }
      for (let page = start; page < end; page += 1) if (!this.#hidden.has(page) && !this.#isCooling(page)) this.#shown.add(page, page + 1);
    }
  }

  #isCooling(page: number): boolean {
    const region = Math.floor(page / REGION_PAGES);
    const until = this.#cooling.get(region);
    if (until === undefined) return false;
    if (Date.now() < until) return true;
    this.#cooling.delete(region);
    return false;
  }

  /**
   * Lets go of pages: when this resolves nobody takes them for present, and nobody writes them until the result is called.
   * Reads that are under way notice.
   */
  async hold(from: number, to: number): Promise<() => void> {
    const run: Run = [from, to];
    this.#held.add(run);
    await Promise.allSettled([...this.#writes].filter(({ pages }) => pages.some((other) => overlaps(other, [run]))).map(({ done }) => done));
    this.#shown.delete(from, to);
    this.#written.delete(from, to);
    this.#durable.delete(from, to);
    this.#torn.delete(from, to);
    this.#durableParts = this.#durableParts.filter(({ page }) => page < from || page >= to);
    this.#gone.push(run);
    for (let region = Math.floor(from / REGION_PAGES); region * REGION_PAGES < to; region += 1) this.#cooling.set(region, Date.now() + COOLING);
    return () => {
      this.#held.delete(run);
      // Whoever asked for it may have thought better of it: the list on disk tells.
      this.seen = '';
    };
  }

  /** Takes over what is known to be in the file. */
  restore({ runs, parts, sealed, whole }: Omit<Presence, 'size'>): void {
    this.sealed ||= sealed;
    this.whole ||= whole;
    for (const [from, to] of runs) {
      this.#written.add(from, to);
      this.#durable.add(from, to);
      this.#show(from, to);
    }
    for (const { page, from, to } of parts) if (!this.#written.has(page)) this.#mark(page * PAGE_SIZE + from, to - from);
  }

  /** Whether there is something to be made durable. */
  get dirty(): boolean {
    return this.#written.count !== this.#durable.count || this.#tornChanged;
  }

  /** Makes what is in the file last. When the disk fails at that, what was not durable yet counts as lost. */
  async sync(): Promise<void> {
    const fresh: Run[] = [];
    for (const [start, end] of this.#written.runs()) fresh.push(...this.#durable.runs(start, end, false));
    const parts = [...this.#torn.parts()];
    this.#gone = [];
    this.#tornChanged = false;
    try {
      await this.#file.datasync();
    } catch (error) {
      for (const [from, to] of fresh) {
        this.#shown.delete(from, to);
        this.#written.delete(from, to);
      }
      this.#torn.delete(0, this.#written.pages);
      throw wrapError(error, 'IO', 'cannot write the cache to disk', { path: this.key });
    }
    for (const [from, to] of fresh) this.#durable.add(from, to);
    for (const [from, to] of this.#gone) this.#durable.delete(from, to);
    // Fetched again while the sync was under way: not on disk yet.
    for (const [from, to] of this.#gone) this.#tornChanged ||= this.#written.next(from, to, true) < to;
    this.#durableParts = parts.filter(({ page }) => !overlaps([page, page + 1], this.#gone));
  }

  /** What is on disk for sure. */
  durable(): Presence {
    return { size: this.size, sealed: this.sealed, whole: this.whole, runs: [...this.#durable.runs()], parts: this.#durableParts };
  }

  /** Regions with something in them, and when they were last used. */
  *regions(): Generator<{ readonly from: number; readonly to: number; readonly bytes: number; readonly used: number }> {
    const touched = new Uint8Array(this.touched);
    for (let region = 0; region < this.#used.length; region += 1) {
      // What a thread has read since the last look counts as used now.
      if (Atomics.exchange(touched, region, 0) === 1) this.#used[region] = Date.now();
      const from = region * REGION_PAGES;
      const to = Math.min(from + REGION_PAGES, this.#written.pages);
      let pages = 0;
      for (const [start, end] of this.#written.runs(from, to)) pages += end - start;
      if (pages > 0) yield { from, to, bytes: pages * PAGE_SIZE, used: this.#used[region] as number };
    }
  }

  async close(): Promise<void> {
    this.#shown.delete(0, this.#shown.pages);
    await Promise.allSettled([...this.#writes].map(({ done }) => done));
    await this.#file.close();
  }
}

function overlaps([from, to]: Run, runs: Iterable<Run>): boolean {
  for (const [start, end] of runs) if (start < to && from < end) return true;
  return false;
}
