import { existsSync } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import type { Digest } from '../../core/digest.ts';
import { LazypullError, wrapError } from '../../core/errors.ts';
import { CachedDevice, type DeviceHome } from './cached-device.ts';
import { isMissing, removeFile, replaceFile } from './folder.ts';
import { collectGarbage, listCache, removeFromCache, type CacheEntry, type CacheReport } from './housekeeping.ts';
import { Keeper, type MountCacheOptions } from './keeper.ts';
import { openDevice, readChecked, type DeviceName } from './kept-files.ts';
import { encodePresence, mergePresence } from './presence.ts';
import { rememberTar } from './proven-tars.ts';
import { readPresence } from './stock.ts';

export type { CacheEntry, CacheReport } from './housekeeping.ts';
export type { MountCacheOptions } from './keeper.ts';
export type { DeviceName } from './kept-files.ts';

interface Use {
  readonly device: Promise<CachedDevice>;
  users: number;
}

/**
 * What has been written is made to last this long (ms) after: what a process that is killed has not, is fetched again. Longer where the
 * disk takes its time, so that no more than a part of that time is spent on it.
 */
const SYNC_AFTER = { least: 200, most: 2000, times: 8 };

/**
 * Bytes of devices on disk, under names that say what vouches for them. Several processes may share a folder: what one has
 * fetched others find, and what one uses no other takes away. What is in it has been proven and is on disk when it is said
 * to be there; everything else is fetched again.
 *
 * Without a folder that can be written everything works, only that nothing is kept.
 */
export class MountCache {
  readonly #keeper: Keeper;
  readonly #uses = new Map<string, Use>();
  #flushing: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #syncAfter = SYNC_AFTER.least;
  #closed = false;

  private constructor(keeper: Keeper) {
    this.#keeper = keeper;
  }

  /** UNAUTHORIZED when other users could write to the folder, IO when it cannot be one. */
  static async open(dir: string, options: MountCacheOptions = {}): Promise<MountCache> {
    const keeper = new Keeper(dir, options);
    await keeper.start();
    return new MountCache(keeper);
  }

  get dir(): string {
    return this.#keeper.folder.dir;
  }

  /** What it may take on disk, bytes; Infinity without a bound. */
  get maxBytes(): number {
    return this.#keeper.maxBytes;
  }

  /** Whether anything can be kept at all. */
  get keeps(): boolean {
    return !this.#keeper.off;
  }

