import { copyInto } from '../core/bytes.ts';
import { Digester, type Digest } from '../core/digest.ts';
import { LazypullError } from '../core/errors.ts';
import type { WorkerPool } from '../core/types.ts';
import { crcMismatch, type GzipTrailer } from './gunzip-machine.ts';
import { type MemberEnd, StreamCheck } from './stream-check.ts';
import { threadLanes } from './thread-lane.ts';

/** Bytes that are handed over at a time: to wake a thread takes as long as to hash 100 kB. */
export const SLOT = 2 << 20;
/** Slots: one that is being filled, others on their way. */
const SLOTS = 3;
/** Ends of members that are handed over at a time: small members have many. */
const MANY_ENDS = 4096;

/**
 * What the thread is told: that a stream begins, bytes of its memory with the ends of members in them, or that there are no more; or
 * to look at all content that comes by way of a ring.
 */
export type DigestMessage = { readonly gzip: boolean } | { readonly at: number; readonly length: number; readonly ends: readonly MemberEnd[] } | 'end' | { readonly ring: SharedArrayBuffer };

/** What it answers: where the first bad trailer was met in bytes that it is done with, or the digest in hex; or that there is news in the ring. */
export type DigestReply = { readonly bad?: number } | { readonly hex: string } | 'news';

/** Finds a thread that hashes. */
export const takeDigestLane = threadLanes<DigestMessage, DigestReply>({ script: new URL('./digest-worker.js', import.meta.url), what: 'the thread that hashes', size: SLOT * SLOTS });

/** Looks at a stream's content as it flows. `close` in any case. */
export interface StreamDigester {
  /** Bytes seen so far. */
  readonly size: number;
  /** The content was in gzip members: set before the first byte comes. */
  gzip: boolean;
  /** For `gunzip`, which then leaves the CRCs to this; absent where they are better checked there. */
  readonly onTrailer?: (trailer: GzipTrailer) => void;
  /** Sees more of the content. The bytes are the caller's again once this resolves. */
  update(bytes: Uint8Array): Promise<void>;
  /** sha256 of everything, once only. CORRUPT when the CRC of a member is not right. */
  finish(): Promise<Digest>;
  /** What is wrong with what went by so far; waits until that is known. Never rejects. */
  fault(): Promise<LazypullError | undefined>;
  close(): Promise<void>;
}

/** In a thread of its own, unless there is to be one only. `what` names the gzip stream in error messages. */
export function streamDigester({ jobs }: Pick<WorkerPool, 'jobs'>, what: string): StreamDigester {
  if (jobs > 1) return new DigestThread(what);
  const digester = new Digester();
  return {
    gzip: false,
    get size() {
      return digester.size;
    },
    update: async (bytes) => digester.update(bytes),
    finish: async () => digester.finish(),
    fault: async () => undefined,
    close: async () => undefined,
  };
}

/**
 * sha256 of a stream and CRCs of its gzip members, computed by a thread of its own, for one that the thread which reads has
 * no time for. The thread is put to work once there is more than one piece to look at.
 */
export class DigestThread implements StreamDigester {
  readonly #what: string;
  readonly #lane = takeDigestLane();
  readonly #bytes = new Uint8Array(this.#lane.memory);
  gzip = false;
  #working = false;
  #slot = 0;
  #used = 0;
  /** In the slot. */
  #ends: MemberEnd[] = [];
  /** Ends that lie behind what has been seen. */
  readonly #ahead: GzipTrailer[] = [];
  /** Slots that the thread has not answered for. */
  #away = 0;
  #size = 0;
  /** For the digest. */
  #asked = false;
  #hex: string | undefined;
  #closed = false;
  #bad: number | undefined;
  #failure: LazypullError | undefined;
  #wake: (() => void) | undefined;

  constructor(what: string) {
    this.#what = what;
  }

  get size(): number {
    return this.#size;
  }

