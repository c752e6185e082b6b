import { LazypullError } from '../../src/core/errors.ts';
import type { GzipBlock } from '../../src/codec/gzip.ts';
import { CHUNK_FLAG, encodeZranContext, MAX_DICTIONARY } from './context-layout.ts';
import type { ChunkTable } from './layer-chunks.ts';

/** Chunks share a context until they reach this far from its start; inflating one takes inflating what is in front of it. */
const SPAN = 2 << 20;
/** Loaders refuse contexts that inflate to more. */
const MAX_SPAN = 16 << 20;
/** Blocks closer to each other than this are not all remembered as places to begin at. */
const NEAR = 128 << 10;
/** Nor as places that stored ranges end at. */
const MARK = 16 << 10;
/** The same for beginnings of members, which need no dictionary. */
const NEAR_MEMBER = 4 << 10;
/** Contexts with their dictionaries, bytes: readers take no larger table. */
const MAX_TABLE = 480 << 20;
/** Stored size of a chunk in its info: 24 bits. It is a hint here. */
const MAX_HINT = 0xff_ffff;

/** A place to begin inflating at: in front of a deflate block. */
interface Start {
  readonly bit: number;
  readonly out: number;
  /** Number of its gzip member. */
  readonly member: number;
  readonly dictionary: Uint8Array;
  /** The byte that holds its first bit, if that is not the byte's first. */
  byte: number;
}

interface Context extends Start {
  /** Behind the last new chunk that is inflated from here; 0 when there is none. */
  end: number;
}

/** Where a chunk is to be inflated from. */
export interface ZranPlace {
  readonly context: Context;
  /** In the plain tar. */
  readonly start: number;
  readonly size: number;
}

/**
 * Chooses where chunks of a gzip layer are inflated from (§10), while one inflater goes through the layer: blocks are told
 * before the plain bytes behind them are looked at.
 */
export class ZranSpans {
  /** The next ones that chunks may begin at, in order. */
  readonly #starts: Start[] = [];
  readonly #contexts: Context[] = [];
  #member = -1;
  /** Plain offsets where members begin. */
  readonly #members = new Set<number>();
  /** Places that stored ranges can be named by: bit and plain offset. */
  readonly #bits: number[] = [];
  readonly #outs: number[] = [];
  /** Bytes that starts still wait for, by offset in the layer. */
  #wanted: { readonly offset: number; readonly start: Start }[] = [];
  #packed = 0;
  #last = 0;

  /** A deflate block begins. */
  block(block: GzipBlock): void {
    const { bit, out, first } = block;
    if (first) this.#member += 1;
    const near = first ? NEAR_MEMBER : MARK;
    if (this.#outs.length === 0 || out - (this.#outs.at(-1) as number) >= near) {
      this.#bits.push(bit);
      this.#outs.push(out);
      if (first) this.#members.add(out);
    }
    const before = this.#starts.at(-1);
    if (before && out - before.out < (first ? NEAR_MEMBER : NEAR)) return;
    const start: Start = { bit, out, member: this.#member, dictionary: first ? NOTHING : new Uint8Array(block.window().slice(-MAX_DICTIONARY)), byte: 0 };
    if (bit % 8 !== 0) this.#want(Math.floor(bit / 8), start);
    this.#starts.push(start);
  }

  /** Bytes of the layer, in order, after the blocks in them. */
  packed(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const end = this.#packed + bytes.length;
    this.#wanted = this.#wanted.filter(({ offset, start }) => {
      if (offset >= end) return true;
      start.byte = bytes[offset - this.#packed] as number;
      return false;
    });
    this.#packed = end;
    this.#last = bytes.at(-1) as number;
  }

