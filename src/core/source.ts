import { open, type FileHandle } from 'node:fs/promises';
import { LazypullError, throwIfAborted, wrapError } from './errors.ts';
import { takeRoom } from './room.ts';
import type { ByteSource, ByteStream } from './types.ts';

/** Holds a read against the source's size before anything is allocated. */
export function checkRange(source: { readonly size: number }, offset: number, length: number, what = 'read'): void {
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0 || offset + length > source.size) {
    throw new LazypullError('CORRUPT', `${what} of ${length} bytes reaches outside the ${source.size} bytes that are there`, { offset });
  }
}

/** Bytes in memory as a source. */
export class MemorySource implements ByteSource {
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get size(): number {
    return this.#bytes.length;
  }

  async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    throwIfAborted(signal);
    checkRange(this, offset, length);
    return this.#bytes.subarray(offset, offset + length);
  }
}

/** A file as a source, opened on first use; close it when done. */
export class FileSource implements ByteSource {
  readonly fresh = true;
  readonly path: string;
  readonly size: number;
  #handle: Promise<FileHandle> | undefined;

  constructor(path: string, size: number) {
    this.path = path;
    this.size = size;
  }

  async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    throwIfAborted(signal);
    checkRange(this, offset, length);
    try {
      const handle = await this.#open();
      const bytes = takeRoom(length);
      let done = 0;
      while (done < length) {
        const { bytesRead } = await handle.read(bytes, done, length - done, offset + done);
        if (bytesRead === 0) throw new LazypullError('SIZE_MISMATCH', `file ends early: ${this.size} bytes expected`, { path: this.path, offset: offset + done });
        done += bytesRead;
      }
      return bytes;
    } catch (error) {
      throw wrapError(error, 'IO', 'cannot read', { path: this.path, offset });
    }
  }

  /** Reading again opens the file again. */
  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    try {
      await (await handle)?.close();
    } catch (error) {
      throw wrapError(error, 'IO', 'cannot close', { path: this.path });
    }
  }

  #open(): Promise<FileHandle> {
    if (this.#handle) return this.#handle;
    const opened = open(this.path, 'r');
    this.#handle = opened;
    // What keeps the file from being opened may pass (too many open files): the next read tries again.
    opened.catch(() => {
      if (this.#handle === opened) this.#handle = undefined;
    });
    return opened;
  }
}

/** A window of another source. */
export function sliceSource(source: ByteSource, start: number, size: number): ByteSource {
  checkRange(source, start, size, 'slice');
  return {
    size,
    read(offset, length, signal) {
      checkRange({ size }, offset, length);
      return source.read(start + offset, length, signal);
    },
    distrust: (offset, length) => source.distrust?.(start + offset, length) ?? false,
  };
}

/** Counts what is asked of a source: laziness is proved with it, and `--stats` prints it. */
export class CountingSource implements ByteSource {
  requests = 0;
  bytes = 0;
  readonly #source: ByteSource;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  get size(): number {
    return this.#source.size;
  }

  get fresh(): boolean {
    return this.#source.fresh ?? false;
  }

  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    this.requests += 1;
    this.bytes += length;
    return this.#source.read(offset, length, signal);
  }

  expect(offset: number, length: number): void {
    this.#source.expect?.(offset, length);
  }

  expects(offset: number, length: number): boolean {
    return this.#source.expects?.(offset, length) ?? false;
  }

  distrust(offset: number, length: number): boolean {
    return this.#source.distrust?.(offset, length) ?? false;
  }
}

/** A source read from end to end in pieces. */
export async function* streamSource(source: ByteSource, pieceSize = 1 << 20, signal?: AbortSignal): ByteStream {
  for (let at = 0; at < source.size; at += pieceSize) {
    yield await source.read(at, Math.min(pieceSize, source.size - at), signal);
  }
}
