import { createHash } from 'node:crypto';
import { link, readFile } from 'node:fs/promises';
import { setImmediate as turn } from 'node:timers/promises';
import * as z from 'zod';
import { digestAlgorithm, digestHex, type Digest } from '../../core/digest.ts';
import { encodeDocument } from '../../oci/documents.ts';
import type { CachedDevice } from './cached-device.ts';
import { removeFile, replaceFile, type CacheFolder } from './folder.ts';
import { PAGE_SIZE } from './pages.ts';
import { encodePresence } from './presence.ts';
import { readPresence } from './stock.ts';
import { liveUsers } from './users.ts';

// A layer may be stored in many ways, and be described in many ways, and be the same tar. A device whose bytes have been hashed
// and found to be the tar that the image's config names is remembered under that digest. Whoever else says that it is this tar
// gets these bytes: were they wrong, it would be a layer whose config lies about it, and no other tool would unpack it.

const VERSION = 1;
const shape = z.object({ version: z.literal(VERSION), key: z.string().regex(/^[0-9a-f]{64}$/), size: z.number().int().positive() });
const PIECE = 4 << 20;

/** File of `plans` that says which device is a tar. */
export function tarName(diffId: Digest): string {
  return `${digestHex(diffId)}.tar.json`;
}

/** Whether the first `size` bytes of a device that is complete have a digest. Other work goes on meanwhile. */
export async function hasDigest(device: CachedDevice, size: number, diffId: Digest, signal: AbortSignal): Promise<boolean> {
  const hash = createHash(digestAlgorithm(diffId));
  for (let at = 0; at < size; at += PIECE) {
    const bytes = signal.aborted ? undefined : await device.read(at, Math.min(PIECE, size - at));
    if (!bytes) return false;
    hash.update(bytes);
    await turn();
  }
  return hash.digest('hex') === digestHex(diffId);
}

/** Remembers that a device is a tar. With the cache locked. */
export async function rememberTar(folder: CacheFolder, { key, size }: Pick<CachedDevice, 'key' | 'size'>, diffId: Digest): Promise<void> {
  await replaceFile(folder.path('plans', tarName(diffId)), encodeDocument({ version: VERSION, key, size }), 'content');
}

/**
 * Lets a device have the file of another one that is the same tar and complete. Both are sealed by that: neither must lose what
 * the other is said to have. Nothing happens when there is none, or when another process has the device open (`self` is this
 * one's file among the users). `proven`: all of it can be read at once. With the cache locked.
 */
export async function linkTar(folder: CacheFolder, self: string, { key, size }: Pick<CachedDevice, 'key' | 'size'>, tar: { readonly diffId: Digest; readonly proven: boolean }): Promise<void> {
  const known = parseTar(await readFile(folder.path('plans', tarName(tar.diffId))).catch(() => new Uint8Array(0)));
  if (!known || known.key === key || known.size !== size) return;
  const presence = await readPresence(folder, known.key);
  const all: readonly [number, number] = [0, size / PAGE_SIZE];
  const [run] = presence?.runs ?? [];
  if (presence?.size !== size || run?.[0] !== all[0] || run[1] !== all[1]) return;
  if ((await liveUsers(folder)).some(({ path, devices }) => path !== self && devices.includes(key))) return;
  await replaceFile(folder.presence(known.key), encodePresence({ ...presence, sealed: true, whole: true }), 'yes');
  await removeFile(folder.device(key));
  await replaceFile(folder.presence(key), encodePresence({ size, sealed: true, whole: true, runs: tar.proven ? [all] : [], parts: [] }), 'yes');
  await link(folder.device(known.key), folder.device(key));
}

/** Key and size of the device that is a tar. */
export function parseTar(bytes: Uint8Array): { readonly key: string; readonly size: number } | undefined {
  try {
    return shape.parse(JSON.parse(Buffer.from(bytes).toString()));
  } catch {
    return undefined;
  }
}
