import type { Digest } from '../../src/core/digest.ts';
import { corrupt } from '../../src/core/errors.ts';
import type { Compression } from '../../src/codec/compression.ts';
import { VarintReader, VarintWriter } from './varint.ts';

const DIGEST_SIZE = 32;
/** What a whole window may take at most, packed. */
const MAX_WINDOW = 40 << 10;
/** Pieces are taken into memory whole. */
const MAX_PIECE = 32 << 20;
/** No deflate stream grows more than 1032-fold: two bits for 258 bytes. */
const MAX_GROWTH = 1032;

/** One piece as the table has it. */
export interface Piece {
  /** Bytes of plain tar. */
  readonly size: number;
  /** Bits of the stored layer in front of where inflating it begins; undefined when that is where an earlier piece begins. */
  readonly start: number | undefined;
  /** Bytes of its packed window; 0 when it needs none. */
  readonly windowSize: number;
  /** sha256 of the piece's plain tar. */
  readonly digest: Uint8Array;
}

interface Layer {
  readonly compression: Compression;
  readonly count: number;
  readonly packedSize: number;
  readonly tarSize: number;
  /** For messages. */
  readonly what: string;
}

/**
 * The pieces of a layer, in order. Together they are its whole plain tar. A piece with a start can be inflated from there;
 * those without belong to the unit of the last one that has one. Columns: a layer may have a million pieces.
 */
export class PieceTable {
  readonly count: number;
  /** Stored layer: its bytes, and whether the table has starts and windows of its own (they follow from the sizes where it is a plain tar). */
  readonly #packedSize: number;
  readonly #compression: Compression;
  /** Where each piece begins in the tar, and where the last one ends. */
  readonly #outs: Float64Array;
  /** -1 for those without. */
  readonly #starts: Float64Array;
  /** Where each window begins among the windows, and where the last one ends. */
  readonly #windows: Float64Array;
  /** 32 bytes for each piece. */
  readonly digests: Uint8Array;

  private constructor(compression: Compression, packedSize: number, outs: Float64Array, starts: Float64Array, windows: Float64Array, digests: Uint8Array) {
    this.count = starts.length;
    this.#compression = compression;
    this.#packedSize = packedSize;
    this.#outs = outs;
    this.#starts = starts;
    this.#windows = windows;
    this.digests = digests;
  }

  static of(pieces: readonly Piece[], compression: Compression, packedSize: number): PieceTable {
    const { length } = pieces;
    const table = new PieceTable(compression, packedSize, new Float64Array(length + 1), new Float64Array(length), new Float64Array(length + 1), new Uint8Array(length * DIGEST_SIZE));
    for (const [i, { size, start = -1, windowSize, digest }] of pieces.entries()) {
      table.#outs[i + 1] = table.out(i) + size;
      table.#starts[i] = start;
      table.#windows[i + 1] = (table.#windows[i] as number) + windowSize;
      table.digests.set(digest, i * DIGEST_SIZE);
    }
    return table;
  }

  /** CORRUPT unless the pieces are all of the tar, and begin one behind the other inside the layer. */
  static decode(rows: Uint8Array, digests: Uint8Array, { compression, count, packedSize, tarSize, what }: Layer): PieceTable {
    const reader = new VarintReader(rows, `${what}: table of pieces`);
    const outs = new Float64Array(count + 1);
    const starts = new Float64Array(count);
    const windows = new Float64Array(count + 1);
    let out = 0;
    let unit = 0;
    let last = -1;
    let windowsSize = 0;
    const wrong = (why: string): Error => corrupt(`${what}: ${why}`, { offset: reader.position });
    const endUnit = (end: number): void => {
      if (compression === 'gzip' && last >= 0 && out - unit > Math.ceil((end - last) / 8) * MAX_GROWTH) throw wrong(`bits ${last} to ${end} of the layer cannot inflate to ${out - unit} bytes`);
    };
    for (let i = 0; i < count; i += 1) {
      const size = reader.number();
      if (size === 0 || size > MAX_PIECE) throw wrong(`piece ${i} has ${size} bytes`);
      let start = out * 8;
      if (compression !== 'none') {
        const ahead = reader.number();
        start = ahead === 0 ? -1 : last < 0 ? ahead - 1 : last + ahead;
        if (start < 0 && i === 0) throw wrong('the first piece has no start');
        if (ahead > 0 && compression === 'gzip') windowsSize += windowOf(reader, wrong);
      }
      if (start >= 0) {
        if (start >= packedSize * 8 || (compression === 'zstd' && start % 8 !== 0)) throw wrong(`piece ${i} begins at bit ${start} of a layer of ${packedSize} bytes`);
        endUnit(start);
        unit = out;
        last = start;
      }
      starts[i] = start;
      out += size;
      outs[i + 1] = out;
      windows[i + 1] = windowsSize;
    }
    endUnit(packedSize * 8);
    reader.end();
    if (out !== tarSize) throw wrong(`its pieces are ${out} bytes of a tar of ${tarSize}`);
    if (compression === 'none' && tarSize !== packedSize) throw wrong(`a plain tar of ${tarSize} bytes is stored in ${packedSize}`);
    return new PieceTable(compression, packedSize, outs, starts, windows, digests);
  }

  encode(): Uint8Array {
    const rows = new VarintWriter();
    let last = 0;
    for (let i = 0; i < this.count; i += 1) {
      rows.number(this.out(i + 1) - this.out(i));
      if (this.#compression === 'none') continue;
      const start = this.start(i);
      // The first one by its place, the others by how far they are from the one before; 0 is none.
      rows.number(start === undefined ? 0 : i === 0 ? start + 1 : start - last);
      if (start === undefined) continue;
      last = start;
      if (this.#compression === 'gzip') rows.number(this.window(i).size);
    }
    return new Uint8Array(rows.bytes);
  }

  /** Bytes of all windows. */
  get windowsSize(): number {
    return this.#windows[this.count] as number;
  }

  /** Bytes of plain tar in front of a piece; behind the last one there is the end. */
  out(piece: number): number {
    return this.#outs[piece] as number;
  }

  start(piece: number): number | undefined {
    const start = this.#starts[piece] as number;
    return start < 0 ? undefined : start;
  }

  /** Place of a piece's packed window among all of them. */
  window(piece: number): { readonly offset: number; readonly size: number } {
    const offset = this.#windows[piece] as number;
    return { offset, size: (this.#windows[piece + 1] as number) - offset };
  }

  digest(piece: number): Digest {
    const { digests } = this;
    const at = digests.byteOffset + piece * DIGEST_SIZE;
    return `sha256:${Buffer.from(digests.buffer, at, DIGEST_SIZE).toString('hex')}`;
  }

  /** The first piece behind a unit: one with a start, or the end. */
  endOfUnit(first: number): number {
    let end = first + 1;
    while (end < this.count && (this.#starts[end] as number) < 0) end += 1;
    return end;
  }

  /** Stored bytes of the unit that begins with a piece and ends in front of another: from, to. Two units may share a byte. */
  packedRange(first: number, end: number): readonly [number, number] {
    const start = this.#starts[first] as number;
    return [Math.floor(start / 8), end === this.count ? this.#packedSize : Math.ceil((this.#starts[end] as number) / 8)];
  }

  /** The piece that has a byte of the tar. */
  at(offset: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (this.out(middle + 1) <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function windowOf(reader: VarintReader, wrong: (why: string) => Error): number {
  const size = reader.number();
  if (size > MAX_WINDOW) throw wrong(`a window of ${size} bytes`);
  return size;
}
