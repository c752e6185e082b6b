import { readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { PAGE_SIZE } from '../../../src/mount/data/pages.ts';

/** What a reading thread is given. */
export interface ReaderOrder {
  readonly fd: number;
  readonly present: SharedArrayBuffer;
  readonly touched: SharedArrayBuffer;
  readonly pages: number;
  /** 1 once it is to end. */
  readonly stop: SharedArrayBuffer;
}

/** What it has found: pages that it would have handed out, and those among them that were wrong. */
export interface ReaderReport {
  readonly read: number;
  readonly wrong: readonly number[];
}

/** Reads pages as a server's thread does: those that are marked as present, and are still when they have been read. Page n is full of the number n. */
function readOn({ fd, present, touched, pages, stop }: ReaderOrder): ReaderReport {
  const bits = new Uint8Array(present);
  const used = new Uint8Array(touched);
  const end = new Int32Array(stop);
  const page = new Uint32Array(PAGE_SIZE / 4);
  const wrong: number[] = [];
  let read = 0;
  for (let n = 0; Atomics.load(end, 0) === 0; n = (n * 7 + 13) % pages) {
    const has = (): boolean => ((Atomics.load(bits, n >> 3) >> (n & 7)) & 1) === 1;
    if (!has()) {
      n = (n + 1) % pages;
      continue;
    }
    readSync(fd, page, 0, PAGE_SIZE, n * PAGE_SIZE);
    if (!has()) continue;
    read += 1;
    if (n % 3 === 0) Atomics.store(used, Math.floor((n * PAGE_SIZE) / (4 << 20)), 1);
    if (page.some((word) => word !== n)) wrong.push(n);
  }
  return { read, wrong };
}

parentPort?.postMessage(readOn(workerData as ReaderOrder));
