import type { SparseRun } from './entry.ts';
import type { HeaderBuffer } from './header-buffer.ts';
import type { Decoded } from './header.ts';
import { decodeNumber, FIELD, TAR_BLOCK } from './layout.ts';
import type { PaxSparse } from './pax.ts';
import type { Place } from './place.ts';

// GNU tar manual, "Storing Sparse Files": the old GNU format ('S'), and versions 0.0, 0.1 and 1.0 in pax headers.

/** Stored runs of one file; more are refused, each costs memory for as long as its entry is kept. */
const RUN_LIMIT = 1 << 18;

/** Bytes of one offset and length pair in the old format. */
const PAIR = 24;
const EXTENSION = { pairs: 21, isExtended: 504 } as const;

/** What a reader lends for the blocks that a map may go on in. */
export interface SparseInput {
  readonly buffer: HeaderBuffer;
  readonly place: Place;
  /** Appends the stream's next block to the buffer. */
  nextBlock(): Promise<void>;
}

/**
 * Completes the entry of a sparse file: its real name and size, and its map. Blocks that hold parts of the map become
 * part of the header, also those that version 1.0 counts as payload. Does nothing when the records describe no map.
 */
export async function readSparse({ entry, oldSparse }: Decoded, base: number, sparse: PaxSparse | undefined, input: SparseInput): Promise<void> {
  const { buffer, place } = input;
  const map = new SparseMap(place);
  if (oldSparse) {
    let more = addHeaderPairs(map, buffer.bytes, base);
    while (more) {
      await input.nextBlock();
      more = addExtensionPairs(map, buffer.bytes, buffer.end - TAR_BLOCK);
    }
    entry.sparse = map.finish(entry.size, entry.storedSize);
    return;
  }
  const version = sparse && sparseVersion(sparse, place);
  if (!sparse || !version) return;
  if (sparse.name !== undefined) place.path = entry.path = sparse.name;
  if (entry.type !== 'file') throw place.corrupt(`sparse map on a ${entry.type}`);
  if (sparse.size === undefined) throw place.corrupt('sparse file without its real size');
  entry.size = sparse.size;
  if (version === 'records') {
    addRecordPairs(map, sparse, place);
  } else {
    const decoder = new PayloadMapDecoder(map, place);
    for (let more = true; more; more = !decoder.feed(buffer.bytes, buffer.end - TAR_BLOCK)) {
      if (entry.storedSize < TAR_BLOCK) throw place.corrupt('sparse map does not end within the payload');
      await input.nextBlock();
      entry.storedSize -= TAR_BLOCK;
    }
  }
  entry.sparse = map.finish(entry.size, entry.storedSize);
}

/** Collects the pairs of a map and holds them against each other and the sizes of the file. */
class SparseMap {
  readonly #place: Place;
  readonly #runs: SparseRun[] = [];
  #end = 0;
  #stored = 0;

  constructor(place: Place) {
    this.#place = place;
  }

