import { TAR_BLOCK } from './layout.ts';

/** Header bytes of about 128 plain entries share one allocation: an allocation each would dominate the parse. */
const SLAB_SIZE = 64 * 1024;
/** The first one: many archives are read for one header only. */
const FIRST_SIZE = 4 * TAR_BLOCK;

/**
 * Collects the header bytes of one entry after the other. What `take` gives out is never written to again, so it can be
 * kept; everything starts at a multiple of four, so blocks can be summed by words.
 */
export class HeaderBuffer {
  /** The bytes in which `end` is an offset. Changes with `reserve`: do not hold on to it. */
  bytes: Buffer;
  words: Uint32Array;
  #start = 0;
  #end = 0;

  constructor() {
    const slab = new ArrayBuffer(FIRST_SIZE);
    this.bytes = Buffer.from(slab);
    this.words = new Uint32Array(slab);
  }

  /** Where the next byte goes. */
  get end(): number {
    return this.#end;
  }

  /** Bytes collected since the last `take`. */
  get length(): number {
    return this.#end - this.#start;
  }

  /** Makes room for `size` more bytes behind those collected. */
  reserve(size: number): void {
    if (this.#end + size <= this.bytes.length) return;
    const length = this.#end - this.#start;
    // Doubling keeps the copying linear when a long header comes in piece by piece.
    const slab = new ArrayBuffer(Math.max(SLAB_SIZE, Math.ceil(((length + size) * 2) / TAR_BLOCK) * TAR_BLOCK));
    const bytes = Buffer.from(slab);
    bytes.set(this.bytes.subarray(this.#start, this.#end));
    this.bytes = bytes;
    this.words = new Uint32Array(slab);
    this.#start = 0;
    this.#end = length;
  }

  append(piece: Uint8Array): void {
    this.reserve(piece.length);
    this.bytes.set(piece, this.#end);
    this.#end += piece.length;
  }

  /** The bytes collected, and a new start behind them. */
  take(): Uint8Array {
    const taken = new Uint8Array(this.bytes.buffer, this.#start, this.#end - this.#start);
    // Whole headers are whole blocks; an archive that breaks off may not be.
    this.#end = Math.ceil(this.#end / 4) * 4;
    this.#start = this.#end;
    return taken;
  }
}
