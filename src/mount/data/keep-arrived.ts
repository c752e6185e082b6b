/** Bytes that are worth a system call of their own while more is to come. */
const LEAST = 1 << 20;
/** Bytes that may wait for being written, or be written. */
const MOST = 4 << 20;

/** A chunk's number, and its bytes. */
export type ArrivedChunk = readonly [number, Uint8Array];

/**
 * Keeps the chunks of one delivery while others of it are still to come: what has been kept gives its memory to those. Some at a
 * time, in the order in which they came.
 */
export class KeepArrived {
  readonly #keep: (chunks: readonly ArrivedChunk[]) => Promise<void>;
  readonly #done: (chunk: number, bytes: Uint8Array) => void;
  #waiting: ArrivedChunk[] = [];
  /** Of those that wait, and of all that are not done. */
  #bytes = 0;
  #left = 0;
  #running: Promise<void> | undefined;
  #room: { readonly made: Promise<void>; make(): void } | undefined;

  /** `keep` puts chunks where they belong; whether it could or not, they are `done` then. */
  constructor(keep: (chunks: readonly ArrivedChunk[]) => Promise<void>, done: (chunk: number, bytes: Uint8Array) => void) {
    this.#keep = keep;
    this.#done = done;
  }

  add(chunk: number, bytes: Uint8Array): void {
    this.#waiting.push([chunk, bytes]);
    this.#bytes += bytes.length;
    this.#left += bytes.length;
    if (this.#bytes >= LEAST) this.#start();
  }

  /** Resolves when more may be added; undefined when that is now. */
  room(): Promise<void> | undefined {
    if (this.#left <= MOST) return undefined;
    if (!this.#room) {
      let make = (): void => undefined;
      this.#room = { made: new Promise((resolve) => (make = resolve)), make: () => make() };
    }
    return this.#room.made;
  }

  /** Resolves when all that were added are done. Never rejects. */
  async end(): Promise<void> {
    this.#start();
    await this.#running;
  }

  #start(): void {
    if (this.#waiting.length > 0) this.#running ??= this.#run();
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const chunks = this.#waiting;
      this.#waiting = [];
      this.#bytes = 0;
      try {
        await this.#keep(chunks);
      } catch {
        // What is not kept is fetched again.
      } finally {
        for (const [chunk, bytes] of chunks) {
          this.#left -= bytes.length;
          this.#done(chunk, bytes);
        }
        if (this.#left <= MOST) this.#makeRoom();
      }
    }
    this.#running = undefined;
  }

  #makeRoom(): void {
    this.#room?.make();
    this.#room = undefined;
  }
}
