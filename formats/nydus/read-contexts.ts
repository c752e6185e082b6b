import { corrupt, LazypullError } from '../../src/core/errors.ts';
import { unpackChunk } from '../../src/codec/unpack-chunk.ts';
import { viewOf } from '../../src/erofs/struct.ts';
import type { BlobEntry } from './bootstrap-layout.ts';
import {
  CHUNK_FLAG, CHUNK_INFO_V1_SIZE, CHUNK_INFO_V2_SIZE, CONTEXT_SIZE, decodeBatchContext, decodeChunkInfoV1, decodeChunkInfoV2, decodeZranContext,
  MAX_DICTIONARY, type BatchContext, type ChunkInfo, type ContextHeader, type ZranContext,
} from './context-layout.ts';
import { ALIGNMENT, BLOB_FEATURE, compressorName, MAX_BLOB_CHUNKS } from './layout.ts';
import { RafsChunk, type ChunkHome } from './read-chunks.ts';

/** Bytes of one context table. Those of zran hold 32 KiB for every MiB of tar. */
export const MAX_CONTEXT_TABLE = 512 << 20;

/** Bytes that a batch or zran context inflates to: about 1 MiB and one chunk are usual. */
const MAX_CONTEXT_OUTPUT = 64 << 20;

/** A zran context with its dictionary. */
export interface ZranWindow extends ZranContext {
  /** 0 to 32 KiB of the tar in front of it. */
  readonly dictionary: Uint8Array;
}

/** A blob's chunks as its context table has them. */
export interface BlobChunks {
  /** By number. */
  readonly chunks: readonly RafsChunk[];
  readonly batches: readonly BatchContext[];
  readonly windows: readonly ZranWindow[];
}

/** Whether a header says the same about its table as the blob table does: readers compare all of it (§7). */
export function checkContextHeader(header: ContextHeader, entry: BlobEntry, what: string, offset: number): void {
  const pairs = [
    ['entries', header.entries, entry.chunkCount],
    ['compressor', header.compressor, entry.contextCompressor],
    ['offset', header.offset, entry.contextOffset],
    ['stored size', header.compressedSize, entry.contextCompressedSize],
    ['size', header.uncompressedSize, entry.contextUncompressedSize],
  ] as const;
  const wrong = pairs.find(([, here, there]) => here !== there);
  if (wrong) throw corrupt(`${what} has ${wrong[0]} ${wrong[1]}, the blob table says ${wrong[2]}`, { offset });
}

/** A stored table as it was before it was compressed. */
export async function unpackContextTable(stored: Uint8Array, entry: BlobEntry, what: string): Promise<Uint8Array> {
  const compressor = compressorName(entry.contextCompressor);
  if (compressor === undefined) throw corrupt(`${what} is compressed by algorithm ${entry.contextCompressor}`, { offset: entry.contextOffset });
  return unpackChunk(compressor, stored, entry.contextUncompressedSize, what);
}

/** Chunks of an uncompressed table; all numbers in it are held against the sizes of the blob. `dataSize`: bytes of the blob with the chunk data. */
export function readChunks(table: Uint8Array, header: ContextHeader, entry: BlobEntry, home: ChunkHome, dataSize: number, what: string): BlobChunks {
  return new ContextReader(table, header, entry, home, dataSize, what).read();
}

class ContextReader {
  readonly #table: Uint8Array;
  readonly #view: DataView;
  readonly #header: ContextHeader;
  readonly #entry: BlobEntry;
  readonly #home: ChunkHome;
  readonly #dataSize: number;
  readonly #what: string;
  #batches: readonly BatchContext[] = [];
  #windows: readonly ZranWindow[] = [];

  constructor(table: Uint8Array, header: ContextHeader, entry: BlobEntry, home: ChunkHome, dataSize: number, what: string) {
    this.#table = table;
    this.#view = viewOf(table);
    this.#header = header;
    this.#entry = entry;
    this.#home = home;
    this.#dataSize = dataSize;
    this.#what = what;
  }

