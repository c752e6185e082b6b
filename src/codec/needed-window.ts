import { concat, copyInto } from '../core/bytes.ts';
import { LazypullError } from '../core/errors.ts';
import type { WorkerPool } from '../core/types.ts';
import { Inflater } from './inflate.ts';
import { matchesIn } from './matches.ts';
import { zstdCompress } from './zstd.ts';

/** How far back a deflate stream can point (RFC 1951, 2): bytes of a whole window. */
export const WINDOW_SIZE = 32_768;
/** Stored bytes that are looked at: enough for 32 KiB of content that does not compress, its headers, and the decoder's look-ahead. */
export const WINDOW_LOOKAHEAD = 40 << 10;
/** zstd level of packed windows. They are short and mostly zeros: higher ones gain a few percent and take three times as long. */
const LEVEL = 3;

/** Entry of the match log: literals in front of it << 23 | length - 3 << 15 | distance - 1. */
const LONG_RUN = 511;

/** A place inside a gzip member where inflating is to begin. */
export interface WindowPlace {
  /** 0..7: bits of the first byte of `packed` that belong to what comes before. */
  readonly bits: number;
  /** The output in front of the place: 32 KiB. */
  readonly window: Uint8Array;
  /** Stored bytes from the place on: `WINDOW_LOOKAHEAD` of them, or all there are. */
  readonly packed: Uint8Array;
}

/** Room for so many places in memory that threads share: what is packed must not be copied on the way to them. */
export class WindowBatch {
  static readonly room = 16;
  readonly #memory = new SharedArrayBuffer(WindowBatch.room * (WINDOW_SIZE + WINDOW_LOOKAHEAD));
  readonly #bytes = new Uint8Array(this.#memory);
  /** Of each place: bits, and stored bytes. */
  #places = new Uint32Array(2 * WindowBatch.room);
  count = 0;

  /** Adds a place whose stored bytes are still to come; its number. `window` is lent. */
  add(bits: number, window: Uint8Array): number {
    const place = this.count++;
    this.#places[2 * place] = bits;
    this.#places[2 * place + 1] = 0;
    copyInto(this.#bytes, window, place * WINDOW_SIZE);
    return place;
  }

  /** Takes the next stored bytes of a place, as many as are looked at; how many it has then. */
  take(place: number, bytes: Uint8Array): number {
    const have = this.#places[2 * place + 1] as number;
    const part = bytes.subarray(0, WINDOW_LOOKAHEAD - have);
    copyInto(this.#bytes, part, WindowBatch.room * WINDOW_SIZE + place * WINDOW_LOOKAHEAD + have);
    return (this.#places[2 * place + 1] = have + part.length);
  }

  /** Packs what the places need of their windows, by a thread if there are several. Equal places give equal bytes everywhere. */
  async pack(workers?: WorkerPool): Promise<PackedWindows> {
    const job: PackJob = { memory: this.#memory, places: this.#places.slice(0, 2 * this.count) };
    return workers && workers.jobs > 1 ? workers.run<PackJob, PackedWindows>('pack-windows', job) : runPackWindows(job);
  }

  /** Empty again. */
  clear(): void {
    this.count = 0;
  }
}

interface PackJob {
  readonly memory: SharedArrayBuffer;
  readonly places: Uint32Array;
}

/** Windows of several places, each packed for itself, back to back. */
export interface PackedWindows {
  readonly bytes: Uint8Array;
  /** Of each place; 0 where nothing in front of it is needed. */
  readonly sizes: Uint32Array;
}

/** The job itself, as the worker script runs it. */
export async function runPackWindows({ memory, places }: PackJob): Promise<PackedWindows> {
  const sizes = new Uint32Array(places.length / 2);
  const parts: Uint8Array[] = [];
  for (let place = 0; place < sizes.length; place += 1) {
    const packed = new Uint8Array(memory, WindowBatch.room * WINDOW_SIZE + place * WINDOW_LOOKAHEAD, places[2 * place + 1]);
    const window = neededWindow({ bits: places[2 * place] as number, window: new Uint8Array(memory, place * WINDOW_SIZE, WINDOW_SIZE), packed });
    if (!window) continue;
    const part = await zstdCompress(window, LEVEL);
    sizes[place] = part.length;
    parts.push(part);
  }
  return { bytes: new Uint8Array(concat(parts)), sizes };
}

/**
 * The window of a place with zeros for all that the stream does not point to: about an eighth is left. Undefined when nothing
 * is. Whatever looks strange keeps the whole window. Good for the stream as far as it is inflated from here.
 */
export function neededWindow({ bits, window, packed }: WindowPlace): Uint8Array | undefined {
  const needed = pointedTo(bits, window, packed);
  if (!needed) return new Uint8Array(window);
  const kept = new Uint8Array(window.length);
  let any = false;
  for (let from = needed.indexOf(1); from >= 0; ) {
    const found = needed.indexOf(0, from);
    const to = found < 0 ? needed.length : found;
    kept.set(window.subarray(from, to), from);
    any = true;
    from = needed.indexOf(1, to);
  }
  return any ? kept : undefined;
}

/** Marks the bytes of a window that are pointed to; undefined when that cannot be told. */
function pointedTo(bits: number, window: Uint8Array, packed: Uint8Array): Uint8Array | undefined {
  const inflater = new Inflater('window');
  try {
    inflater.resume({ bit: bits, out: window.length }, window);
    if (inflater.push(packed) < packed.length) return undefined;
    if (packed.length < WINDOW_LOOKAHEAD) inflater.end();
    // Whatever comes later points to what came out by then.
    if (inflater.decode(WINDOW_SIZE) === 'input') return undefined;
    const matches = matchesIn(inflater.take());
    if (!matches) return undefined;
    const needed = new Uint8Array(window.length);
    let at = matches.lead;
    for (const word of matches.entries) {
      const run = word >>> 23;
      if (run === LONG_RUN) {
        at += word & 0x7f_ffff;
        continue;
      }
      at += run;
      const length = ((word >>> 15) & 255) + 3;
      const from = window.length + at - (word & 0x7fff) - 1;
      if (from < window.length) needed.fill(1, from, Math.min(window.length, from + length));
      at += length;
    }
    return needed;
  } catch (error) {
    // The stream is broken here: its reader will say so.
    if (error instanceof LazypullError && error.code === 'CORRUPT') return undefined;
    throw error;
  } finally {
    inflater.close();
  }
}
