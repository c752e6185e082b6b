import { isAbort, throwIfAborted } from '../../core/errors.ts';
import type { FileMap, FileRun } from './file-map.ts';
import type { LayerDevice } from './opened-layer.ts';
import { PAGE_SIZE } from './pages.ts';
import type { FetchClass } from './types.ts';

type Run = readonly [number, number];
type Fetch = (device: LayerDevice, runs: readonly Run[], of: FetchClass, signal: AbortSignal) => Promise<void>;

/** Pieces that are fetched side by side, and bytes of one. */
const LANES = 3;
const PIECE = 4 << 20;
/** Failures in a row after which the rest is not tried any more. */
const MAX_FAILURES = 3;
/** How often it is looked whether everything is there, ms. */
const LOOK = 100;

/** Fetches large parts of the devices, and knows what is still to come. */
export class Filler {
  readonly #devices: readonly LayerDevice[];
  readonly #fetch: Fetch;
  /** A run that was missing when it was looked at last. */
  #last: FileRun | undefined;

  constructor(devices: readonly LayerDevice[], fetch: Fetch) {
    this.#devices = devices;
    this.#fetch = fetch;
  }

  /** Fetches what is missing of some runs, in their order. Rejects with the first failure once the others have been tried. */
  async fetch(runs: Iterable<FileRun>, of: FetchClass, signal: AbortSignal): Promise<{ readonly bytes: number; readonly fetched: number }> {
    let [bytes, fetched, failures] = [0, 0, 0];
    let failure: { readonly error: unknown } | undefined;
    const pieces = this.#pieces(runs, (length) => void (bytes += length));
    const lane = async (): Promise<void> => {
      for (let next = pieces.next(); !next.done && failures < MAX_FAILURES; next = pieces.next()) {
        throwIfAborted(signal);
        const { device, runs: wanted } = next.value;
        try {
          await this.#fetch(device, wanted, of, signal);
          for (const [from, to] of wanted) fetched += to - from;
          failures = 0;
        } catch (error) {
          if (isAbort(error)) throw error;
          failure ??= { error };
          failures += 1;
        }
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    if (failure) throw failure.error;
    return { bytes, fetched };
  }

  /** Bytes of some runs that are not here. */
  lacking(runs: Iterable<FileRun>): number {
    let sum = 0;
    for (const run of runs) {
      if (this.#has(run)) continue;
      const { device, address, length } = run;
      for (const [from, to] of this.#devices[device]?.device.missing(address, length) ?? []) sum += Math.ceil((to - from) / PAGE_SIZE) * PAGE_SIZE;
    }
    return sum;
  }

  /** Whether all that files show is here. */
  complete(map: FileMap): boolean {
    // Mostly it is still the same one.
    if (this.#last && !this.#has(this.#last)) return false;
    for (const run of map.runs()) {
      if (this.#has(run)) continue;
      this.#last = run;
      return false;
    }
    return true;
  }

  async whenComplete(map: FileMap, signal: AbortSignal): Promise<void> {
    while (!this.complete(map)) {
      throwIfAborted(signal);
      await new Promise<void>((resolve) => {
        const done = (): void => {
          clearTimeout(timer);
          signal.removeEventListener('abort', done);
          resolve();
        };
        const timer = setTimeout(done, LOOK);
        signal.addEventListener('abort', done, { once: true });
      });
    }
  }

  #has({ device, address, length }: FileRun): boolean {
    return this.#devices[device]?.device.has(address, length) ?? false;
  }

  /** What is missing, in pieces that are worth a request; looked at when it is its turn. */
  *#pieces(runs: Iterable<FileRun>, onRun: (length: number) => void): Generator<{ readonly device: LayerDevice; readonly runs: readonly Run[] }> {
    let open: { readonly device: LayerDevice; readonly runs: Run[] } | undefined;
    let room = 0;
    for (const { device: number, address, length } of runs) {
      const device = this.#devices[number];
      onRun(length);
      if (!device || device.device.has(address, length)) continue;
      for (const [start, end] of device.device.missing(address, length)) {
        for (let from = start; from < end; ) {
          if (open && (open.device !== device || room <= 0)) {
            yield open;
            open = undefined;
          }
          if (!open) {
            open = { device, runs: [] };
            room = PIECE;
          }
          const to = Math.min(end, from + room);
          open.runs.push([from, to]);
          room -= to - from;
          from = to;
        }
      }
    }
    if (open) yield open;
  }
}
