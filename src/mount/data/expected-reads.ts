import type { Digest } from '../../core/digest.ts';
import { throwIfAborted } from '../../core/errors.ts';
import { giveBack, takeRoom } from '../../core/room.ts';
import type { ByteSource } from '../../core/types.ts';
import { abortable } from '../../oci/http.ts';

/** Bytes of one request, and requests at a time. */
const PIECE = 1 << 20;
const PARALLEL = 4;
/** Bytes of all that is expected: what a line of some 300 Mbit/s brings while a mount is planned. */
const MAX_BYTES = 8 << 20;

interface Piece {
  readonly blob: Digest;
  readonly source: ByteSource;
  readonly offset: number;
  readonly end: number;
  /** Bytes that nobody has read yet. */
  left: number;
  /** Undefined until it is asked for. */
  bytes: Promise<Uint8Array> | undefined;
}

/**
 * Bytes that will be read as soon as there is somebody to read them, and are on their way until then. Each is handed out once. What
 * cannot be had in this way is left to who reads it, and so are its faults.
 */
export class ExpectedReads {
  #pieces: Piece[] = [];
  #room = MAX_BYTES;
  #active = 0;
  #over = false;
  readonly #stop = new AbortController();

  /** Of a blob, which `source` gives. */
  expect(blob: Digest, source: ByteSource, offset: number, length: number): void {
    // A layer may be in an image twice.
    if (this.#pieces.some((piece) => piece.blob === blob && piece.offset < offset + length && piece.end > offset)) return;
    const end = Math.min(offset + length, offset + this.#room, source.size);
    for (let at = offset; at < end && !this.#over; at += PIECE) {
      const piece = { blob, source, offset: at, end: Math.min(end, at + PIECE), left: Math.min(end - at, PIECE), bytes: undefined };
      this.#room -= piece.left;
      this.#pieces.push(piece);
    }
    this.#next();
  }

  /** Nothing more is asked for: whoever reads has begun to. What is on its way is waited for. */
  stop(): void {
    this.#over = true;
    this.#pieces = this.#pieces.filter(({ bytes }) => bytes !== undefined);
  }

  /** Ends what is on its way, and forgets the rest. */
  close(): void {
    this.stop();
    this.#stop.abort();
    this.forget();
  }

  /** Of a blob, or of all. */
  forget(blob?: Digest): void {
    this.#pieces = blob ? this.#pieces.filter((piece) => piece.blob !== blob) : [];
  }

  /** Whether part of these bytes need not be asked for any more: then how long it takes to read them says nothing of the line. */
  has(blob: Digest, offset: number, length: number): boolean {
    return this.#within(blob, offset, offset + length).length > 0;
  }

  /** The bytes, the rest of them asked for now; undefined when all would be. */
  read(blob: Digest, source: ByteSource, offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> | undefined {
    const pieces = this.#within(blob, offset, offset + length);
    return pieces.length > 0 ? this.#read(pieces, source, offset, offset + length, signal) : undefined;
  }

  #within(blob: Digest, offset: number, end: number): readonly Piece[] {
    return this.#pieces.filter((piece) => piece.blob === blob && piece.bytes && piece.offset < end && piece.end > offset).sort((a, b) => a.offset - b.offset);
  }

  async #read(pieces: readonly Piece[], source: ByteSource, offset: number, end: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
    throwIfAborted(signal);
    const result = takeRoom(end - offset);
    const parts: Promise<void>[] = [];
    const rest = async (from: number, to: number): Promise<void> => {
      const bytes = await source.read(from, to - from, signal);
      result.set(bytes, from - offset);
      if (source.fresh) giveBack(bytes);
    };
    let at = offset;
    for (const piece of pieces) {
      const [from, to] = [Math.max(at, piece.offset), Math.min(end, piece.end)];
      if (from >= to) continue;
      if (from > at) parts.push(rest(at, from));
      const coming = piece.bytes as Promise<Uint8Array>;
      piece.left -= to - from;
      if (piece.left <= 0) this.#pieces = this.#pieces.filter((one) => one !== piece);
      parts.push(
        abortable(coming, signal).then(
          (bytes) => {
            result.set(bytes.subarray(from - piece.offset, to - piece.offset), from - offset);
            if (piece.left <= 0 && piece.source.fresh) setImmediate(() => giveBack(bytes));
          },
          () => {
            throwIfAborted(signal);
            return rest(from, to);
          },
        ),
      );
      at = to;
    }
    if (at < end) parts.push(rest(at, end));
    await Promise.all(parts);
    return result;
  }

  #next(): void {
    for (const piece of this.#pieces) {
      if (this.#active >= PARALLEL || this.#over) return;
      if (piece.bytes) continue;
      this.#active += 1;
      const coming = piece.source.read(piece.offset, piece.end - piece.offset, this.#stop.signal);
      piece.bytes = coming;
      void coming.then(
        () => undefined,
        // Whoever reads it asks again, and says what is wrong.
        () => (this.#pieces = this.#pieces.filter((one) => one !== piece)),
      ).finally(() => {
        this.#active -= 1;
        this.#next();
      });
    }
  }
}
