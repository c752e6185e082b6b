import { LazypullError } from '../../src/core/errors.ts';
import type { Descriptor } from '../../src/core/types.ts';
import type { BlobEntry } from './bootstrap-layout.ts';
import { type ChunkTable, hashAt } from './layer-chunks.ts';
import { MAX_BLOBS, MAX_BLOB_CHUNKS } from './layout.ts';

/** A blob that files of the image may have chunks in. */
export interface NydusBlob {
  readonly chunks: ChunkTable;
  /** Known once the blob is written. */
  facts?: BlobFacts;
}

export interface BlobFacts {
  readonly entry: Omit<BlobEntry, 'index'>;
  /** Of the layer, for the manifest. */
  readonly descriptor: Descriptor;
  /** The uncompressed context table and its header, as the bootstrap layer carries them; undefined when they are not at hand. */
  meta(): { readonly table: Uint8Array; readonly header: Uint8Array } | undefined;
  /** Of another image: has to be brought along. */
  readonly foreign?: boolean;
}

/** Names a chunk of the image: number of its blob and row in it, in 32 bits. */
export type ChunkRef = number;

export function refOf(blob: number, row: number): ChunkRef {
  return blob * MAX_BLOB_CHUNKS + row;
}

export function blobOf(ref: ChunkRef): number {
  return Math.floor(ref / MAX_BLOB_CHUNKS);
}

export function rowOf(ref: ChunkRef): number {
  return ref % MAX_BLOB_CHUNKS;
}

/** Finds chunks by digest: a hash table of references, 8 bytes or so per chunk; the digests are where the chunks are. */
export class ChunkIndex {
  readonly #tables: ChunkTable[];
  /** Reference + 1; 0 is free. */
  #slots = new Uint32Array(1024);
  #used = 0;

  /** Of equal chunks the first one is found. */
  constructor(tables: readonly ChunkTable[]) {
    this.#tables = [...tables];
    for (const [number, table] of tables.entries()) for (let row = 0; row < table.count; row += 1) this.add(number, row);
  }

  /** A further blob; its number. */
  addTable(table: ChunkTable): number {
    return this.#tables.push(table) - 1;
  }

  find(digests: Uint8Array, at: number): ChunkRef | undefined {
    const mask = this.#slots.length - 1;
    for (let slot = hashAt(digests, at) & mask; ; slot = (slot + 1) & mask) {
      const found = this.#slots[slot] as number;
      if (found === 0) return undefined;
      const ref = found - 1;
      if ((this.#tables[blobOf(ref)] as ChunkTable).has(rowOf(ref), digests, at)) return ref;
    }
  }

  add(number: number, row: number): void {
    if (this.#used * 2 >= this.#slots.length) this.#grow();
    this.#put(refOf(number, row));
    this.#used += 1;
  }

  #put(ref: ChunkRef): void {
    const mask = this.#slots.length - 1;
    let slot = (this.#tables[blobOf(ref)] as ChunkTable).hash(rowOf(ref)) & mask;
    while (this.#slots[slot] !== 0) slot = (slot + 1) & mask;
    this.#slots[slot] = ref + 1;
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Uint32Array(old.length * 2);
    // In the order of their references, so that of equal chunks the first one stays the first to be found.
    for (const found of old.filter((slot) => slot !== 0).sort()) this.#put(found - 1);
  }
}

/** What need not be stored again, bytes of content and chunks. */
export interface Savings {
  chunks: number;
  bytes: number;
}

/**
 * The blobs that a layer's files have their chunks in: those of the layers below, the layer's own once it has a chunk, and
 * those of a dictionary that turn out to be of use.
 */
export class BlobList {
  readonly blobs: NydusBlob[];
  readonly own: NydusBlob;
  /** Where repeated chunks were found. */
  readonly saved = { layer: { chunks: 0, bytes: 0 }, below: { chunks: 0, bytes: 0 }, dictionary: { chunks: 0, bytes: 0 } };
  readonly #index: ChunkIndex;
  readonly #dictionary: { readonly blobs: readonly NydusBlob[]; readonly index: ChunkIndex } | undefined;
  #ownNumber: number | undefined;

  /** `own` is the blob that is being written. */
  constructor(below: readonly NydusBlob[], own: NydusBlob, dictionary?: { readonly blobs: readonly NydusBlob[]; readonly index: ChunkIndex }) {
    this.blobs = [...below];
    this.own = own;
    this.#index = new ChunkIndex(below.map(({ chunks }) => chunks));
    this.#dictionary = dictionary;
  }

  /** A chunk of that digest that is stored already. */
  find(digests: Uint8Array, at: number, size: number): ChunkRef | undefined {
    const ref = this.#index.find(digests, at);
    if (ref !== undefined) {
      const blob = blobOf(ref);
      note(blob === this.#ownNumber ? this.saved.layer : (this.blobs[blob] as NydusBlob).facts?.foreign ? this.saved.dictionary : this.saved.below, size);
      return ref;
    }
    const known = this.#dictionary?.index.find(digests, at);
    if (known === undefined) return undefined;
    note(this.saved.dictionary, size);
    const blob = this.#dictionary?.blobs[blobOf(known)] as NydusBlob;
    let number = this.blobs.indexOf(blob);
    if (number < 0) number = this.#push(blob);
    return refOf(number, rowOf(known));
  }

  /** A new chunk, at the end of the own blob. */
  add(digests: Uint8Array, at: number, size: number): ChunkRef {
    this.#ownNumber ??= this.#push(this.own);
    const row = this.own.chunks.add(digests, at, size);
    this.#index.add(this.#ownNumber, row);
    return refOf(this.#ownNumber, row);
  }

  #push(blob: NydusBlob): number {
    if (this.blobs.length === MAX_BLOBS) throw new LazypullError('LIMIT', `an image has more than ${MAX_BLOBS} blobs`);
    this.#index.addTable(blob.chunks);
    return this.blobs.push(blob) - 1;
  }
}

function note(savings: Savings, size: number): void {
  savings.chunks += 1;
  savings.bytes += size;
}
