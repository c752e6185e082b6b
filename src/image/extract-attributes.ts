import { constants, lchown, lutimes, open, type FileHandle } from 'node:fs/promises';
import type { Attributes, Time } from '../core/types.ts';

/** A path for the file system: names that are not UTF-8 need their bytes. */
export type FsPath = string | Buffer;

const MAX_DATE = 8.64e15;

/** Owner, mode and time of an open file or directory, in the order in which none undoes another: changing the owner clears special bits. */
export async function setAttributes(handle: FileHandle, { uid, gid, mode, mtime }: Attributes, sameOwner: boolean): Promise<void> {
  if (sameOwner) await owned(uid, gid, () => handle.chown(uid, gid));
  // A set-user-ID bit means the owner that the image has, and nobody else.
  await handle.chmod(sameOwner ? mode : mode % 0o1000 + (Math.floor(mode / 0o1000) % 2) * 0o1000);
  const time = nodeTime(mtime);
  await handle.utimes(time, time);
}

/** The same of a directory. Those that are only implied have no time, and keep the one they got. */
export async function setDirectoryAttributes(path: FsPath, attributes: Attributes & { readonly implied?: boolean }, sameOwner: boolean): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    if (attributes.implied) await handle.chmod(attributes.mode);
    else await setAttributes(handle, attributes, sameOwner);
  } finally {
    await handle.close();
  }
}

/** Owner and time of a symlink itself. */
export async function setLinkAttributes(path: FsPath, { uid, gid, mtime }: Attributes, sameOwner: boolean): Promise<void> {
  if (sameOwner) await owned(uid, gid, () => lchown(path, uid, gid));
  const time = nodeTime(mtime);
  await lutimes(path, time, time);
}

async function owned(uid: number, gid: number, change: () => Promise<void>): Promise<void> {
  try {
    await change();
  } catch (error) {
    // Not ours to name the file: whoever writes it knows its path.
    throw new Error(`cannot give it to ${uid}:${gid} as in the image (with no same owner it becomes yours): ${String((error as Error).message)}`, { cause: error });
  }
}

/** As Node takes times: seconds as a float, of which microseconds survive, or, before 1970, a date with milliseconds. */
function nodeTime({ seconds, nanoseconds }: Time): number | Date {
  // Node takes a negative number for the present time.
  if (seconds < 0) return new Date(Math.max(-MAX_DATE, seconds * 1000 + Math.floor(nanoseconds / 1e6)));
  // libuv cuts fractions off: the middle of a microsecond cannot fall below it.
  return nanoseconds === 0 ? seconds : seconds + (Math.floor(nanoseconds / 1000) + 0.5) / 1e6;
}