  onTrailer = (trailer: GzipTrailer): void => {
    this.#ahead.push(trailer);
    this.#reach();
  };

  /** Copies the bytes; waits only when the thread cannot keep up. */
  async update(bytes: Uint8Array): Promise<void> {
    // The memory may be another stream's by now.
    if (this.#closed) throw this.#failure;
    // No need to read on.
    if (this.#bad !== undefined) throw crcMismatch(this.#what, this.#bad);
    for (let at = 0; at < bytes.length; ) {
      if (this.#used === SLOT || this.#ends.length >= MANY_ENDS) await this.#send();
      const part = bytes.subarray(at, at + SLOT - this.#used);
      copyInto(this.#bytes, part, this.#slot * SLOT + this.#used);
      this.#used += part.length;
      this.#size += part.length;
      at += part.length;
      this.#reach();
    }
  }

  async finish(): Promise<Digest> {
    let hex = this.#checkHere()?.finish();
    if (hex === undefined) {
      await this.#send();
      this.#asked = true;
      this.#post('end');
      await this.#until(() => this.#hex !== undefined);
      hex = this.#hex;
    }
    if (this.#ahead.length > 0) throw new LazypullError('INTERNAL', `${this.#what}: a member ends behind all content`);
    if (this.#bad !== undefined) throw crcMismatch(this.#what, this.#bad);
    return `sha256:${hex}`;
  }

  async fault(): Promise<LazypullError | undefined> {
    try {
      if (!this.#checkHere()) {
        await this.#send();
        await this.#until(() => this.#away === 0);
      }
    } catch {
      // The thread has ended. What it had found until then is known.
    }
    return this.#bad === undefined ? undefined : crcMismatch(this.#what, this.#bad);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const idle = !this.#failure && this.#away === 0 && this.#asked === (this.#hex !== undefined);
    this.#failure ??= new LazypullError('INTERNAL', 'the thread that hashes ended');
    this.#wake?.();
    await this.#lane.giveBack(idle);
  }

  /** Without a thread, which would be started in vain: all there is lies in the first slot. */
  #checkHere(): StreamCheck | undefined {
    if (this.#working) return undefined;
    if (this.#closed) throw this.#failure;
    const check = new StreamCheck(this.gzip);
    check.update(this.#bytes.subarray(0, this.#used), this.#ends);
    this.#bad = check.bad;
    return check;
  }

  /** Finds the place in the slot of ends that have come to lie in it. */
  #reach(): void {
    for (let [next] = this.#ahead; next && next.out <= this.#size; [next] = this.#ahead) {
      this.#ahead.shift();
      this.#ends.push({ at: this.#used - (this.#size - next.out), crc: next.crc, offset: next.offset });
    }
  }

  /** Hands the slot over and finds another. */
  async #send(): Promise<void> {
    this.#away += 1;
    this.#post({ at: this.#slot * SLOT, length: this.#used, ends: this.#ends });
    this.#slot = (this.#slot + 1) % SLOTS;
    this.#used = 0;
    this.#ends = [];
    // Slots come back in order, so the next one is free unless all are away.
    await this.#until(() => this.#away < SLOTS);
  }

  async #until(done: () => boolean): Promise<void> {
    while (!done()) {
      if (this.#failure) throw this.#failure;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  #post(message: DigestMessage): void {
    if (this.#closed) throw this.#failure;
    if (!this.#working) this.#lane.begin({ gzip: this.gzip }, (reply) => this.#take(reply));
    this.#working = true;
    this.#lane.post(message);
  }

  #take(reply: DigestReply | LazypullError): void {
    if (reply instanceof LazypullError) this.#failure ??= reply;
    else if (reply === 'news') return;
    else if ('hex' in reply) this.#hex = reply.hex;
    else {
      this.#away -= 1;
      this.#bad ??= reply.bad;
    }
    this.#wake?.();
    this.#wake = undefined;
  }
}
