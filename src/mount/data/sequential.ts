import { LazypullError } from '../../core/errors.ts';
import type { Chunk } from '../../core/types.ts';
import { Delivery, type Arrival, type Arrivals } from './arrivals.ts';
import { keepChunks } from './keep-chunks.ts';
import type { OpenedLayer } from './opened-layer.ts';

/**
 * A layer that can only be read from its start. The first chunk that is wanted sets it going, and it goes to the end: everything
 * that comes by is kept. Chunks behind it are fetched like others, should they be wanted again.
 */
export class SequentialPump {
  readonly #layer: OpenedLayer;
  readonly #signal: AbortSignal;
  /** Chunks that have gone by. */
  #next = 0;
  #running = false;
  #finished = false;
  #arrivals: Arrivals | undefined;

  constructor(layer: OpenedLayer, signal: AbortSignal) {
    this.#layer = layer;
    this.#signal = signal;
  }

  /** How far it has come: who waits can see that it goes on. */
  get position(): number {
    return this.#next;
  }

  /** A chunk that will come by; undefined for one that has. */
  want(chunk: number, arrivals: Arrivals): Arrival | undefined {
    if (this.#finished || (this.#running && chunk < this.#next)) return undefined;
    this.#arrivals = arrivals;
    if (!this.#running) {
      this.#running = true;
      this.#next = 0;
      void this.#run();
    }
    return arrivals.add(chunk, new Delivery());
  }

  async #run(): Promise<void> {
    const { chunks } = this.#layer.addresses;
    let failure: unknown;
    try {
      let bytes = room(chunks[0]);
      let filled = 0;
      for await (const piece of this.#layer.sequential?.(this.#signal) ?? []) {
        for (let done = 0; done < piece.length; ) {
          const chunk = chunks[this.#next];
          if (!chunk) break;
          const part = piece.subarray(done, done + chunk.size - filled);
          bytes.set(part, filled);
          filled += part.length;
          done += part.length;
          if (filled < chunk.size) continue;
          await this.#passed(bytes);
          bytes = room(chunks[this.#next]);
          filled = 0;
        }
      }
      this.#finished = chunks.every(({ size }, i) => i < this.#next || size === 0);
      failure = new LazypullError('SIZE_MISMATCH', `the layer ends after ${this.#next} of ${chunks.length} chunks`);
    } catch (error) {
      failure = error;
    }
    this.#running = false;
    // Whoever still waits wants what did not come.
    for (let chunk = this.#next; chunk < chunks.length; chunk += 1) {
      const arrival = this.#arrivals?.get(chunk);
      arrival?.reject(failure);
      arrival?.done();
    }
  }

  async #passed(bytes: Uint8Array): Promise<void> {
    const chunk = this.#next;
    // Announced even if nobody waits: who comes while it is being kept shall find it.
    const arrival = this.#arrivals?.get(chunk) ?? this.#arrivals?.add(chunk, new Delivery());
    this.#next += 1;
    arrival?.resolve(bytes);
    await keepChunks(this.#layer, [[chunk, bytes]]);
    arrival?.done();
  }
}

function room(chunk: Chunk | undefined): Uint8Array {
  return new Uint8Array(chunk?.size ?? 0);
}
