import { Digester, type Digest } from '../core/digest.ts';
import { LazypullError, throwIfAborted } from '../core/errors.ts';
import { streamOf } from '../core/stream.ts';
import type { Descriptor, Produce } from '../core/types.ts';
import { HttpError, isStatus } from './http-error.ts';
import type { RepositoryClient } from './repository.ts';
import { pushBlob } from './upload-push.ts';
import { hasBlob, startUpload, type UploadSession } from './upload.ts';

/**
 * Bytes of a piece; each upload keeps two: one that travels and one that is being filled. Registries on object storage
 * refuse pieces below 5 MiB, except for the last.
 */
const PIECE = 5 * 1024 * 1024;
/** Registries that want larger pieces than this would cost too much memory. */
const MAX_PIECE = 64 * 1024 * 1024;

/**
 * Stores a blob whose digest is known only at its end: pieces by PATCH, each kept until the registry has confirmed it.
 * Whatever fits into one piece is stored like any other blob once it is complete, without a session if it is there.
 */
export async function ingestBlob(
  repository: RepositoryClient,
  mediaType: string,
  produce: Produce,
  signal?: AbortSignal,
): Promise<Descriptor> {
  // Also ends what is under way when the producer fails.
  const stop = new AbortController();
  const onAbort = (): void => stop.abort(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted) onAbort();
  const upload = new PieceUpload(repository, mediaType, stop.signal);
  try {
    await produce(
      (bytes) => upload.write(bytes),
      () => upload.soFar(),
    );
    throwIfAborted(signal);
    return await upload.finish();
  } catch (error) {
    stop.abort(error);
    await upload.abandon();
    throw error;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

class PieceUpload {
  readonly #repository: RepositoryClient;
  readonly #mediaType: string;
  readonly #signal: AbortSignal;
  readonly #digester = new Digester();
  #session: UploadSession | undefined;
  /** The piece that is being filled. */
  #piece: Uint8Array = Buffer.allocUnsafeSlow(PIECE);
  #filled = 0;
  /** The other piece's memory, free once its PATCH is confirmed. */
  #other: Uint8Array | undefined;
  #travelling: Promise<void> | undefined;
  #failure: unknown;
  /** Bytes in pieces that have been handed over. */
  #sent = 0;

  constructor(repository: RepositoryClient, mediaType: string, signal: AbortSignal) {
    this.#repository = repository;
    this.#mediaType = mediaType;
    this.#signal = signal;
  }

  /** Digest of the bytes taken so far. */
  soFar(): Digest {
    return this.#digester.soFar();
  }

  async write(bytes: Uint8Array): Promise<void> {
    throwIfAborted(this.#signal);
    if (this.#failure !== undefined) throw this.#failure;
    this.#digester.update(bytes);
    for (let at = 0; at < bytes.length;) {
      // A full piece goes out only when more follows: content of exactly one piece needs no session.
      if (this.#filled === this.#piece.length) await this.#dispatch();
      const part = bytes.subarray(at, at + this.#piece.length - this.#filled);
      this.#piece.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
    }
  }

  async finish(): Promise<Descriptor> {
    const { size } = this.#digester;
    const digest = this.#digester.finish();
    const descriptor: Descriptor = { mediaType: this.#mediaType, digest, size };
    if (!this.#session) {
      const content = this.#piece.subarray(0, this.#filled);
      await pushBlob(this.#repository, descriptor, () => streamOf(content), { signal: this.#signal });
      return descriptor;
    }
    await this.#travelling;
    if (this.#filled > 0) await this.#send(this.#piece.subarray(0, this.#filled), this.#sent);
    await this.#commit(digest);
    return descriptor;
  }

  /** Waits for what is under way, then gives the session up. */
  async abandon(): Promise<void> {
    await this.#travelling?.catch(() => undefined);
    await this.#session?.cancel();
  }

  /** Sends the full piece on its way and goes on with the other one. */
  async #dispatch(): Promise<void> {
    await this.#travelling;
    this.#session ??= await this.#repository.http.run(() => startUpload(this.#repository, this.#signal), this.#signal);
    if (this.#piece.length < this.#session.minChunk) {
      this.#grow(this.#session.minChunk);
      return;
    }
    const piece = this.#piece;
    const travelling = this.#send(piece, this.#sent);
    travelling.catch((error: unknown) => {
      this.#failure ??= error;
    });
    this.#travelling = travelling;
    this.#sent += piece.length;
    this.#piece = this.#other ?? Buffer.allocUnsafeSlow(piece.length);
    this.#other = piece;
    this.#filled = 0;
  }

  #grow(size: number): void {
    if (size > MAX_PIECE) throw new LazypullError('LIMIT', `${this.#repository.location} wants pieces of ${size} bytes, ${MAX_PIECE} is the most`);
    const larger = Buffer.allocUnsafeSlow(size);
    larger.set(this.#piece.subarray(0, this.#filled));
    this.#piece = larger;
  }

  /** Sends one piece that begins at `base`, resuming where the registry says it is after a failure. */
  async #send(piece: Uint8Array, base: number): Promise<void> {
    const end = base + piece.length;
    let have = base;
    await this.#repository.http.run(async (attempt) => {
      if (attempt > 0) have = await this.#whereIs(base, end);
      while (have < end) {
        const stated = await this.#patch(piece.subarray(have - base), have);
        const next = stated === undefined ? end : this.#checkOffset(stated, base, end);
        if (next <= have) throw this.#passing(`the registry confirmed ${next} of ${end} bytes`);
        have = next;
      }
    }, this.#signal);
  }

  async #patch(bytes: Uint8Array, offset: number): Promise<number | undefined> {
    try {
      return await this.#open().patch(bytes, offset, this.#signal);
    } catch (error) {
      // Out of step: the next try asks where the registry is.
      throw isStatus(error, 416) ? this.#passing('the registry expects another offset', error) : error;
    }
  }

  async #whereIs(base: number, end: number): Promise<number> {
    let stated: number | undefined;
    try {
      stated = await this.#open().status(this.#signal);
    } catch (error) {
      if (!isStatus(error, 400, 404, 416)) throw error;
      if (base > 0) throw new LazypullError('NETWORK', `the upload to ${this.#repository.location} was lost by the registry after ${base} bytes`, { cause: error });
      // Everything that was sent is still here.
      await this.#open().cancel();
      this.#session = await startUpload(this.#repository, this.#signal);
      return 0;
    }
    if (stated === undefined && base > 0) throw new LazypullError('NETWORK', `${this.#repository.location} does not say how much of an upload it has`);
    return this.#checkOffset(stated ?? 0, base, end);
  }

  /** `Range: 0-0` means one byte or none: before anything is confirmed it is taken for none. */
  #checkOffset(stated: number, base: number, end: number): number {
    const offset = base === 0 && stated === 1 && end > 1 ? 0 : stated;
    if (offset >= base && offset <= end) return offset;
    throw new LazypullError('NETWORK', `the upload to ${this.#repository.location} is out of step: the registry has ${offset} bytes, between ${base} and ${end} were sent`);
  }

  async #commit(digest: Digest): Promise<void> {
    await this.#repository.http.run(async () => {
      try {
        await this.#open().commit(digest, new Uint8Array(0), this.#signal);
      } catch (error) {
        // The answer to a closing PUT may get lost after it did its work, or someone else was first.
        const unclear = error instanceof HttpError && (error.retryable || error.status === 404);
        if (!unclear || !(await hasBlob(this.#repository, digest, this.#repository.push, this.#signal))) throw error;
        await this.#open().cancel();
      }
    }, this.#signal);
  }

  #open(): UploadSession {
    if (!this.#session) throw new LazypullError('INTERNAL', 'no upload session is open');
    return this.#session;
  }

  #passing(message: string, cause?: unknown): HttpError {
    return new HttpError('NETWORK', `PATCH failed: ${message}`, { path: this.#repository.location, retryable: true, cause });
  }
}
