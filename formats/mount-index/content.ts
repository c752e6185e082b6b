import { corrupt, LazypullError } from '../../src/core/errors.ts';
import type { ByteSource, Chunk, Extent, OpenLayer } from '../../src/core/types.ts';
import { recheckPart } from '../../src/codec/recheck.ts';
import { inflatePart, type GzipPart } from '../../src/codec/resume.ts';
import { zstdDecompress } from '../../src/codec/zstd.ts';
import { MAX_UNIT, type LayerHead } from './layout.ts';
import { LayerStream, StreamedTar } from './layer-stream.ts';
import { NO_WINDOW, Windows } from './read-windows.ts';
import type { TarContent } from './tar-file.ts';
import type { LayerIndexBlob } from './layer-index.ts';

/** Zeros of one extent at most. */
const MAX_HOLE = 4 << 20;

/** The content of a layer: its pieces as chunks, and how they are inflated. */
export class LayerContent implements TarContent {
  readonly head: LayerHead;
  /** One for each piece. */
  readonly chunks: readonly Chunk[];
  readonly sources: readonly ByteSource[];
  /** Some of it can only be read from the start of the layer. */
  readonly sequential: boolean;
  readonly #blob: LayerIndexBlob;
  readonly #layer: ByteSource;
  readonly #windows: Windows;
  /** Stored offset of a unit -> its first piece. */
  readonly #units = new Map<number, number>();
  /** Nothing of it is stored, and it is no part of the tar. */
  readonly #hole: Chunk;

