import { PAGE_SIZE } from './pages.ts';

/** Bytes `[from, to)` of a page. */
export interface PagePart {
  readonly page: number;
  readonly from: number;
  readonly to: number;
}

type Part = readonly [number, number];

/**
 * Pages of which some bytes are in the file: where one chunk ends and another begins inside a page, and only one of them has
 * been fetched.
 */
export class TornPages {
  readonly #parts = new Map<number, readonly Part[]>();

  get size(): number {
    return this.#parts.size;
  }

  /** Adds bytes of a page; true once all of it is there, and nothing has to be remembered any more. */
  add(page: number, from: number, to: number): boolean {
    let start = from;
    let end = to;
    const apart: Part[] = [];
    for (const part of this.#parts.get(page) ?? []) {
      if (part[1] < start || part[0] > end) {
        apart.push(part);
      } else {
        start = Math.min(start, part[0]);
        end = Math.max(end, part[1]);
      }
    }
    if (start === 0 && end === PAGE_SIZE) {
      this.#parts.delete(page);
      return true;
    }
    this.#parts.set(page, [...apart, [start, end]]);
    return false;
  }

  /** Whether bytes of a page are there. */
  has(page: number, from: number, to: number): boolean {
    return this.#parts.get(page)?.some((part) => part[0] <= from && part[1] >= to) ?? false;
  }

  /** Forgets the pages `[from, to)`. */
  delete(from: number, to: number): void {
    if (this.#parts.size === 0) return;
    if (to - from < this.#parts.size) for (let page = from; page < to; page += 1) this.#parts.delete(page);
    else for (const page of this.#parts.keys()) if (page >= from && page < to) this.#parts.delete(page);
  }

  /** What is there of the pages `[from, to)`: bytes of the device, ascending, start and end. */
  within(from: number, to: number): readonly Part[] {
    const found: Part[] = [];
    const take = (page: number, parts: readonly Part[]): void => {
      for (const [start, end] of parts) found.push([page * PAGE_SIZE + start, page * PAGE_SIZE + end]);
    };
    if (to - from < this.#parts.size) for (let page = from; page < to; page += 1) take(page, this.#parts.get(page) ?? []);
    else for (const [page, parts] of this.#parts) if (page >= from && page < to) take(page, parts);
    return found.sort((a, b) => a[0] - b[0]);
  }

  *parts(): Generator<PagePart> {
    for (const [page, parts] of this.#parts) for (const [from, to] of parts) yield { page, from, to };
  }
}
