import { LazypullError } from '../../src/core/errors.ts';
import { ALIGNMENT, MAX_BLOB_CHUNKS } from './layout.ts';
import { CHUNK_DIGEST_SIZE } from './blob-layout.ts';

/** Where a chunk is stored in its blob. */
export interface StoredPlace {
  readonly offset: number;
  /** Stored bytes; 0 for a chunk in a batch (§9). */
  readonly size: number;
  /** CHUNK_FLAG. */
  readonly flags: number;
  /** Batch or zran: number of the context, and the offset in what it inflates to. */
  readonly context?: number;
  readonly inner?: number;
}

/**
 * The chunks of one blob as columns: about 60 bytes each, where objects would take 300. A chunk's row is its number in the
 * blob, unless numbers are given (a dictionary knows some of a blob's chunks only).
 */
export class ChunkTable {
  #count = 0;
  #capacity = 0;
  #digests = new Uint8Array(0);
  #sizes = new Uint32Array(0);
  /** Uncompressed offset / 4096. */
  #blocks = new Uint32Array(0);
  #offsets = new Float64Array(0);
  #storedSizes = new Uint32Array(0);
  #flags = new Uint8Array(0);
  #contexts = new Uint32Array(0);
  #inner = new Uint32Array(0);
  readonly #numbers: number[] | undefined;
  #nextBlock = 0;

  /** `numbered`: rows are added by `addNumbered`. */
  constructor(numbered = false) {
    this.#numbers = numbered ? [] : undefined;
  }

  get count(): number {
    return this.#count;
  }

  /** Bytes of the uncompressed address space so far, a multiple of 4096. */
  get uncompressedSize(): number {
    return this.#nextBlock * ALIGNMENT;
  }

  /** All digests back to back; lent. */
  get digests(): Uint8Array {
    return this.#digests.subarray(0, this.#count * CHUNK_DIGEST_SIZE);
  }

  /** Takes the next chunk in; where it is stored is told later. `digests[at]` is its digest's first byte. Returns the row. */
  add(digests: Uint8Array, at: number, size: number): number {
    const block = this.#nextBlock;
    this.#nextBlock += Math.ceil(size / ALIGNMENT);
    if (this.#nextBlock > 2 ** 32) throw new LazypullError('LIMIT', 'a blob has more than 16 TiB of content');
    return this.#push(digests, at, size, block);
  }

  /** Takes a chunk of somebody else's blob in, whose place there is known. */
  addNumbered(number: number, digest: Uint8Array, size: number, uncompressedOffset: number, place: StoredPlace): number {
    const row = this.#push(digest, 0, size, uncompressedOffset / ALIGNMENT);
    this.#numbers?.push(number);
    this.place(row, place);
    return row;
  }

  place(row: number, { offset, size, flags, context = 0, inner = 0 }: StoredPlace): void {
    this.#offsets[row] = offset;
    this.#storedSizes[row] = size;
    this.#flags[row] = flags;
    this.#contexts[row] = context;
    this.#inner[row] = inner;
  }

  /** The chunk's number in its blob. */
  number(row: number): number {
    return this.#numbers ? (this.#numbers[row] as number) : row;
  }

  digest(row: number): Uint8Array {
    return this.#digests.subarray(row * CHUNK_DIGEST_SIZE, (row + 1) * CHUNK_DIGEST_SIZE);
  }

  /** The first 32 bits of its digest. */
  hash(row: number): number {
    return hashAt(this.#digests, row * CHUNK_DIGEST_SIZE);
  }

  has(row: number, digests: Uint8Array, at: number): boolean {
    const own = row * CHUNK_DIGEST_SIZE;
    for (let i = 0; i < CHUNK_DIGEST_SIZE; i += 1) if (this.#digests[own + i] !== digests[at + i]) return false;
    return true;
  }

  size(row: number): number {
    return this.#sizes[row] as number;
  }

  /** Where it is in the uncompressed address space, in units of 4096 bytes. */
  block(row: number): number {
    return this.#blocks[row] as number;
  }

  stored(row: number): Required<StoredPlace> {
    return {
      offset: this.#offsets[row] as number,
      size: this.#storedSizes[row] as number,
      flags: this.#flags[row] as number,
      context: this.#contexts[row] as number,
      inner: this.#inner[row] as number,
    };
  }

  #push(digests: Uint8Array, at: number, size: number, block: number): number {
    const row = this.#count;
    // One less than there are numbers: reference tools do not use the last one.
    if (row >= MAX_BLOB_CHUNKS - 1) throw new LazypullError('LIMIT', `a layer has more than ${MAX_BLOB_CHUNKS - 1} chunks: choose a larger chunk size`);
    if (row === this.#capacity) this.#grow();
    this.#digests.set(digests.subarray(at, at + CHUNK_DIGEST_SIZE), row * CHUNK_DIGEST_SIZE);
    this.#sizes[row] = size;
    this.#blocks[row] = block;
    this.#count += 1;
    return row;
  }

  #grow(): void {
    const capacity = Math.max(256, Math.ceil(this.#capacity * 1.5));
    const larger = <A extends Uint8Array | Uint32Array | Float64Array>(made: A, old: A): A => {
      made.set(old);
      return made;
    };
    this.#capacity = capacity;
    this.#digests = larger(new Uint8Array(capacity * CHUNK_DIGEST_SIZE), this.#digests);
    this.#sizes = larger(new Uint32Array(capacity), this.#sizes);
    this.#blocks = larger(new Uint32Array(capacity), this.#blocks);
    this.#offsets = larger(new Float64Array(capacity), this.#offsets);
    this.#storedSizes = larger(new Uint32Array(capacity), this.#storedSizes);
    this.#flags = larger(new Uint8Array(capacity), this.#flags);
    this.#contexts = larger(new Uint32Array(capacity), this.#contexts);
    this.#inner = larger(new Uint32Array(capacity), this.#inner);
  }
}

/** The first 32 bits of a digest. */
export function hashAt(digests: Uint8Array, at: number): number {
  return ((digests[at] as number) | ((digests[at + 1] as number) << 8) | ((digests[at + 2] as number) << 16) | ((digests[at + 3] as number) << 24)) >>> 0;
}
