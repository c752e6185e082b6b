import type { Socket } from 'node:net';
import { LazypullError, wrapError } from '../../core/errors.ts';

/** A line may hold a list of paths, and no more than that. */
const MAX_LINE = 16 * 1024 * 1024;

/** Messages in both directions over a stream socket: one JSON value per line. */
export class Channel<Sent, Received> {
  readonly #socket: Socket;
  readonly #waiting: ((message: Received | undefined) => void)[] = [];
  readonly #received: Received[] = [];
  #text = '';
  #failure: LazypullError | undefined;
  /** Resolves when the other end is gone. */
  readonly ended: Promise<void>;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#take(text));
    this.ended = new Promise((resolve) => {
      // An end that was killed shows as ECONNRESET; for who reads it is the same.
      socket.on('error', () => socket.destroy());
      socket.once('end', () => socket.destroy());
      socket.once('close', () => {
        for (const resume of this.#waiting.splice(0)) resume(undefined);
        resolve();
      });
    });
  }

  get open(): boolean {
    return !this.#socket.destroyed;
  }

  /** Lost without a word when the other end is gone: `ended` tells. */
  send(message: Sent): void {
    if (this.open) this.#socket.write(`${JSON.stringify(message)}\n`);
  }

  /** The next message; undefined when there will be none. */
  async receive(): Promise<Received | undefined> {
    if (this.#failure) throw this.#failure;
    const next = this.#received.shift();
    if (next !== undefined || !this.open) return next;
    const message = await new Promise<Received | undefined>((resolve) => this.#waiting.push(resolve));
    if (this.#failure) throw this.#failure;
    return message;
  }

  /** Sends what is still to be sent, and closes. */
  async close(): Promise<void> {
    if (this.open) this.#socket.end(() => this.#socket.destroy());
    await this.ended;
  }

  /** The process may end though the channel is open. */
  unref(): void {
    this.#socket.unref();
  }

  #take(text: string): void {
    this.#text += text;
    for (let end = this.#text.indexOf('\n'); end >= 0; end = this.#text.indexOf('\n')) {
      const line = this.#text.slice(0, end);
      this.#text = this.#text.slice(end + 1);
      try {
        this.#deliver(JSON.parse(line) as Received);
      } catch (error) {
        return this.#fail(wrapError(error, 'INTERNAL', 'a message between processes cannot be understood'));
      }
    }
    if (this.#text.length > MAX_LINE) this.#fail(new LazypullError('LIMIT', 'a message between processes is too long'));
  }

  #deliver(message: Received): void {
    const resume = this.#waiting.shift();
    if (resume) resume(message);
    else this.#received.push(message);
  }

  #fail(error: LazypullError): void {
    this.#failure = error;
    this.#socket.destroy();
  }
}
