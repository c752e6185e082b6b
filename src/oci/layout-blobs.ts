import { randomBytes } from 'node:crypto';
import { link, lstat, mkdir, open, readdir, rename, stat, unlink, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Digester, digestAlgorithm, digestHex, type Digest } from '../core/digest.ts';
import { LazypullError, throwIfAborted, wrapError } from '../core/errors.ts';
import type { ByteStream } from '../core/types.ts';

/** Bytes per read and per write. */
const PIECE = 1 << 20;
/** Bytes after which the disk is told to begin: what is left for the end is waited for by everybody. */
const SYNC_AFTER = 64 << 20;
/** Temp files of a process that died are swept once they are this old, ms. */
const STALE = 24 * 3600_000;
const TEMP = /^\.lazypull-\d+-[0-9a-f]{16}$/;

/** The `blobs` folder of a layout (image-spec 1.1, image-layout.md): content under `<algorithm>/<hex>`. */
export class BlobFolder {
  readonly folder: string;
  #swept = false;

  constructor(layout: string) {
    this.folder = join(layout, 'blobs');
  }

  /** Takes only a `Digest`, whose grammar has no room for path tricks. */
  path(digest: Digest): string {
    return join(this.folder, digestAlgorithm(digest), digestHex(digest));
  }

  /** Size in bytes, or undefined when absent. Anything but a regular file is refused: opening a fifo would hang. */
  async size(digest: Digest): Promise<number | undefined> {
    const path = this.path(digest);
    try {
      const info = await stat(path);
      if (!info.isFile()) throw new LazypullError('CORRUPT', 'blob is not a regular file', { path });
      return info.size;
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw wrapError(error, 'IO', 'cannot look up blob', { path });
    }
  }

  /** The stored bytes as they are, unchecked. Two buffers take turns: one is being read while the other is lent out. */
  async *stream(digest: Digest, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    throwIfAborted(signal);
    const path = this.path(digest);
    const size = await this.size(digest);
    if (size === undefined) throw new LazypullError('NOT_FOUND', `blob ${digest} is not in the layout`, { path });
    const handle = await open(path, 'r').catch((error: unknown) => {
      throw wrapError(error, 'IO', 'cannot open blob', { path });
    });
    const piece = Math.min(PIECE, Math.max(size, 1));
    const buffers = [Buffer.allocUnsafeSlow(piece), Buffer.allocUnsafeSlow(size > piece ? piece : 0)] as const;
    let pending = handle.read(buffers[0], 0, piece, 0);
    try {
      for (let at = 0, turn = 0; at < size; turn = 1 - turn) {
        throwIfAborted(signal);
        const { bytesRead, buffer } = await pending;
        if (bytesRead === 0) return;
        at += bytesRead;
        const next = buffers[turn === 0 ? 1 : 0];
        if (at < size) pending = handle.read(next, 0, Math.min(piece, size - at), at);
        yield buffer.subarray(0, bytesRead);
      }
    } catch (error) {
      throw wrapError(error, 'IO', 'cannot read blob', { path });
    } finally {
      await pending.catch(() => undefined);
      await handle.close();
    }
  }

  /** A file that becomes a blob by `commit`, in the same file system so that a rename suffices. */
  async create(algorithm: 'sha256' | 'sha512' = 'sha256'): Promise<TempBlob> {
    await this.#sweep();
    const path = join(this.folder, tempName());
    try {
      await mkdir(this.folder, { recursive: true });
      return new TempBlob(this, path, await open(path, 'wx+'), algorithm);
    } catch (error) {
      throw wrapError(error, 'IO', 'cannot create a temporary file', { path });
    }
  }

  /** Stores a stream, whose digest is already checked on the way, in one go. */
  async write(digest: Digest, stream: ByteStream, signal?: AbortSignal): Promise<void> {
    const temp = await this.create(digestAlgorithm(digest));
    try {
      for await (const bytes of stream) {
        throwIfAborted(signal);
        await temp.write(bytes);
      }
      await temp.commit(digest);
    } finally {
      await temp.discard();
    }
  }

  /** A second name for another layout's blob; false when the file systems or permissions do not allow that. */
  async linkFrom(other: BlobFolder, digest: Digest): Promise<boolean> {
    const path = this.path(digest);
    try {
      // A link to a symbolic link would be one more symbolic link.
      if (!(await lstat(other.path(digest))).isFile()) return false;
      await mkdir(dirname(path), { recursive: true });
      await link(other.path(digest), path);
      await syncFolder(dirname(path));
      return true;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException | null)?.code;
      if (code === 'EEXIST') return true;
      if (code === 'ENOSPC' || code === 'EROFS' || code === 'EIO') throw wrapError(error, 'IO', 'cannot link blob', { path });
      return false;
    }
  }

  /** Whether there was something to remove. */
  async remove(digest: Digest): Promise<boolean> {
    try {
      await unlink(this.path(digest));
      return true;
    } catch (error) {
      if (isAbsent(error)) return false;
      throw wrapError(error, 'IO', 'cannot remove blob', { path: this.path(digest) });
    }
  }

  /** What a killed process left behind; best effort, and never anything that could still be in use. */
  async #sweep(): Promise<void> {
    if (this.#swept) return;
    this.#swept = true;
    for (const folder of [this.folder, dirname(this.folder)]) {
      for (const name of await readdir(folder).catch(() => [])) {
        if (!TEMP.test(name)) continue;
        const path = join(folder, name);
        const info = await stat(path).catch(() => undefined);
        if (info && Date.now() - info.mtimeMs > STALE) await unlink(path).catch(() => undefined);
      }
    }
  }
}

