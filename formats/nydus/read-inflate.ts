import { corrupt, LazypullError } from '../../src/core/errors.ts';
import type { Chunk } from '../../src/core/types.ts';
import { unpackChunk } from '../../src/codec/unpack-chunk.ts';
import { RafsChunk } from './read-chunks.ts';
import type { LoadedBlob } from './read-tables.ts';
import { inflateWindow } from './zran-read.ts';

/** A stored unit that holds several chunks, by where it begins. */
type Units = ReadonlyMap<number, RafsChunk | null>;

/** How stored bytes become chunks, for all blobs of an image. */
export class ChunkInflater {
  readonly #blobs: readonly LoadedBlob[];
  readonly #units: readonly Units[];

  constructor(blobs: readonly LoadedBlob[]) {
    this.#blobs = blobs;
    this.#units = blobs.map((blob) => ('found' in blob ? unitsOf(blob.found.chunks) : new Map()));
  }

  /** The bytes of a chunk; of a unit that several chunks share, all that is asked for. */
  async inflate(chunk: Chunk, packed: Uint8Array): Promise<Uint8Array> {
    if (chunk instanceof RafsChunk) return this.#inflate(chunk, packed, chunk.skip, chunk.size);
    const one = this.#units[chunk.blob]?.get(chunk.offset);
    if (!one) throw corrupt('no unit of chunks begins there, or more than one', { offset: chunk.offset });
    return this.#inflate(one, packed, 0, chunk.size);
  }

  async #inflate(chunk: RafsChunk, packed: Uint8Array, skip: number, size: number): Promise<Uint8Array> {
    const { packing, home, context, offset } = chunk;
    const blob = this.#blobs[home.blob];
    const found = blob && 'found' in blob ? blob.found : undefined;
    const what = `chunk of blob ${home.blob}`;
    if (blob && 'error' in blob) throw blob.error;
    if (packing === 'hole') return new Uint8Array(size);
    if (packing === 'plain') return packed;
    if (packing === 'packed') return unpackChunk(home.compressor, packed, size, what);
    if (packing === 'zran') {
      const window = found?.windows[context];
      if (!window) throw new LazypullError('INTERNAL', `${what} has no zran context ${context}`, { offset });
      return inflateWindow(window, packed, skip + size, `zran context ${context} of blob ${home.blob}`).subarray(skip);
    }
    const batch = found?.batches[context];
    if (!batch) throw new LazypullError('INTERNAL', `${what} has no batch ${context}`, { offset });
    // What would not have become smaller is stored as it is.
    const plain = batch.compressedSize === batch.uncompressedSize;
    const all = await unpackChunk(plain ? 'none' : home.compressor, packed, batch.uncompressedSize, `batch ${context} of blob ${home.blob}`);
    return all.subarray(skip, skip + size);
  }
}

/** One chunk for each unit; null where units of different contexts begin at one place. */
function unitsOf(chunks: readonly RafsChunk[]): Units {
  const units = new Map<number, RafsChunk | null>();
  for (const chunk of chunks) {
    if (chunk.packing !== 'batch' && chunk.packing !== 'zran') continue;
    const known = units.get(chunk.offset);
    if (known === undefined) units.set(chunk.offset, chunk);
    else if (known && (known.context !== chunk.context || known.packing !== chunk.packing)) units.set(chunk.offset, null);
  }
  return units;
}
