import { LazypullError, wrapError } from '../../core/errors.ts';
import { withLock } from '../../oci/layout-lock.ts';
import type { CachedDevice } from './cached-device.ts';
import { evict } from './evict.ts';
import { CacheFolder, errnoOf, isMissing } from './folder.ts';
import { OwnUser } from './users.ts';

export interface MountCacheOptions {
  /** What the cache may take on disk, bytes; default: whatever there is. */
  readonly maxBytes?: number;
  /** What keeps the cache from doing its work, once for each kind of trouble. */
  readonly onProblem?: (error: LazypullError) => void;
}

/** Failures after which a cache does without its folder, or without more of it: reads go on from memory. */
const SURVIVED: ReadonlySet<string | undefined> = new Set(['EROFS', 'EACCES', 'EPERM', 'ENOSPC', 'EDQUOT', 'EIO', 'ENOSYS', 'EOPNOTSUPP']);
/** After a failure nothing is written for this long, ms; when there is no room, for this long. */
const PAUSE = 5000;
const FULL_PAUSE = 500;
/** When room is made, this part of what is allowed is left free, so that it need not be made for every write. */
const SLACK = 0.1;
/** What is freed on a disk that is full, bytes. */
const RELIEF = 256 << 20;

/** The folder of a cache, held to its bound and shared with other processes. What it cannot do is told once, and done without. */
export class Keeper {
  readonly folder: CacheFolder;
  readonly maxBytes: number;
  /** What is in use: devices by their keys, and trees by their names. */
  readonly keys = new Set<string>();
  readonly trees = new Set<string>();
  /** The devices that are open. */
  readonly open = new Map<string, CachedDevice>();
  readonly #own: OwnUser;
  readonly #onProblem: (error: LazypullError) => void;
  readonly #told = new Set<string>();
  #off = false;
  #closed = false;
  #pausedUntil = 0;
  /** Estimate of what is on disk. */
  #bytes = 0;
  #evicting: Promise<void> | undefined;

  constructor(dir: string, { maxBytes = Infinity, onProblem }: MountCacheOptions) {
    if (maxBytes !== Infinity && !(Number.isSafeInteger(maxBytes) && maxBytes >= 0)) throw new LazypullError('USAGE', `a cache of ${maxBytes} bytes`);
    this.maxBytes = maxBytes;
    this.#onProblem = onProblem ?? ((): void => undefined);
    this.folder = new CacheFolder(dir);
    this.#own = new OwnUser(this.folder, async (ranges) => {
      const held = await Promise.all(ranges.map(async ({ key, from, to }) => this.open.get(key)?.hold(from, to)));
      return () => {
        for (const release of held) release?.();
      };
    });
  }

  /** This process among the users: its file, without ending. */
  get self(): string {
    return this.#own.path;
  }

  /** Nothing can be kept: the folder cannot be had. */
  get off(): boolean {
    return this.#off;
  }

  async start(): Promise<void> {
    try {
      await this.folder.make();
      await this.locked(async () => {
        await this.announce();
        await this.folder.reserve();
        if (this.maxBytes !== Infinity) await this.evict(() => this.maxBytes, false);
      });
    } catch (error) {
      // ENOENT is what mkdir makes of a read-only file system.
      if (!SURVIVED.has(errnoOf(error)) && errnoOf(error) !== 'ENOENT') throw error;
      this.#off = true;
      this.#tell('folder', wrapError(error, 'IO', 'nothing can be kept in the cache', { path: this.folder.dir }));
    }
  }

  /** Alone among all processes that use the folder. */
  locked<T>(work: () => Promise<T>): Promise<T> {
    return withLock(this.folder.lock, work);
  }

  /** Says what is in use. With the folder locked: nobody removes it in between. */
  announce(): Promise<void> {
    return this.#own.use([...this.keys], [...this.trees]);
  }

  /** Undefined when it cannot be done. */
  async orNothing<T>(work: () => Promise<T>): Promise<T | undefined> {
    if (this.#off) return undefined;
    try {
      return await work();
    } catch (error) {
      if (!isMissing(error)) this.trouble(error);
      return undefined;
    }
  }

  /** Whether so many bytes may be written; what is in the way is gone by then. */
  async room(bytes: number): Promise<boolean> {
    if (this.#off || this.#closed || Date.now() < this.#pausedUntil) return false;
    if (this.#bytes + bytes <= this.maxBytes) return true;
    await this.#makeRoom(() => Math.max(0, Math.floor(this.maxBytes * (1 - SLACK)) - bytes), true);
    if (this.#bytes + bytes <= this.maxBytes) return true;
    this.#pausedUntil = Date.now() + FULL_PAUSE;
    return false;
  }

  /** So many bytes have been written. */
  count(bytes: number): void {
    this.#bytes += bytes;
  }

  /** Comes down to `target` bytes, if what is in use allows; bytes on disk then. With the folder locked. */
  async evict(target: (bytes: number) => number, parts: boolean): Promise<number> {
    this.#bytes = await evict({ folder: this.folder, self: this.#own.path, open: this.open, target, parts });
    return this.#bytes;
  }

  /** The disk is full, or does not take more for another reason: reads go on from memory for a while. */
  trouble(error: unknown): void {
    const errno = errnoOf(error) ?? 'other';
    this.#pausedUntil = Date.now() + PAUSE;
    this.#tell(errno, wrapError(error, 'IO', 'the cache cannot be used as it should be', { path: this.folder.dir }));
    // What nobody uses makes room for what somebody does.
    if ((errno === 'ENOSPC' || errno === 'EDQUOT') && !this.#closed) void this.#relieve();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#evicting;
    await this.#own.close();
  }

  async #relieve(): Promise<void> {
    await this.folder.useReserve();
    await this.#makeRoom((bytes) => Math.max(0, bytes - RELIEF), false);
    await this.folder.reserve();
  }

  /** One at a time: who comes meanwhile waits for the same. */
  #makeRoom(target: (bytes: number) => number, parts: boolean): Promise<void> {
    this.#evicting ??= this.locked(() => this.evict(target, parts))
      .then(() => undefined)
      .catch((error: unknown) => this.#tell('room', wrapError(error, 'IO', 'cannot make room in the cache', { path: this.folder.dir })))
      .finally(() => {
        this.#evicting = undefined;
      });
    return this.#evicting;
  }

  #tell(kind: string, error: LazypullError): void {
    if (this.#told.has(kind)) return;
    this.#told.add(kind);
    this.#onProblem(error);
  }
}
