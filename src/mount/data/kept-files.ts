import { createHash } from 'node:crypto';
import { open, utimes, type FileHandle } from 'node:fs/promises';
import type { Digest } from '../../core/digest.ts';
import { CachedDevice, type DeviceHome } from './cached-device.ts';
import { isMissing, removeFile, type CacheFolder } from './folder.ts';
import { linkTar } from './proven-tars.ts';
import { readPresence } from './stock.ts';

/** A device of the cache. */
export interface DeviceName {
  /** 64 hex digits. */
  readonly key: string;
  /** Bytes, a multiple of 4096. */
  readonly size: number;
  /** For a device that is the plain tar of a layer: what digest it is said to have, and whether all files in it are right if the tar is. */
  readonly tar?: { readonly diffId: Digest; readonly proven: boolean };
}

/** Opens a device's file, or makes it; takes that of another version of the same layer if one is here. With the cache locked. */
export async function openDevice(folder: CacheFolder, self: string, name: DeviceName, home: DeviceHome): Promise<CachedDevice> {
  const { key, size, tar } = name;
  const path = folder.device(key);
  if (tar && !(await readPresence(folder, key))?.whole) await linkTar(folder, self, name, tar);
  const known = await openOfSize(path, size);
  const device = new CachedDevice(key, size, home, known ?? (await makeFile(folder, key, size)), true);
  const presence = known && (await readPresence(folder, key));
  if (presence?.size === size) device.restore(presence);
  await touch(path);
  return device;
}

async function makeFile(folder: CacheFolder, key: string, size: number): Promise<FileHandle> {
  const path = folder.device(key);
  // Never the list of an older file for a new one.
  await removeFile(folder.presence(key));
  await removeFile(path);
  const handle = await open(path, 'wx+', 0o600);
  await handle.truncate(size);
  return handle;
}

/** A file of another size is what a crash has left. */
async function openOfSize(path: string, size: number): Promise<FileHandle | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(path, 'r+');
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
  if ((await handle.stat()).size === size) return handle;
  await handle.close();
  return undefined;
}

/** A file's bytes if it has this size and sha256 (hex), in memory that threads can share. */
export async function readChecked(path: string, size: number, sha256: string): Promise<SharedArrayBuffer | undefined> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, 'r');
    if ((await file.stat()).size !== size) return undefined;
    const memory = new SharedArrayBuffer(size);
    const bytes = new Uint8Array(memory);
    for (let done = 0; done < size; ) {
      const { bytesRead } = await file.read(bytes, done, size - done, done);
      if (bytesRead === 0) return undefined;
      done += bytesRead;
    }
    if (createHash('sha256').update(bytes).digest('hex') !== sha256) return undefined;
    await touch(path);
    return memory;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  } finally {
    await file?.close();
  }
}

/** Notes that something was used. */
async function touch(path: string): Promise<void> {
  const now = new Date();
  await utimes(path, now, now).catch(() => undefined);
}
