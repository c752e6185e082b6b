import { Pipe } from '../../src/core/pipe.ts';
import { digestOf, type Digest } from '../../src/core/digest.ts';
import type { Descriptor, Ingest, Sink } from '../../src/core/types.ts';

/** A blob that is stored once there is something to store: a layer without file content has none. */
export class Upload {
  readonly #ingest: Ingest;
  readonly #mediaType: string;
  readonly #pipe = new Pipe();
  #stored: Promise<Descriptor> | undefined;
  #soFar: (() => Digest) | undefined;
  #failure: { readonly error: unknown } | undefined;
  /** Bytes so far. */
  size = 0;

  constructor(ingest: Ingest, mediaType: string) {
    this.#ingest = ingest;
    this.#mediaType = mediaType;
  }

  write: Sink = async (bytes) => {
    this.#stored ??= this.#begin();
    this.size += bytes.length;
    await this.#pipe.write(bytes);
    if (this.#failure) throw this.#failure.error;
  };

  /** Digest of all bytes whose write has resolved. */
  soFar(): Digest {
    return this.#soFar?.() ?? digestOf();
  }

  /** The stored blob; undefined when nothing was written. */
  async finish(): Promise<Descriptor | undefined> {
    this.#pipe.end();
    return this.#stored;
  }

  /** Nothing is to become visible. */
  async abandon(error: unknown): Promise<void> {
    this.#pipe.fail(error);
    await this.#stored?.catch(() => undefined);
  }

  #begin(): Promise<Descriptor> {
    const reader = this.#pipe[Symbol.asyncIterator]();
    const stored = this.#ingest(this.#mediaType, async (sink, soFar) => {
      this.#soFar = soFar;
      for await (const bytes of { [Symbol.asyncIterator]: () => reader }) await sink(bytes);
    });
    // A store that gives up, perhaps without having read anything, must not leave the writer waiting.
    stored.catch((error: unknown) => {
      this.#failure = { error };
      void reader.return?.();
    });
    return stored;
  }
}
