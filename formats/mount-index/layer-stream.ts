import { createHash } from 'node:crypto';
import { LazypullError, throwIfAborted } from '../../src/core/errors.ts';
import { checkRange, streamSource } from '../../src/core/source.ts';
import { Spool } from '../../src/core/spool.ts';
import { collect } from '../../src/core/stream.ts';
import type { ByteSource, ByteStream } from '../../src/core/types.ts';
import { decompress } from '../../src/codec/compression.ts';
import type { LayerHead } from './layout.ts';

/** Bytes of the stored layer per request. */
const REQUEST = 4 << 20;

/** A layer's plain tar from its start, piece after piece, each one proven. */
export class LayerStream {
  readonly #layer: ByteSource;
  readonly head: LayerHead;
  readonly #what: string;

  constructor(layer: ByteSource, head: LayerHead, what: string) {
    this.#layer = layer;
    this.head = head;
    this.#what = what;
  }

  /** Yields whole pieces, lent. */
  async *read(signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    const { pieces, tarSize } = this.head;
    let piece = 0;
    let open: Uint8Array | undefined;
    let have = 0;
    const packed = streamSource(this.#layer, REQUEST, signal);
    for await (const bytes of decompress(packed, { maxSize: tarSize, what: this.#what, ...(signal && { signal }) })) {
      for (let done = 0; done < bytes.length; ) {
        open ??= new Uint8Array(pieces.out(piece + 1) - pieces.out(piece));
        const part = bytes.subarray(done, done + open.length - have);
        open.set(part, have);
        have += part.length;
        done += part.length;
        if (have < open.length) continue;
        this.#check(piece, open);
        yield open;
        open = undefined;
        have = 0;
        piece += 1;
      }
    }
    if (piece < pieces.count) throw new LazypullError('SIZE_MISMATCH', `${this.#what} inflates to ${pieces.out(piece) + have} bytes, its mount index says ${tarSize}`);
  }

  #check(piece: number, bytes: Uint8Array): void {
    const got = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    const wanted = this.head.pieces.digest(piece);
    if (got !== wanted) throw new LazypullError('DIGEST_MISMATCH', `${this.#what}: ${bytes.length} bytes of the tar have digest ${got}, not ${wanted}`, { offset: this.head.pieces.out(piece) });
  }
}

/** Removes the temporary files of tars that nobody can read any more: an open layer has no end of its own. */
const forgotten = new FinalizationRegistry<Spool>((spool) => void spool.close().catch(() => undefined));

/** The same with random access: what has come by stays in a temporary file, and the stream goes on only when more is wanted. */
export class StreamedTar implements ByteSource {
  readonly size: number;
  readonly #stream: LayerStream;
  readonly #spool = new Spool();
  #pieces: AsyncIterator<Uint8Array> | undefined;
  /** One goes ahead at a time. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(stream: LayerStream) {
    this.size = stream.head.tarSize;
    this.#stream = stream;
    forgotten.register(this, this.#spool);
  }

  async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    throwIfAborted(signal);
    checkRange(this, offset, length);
    if (this.#spool.size < offset + length) await this.#reach(offset + length, signal);
    return collect(this.#spool.read(offset, length), length);
  }

  #reach(end: number, signal: AbortSignal | undefined): Promise<void> {
    const turn = this.#turn.then(() => this.#advance(end, signal));
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #advance(end: number, signal: AbortSignal | undefined): Promise<void> {
    try {
      while (this.#spool.size < end) {
        throwIfAborted(signal);
        this.#pieces ??= await this.#resume();
        const next = await this.#pieces.next();
        if (next.done) throw new LazypullError('INTERNAL', `the layer's stream ended at ${this.#spool.size}`);
        await this.#spool.append(next.value);
      }
    } catch (error) {
      if (!signal?.aborted) {
        // After a failure it begins anew.
        await this.#pieces?.return?.();
        this.#pieces = undefined;
      }
      throw error;
    }
  }

  /** The stream from where the spool ends: what is in front of it has been seen already. */
  async #resume(): Promise<AsyncIterator<Uint8Array>> {
    const pieces: ByteStream & AsyncIterator<Uint8Array> = this.#stream.read();
    for (let passed = 0; passed < this.#spool.size; ) {
      const next = await pieces.next();
      if (next.done) break;
      passed += next.value.length;
    }
    return pieces;
  }
}