  add(offset: number, length: number): void {
    if (!(offset >= this.#end) || !(length >= 0) || !Number.isSafeInteger(offset + length)) throw this.#place.corrupt('sparse map is malformed or not in ascending order');
    this.#end = offset + length;
    // A run without bytes only marks where the file ends.
    if (length === 0) return;
    if (this.#runs.length === RUN_LIMIT) throw this.#place.error('LIMIT', `sparse map has more than ${RUN_LIMIT} runs`);
    this.#runs.push({ offset, length });
    this.#stored += length;
  }

  finish(size: number, storedSize: number): readonly SparseRun[] {
    if (this.#end > size) throw this.#place.corrupt(`sparse map reaches to ${this.#end} in a file of ${size} bytes`);
    if (this.#stored !== storedSize) throw this.#place.corrupt(`sparse map covers ${this.#stored} bytes, the entry stores ${storedSize}`);
    return this.#runs;
  }
}

/** The pairs in an old GNU header block at `base`; whether a block of further pairs follows. */
function addHeaderPairs(map: SparseMap, block: Uint8Array, base: number): boolean {
  addPairs(map, block, base + FIELD.gnuSparse.at, FIELD.gnuSparse.size / PAIR);
  return block[base + FIELD.gnuIsExtended.at] !== 0;
}

/** The pairs in an extension block at `base`; whether another one follows. */
function addExtensionPairs(map: SparseMap, block: Uint8Array, base: number): boolean {
  addPairs(map, block, base, EXTENSION.pairs);
  return block[base + EXTENSION.isExtended] !== 0;
}

function addPairs(map: SparseMap, block: Uint8Array, at: number, count: number): void {
  for (let i = 0; i < count; i += 1) {
    const pair = at + i * PAIR;
    if (block[pair] === 0) return;
    map.add(decodeNumber(block, pair, { at: 0, size: 12 }), decodeNumber(block, pair, { at: 12, size: 12 }));
  }
}

/** Which kind of map the records describe; `undefined` when they describe none. */
function sparseVersion(sparse: PaxSparse, place: Place): 'records' | 'payload' | undefined {
  const { major, minor } = sparse;
  if (major === undefined && minor === undefined) return sparse.map ? 'records' : undefined;
  if (major === '0' && (minor === '0' || minor === '1')) return 'records';
  if (major === '1' && minor === '0') return 'payload';
  throw place.error('UNSUPPORTED', 'GNU sparse format of an unknown version');
}

/** The map of versions 0.0 and 0.1, which is all in the records. */
function addRecordPairs(map: SparseMap, sparse: PaxSparse, place: Place): void {
  const pairs = sparse.map ?? [];
  if (pairs.length % 2 !== 0) throw place.corrupt('sparse map has an offset without a length');
  if (sparse.blocks !== undefined && sparse.blocks * 2 !== pairs.length) throw place.corrupt(`sparse map has ${pairs.length / 2} runs, ${sparse.blocks} announced`);
  for (let i = 0; i < pairs.length; i += 2) map.add(pairs[i] as number, pairs[i + 1] as number);
}

/**
 * Version 1.0 keeps its map in front of the payload: decimal numbers, one per line: how many pairs, then the pairs; filled
 * up to whole blocks. Blocks are fed in one by one.
 */
class PayloadMapDecoder {
  readonly #map: SparseMap;
  readonly #place: Place;
  #number = 0;
  #digits = 0;
  /** Numbers still to come; the count itself is the first. */
  #left = 1;
  #counted = false;
  #offset: number | undefined;

  constructor(map: SparseMap, place: Place) {
    this.#map = map;
    this.#place = place;
  }

  /** Takes the block at `base`; true once the map is complete. */
  feed(block: Uint8Array, base: number): boolean {
    for (let i = base; i < base + TAR_BLOCK; i += 1) {
      const byte = block[i] as number;
      if (byte === 0x0a) {
        if (this.#digits === 0) throw this.#malformed();
        this.#take(this.#number);
        if (this.#left === 0) return true;
        this.#number = 0;
        this.#digits = 0;
        continue;
      }
      if (byte < 0x30 || byte > 0x39) throw this.#malformed();
      this.#number = this.#number * 10 + (byte - 0x30);
      this.#digits += 1;
      if (this.#digits > 20 || this.#number > Number.MAX_SAFE_INTEGER) throw this.#malformed();
    }
    return false;
  }

  #take(number: number): void {
    this.#left -= 1;
    if (!this.#counted) {
      if (number > RUN_LIMIT + 1) throw this.#place.error('LIMIT', `sparse map has more than ${RUN_LIMIT} runs`);
      this.#counted = true;
      this.#left = number * 2;
    } else if (this.#offset === undefined) {
      this.#offset = number;
    } else {
      this.#map.add(this.#offset, number);
      this.#offset = undefined;
    }
  }

  #malformed(): Error {
    return this.#place.corrupt('sparse map in front of the payload is malformed');
  }
}
