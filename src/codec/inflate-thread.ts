import type { Digest } from '../core/digest.ts';
import { type ErrorCode, LazypullError, throwIfAborted } from '../core/errors.ts';
import type { ByteStream } from '../core/types.ts';
import { FOR_CHECK, FOR_CONTENT, FOR_ROOM, RING_SIZE, SLOT_END, type SlotEnd, SOURCE_STATE } from './content-ring.ts';
import { type StreamDigester, takeDigestLane } from './digest-thread.ts';
import { crcMismatch } from './gunzip-machine.ts';
import { tellMatches } from './matches.ts';
import { ReaderEnd } from './ring-reader.ts';
import { SlotMatches } from './slot-matches.ts';
import { threadLanes } from './thread-lane.ts';

/** What the thread is told: that a stream begins. */
export interface InflateMessage {
  readonly what: string;
  /** Most bytes of content. */
  readonly maxSize: number;
}

/** What it answers: that there is news in the ring, or what is wrong with the stream. */
export type InflateReply = 'news' | { readonly code: ErrorCode; readonly message: string; readonly offset?: number };

const takeInflateLane = threadLanes<InflateMessage, InflateReply>({ script: new URL('./inflate-worker.js', import.meta.url), what: 'the thread that inflates', size: RING_SIZE });

export interface InflateOptions {
  readonly maxSize?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * `gunzip` by a thread of its own, while another one hashes what comes of it and checks the CRCs. Gives out what `gunzip` does, in the
 * same pieces, and `matchesIn` knows them; fails as it does. For one stream: `inflate` first, `close` in any case.
 */
export class InflateThread implements StreamDigester {
  readonly #what: string;
  readonly #inflating = takeInflateLane();
  readonly #checking = takeDigestLane();
  readonly #ring = new ReaderEnd(this.#inflating.memory);
  readonly #matches = new SlotMatches();
  gzip = true;
  #size = 0;
  /** Slots that the reader has got. */
  #given = 0;
  #began = false;
  /** Of the last of them. */
  #end: SlotEnd = SLOT_END.none;
  /** No more packed bytes are wanted. */
  #stopped = false;
  #closed = false;
  /** What is wrong with the packed bytes, and why there are no more of them. */
  #broken: LazypullError | undefined;
  #failed: { readonly error: unknown } | undefined;
  /** What has become of a thread. */
  #lost: LazypullError | undefined;
  #waiting: (() => void)[] = [];

  /** `what` names the stream in error messages. */
  constructor(what: string) {
    this.#what = what;
  }

  get size(): number {
    return this.#size;
  }

  async *inflate(stream: ByteStream, { maxSize = Infinity, signal }: InflateOptions = {}): AsyncGenerator<Uint8Array> {
    const iterator = stream[Symbol.asyncIterator]();
    try {
      this.#begin(maxSize);
      void this.#handOver(iterator, signal);
      while (this.#end === SLOT_END.none) {
        await this.#until(FOR_CONTENT, () => this.#ring.filled !== this.#given);
        throwIfAborted(signal);
        const slot = this.#ring.read(this.#given);
        this.#end = slot.end;
        this.#given += 1;
        // No need to read on.
        this.#throwBad();
        if (slot.bytes.length > 0) {
          this.#size += slot.bytes.length;
          this.#matches.read(slot);
          yield slot.bytes;
          this.#matches.read(undefined);
        }
        this.#ring.taken();
      }
      await this.#saidAll();
      if (this.#end !== SLOT_END.complete) throw this.#broken ?? this.#failed?.error;
    } finally {
      this.#stopped = true;
      this.#wake();
      await iterator.return?.();
    }
  }

  /** What is given out is looked at in any case. */
  async update(): Promise<void> {}

  async finish(): Promise<Digest> {
    await this.#checkedAll();
    this.#throwBad();
    return `sha256:${this.#ring.hex()}`;
  }

  async fault(): Promise<LazypullError | undefined> {
    try {
      await this.#checkedAll();
    } catch {
      // A thread has ended. What was found until then is known.
    }
    const bad = this.#ring.badWithin(this.#given);
    return bad === undefined ? undefined : crcMismatch(this.#what, bad);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#saidAll().catch(() => undefined);
    const idle = !this.#lost && (!this.#began || (this.#end !== SLOT_END.none && this.#ring.checkedSlots === this.#given));
    if (!idle) this.#ring.endWith(SOURCE_STATE.left);
    tellMatches(this.#inflating.memory, undefined);
    this.#lost ??= new LazypullError('INTERNAL', 'the thread that inflates ended');
    this.#wake();
    await Promise.all([this.#inflating.giveBack(idle), this.#checking.giveBack(idle)]);
  }

  #begin(maxSize: number): void {
    if (this.#closed) throw this.#lost;
    this.#began = true;
    this.#ring.reset();
    tellMatches(this.#inflating.memory, this.#matches.lookUp);
    this.#checking.begin({ ring: this.#inflating.memory }, (reply) => this.#hear(reply instanceof LazypullError ? reply : 'news'));
    this.#inflating.begin({ what: this.#what, maxSize }, (reply) => this.#hear(reply));
  }

  /** Never rejects. */
  async #handOver(iterator: AsyncIterator<Uint8Array>, signal: AbortSignal | undefined): Promise<void> {
    try {
      for (;;) {
        throwIfAborted(signal);
        const { done, value } = await iterator.next();
        throwIfAborted(signal);
        if (done) break;
        for (let rest: Uint8Array = value; rest.length > 0; rest = rest.subarray(this.#ring.handOver(rest))) {
          await this.#until(FOR_ROOM, () => this.#stopped || this.#ring.hasRoom());
          if (this.#stopped) return;
        }
      }
      if (!this.#stopped) this.#ring.endWith(SOURCE_STATE.ended);
    } catch (error) {
      this.#failed = { error };
      if (!this.#stopped) this.#ring.endWith(SOURCE_STATE.failed);
    }
  }

  /** Until it is known what is broken, if anything: the next stream must not hear of it. */
  async #saidAll(): Promise<void> {
    if (this.#end === SLOT_END.broken) await this.#until(FOR_CONTENT, () => this.#broken !== undefined);
  }

  /** Until everything that was given out was looked at. */
  async #checkedAll(): Promise<void> {
    if (this.#began) await this.#until(FOR_CHECK, () => this.#ring.checkedSlots >= this.#given);
  }

  #throwBad(): void {
    const bad = this.#ring.badWithin(this.#given);
    if (bad !== undefined) throw crcMismatch(this.#what, bad);
  }

  async #until(wish: number, done: () => boolean): Promise<void> {
    while (!done()) {
      if (this.#lost) throw this.#lost;
      this.#ring.wish(wish);
      // It may have come true in between.
      if (!done()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  #hear(reply: InflateReply | LazypullError): void {
    if (reply instanceof LazypullError) this.#lost ??= reply;
    else if (reply !== 'news') this.#broken = toError(reply);
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** The message says the offset already. */
function toError({ code, message, offset }: Exclude<InflateReply, 'news'>): LazypullError {
  if (offset === undefined) return new LazypullError(code, message);
  return new LazypullError(code, message.replace(/ \(at offset \d+\)$/, ''), { offset });
}
