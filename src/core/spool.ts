import { mkdtemp, open, rm, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LazypullError, wrapError } from './errors.ts';
import type { ByteStream } from './types.ts';

const PIECE = 1 << 20;

/** Bytes put aside for later: in memory while they are few, in a temporary file once they are many. */
export class Spool {
  readonly #inMemory: number;
  readonly #parts: { readonly offset: number; readonly bytes: Uint8Array }[] = [];
  #size = 0;
  #kept = 0;
  #file: { readonly folder: string; readonly handle: FileHandle } | undefined;

  /** At most `inMemory` bytes stay in memory; default 8 MiB, as several layers are worked on side by side. */
  constructor(inMemory = 8 << 20) {
    this.#inMemory = inMemory;
  }

  /** Bytes put aside so far: the offset of the next ones. */
  get size(): number {
    return this.#size;
  }

  async append(bytes: Uint8Array): Promise<void> {
    try {
      if (this.#kept + bytes.length <= this.#inMemory) {
        // Not `slice`: for a Buffer that is a view of the same memory.
        this.#parts.push({ offset: this.#size, bytes: new Uint8Array(bytes) });
        this.#kept += bytes.length;
      } else {
        this.#file ??= await temporaryFile();
        for (let done = 0; done < bytes.length; ) {
          done += (await this.#file.handle.write(bytes, done, bytes.length - done, this.#size + done)).bytesWritten;
        }
      }
      this.#size += bytes.length;
    } catch (error) {
      throw wrapError(error, 'IO', 'cannot write a temporary file', { path: tmpdir() });
    }
  }

  /** The bytes `[offset, offset + length)` again, as often as wanted. */
  async *read(offset: number, length: number): ByteStream {
    const end = offset + length;
    let at = offset;
    // Once one part has gone to the file, later ones that still fit stay in memory: every part is looked up by its place.
    let next = this.#firstBehind(offset);
    while (at < end) {
      const part = this.#parts[next];
      if (part && part.offset <= at) {
        const bytes = part.bytes.subarray(at - part.offset, end - part.offset);
        at += bytes.length;
        next += 1;
        if (bytes.length > 0) yield bytes;
      } else {
        const bytes = await this.#fromFile(at, Math.min(PIECE, (part ? Math.min(part.offset, end) : end) - at));
        at += bytes.length;
        yield bytes;
      }
    }
  }

  /** Removes the temporary file. */
  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    this.#parts.length = 0;
    if (!file) return;
    try {
      await file.handle.close();
    } finally {
      await rm(file.folder, { recursive: true, force: true });
    }
  }

  /** Place of the first part in memory that ends behind an offset. */
  #firstBehind(offset: number): number {
    let low = 0;
    let high = this.#parts.length;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const part = this.#parts[middle] as { offset: number; bytes: Uint8Array };
      if (part.offset + part.bytes.length > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  async #fromFile(at: number, length: number): Promise<Uint8Array> {
    const bytes = Buffer.allocUnsafeSlow(length);
    const place = { path: tmpdir(), offset: at };
    try {
      const { bytesRead } = await (this.#file as { handle: FileHandle }).handle.read(bytes, 0, length, at);
      if (bytesRead === 0) throw new LazypullError('IO', 'a temporary file ends early', place);
      return bytes.subarray(0, bytesRead);
    } catch (error) {
      throw wrapError(error, 'IO', 'cannot read a temporary file', place);
    }
  }
}

async function temporaryFile(): Promise<{ folder: string; handle: FileHandle }> {
  const folder = await mkdtemp(join(tmpdir(), 'lazypull-spool-'));
  try {
    return { folder, handle: await open(join(folder, 'spool'), 'wx+', 0o600) };
  } finally {
    // Without a name the bytes are gone with the process, however that ends. Where open files keep theirs, `close` is for it.
    await rm(folder, { recursive: true, force: true }).catch(() => undefined);
  }
}
