import { randomUUID } from 'node:crypto';
import { open, rename, stat, type FileHandle } from 'node:fs/promises';
import { roundUp } from '../../core/bytes.ts';
import type { Digest } from '../../core/digest.ts';
import type { FormatChoice, IndexingFormat, LayerFollower } from '../../core/format.ts';
import { withLock } from '../../oci/layout-lock.ts';
import type { DeviceName, MountCache } from './cache.ts';
import { CacheFolder, isMissing, removeFile, TEMPORARY } from './folder.ts';
import { PAGE_SIZE } from './pages.ts';

/** Bytes after which it is asked anew whether the cache has room for more. */
const ROOM_CHECK = 128 << 20;

interface TarFile {
  readonly path: string;
  /** Bytes of the tar. */
  readonly size: number;
}

/**
 * Puts plain tars into files of the cache while layers go by for another reason; they become devices once it is known under which
 * keys. What does not work out is left: the bytes are then fetched like others.
 */
export class TarFiles {
  readonly #cache: MountCache;
  readonly #folder: CacheFolder;
  readonly #files = new Map<Digest, TarFile>();
  #bytes = 0;
  #checked = 0;

  constructor(cache: MountCache) {
    this.#cache = cache;
    this.#folder = new CacheFolder(cache.dir);
  }

  /** To be led along the layers beside a format that describes them. Describes none by itself. */
  get follower(): FormatChoice<IndexingFormat> {
    const never = async (): Promise<never> => Promise.reject(new Error('it is only written'));
    const format: IndexingFormat = {
      kind: 'indexing',
      name: 'cache',
      binding: { artifactType: '', artifactKey: '', imageKey: '' },
      referrerType: '',
      detect: async () => false,
      open: never,
      follow: () => this.#follow(),
      describeImage: async () => undefined,
    };
    return { format, options: {} };
  }

  /** Makes a layer's file a device that is wholly there; false when it cannot be one. It stays open while the cache is. */
  async adopt(layer: Digest, { key, size }: DeviceName): Promise<boolean> {
    const file = this.#files.get(layer);
    this.#files.delete(layer);
    if (!file) return false;
    try {
      if (roundUp(file.size, PAGE_SIZE) !== size || !(await this.#place(file, key, size))) return false;
      const device = await this.#cache.device(key, size);
      // Nothing is written; the cache takes note that all of it is there, and makes it last in its own time.
      return await device.write([{ address: 0, bytes: new Uint8Array(0), cover: size }]);
    } catch {
      return false;
    } finally {
      await removeFile(file.path).catch(() => undefined);
    }
  }

  /** Removes what has not been adopted. */
  async close(): Promise<void> {
    for (const { path } of this.#files.values()) await removeFile(path).catch(() => undefined);
    this.#files.clear();
  }

  /** In place of nothing: a device that is there already is somebody's. */
  #place(file: TarFile, key: string, size: number): Promise<boolean> {
    const path = this.#folder.device(key);
    return withLock(this.#folder.lock, async () => {
      try {
        await stat(path);
        return false;
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
      await removeFile(this.#folder.presence(key));
      const handle = await open(file.path, 'r+');
      try {
        await handle.truncate(size);
      } finally {
        await handle.close();
      }
      await rename(file.path, path);
      return true;
    });
  }

  #follow(): LayerFollower {
    const path = this.#folder.path('devices', `${randomUUID()}${TEMPORARY}`);
    let handle: FileHandle | undefined;
    let size = 0;
    let given = false;
    const giveUp = async (): Promise<void> => {
      given = true;
      this.#bytes -= size;
      await handle?.close().catch(() => undefined);
      await removeFile(path).catch(() => undefined);
      handle = undefined;
    };
    return {
      point: () => undefined,
      packed: () => undefined,
      tar: async (bytes) => {
        if (given || bytes.length === 0) return;
        try {
          handle ??= await open(path, 'wx', 0o600);
          for (let done = 0; done < bytes.length; ) done += (await handle.write(bytes, done, bytes.length - done, size + done)).bytesWritten;
          size += bytes.length;
          this.#bytes += bytes.length;
          if (await this.#isFull()) await giveUp();
        } catch {
          await giveUp();
        }
      },
      finish: async ({ descriptor }) => {
        await handle?.close().catch(() => undefined);
        if (!given && handle) this.#files.set(descriptor.digest, { path, size });
        return { skipped: 'its content is kept' };
      },
      abandon: giveUp,
    };
  }

  async #isFull(): Promise<boolean> {
    if (this.#bytes < this.#checked + ROOM_CHECK) return false;
    this.#checked = this.#bytes;
    return !(await this.#cache.hasRoomFor(this.#bytes + ROOM_CHECK));
  }
}
