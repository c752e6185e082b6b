import { readFileSync, writevSync } from 'node:fs';
import { LazypullError, wrapError } from '../../core/errors.ts';
import { giveBack } from '../../core/room.ts';
import type { DeviceRun } from '../../erofs/place.ts';
import { ERRNO } from '../native.ts';
import type { AnswerMiss } from '../types.ts';
import type { Counters } from './counters.ts';
import type { MissedRead } from './server.ts';
import { encodeOutHeader } from './wire.ts';

/** Milliseconds between looks at whether somebody who was interrupted is being killed. */
const LOOK_AGAIN = 100;

const MAX_PARTS = 100;

interface Pending {
  readonly controller: AbortController;
  readonly pid: number;
  timer?: NodeJS.Timeout;
}

/** A read that was answered late, or with an error. */
export interface ReadReport {
  readonly node: number;
  /** Of the file. */
  readonly offset: number;
  readonly length: number;
  /** Where the bytes were to come from; devices count from 1. */
  readonly runs: readonly DeviceRun[];
  /** Time that it took. */
  readonly milliseconds: number;
}

/** Answers reads whose bytes have to be fetched, in the thread that fetches, as many at a time as the kernel sends. */
export class MissDesk {
  readonly #fd: number;
  readonly #metadata: Uint8Array;
  readonly #answer: AnswerMiss;
  readonly #counters: Counters;
  readonly #report: (read: ReadReport, error: LazypullError | undefined) => void;
  readonly #pending = new Map<bigint, Pending>();
  #closed = false;
  bytes = 0;
  interrupted = 0;

  constructor(fd: number, metadata: SharedArrayBuffer, answer: AnswerMiss, counters: Counters, report: (read: ReadReport, error: LazypullError | undefined) => void) {
    this.#fd = fd;
    this.#metadata = new Uint8Array(metadata);
    this.#answer = answer;
    this.#counters = counters;
    this.#report = report;
  }

  get pending(): number {
    return this.#pending.size;
  }

  /** Fetches and replies; never rejects. */
  async take({ unique, node, offset, pid, runs }: MissedRead): Promise<void> {
    if (this.#closed) return;
    const entry: Pending = { controller: new AbortController(), pid };
    const { signal } = entry.controller;
    const started = performance.now();
    const length = runs.reduce((sum, run) => sum + run.length, 0);
    let failure: LazypullError | undefined;
    this.#pending.set(unique, entry);
    try {
      const parts = await Promise.all(runs.map((run) => this.#part(run, signal)));
      if (this.#closed) return;
      this.#reply(unique, parts, length);
      for (const part of parts) giveBack(part);
      this.bytes += length;
    } catch (error) {
      // Whoever takes over is asked again.
      if (this.#closed) return;
      failure = wrapError(error, 'IO', 'read failed');
      this.#fail(unique, signal.aborted ? ERRNO.EINTR : ERRNO.EIO);
      if (!signal.aborted) this.#counters.add('errors', 1);
    } finally {
      this.#pending.delete(unique);
      clearInterval(entry.timer);
      // One part has failed: nobody needs the others.
      if (failure) entry.controller.abort();
    }
    if (!signal.aborted || failure?.code !== 'CANCELLED') this.#report({ node, offset, length, runs, milliseconds: performance.now() - started }, failure);
  }

  /**
   * Somebody who waits has got a signal. Only one that is being killed is told so: for others the read is still needed, and
   * an error would become that of a read, or the end of a process that has the file mapped. The kernel says it once only,
   * so that we have to look whether it is killed later.
   */
  interrupt(unique: bigint): void {
    const entry = this.#pending.get(unique);
    if (!entry || entry.timer || entry.pid === 0) return;
    const look = (): void => {
      if (!isDying(entry.pid)) return;
      clearInterval(entry.timer);
      this.interrupted += 1;
      entry.controller.abort();
    };
    entry.timer = setInterval(look, LOOK_AGAIN).unref();
    look();
  }

  /** Stops what is being fetched, and answers none of it. */
  close(): void {
    this.#closed = true;
    for (const { controller, timer } of this.#pending.values()) {
      clearInterval(timer);
      controller.abort();
    }
    this.#pending.clear();
  }

  async #part({ device, offset, length }: DeviceRun, signal: AbortSignal): Promise<Uint8Array> {
    if (device === undefined) return new Uint8Array(length);
    if (device === 0) {
      const bytes = new Uint8Array(length);
      bytes.set(this.#metadata.subarray(offset, offset + length));
      return bytes;
    }
    const bytes = await this.#answer({ device: device - 1, address: offset, length }, signal);
    if (bytes.length !== length) throw new LazypullError('INTERNAL', `${bytes.length} bytes of a device in place of ${length}`, { offset });
    return bytes;
  }

  #reply(unique: bigint, parts: readonly Uint8Array[], length: number): void {
    try {
      // One reply is one write, which takes a limited number of parts.
      writevSync(this.#fd, [encodeOutHeader(unique, length, 0), ...(parts.length > MAX_PARTS ? [Buffer.concat(parts, length)] : parts)]);
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }

  #fail(unique: bigint, errno: number): void {
    try {
      writevSync(this.#fd, [encodeOutHeader(unique, 0, -errno)]);
    } catch {
      // Nobody waits any more, or the mount is gone: the other thread finds out.
    }
  }
}

/** The request was given up, or the mount is gone. */
function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENODEV' || code === 'ECONNABORTED';
}

/** SIGKILL among the signals that are pending, as a hexadecimal mask: every thread of a process that dies of any signal has it. */
const SIGKILL = 1n << 8n;

function isDying(pid: number): boolean {
  try {
    const mask = /^SigPnd:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
    return mask !== undefined && (BigInt(`0x${mask}`) & SIGKILL) !== 0n;
  } catch {
    // It is not visible from here.
    return false;
  }
}