/** Bytes on their way into a blob folder. Always `discard` in the end; after a `commit` that does nothing. */
export class TempBlob {
  readonly #folder: BlobFolder;
  readonly #path: string;
  readonly #handle: FileHandle;
  readonly #digester: Digester;
  #buffer: Buffer | undefined;
  #held = 0;
  #written = 0;
  /** Bytes that the disk has been told of, and that telling. */
  #told = 0;
  #syncing: Promise<unknown> | undefined;
  #lost: { readonly error: unknown } | undefined;
  #open = true;

  constructor(folder: BlobFolder, path: string, handle: FileHandle, algorithm: 'sha256' | 'sha512') {
    this.#folder = folder;
    this.#path = path;
    this.#handle = handle;
    this.#digester = new Digester(algorithm);
  }

  /** Bytes taken so far. */
  get size(): number {
    return this.#digester.size;
  }

  /** Digest of the bytes taken so far. */
  soFar(): Digest {
    return this.#digester.soFar();
  }

  /** Small writes are gathered; the caller's bytes are free again once this resolves. */
  async write(bytes: Uint8Array): Promise<void> {
    this.#digester.update(bytes);
    const large = bytes.length >= PIECE / 2;
    if (large || this.#held + bytes.length > PIECE) await this.#flush();
    if (large) return this.#put(bytes);
    this.#buffer ??= Buffer.allocUnsafeSlow(PIECE);
    this.#buffer.set(bytes, this.#held);
    this.#held += bytes.length;
  }

  /**
   * Makes the bytes durable and visible under their digest. With `expected` another digest is DIGEST_MISMATCH, and one of
   * another algorithm than hashed on the way costs a second read.
   */
  async commit(expected?: Digest): Promise<Digest> {
    await this.#flush();
    // The digest is that of the bytes taken, so none of them may be missing in the file.
    if (this.#written !== this.size) throw new LazypullError('IO', `only ${this.#written} of ${this.size} bytes could be written`, { path: this.#path });
    const hashed = this.#digester.finish();
    const got = expected && digestAlgorithm(expected) !== digestAlgorithm(hashed) ? await this.#rehash(digestAlgorithm(expected)) : hashed;
    if (expected && got !== expected) throw new LazypullError('DIGEST_MISMATCH', `content (${this.#written} bytes) has digest ${got}, not ${expected}`);
    const path = this.#folder.path(got);
    try {
      await this.#syncing;
      if (this.#lost) throw this.#lost.error;
      await this.#handle.sync();
      await this.#close();
      await mkdir(dirname(path), { recursive: true });
      await rename(this.#path, path);
      await syncFolder(dirname(path));
    } catch (error) {
      throw wrapError(error, 'IO', 'cannot store blob', { path });
    }
    return got;
  }

  async discard(): Promise<void> {
    await this.#close().catch(() => undefined);
    await unlink(this.#path).catch(() => undefined);
  }

  async #close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await this.#syncing;
    await this.#handle.close();
  }

  async #flush(): Promise<void> {
    const held = this.#held;
    this.#held = 0;
    if (held > 0) await this.#put((this.#buffer as Buffer).subarray(0, held));
  }

  async #put(bytes: Uint8Array): Promise<void> {
    try {
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await this.#handle.write(bytes, at, bytes.length - at, this.#written);
        at += bytesWritten;
        this.#written += bytesWritten;
      }
    } catch (error) {
      throw wrapError(error, 'IO', 'cannot write', { path: this.#path, offset: this.#written });
    }
    if (this.#written - this.#told >= SYNC_AFTER && !this.#syncing) this.#beginSync();
  }

  /** Not waited for. A failure is kept: the kernel tells each only once, so that the last sync would know nothing of it. */
  #beginSync(): void {
    this.#told = this.#written;
    this.#syncing = this.#handle.datasync().then(
      () => (this.#syncing = undefined),
      (error: unknown) => (this.#lost = { error }),
    );
  }

  async #rehash(algorithm: 'sha256' | 'sha512'): Promise<Digest> {
    const digester = new Digester(algorithm);
    const buffer = Buffer.allocUnsafeSlow(PIECE);
    for (let at = 0; at < this.#written; ) {
      const { bytesRead } = await this.#handle.read(buffer, 0, PIECE, at);
      if (bytesRead === 0) throw new LazypullError('IO', 'temporary file is shorter than what was written', { path: this.#path, offset: at });
      digester.update(buffer.subarray(0, bytesRead));
      at += bytesRead;
    }
    return digester.finish();
  }
}

/** Replaces a small file as a whole: readers see the old or the new bytes, also after a crash. */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const temp = join(dirname(path), tempName());
  try {
    const handle = await open(temp, 'wx');
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temp, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await unlink(temp).catch(() => undefined);
    throw wrapError(error, 'IO', 'cannot write', { path });
  }
}

export function isAbsent(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  return code === 'ENOENT' || code === 'ENOTDIR';
}

function tempName(): string {
  return `.lazypull-${process.pid}-${randomBytes(8).toString('hex')}`;
}

/** A rename is durable only when its folder is; file systems that cannot sync a folder do not need it. */
async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r').catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}