  /** Opens devices, in order. They are not removed until they have been released as often as they were opened. */
  async devices(wanted: readonly DeviceName[]): Promise<readonly CachedDevice[]> {
    for (const { key } of wanted) if (!/^[0-9a-f]{64}$/.test(key)) throw new LazypullError('INTERNAL', 'a device without a proper key');
    let begin = (): void => undefined;
    const announced = new Promise<void>((resolve) => {
      begin = resolve;
    });
    const uses = wanted.map((name) => {
      const { key } = name;
      const use = this.#uses.get(key) ?? { users: 0, device: announced.then(() => this.#openDevice(name)) };
      use.device.catch(() => undefined);
      use.users += 1;
      this.#uses.set(key, use);
      this.#keeper.keys.add(key);
      return use;
    });
    const opened = async (): Promise<readonly CachedDevice[]> => {
      begin();
      return Promise.all(uses.map(({ device }) => device));
    };
    try {
      if (this.#keeper.off) return await opened();
      return await this.#keeper.locked(async () => {
        await this.#keeper.announce();
        return opened();
      });
    } catch (error) {
      begin();
      await this.release(wanted);
      throw wrapError(error, 'IO', 'cannot open a device of the cache', { path: this.dir });
    }
  }

  /** Whether there is anything of a device, by this process or another, without opening it. */
  knows(key: string): boolean {
    return this.#uses.has(key) || (this.keeps && existsSync(this.#keeper.folder.device(key)));
  }

  async device(key: string, size: number): Promise<CachedDevice> {
    return (await this.devices([{ key, size }]))[0] as CachedDevice;
  }

  /** What was opened is no longer needed. Nobody may read from the descriptors any more. */
  async release(devices: readonly Pick<DeviceName, 'key'>[]): Promise<void> {
    await this.flush();
    const done: Promise<CachedDevice>[] = [];
    for (const { key } of devices) {
      const use = this.#uses.get(key);
      if (!use) continue;
      use.users -= 1;
      if (use.users > 0) continue;
      this.#uses.delete(key);
      this.#keeper.keys.delete(key);
      this.#keeper.open.delete(key);
      done.push(use.device);
    }
    for (const device of await Promise.allSettled(done)) if (device.status === 'fulfilled') await device.value.close();
    await this.#keeper.orNothing(() => this.#keeper.locked(() => this.#keeper.announce()));
  }

  /** Makes what has been written last, and finds what others have written. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#flushing = this.#flushing.then(() => this.#flush());
    return this.#flushing;
  }

  /** Looks whether other processes have fetched more of a device. */
  async refresh(device: CachedDevice): Promise<void> {
    if (!device.stores || device.whole) return;
    await this.#keeper.orNothing(async () => {
      if (device.seen === (await this.#version(device.key))) return;
      await this.#keeper.locked(async () => {
        const version = await this.#version(device.key);
        const presence = await readPresence(this.#keeper.folder, device.key);
        if (presence?.size === device.size) device.restore(presence);
        device.seen = version;
      });
    });
  }

  /** From now on these devices' files are only removed as wholes, also by other processes. They have to be complete. */
  async seal(devices: readonly CachedDevice[]): Promise<void> {
    if (!this.keeps || devices.some(({ stores }) => !stores)) throw new LazypullError('IO', 'nothing is kept in the cache', { path: this.dir });
    for (const device of devices) await device.sync();
    await this.#keeper.locked(async () => {
      for (const device of devices) {
        device.sealed = true;
        await this.#persist(device);
      }
    });
  }

  /** Remembers that a device has the bytes of a plain tar of this digest, which the caller has found out. */
  async isTar(device: CachedDevice, diffId: Digest): Promise<void> {
    await this.#keeper.orNothing(() => this.#keeper.locked(() => rememberTar(this.#keeper.folder, device, diffId)));
  }

  pathOf({ key }: Pick<DeviceName, 'key'>): string {
    return this.#keeper.folder.device(key);
  }

  /** Keeps a tree under a name, in place of an older one; its path, or undefined when it cannot be kept. It stays while the cache is open. */
  putTree(name: string, bytes: Uint8Array): Promise<string | undefined> {
    const path = this.#keeper.folder.path('trees', name);
    return this.#keeper.orNothing(async () => {
      this.#keeper.trees.add(name);
      await this.#keeper.locked(async () => {
        await this.#keeper.announce();
        await replaceFile(path, bytes, 'yes');
      });
      this.#keeper.count(bytes.length);
      return path;
    });
  }

  /** A kept tree of a known size and sha256 (hex); undefined when it is not there, or is not that. It stays while the cache is open. */
  openTree(name: string, size: number, sha256: string): Promise<{ readonly memory: SharedArrayBuffer; readonly path: string } | undefined> {
    const path = this.#keeper.folder.path('trees', name);
    return this.#keeper.orNothing(async () => {
      this.#keeper.trees.add(name);
      await this.#keeper.locked(() => this.#keeper.announce());
      const memory = await readChecked(path, size, sha256);
      return memory && { memory, path };
    });
  }

  /** Keeps a small document, in place of an older one. */
  async putDocument(name: string, bytes: Uint8Array): Promise<void> {
    await this.#keeper.orNothing(() => replaceFile(this.#keeper.folder.path('plans', name), bytes, 'content'));
  }

  /** Undefined when there is none. */
  getDocument(name: string): Promise<Uint8Array | undefined> {
    return this.#keeper.orNothing(() => readFile(this.#keeper.folder.path('plans', name)));
  }

  async dropDocument(name: string): Promise<void> {
    await this.#keeper.orNothing(() => removeFile(this.#keeper.folder.path('plans', name)));
  }

  /** Whether so many more bytes can be kept when everything goes that nobody uses. */
  async hasRoomFor(bytes: number): Promise<boolean> {
    if (!this.keeps) return false;
    if (this.maxBytes === Infinity) return true;
    return (await this.list()).reduce((sum, { users, diskBytes }) => sum + (users > 0 ? diskBytes : 0), bytes) <= this.maxBytes;
  }

  /** What is in the cache, for people. */
  list(): Promise<readonly CacheEntry[]> {
    return this.#keeper.locked(() => listCache(this.#keeper.folder));
  }

  /** Removes what is of no use, and what is too much. */
  gc(): Promise<CacheReport> {
    return this.#keeper.locked(async () => {
      const report = await collectGarbage(this.#keeper.folder);
      if (this.maxBytes === Infinity) return report;
      const before = await this.#keeper.evict((bytes) => bytes, false);
      const after = await this.#keeper.evict(() => this.maxBytes, true);
      return { ...report, freedBytes: report.freedBytes + before - after };
    });
  }

  /** Removes those that `wanted` says and nobody uses. */
  remove(wanted: (entry: CacheEntry) => boolean = () => true): Promise<CacheReport> {
    return this.#keeper.locked(() => removeFromCache(this.#keeper.folder, wanted));
  }

  /** Devices that are still open are closed. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.release([...this.#uses].flatMap(([key, { users }]) => Array.from({ length: users }, () => ({ key }))));
    clearTimeout(this.#timer);
    await this.#keeper.close();
  }

  async #openDevice(name: DeviceName): Promise<CachedDevice> {
    const { key, size } = name;
    const keeper = this.#keeper;
    const home: DeviceHome = {
      room: (bytes) => keeper.room(bytes),
      wrote: (bytes) => {
        keeper.count(bytes);
        if (this.#timer || this.#closed) return;
        this.#timer = setTimeout(() => void this.flush(), this.#syncAfter);
        this.#timer.unref();
      },
      failed: (error) => keeper.trouble(error),
    };
    const kept = await keeper.orNothing(async () => {
      const device = await openDevice(keeper.folder, keeper.self, name, home);
      device.seen = await this.#version(key);
      return device;
    });
    // Of /dev/null nothing is ever read: no page is present.
    const device = kept ?? new CachedDevice(key, size, home, await open('/dev/null', 'r'), false);
    keeper.open.set(key, device);
    return device;
  }

  async #flush(): Promise<void> {
    const dirty = [...this.#keeper.open.values()].filter((device) => device.dirty && device.stores);
    if (dirty.length === 0) return;
    const began = performance.now();
    await this.#keeper.orNothing(async () => {
      for (const device of dirty) await device.sync();
      await this.#keeper.locked(async () => {
        for (const device of dirty) await this.#persist(device);
      });
    });
    const { least, most, times } = SYNC_AFTER;
    this.#syncAfter = Math.min(most, Math.max(least, times * (performance.now() - began)));
  }

  /** Puts what is on disk for sure into the device's list. With the cache locked. */
  async #persist(device: CachedDevice): Promise<void> {
    const { folder } = this.#keeper;
    const found = await readPresence(folder, device.key);
    const known = found?.size === device.size ? found : undefined;
    if (known) device.restore(known);
    await replaceFile(folder.presence(device.key), encodePresence(mergePresence(device.durable(), known)), device.sealed ? 'yes' : 'content');
    device.seen = await this.#version(device.key);
  }

  /** Of a device's list on disk. */
  async #version(key: string): Promise<string> {
    try {
      const { ino, mtimeMs } = await stat(this.#keeper.folder.presence(key));
      return `${ino} ${mtimeMs}`;
    } catch (error) {
      if (isMissing(error)) return '';
      throw error;
    }
  }
}
