import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { defer, must, run, scratch, type Scope } from '../support/peers.ts';

/** Folders in which the same files can be read. */
export interface Places {
  readonly ext4: string;
  readonly bindfs: string;
  readonly 'fuse-overlayfs': string;
}

const LONG = { timeout: 600_000 };

/** The image's tree in `tree/` and a large file on an ext4 file system of their own, read-only, and what shows them once more by FUSE. */
export async function nativePlaces(t: Scope, { layout, tag }: { readonly layout: string; readonly tag: string }, big: string): Promise<Places> {
  const folder = scratch(t);
  const at = (name: string): string => {
    mkdirSync(join(folder, name));
    return join(folder, name);
  };
  const disk = join(folder, 'disk.img');
  await must('truncate', ['-s', '12G', disk]);
  // Nothing is to be left for later, when others are measured.
  await must('mkfs.ext4', ['-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0', disk], LONG);
  const ext4 = at('ext4');
  await must('mount', ['-o', 'loop', disk, ext4]);
  defer(t, () => run('umount', [ext4]));
  await must('umoci', ['raw', 'unpack', '--image', `${layout}:${tag}`, join(ext4, 'tree')], LONG);
  copyFileSync(big, join(ext4, 'big.bin'));
  await must('sync', ['-f', ext4], LONG);
  await must('mount', ['-o', 'remount,ro', ext4]);
  const bindfs = at('bindfs');
  await must('bindfs', ['-r', ext4, bindfs]);
  defer(t, () => run('umount', [bindfs]));
  const overlay = at('fuse-overlayfs');
  await must('fuse-overlayfs', ['-o', `lowerdir=${ext4}`, overlay]);
  defer(t, () => run('umount', [overlay]));
  return { ext4, bindfs, 'fuse-overlayfs': overlay };
}
