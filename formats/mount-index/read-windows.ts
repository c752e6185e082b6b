import { corrupt, isAbort } from '../../src/core/errors.ts';
import { giveBack, takeRoom } from '../../src/core/room.ts';
import { WINDOW_SIZE } from '../../src/codec/needed-window.ts';
import { zstdDecompress } from '../../src/codec/zstd.ts';
import type { LayerIndexBlob } from './layer-index.ts';
import type { PieceTable } from './piece-table.ts';

/** For pieces that need nothing of what is in front of them; never written to. */
export const NO_WINDOW: Uint8Array = new Uint8Array(WINDOW_SIZE);
/** Ends of pieces that are kept: 1 MiB. */
const MAX_TAILS = 32;
/** Packed windows that are kept for pieces about to be inflated. */
const MAX_PREPARED = 512;
/** Packed windows that lie no farther apart are fetched together. */
const GAP = 8 << 10;
const MAX_REQUEST = 256 << 10;

/**
 * What pieces need of the tar in front of them: the end of the piece before when that was just inflated, and otherwise a
 * window of the index. Windows carry no proof of their own: with a wrong one the piece does not have its digest.
 */
export class Windows {
  readonly #blob: LayerIndexBlob;
  readonly #pieces: PieceTable;
  /** Piece -> the 32 KiB in front of it, the oldest first. */
  readonly #tails = new Map<number, Uint8Array>();
  /** Piece -> its packed window, on its way. */
  readonly #prepared = new Map<number, Promise<Uint8Array>>();

  constructor(blob: LayerIndexBlob, pieces: PieceTable) {
    this.#blob = blob;
    this.#pieces = pieces;
  }

  /** `bytes` are proven, and the last of them are those in front of a piece. */
  put(piece: number, bytes: Uint8Array): void {
    if (this.#pieces.window(piece).size === 0) return;
    const tail = this.#tails.get(piece) ?? takeRoom(WINDOW_SIZE);
    this.#tails.delete(piece);
    tail.set(bytes.subarray(bytes.length - WINDOW_SIZE));
    this.#tails.set(piece, tail);
    for (const [oldest, room] of this.#tails) {
      if (this.#tails.size <= MAX_TAILS) break;
      this.#tails.delete(oldest);
      giveBack(room);
    }
  }

  /** Begins to fetch the windows of pieces that are to be inflated in this order. */
  prepare(pieces: readonly number[], signal?: AbortSignal): void {
    const missing: number[] = [];
    let last = -1;
    for (const piece of pieces) {
      if (piece === last) continue;
      // Behind one that comes first its end will do.
      const follows = last >= 0 && this.#pieces.endOfUnit(last) === piece;
      if (!follows && this.#pieces.window(piece).size > 0 && !this.#tails.has(piece) && !this.#prepared.has(piece)) missing.push(piece);
      last = piece;
    }
    for (const group of this.#groups(missing)) this.#fetch(group, signal);
  }

  /** The window that the index has, whatever else is known: for who wants to know whether it is right. Meant to be asked in order. */
  async stored(piece: number): Promise<Uint8Array> {
    if (this.#pieces.window(piece).size === 0) return NO_WINDOW;
    if (!this.#prepared.has(piece)) {
      const next = function* (pieces: PieceTable): Generator<number> {
        for (let at = piece; at < pieces.count; at += 1) if (pieces.window(at).size > 0) yield at;
      };
      const [group] = this.#groups(next(this.#pieces));
      this.#fetch(group ?? [piece]);
    }
    return this.#unpack(piece, await this.#packed(piece, undefined));
  }

  /** Lends `work` the 32 KiB in front of a piece, until it returns. */
  async use<T>(piece: number, work: (window: Uint8Array) => T, signal?: AbortSignal): Promise<T> {
    const { size } = this.#pieces.window(piece);
    if (size === 0) return work(NO_WINDOW);
    const tail = this.#tails.get(piece);
    if (tail) {
      this.#tails.delete(piece);
      this.#tails.set(piece, tail);
      return work(tail);
    }
    return work(await this.#unpack(piece, await this.#packed(piece, signal)));
  }

  async #unpack(piece: number, packed: Uint8Array): Promise<Uint8Array> {
    const window = await zstdDecompress(packed, WINDOW_SIZE, `${this.#blob.what}: window of piece ${piece}`);
    if (window.length !== WINDOW_SIZE) throw corrupt(`${this.#blob.what} has a window of ${window.length} bytes for piece ${piece}`);
    return window;
  }

  async #packed(piece: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
    const prepared = this.#prepared.get(piece);
    try {
      if (prepared) return await prepared;
    } catch (error) {
      // Whoever asked for it gave up; everything else would fail again.
      if (!isAbort(error) || signal?.aborted) throw error;
    } finally {
      this.#prepared.delete(piece);
    }
    const { offset, size } = this.#pieces.window(piece);
    return this.#blob.windows(offset, size, signal);
  }

  #fetch(group: readonly number[], signal?: AbortSignal): void {
    const from = this.#pieces.window(group[0] as number).offset;
    const last = this.#pieces.window(group.at(-1) as number);
    const request = this.#blob.windows(from, last.offset + last.size - from, signal);
    for (const piece of group) {
      const { offset, size } = this.#pieces.window(piece);
      const packed = request.then((bytes) => new Uint8Array(bytes.subarray(offset - from, offset - from + size)));
      // Who inflates the piece is told.
      packed.catch(() => undefined);
      this.#prepared.set(piece, packed);
    }
    for (const oldest of this.#prepared.keys()) {
      if (this.#prepared.size <= MAX_PREPARED) break;
      this.#prepared.delete(oldest);
    }
  }

  *#groups(pieces: Iterable<number>): Generator<readonly number[]> {
    let group: number[] = [];
    let start = 0;
    let end = 0;
    for (const piece of pieces) {
      const { offset, size } = this.#pieces.window(piece);
      const near = group.length > 0 && offset >= end && offset - end <= GAP && offset + size - start <= MAX_REQUEST;
      if (!near) {
        if (group.length > 0) yield group;
        group = [];
        start = offset;
      }
      group.push(piece);
      end = offset + size;
    }
    if (group.length > 0) yield group;
  }
}
