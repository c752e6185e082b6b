import { copyInto } from '../core/bytes.ts';
import type { Lease, WorkerPool } from '../core/types.ts';
import { type Matches, matchesIn } from './matches.ts';

/**
 * A lease is three times the bytes it has room for; behind the bytes lies the log of what is known of their matches. An
 * entry stands for 3 bytes or more, so that with the heads of pieces the log has room too. What it does not need
 * is never touched and takes no memory.
 */
const PARTS = 3;
/** Words in front of a piece's entries: its position, bytes, entries and lead. */
const PIECE_HEAD = 4;

/** Bytes on their way to a thread that compresses them, as gzip members or chunks, with what is known of their matches. */
export class MemberMemory {
  readonly lease: Lease;
  /** Bytes that fit. */
  readonly room: number;
  readonly #bytes: Uint8Array;
  readonly #log: Uint32Array;
  readonly #logBytes: Uint8Array;
  /** Bytes, and words of the log, so far. */
  used = 0;
  known = 0;

  private constructor(lease: Lease) {
    this.lease = lease;
    this.room = lease.memory.byteLength / PARTS;
    this.#bytes = new Uint8Array(lease.memory, 0, this.room);
    this.#log = new Uint32Array(lease.memory, this.room);
    this.#logBytes = new Uint8Array(lease.memory, this.room);
  }

  /** Waits for memory with room for so many bytes. */
  static async lease(workers: WorkerPool, bytes: number, signal?: AbortSignal): Promise<MemberMemory> {
    return new MemberMemory(await workers.lease(PARTS * 4 * Math.ceil(bytes / 4), signal));
  }

  /** The bytes so far. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.used);
  }

  /**
   * Adds bytes, for which there must be room; they come at `position` of their member. With `log`, what an inflater that
   * lends them knows of their matches is noted too. Returns the words added to the log.
   */
  append(bytes: Uint8Array, position: number, log: boolean): number {
    copyInto(this.#bytes, bytes, this.used);
    this.used += bytes.length;
    const matches = log ? matchesIn(bytes) : undefined;
    return matches ? this.#note(matches, position, bytes.length) : 0;
  }

  /** Where some words of the log lie in the leased memory, bytes. */
  logRange(word: number, words: number): { readonly offset: number; readonly length: number } {
    return { offset: this.room + 4 * word, length: 4 * words };
  }

  /** Takes off the last bytes and words, as a copy for `restore`. */
  takeBack(bytes: number, words: number): { readonly bytes: Uint8Array; readonly log: Uint32Array } {
    const tail = { bytes: this.#bytes.slice(this.used - bytes, this.used), log: this.#log.slice(this.known - words, this.known) };
    this.used -= bytes;
    this.known -= words;
    return tail;
  }

  /** Begins with what was taken from smaller memory. */
  restore({ bytes, log }: { readonly bytes: Uint8Array; readonly log: Uint32Array }): void {
    this.#bytes.set(bytes);
    this.#log.set(log);
    this.used = bytes.length;
    this.known = log.length;
  }

  #note({ entries, lead }: Matches, position: number, size: number): number {
    const log = this.#log;
    const words = PIECE_HEAD + entries.length;
    if (this.known + words > log.length) return 0;
    log[this.known] = position;
    log[this.known + 1] = size;
    log[this.known + 2] = entries.length;
    log[this.known + 3] = lead;
    copyInto(this.#logBytes, new Uint8Array(entries.buffer, entries.byteOffset, entries.byteLength), 4 * (this.known + PIECE_HEAD));
    this.known += words;
    return words;
  }
}