  /** Where the chunk that begins at `start` of the tar is inflated from; its bytes have not been taken yet. */
  begin(start: number, size: number): ZranPlace {
    while (this.#starts.length > 1 && (this.#starts[1] as Start).out <= start) this.#starts.shift();
    const near = this.#starts[0];
    if (!near) throw new LazypullError('INTERNAL', 'a chunk is inflated before its block is known', { offset: start });
    let context = this.#contexts.at(-1);
    if (!context || context.member !== near.member || (start + size - context.out > SPAN && context.out !== near.out)) {
      // Fields of the start go on to be filled in: it has to stay the same object.
      context = Object.assign(near, { end: 0 });
      this.#contexts.push(context);
    }
    if (start + size - context.out > MAX_SPAN) throw unsupported(`its gzip stream has a block of more than ${MAX_SPAN} bytes`, context.out);
    return { context, start, size };
  }

  /** The contexts that new chunks have, and the dictionaries; sets the places of the chunks. `size`, `tarSize`: bytes of the layer, stored and plain. */
  finish(chunks: ChunkTable, places: readonly ZranPlace[], size: number, tarSize: number): { readonly contexts: readonly Uint8Array[]; readonly count: number } {
    for (const { context, start, size: length } of places) context.end = Math.max(context.end, start + length);
    const used = this.#contexts.filter(({ end }) => end > 0);
    const numbers = new Map(used.map((context, number) => [context, number]));
    let dictOffset = 0;
    const encoded = used.map(({ bit, out, end: last, dictionary, byte }) => {
      // nydusd goes on to the next member when one ends, even if there is nothing left to inflate, and fails when it finds nothing there.
      const end = this.#members.has(last) && last < tarSize ? last + 1 : last;
      const inOffset = Math.ceil(bit / 8);
      const bits = inOffset * 8 - bit;
      const bytes = encodeZranContext({ inOffset, outOffset: out, dictOffset, inSize: this.#storedEnd(end, size) - inOffset, outSize: end - out, dictSize: dictionary.length, byte: bits === 0 ? 0 : byte, bits });
      dictOffset += dictionary.length;
      return bytes;
    });
    if (dictOffset > MAX_TABLE) throw new LazypullError('LIMIT', `a zran table of ${dictOffset} bytes is above the ${MAX_TABLE} allowed`);
    for (const [row, { context, start, size: length }] of places.entries()) {
      const offset = this.#storedStart(start);
      const stored = Math.min(MAX_HINT, Math.max(1, this.#storedEnd(start + length, size) - offset));
      chunks.place(row, { offset, size: stored, flags: CHUNK_FLAG.compressed | CHUNK_FLAG.zran, context: numbers.get(context) as number, inner: start - context.out });
    }
    return { contexts: [...encoded, ...used.map(({ dictionary }) => dictionary)], count: used.length };
  }

  #want(offset: number, start: Start): void {
    if (offset >= this.#packed) this.#wanted.push({ offset, start });
    else if (offset === this.#packed - 1) start.byte = this.#last;
    else throw new LazypullError('INTERNAL', 'a block is told after the bytes behind it', { offset });
  }

  /** Stored bytes in front of a place that is not behind `out`. */
  #storedStart(out: number): number {
    const behind = this.#firstBehind(out + 1);
    return behind === 0 ? 0 : Math.floor((this.#bits[behind - 1] as number) / 8);
  }

  /** Stored bytes that are enough to inflate up to `out`. */
  #storedEnd(out: number, size: number): number {
    const behind = this.#firstBehind(out);
    return behind === this.#bits.length ? size : Math.ceil((this.#bits[behind] as number) / 8);
  }

  /** The first place with at least so many plain bytes in front. */
  #firstBehind(out: number): number {
    let low = 0;
    let high = this.#outs.length;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if ((this.#outs[middle] as number) >= out) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

const NOTHING = new Uint8Array(0);

function unsupported(why: string, offset: number): LazypullError {
  return new LazypullError('UNSUPPORTED', `the layer cannot be referred to by zran: ${why}; convert it to nydus instead`, { offset });
}