  read(): BlobChunks {
    const { features, chunkCount } = this.#entry;
    if (chunkCount > MAX_BLOB_CHUNKS) throw this.#corrupt(`${chunkCount} chunks`, 0);
    const v2 = (features & BLOB_FEATURE.chunkInfoV2) !== 0;
    const size = v2 ? CHUNK_INFO_V2_SIZE : CHUNK_INFO_V1_SIZE;
    if (this.#table.length < chunkCount * size) throw this.#corrupt(`${this.#table.length} bytes for ${chunkCount} chunks`, 0);
    if ((features & BLOB_FEATURE.encrypted) !== 0) throw new LazypullError('UNSUPPORTED', `${this.#what}: the blob is encrypted`);
    if ((features & (BLOB_FEATURE.batch | BLOB_FEATURE.zran)) !== 0) this.#readContexts(chunkCount * size);
    const chunks: RafsChunk[] = [];
    let reached = -1;
    for (let at = 0; chunks.length < chunkCount; at += size) {
      const info = v2 ? decodeChunkInfoV2(this.#view, at) : decodeChunkInfoV1(this.#view, at);
      if (info.uncompressedOffset <= reached) throw this.#corrupt(`chunk ${chunks.length} is out of order`, at);
      reached = info.uncompressedOffset;
      chunks.push(this.#chunk(info, at));
    }
    return { chunks, batches: this.#batches, windows: this.#windows };
  }

  #chunk(info: ChunkInfo, at: number): RafsChunk {
    const entry = this.#entry;
    const home = this.#home;
    const { flags, uncompressedOffset: address, uncompressedSize: size, compressedOffset: offset, compressedSize: length } = info;
    if (size > entry.chunkSize) throw this.#corrupt(`a chunk of ${size} bytes, above the chunk size of ${entry.chunkSize}`, at);
    if (address % ALIGNMENT !== 0 || address + size > entry.uncompressedSize) throw this.#corrupt(`a chunk of ${size} bytes at ${address} in the ${entry.uncompressedSize} bytes of the blob`, at);
    if ((flags & CHUNK_FLAG.encrypted) !== 0) throw new LazypullError('UNSUPPORTED', `${this.#what}: a chunk is encrypted`, { offset: at });
    if ((flags & CHUNK_FLAG.zran) !== 0) {
      const window = this.#windows[info.high];
      if (!window || info.low + size > window.outSize) throw this.#corrupt(`a chunk of ${size} bytes at ${info.low} of zran context ${info.high}`, at);
      return new RafsChunk(home, { offset: window.inOffset, length: window.inSize, size, skip: info.low, packing: 'zran', address, context: info.high });
    }
    if ((flags & CHUNK_FLAG.batch) !== 0) {
      const batch = this.#batches[info.high];
      if (!batch || info.low + size > batch.uncompressedSize) throw this.#corrupt(`a chunk of ${size} bytes at ${info.low} of batch ${info.high}`, at);
      this.#checkPlace(offset, batch.compressedSize, at);
      return new RafsChunk(home, { offset, length: batch.compressedSize, size, skip: info.low, packing: 'batch', address, context: info.high });
    }
    const packed = (flags & CHUNK_FLAG.compressed) !== 0;
    if (!packed && length !== size) throw this.#corrupt(`a chunk of ${size} bytes is stored as it is, in ${length} bytes`, at);
    this.#checkPlace(offset, length, at);
    const crc = (flags & CHUNK_FLAG.hasCrc) === 0 ? {} : { crc: info.low };
    return new RafsChunk(home, { offset, length, size, packing: packed ? 'packed' : 'plain', address, ...crc });
  }

  #checkPlace(offset: number, length: number, at: number): void {
    if (length === 0 || offset + length > this.#dataSize) throw this.#corrupt(`a chunk is stored in ${length} bytes at ${offset} of the blob's ${this.#dataSize}`, at);
  }

  #readContexts(infos: number): void {
    const { contextsOffset, contextsSize, contexts, entries } = this.#header;
    const end = contextsOffset + contextsSize;
    if (contextsOffset !== infos || end > this.#table.length || contexts > entries || contexts * CONTEXT_SIZE > contextsSize) {
      throw this.#corrupt(`${contexts} contexts in ${contextsSize} bytes at ${contextsOffset} of a table of ${this.#table.length}`, contextsOffset);
    }
    const zran = (this.#entry.features & BLOB_FEATURE.zran) !== 0;
    const places = Array.from({ length: contexts }, (_, i) => contextsOffset + i * CONTEXT_SIZE);
    if (zran) this.#windows = places.map((at) => this.#window(at, contextsOffset + contexts * CONTEXT_SIZE, end));
    else this.#batches = places.map((at) => this.#batch(at));
  }

  #batch(at: number): BatchContext {
    const batch = decodeBatchContext(this.#view, at);
    this.#checkOutput(batch.uncompressedSize, at);
    return batch;
  }

  #checkOutput(size: number, at: number): void {
    if (size > MAX_CONTEXT_OUTPUT) throw new LazypullError('LIMIT', `${this.#what}: a context inflates to ${size} bytes, ${MAX_CONTEXT_OUTPUT} are allowed`, { offset: at });
  }

  #window(at: number, dictionaries: number, end: number): ZranWindow {
    const context = decodeZranContext(this.#table, at);
    const { inOffset, inSize, dictOffset, dictSize, bits } = context;
    const start = dictionaries + dictOffset;
    if (dictSize > MAX_DICTIONARY || start + dictSize > end) throw this.#corrupt(`a dictionary of ${dictSize} bytes at ${dictOffset}`, at);
    if (inOffset + inSize > this.#dataSize) throw this.#corrupt(`a zran context of ${inSize} bytes at ${inOffset} of a layer of ${this.#dataSize}`, at);
    this.#checkOutput(context.outSize, at);
    if (bits > 7 || (bits > 0 && inOffset === 0)) throw this.#corrupt(`a zran context that begins with ${bits} bits in front of byte ${inOffset}`, at);
    return { ...context, dictionary: this.#table.subarray(start, start + dictSize) };
  }

  #corrupt(message: string, at: number): LazypullError {
    return corrupt(`${this.#what}: ${message}`, { offset: at });
  }
}
