import type { Digest } from '../../src/core/digest.ts';
import { corrupt } from '../../src/core/errors.ts';
import type { Chunk, Extent } from '../../src/core/types.ts';
import type { SpanRange, Ztoc } from './layout.ts';

/** A zTOC's spans as a layer's chunks: one for each, in order. */
export class SpanChunks {
  readonly chunks: readonly Chunk[];
  /** Where a span begins in the tar is the sum of the sizes in front of it. */
  readonly tiles: boolean;
  readonly #starts: readonly number[];
  readonly #end: number;

  /** CORRUPT when spans go back or reach outside the layer. `what` names the zTOC in messages. */
  constructor(ranges: readonly SpanRange[], digests: readonly Digest[], { packedSize, tarSize }: Pick<Ztoc, 'packedSize' | 'tarSize'>, what: string) {
    const starts: number[] = [];
    let before: SpanRange | undefined;
    this.chunks = ranges.map((range, i): Chunk => {
      const { packedStart, packedEnd, tarStart } = range;
      if (i === 0 ? tarStart !== 0 : tarStart < (before as SpanRange).tarStart || packedStart < (before as SpanRange).packedStart) {
        throw corrupt(`${what}: span ${i} begins at byte ${packedStart} of the layer and ${tarStart} of the tar, which is not where the one before ends`, { offset: packedStart });
      }
      if (packedEnd > packedSize || packedStart > packedEnd) throw corrupt(`${what}: span ${i} reaches from byte ${packedStart} to ${packedEnd} of the layer's ${packedSize}`, { offset: packedStart });
      const packedDigest = digests[i];
      if (packedDigest === undefined) throw corrupt(`${what}: span ${i} has no digest`, { offset: packedStart });
      starts.push(tarStart);
      before = range;
      // Where the builder stopped counting may lie in front of the last checkpoints, when zeros pad the tar (notes §2.6).
      const size = Math.max(0, range.tarEnd - tarStart);
      return { blob: 0, offset: packedStart, length: packedEnd - packedStart, size, packedDigest };
    });
    this.#starts = starts;
    this.#end = tarSize;
    let sum = 0;
    this.tiles = this.chunks.every(({ size }, i) => {
      sum += size;
      return starts[i] === sum - size;
    });
  }

  /** The bytes `[start, end)` of the tar, as extents that begin at 0; none when there are none. */
  extents(start: number, end: number): Extent[] {
    if (end > this.#end) throw corrupt(`bytes ${start} to ${end} of the tar are behind its end at ${this.#end}`, { offset: start });
    const extents: Extent[] = [];
    for (let span = this.#spanOf(start), at = start; at < end; span++) {
      const chunk = this.chunks[span];
      if (!chunk) throw corrupt(`no span has byte ${at} of the tar`, { offset: at });
      const chunkOffset = at - (this.#starts[span] as number);
      const length = Math.min(end - at, chunk.size - chunkOffset);
      // Empty ones can be passed over; the next begins where they end.
      if (length <= 0) continue;
      extents.push({ fileOffset: at - start, length, chunk, chunkOffset });
      at += length;
    }
    return extents;
  }

  /** The last span that begins at or before a byte of the tar (notes §6.1). */
  #spanOf(at: number): number {
    let low = 0;
    let high = this.#starts.length;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if ((this.#starts[middle] as number) <= at) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }
}
