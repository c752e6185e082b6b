import type { Chunk } from '../core/types.ts';

/**
 * Inflated chunks, least recently used first out, bounded by their bytes. Keyed by the chunk object, so that the readers
 * of several layers may share one cache and one budget.
 */
export class ChunkCache {
  #maxBytes: number;
  readonly #kept = new Map<Chunk, Uint8Array>();
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get maxBytes(): number {
    return this.#maxBytes;
  }

  /** What is too much then goes at once. */
  set maxBytes(maxBytes: number) {
    this.#maxBytes = maxBytes;
    this.#shrink();
  }

  /** Bytes kept now. */
  get bytes(): number {
    return this.#bytes;
  }

  get(chunk: Chunk): Uint8Array | undefined {
    const bytes = this.#kept.get(chunk);
    if (bytes) {
      // A map keeps the order of insertion: taking a key out and putting it back makes it the newest.
      this.#kept.delete(chunk);
      this.#kept.set(chunk, bytes);
    }
    return bytes;
  }

  /** Keeps the bytes unless they alone are larger than the cache. A view of a much larger buffer is copied, or it would keep all of it alive. */
  set(chunk: Chunk, bytes: Uint8Array): void {
    if (bytes.length > this.maxBytes) return;
    const old = this.#kept.get(chunk);
    if (old) {
      this.#kept.delete(chunk);
      this.#bytes -= old.length;
    }
    const own = bytes.buffer.byteLength > bytes.length * 2 ? new Uint8Array(bytes) : bytes;
    this.#kept.set(chunk, own);
    this.#bytes += own.length;
    this.#shrink();
  }

  #shrink(): void {
    for (const [key, value] of this.#kept) {
      if (this.#bytes <= this.#maxBytes) break;
      this.#kept.delete(key);
      this.#bytes -= value.length;
    }
  }
}