  constructor(blob: LayerIndexBlob, head: LayerHead, layer: ByteSource) {
    this.head = head;
    this.#blob = blob;
    this.#layer = layer;
    this.#windows = new Windows(blob, head.pieces);
    const chunks = this.#unitChunks();
    this.sequential = chunks === undefined;
    this.chunks = chunks ?? this.#tarChunks();
    const source = this.sequential ? new StreamedTar(this.#stream()) : layer;
    this.sources = [source];
    this.#hole = { blob: 0, offset: source.size, length: 0, size: MAX_HOLE };
  }

  /** What an `OpenLayer` has of this. */
  reading(): Pick<OpenLayer, 'inflate' | 'recheck' | 'check' | 'prepare' | 'sequential'> {
    if (this.sequential) return { inflate: async (chunk, bytes) => filled(chunk) ?? bytes, sequential: (signal) => this.#stream().read(signal) };
    switch (this.head.compression) {
      case 'none':
        return { inflate: async (chunk, bytes) => filled(chunk) ?? bytes };
      case 'zstd':
        return { inflate: async (chunk, packed) => filled(chunk) ?? this.#zstd(chunk, packed) };
      case 'gzip':
        return {
          inflate: async (chunk, packed) => filled(chunk) ?? inflated(chunk, await this.#windows.use(this.#unitOf(chunk), (window) => inflatePart(this.#part(chunk, packed, window)))),
          recheck: async (chunk, packed) => filled(chunk) ?? inflated(chunk, await recheckPart(this.#part(chunk, packed, await this.#windows.stored(this.#unitOf(chunk))))),
          check: (chunk, bytes) => this.#check(chunk, bytes),
          prepare: (chunks, signal) => this.#windows.prepare(chunks.flatMap((chunk) => this.#units.get(chunk.offset) ?? []), signal),
        };
    }
  }

  *extents(start: number, end: number, fileOffset: number): Generator<Extent> {
    const { pieces } = this.head;
    for (let piece = pieces.at(start), at = start; at < end; piece += 1) {
      const chunk = this.chunks[piece];
      if (!chunk) throw corrupt(`${this.#blob.what} has no piece for byte ${at} of the tar`);
      const out = pieces.out(piece);
      const length = Math.min(end, out + chunk.size) - at;
      yield { fileOffset: fileOffset + (at - start), length, chunk, chunkOffset: at - out };
      at += length;
    }
  }

  *hole(fileOffset: number, length: number): Generator<Extent> {
    for (let done = 0; done < length; done += MAX_HOLE) yield { fileOffset: fileOffset + done, length: Math.min(MAX_HOLE, length - done), chunk: this.#hole, chunkOffset: 0 };
  }

  /** Chunks that are read from the layer as it is stored; undefined when a unit is too large for that. */
  #unitChunks(): Chunk[] | undefined {
    const { pieces } = this.head;
    const chunks: Chunk[] = [];
    for (let first = 0; first < pieces.count; ) {
      const end = pieces.endOfUnit(first);
      const [from, to] = pieces.packedRange(first, end);
      const out = pieces.out(first);
      if (to - from > MAX_UNIT || pieces.out(end) - out > MAX_UNIT) return undefined;
      this.#units.set(from, first);
      for (let piece = first; piece < end; piece += 1) {
        const skip = pieces.out(piece) - out;
        chunks.push({ blob: 0, offset: from, length: to - from, size: pieces.out(piece + 1) - pieces.out(piece), ...(skip > 0 && { skip }), digest: pieces.digest(piece) });
      }
      first = end;
    }
    return chunks;
  }

  /** Chunks of the plain tar, which is then the source. */
  #tarChunks(): Chunk[] {
    const { pieces } = this.head;
    return Array.from({ length: pieces.count }, (_, piece) => {
      const offset = pieces.out(piece);
      const size = pieces.out(piece + 1) - offset;
      return { blob: 0, offset, length: size, size, digest: pieces.digest(piece) };
    });
  }

  #stream(): LayerStream {
    return new LayerStream(this.#layer, this.head, `layer ${this.#blob.blob.layer}`);
  }

  #unitOf({ offset }: Chunk): number {
    const first = this.#units.get(offset);
    if (first === undefined) throw new LazypullError('INTERNAL', `${this.#blob.what} has no piece at byte ${offset}`);
    return first;
  }

  #part(chunk: Chunk, packed: Uint8Array, window: Uint8Array): GzipPart {
    const { pieces } = this.head;
    const first = this.#unitOf(chunk);
    return {
      start: { bit: pieces.start(first) as number, out: pieces.out(first) },
      window,
      packed,
      size: (chunk.skip ?? 0) + chunk.size,
      what: `layer ${this.#blob.blob.layer}, piece at byte ${chunk.offset}`,
    };
  }

  async #zstd(chunk: Chunk, packed: Uint8Array): Promise<Uint8Array> {
    const { pieces } = this.head;
    const first = this.#unitOf(chunk);
    const size = pieces.out(pieces.endOfUnit(first)) - pieces.out(first);
    const bytes = await zstdDecompress(packed, size, `layer ${this.#blob.blob.layer}, piece at byte ${chunk.offset}`);
    const { skip = 0 } = chunk;
    return bytes.subarray(skip, skip + chunk.size);
  }

  /** A chunk was inflated and is right by its digest: what comes right behind it need not fetch its window. */
  #check(chunk: Chunk, bytes: Uint8Array): undefined {
    const first = this.#units.get(chunk.offset);
    if (first === undefined) return undefined;
    const end = this.head.pieces.endOfUnit(first);
    if (end < this.head.pieces.count && bytes.length >= NO_WINDOW.length && this.head.pieces.out(first) + (chunk.skip ?? 0) + bytes.length === this.head.pieces.out(end)) this.#windows.put(end, bytes);
    return undefined;
  }
}

/** A chunk's own of what came out of its unit. */
function inflated({ skip = 0 }: Chunk, bytes: Uint8Array): Uint8Array {
  return bytes.subarray(skip);
}

/** Zeros, for a hole: nothing of it is stored. */
function filled({ length, size }: Chunk): Uint8Array | undefined {
  return length === 0 ? new Uint8Array(size) : undefined;
}
