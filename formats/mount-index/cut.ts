import { createHash, type Hash } from 'node:crypto';
import { LazypullError } from '../../src/core/errors.ts';
import type { ResumePoint } from '../../src/core/format.ts';
import type { Compression } from '../../src/codec/compression.ts';
import { MAX_PIECES } from './layout.ts';
import type { Piece } from './piece-table.ts';

/** Where nothing can be inflated from for so long, a piece ends all the same: each is proven as a whole. */
const LONG_PIECE = 1 << 20;

/** A place that a piece begins at, with its bit in the stored layer. */
export interface Start {
  readonly bit: number;
  readonly out: number;
  /** Takes the size of the packed window once that is known. */
  windowSize: number;
}

type CutPiece = Omit<Piece, 'windowSize' | 'start'> & { readonly start: Start | undefined };

/**
 * Cuts a layer's plain tar into pieces as it goes by. A piece begins at the first place to inflate from that is a span away from
 * where the one before began, or half a span where nothing in front is needed; a tar that is stored plainly is cut anywhere.
 */
export class PieceCutter {
  readonly #spanSize: number;
  readonly #pieces: CutPiece[] = [];
  /** Places chosen that the tar has not come to. */
  readonly #ahead: Start[] = [];
  #chosen: Start | undefined;
  /** Of the open piece. */
  #hash: Hash | undefined;
  #start: Start | undefined;
  #begin = 0;
  /** Bytes of tar that went by. */
  #at = 0;

  constructor(spanSize: number) {
    this.#spanSize = spanSize;
  }

  /** Bytes of tar so far. */
  get size(): number {
    return this.#at;
  }

  /** The layer is not stored plainly: there have been places to inflate from. */
  get pointed(): boolean {
    return this.#chosen !== undefined;
  }

  /** Decides about a place; the caller finds out about the window of one that is chosen. */
  choose({ bit, out, member }: Pick<ResumePoint, 'bit' | 'out' | 'member'>): Start | undefined {
    const last = this.#chosen;
    if (out < this.#at || (last && out - last.out < (member ? this.#spanSize / 2 : this.#spanSize))) return undefined;
    this.#chosen = { bit, out, windowSize: 0 };
    this.#ahead.push(this.#chosen);
    return this.#chosen;
  }

  /** LIMIT for more pieces than an index has room for. */
  tar(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      this.#turn();
      const next = Math.min(this.#ahead[0]?.out ?? Infinity, this.#begin + (this.pointed ? LONG_PIECE : this.#spanSize));
      const part = bytes.subarray(done, done + next - this.#at);
      this.#hash?.update(part);
      this.#at += part.length;
      done += part.length;
    }
  }

  /** All pieces. The sizes of windows have to be known. */
  finish(compression: Compression): readonly Piece[] {
    this.#close();
    let out = 0;
    return this.#pieces.map(({ size, start, digest }) => {
      // A plain tar can be read from anywhere; what is compressed, and nothing is known of, from its first byte.
      const implied = compression === 'none' ? out * 8 : out === 0 ? 0 : undefined;
      out += size;
      return { size, start: start?.bit ?? implied, windowSize: start?.windowSize ?? 0, digest };
    });
  }

  /** Begins a piece where one is due. */
  #turn(): void {
    const [next] = this.#ahead;
    const begins = next?.out === this.#at;
    if (this.#hash && !begins && this.#at - this.#begin < (this.pointed ? LONG_PIECE : this.#spanSize)) return;
    this.#close();
    this.#start = begins ? this.#ahead.shift() : undefined;
    this.#begin = this.#at;
    this.#hash = createHash('sha256');
  }

  #close(): void {
    if (!this.#hash) return;
    this.#pieces.push({ size: this.#at - this.#begin, start: this.#start, digest: this.#hash.digest() });
    this.#hash = undefined;
    if (this.#pieces.length > MAX_PIECES) throw new LazypullError('LIMIT', `the layer has more than ${MAX_PIECES} pieces; a larger span size makes fewer`);
  }
}
