/** Where bytes of a chunk are on a device. */
export interface ChunkPlace {
  /** Number among `LayerAddresses.devices`. */
  readonly device: number;
  readonly address: number;
  /** Byte of the chunk. */
  readonly chunkOffset: number;
  readonly length: number;
  /** Bytes from `address` on that are known when these are: what is behind them is zeros. */
  readonly cover: number;
}

/** A place of a chunk besides its first, and which chunk it is. */
export interface Segment extends ChunkPlace {
  /** Number of the chunk. */
  readonly chunk: number;
}

/** Pieces of files that have regions of their own. They are added by ascending address on each device; most layers have none. */
export class SegmentTable {
  #byDevice: Segment[][] = [];
  /** By chunk. */
  #byChunk = new Map<number, Segment[]>();

  get size(): number {
    return this.#byDevice.reduce((sum, { length }) => sum + length, 0);
  }

  add(segment: Segment): void {
    (this.#byDevice[segment.device] ??= []).push(segment);
    const others = this.#byChunk.get(segment.chunk);
    if (others) others.push(segment);
    else this.#byChunk.set(segment.chunk, [segment]);
  }

  ofChunk(chunk: number): readonly Segment[] {
    return this.#byChunk.get(chunk) ?? NONE;
  }

  ofDevice(device: number): readonly Segment[] {
    return this.#byDevice[device] ?? NONE;
  }

  /** Chunks of the segments that touch bytes `[address, end)` of a device. */
  *at(device: number, address: number, end: number): Generator<number> {
    const segments = this.#byDevice[device] ?? NONE;
    let low = 0;
    let high = segments.length;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const { address: start, length } = segments[middle] as Segment;
      if (start + length <= address) low = middle + 1;
      else high = middle;
    }
    for (let i = low; (segments[i]?.address ?? end) < end; i += 1) yield (segments[i] as Segment).chunk;
  }
}

const NONE: readonly Segment[] = [];
