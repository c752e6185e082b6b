import { listMounts, type MountEntry } from '../fuse/mountinfo.ts';

/** Mounts at a folder and below it, the newest first: the order in which they can be taken away. */
export function mountsFrom(folder: string, mounts: readonly MountEntry[] = listMounts()): readonly MountEntry[] {
  return mounts.filter(({ target }) => target === folder || target.startsWith(folder === '/' ? '/' : `${folder}/`)).toReversed();
}
