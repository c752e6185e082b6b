import { mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { chmod, chown, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { LazypullError } from '../../core/errors.ts';
import { setReadAhead } from '../fuse/mount.ts';
import { mountAt } from '../fuse/mountinfo.ts';
import { MNT, MS } from '../native.ts';
import { isRefusal, mountCall, runQuietly } from './kernel-calls.ts';
import { isRealRoot } from './processes.ts';
import type { MountRecord } from './state.ts';
import { takeAway } from './take-away.ts';

/** Mounts that make an image visible. None of this is done by the process that serves them: it would wait for itself. */

/** Files come from strangers: their set-user-ID bits and device nodes mean nothing here. */
const FLAGS = MS.readOnly | MS.noSuid | MS.noDev;
/** What mount(2) takes as options, bytes with the NUL. */
const MAX_OPTIONS = 4096;
const BDI = '/sys/class/bdi';

export interface ErofsMount {
  /** File with the tree; for `loop` also devices that are FUSE files. */
  readonly metadata: string;
  /** Folder in which the devices are files named 1, 2, ... */
  readonly folder: string;
  readonly devices: number;
  readonly target: string;
  /** Shown in lists of mounts: of little use, as it is the metadata's path. */
  readonly loop: boolean;
  /** What the kernel may read beyond what is asked for. */
  readonly readAheadKib: number;
}

/** Mounts an EROFS image whose content is on devices. NativeError when the kernel refuses, UNSUPPORTED for more devices than fit. */
export async function mountErofs({ metadata, folder, devices, target, loop, readAheadKib }: ErofsMount): Promise<MountRecord> {
  const names = Array.from({ length: devices }, (_, i) => `${i + 1}`);
  const before = new Set(backingDevices());
  if (loop) await mountLoops(metadata, names.map((name) => join(folder, name)), target);
  else await mountCall({ source: metadata, target, type: 'erofs', flags: FLAGS, data: deviceOptions(names) }, folder);
  // The kernel counts them up, and does not say which one belongs to a mount.
  const [bdi] = backingDevices().filter((name) => !before.has(name) && setReadAhead(name, readAheadKib));
  return { ...recordOf(target, 'erofs'), ...(bdi === undefined ? {} : { bdi }) };
}

function deviceOptions(names: readonly string[]): string {
  const options = names.map((name) => `device=${name}`).join(',');
  if (options.length >= MAX_OPTIONS) throw new LazypullError('UNSUPPORTED', `${names.length} devices are more than one mount can have (their names need ${options.length} bytes of ${MAX_OPTIONS})`);
  return options;
}

/** Loop devices end by themselves with the mount: they are detached while it holds them. */
async function mountLoops(metadata: string, devices: readonly string[], target: string): Promise<void> {
  const loops: string[] = [];
  try {
    for (const file of [metadata, ...devices]) {
      const ran = await runQuietly('losetup', ['--read-only', '--find', '--show', file]);
      if (ran === undefined) throw new LazypullError('UNSUPPORTED', 'losetup is not installed');
      if (ran.code !== 0) throw new LazypullError('IO', `losetup: ${ran.output.trim().slice(0, 200)}`, { path: file });
      loops.push(ran.output.trim());
    }
    await mountCall({ source: loops[0] as string, target, type: 'erofs', flags: FLAGS, data: deviceOptions(loops.slice(1)) });
  } finally {
    for (const loop of loops) await runQuietly('losetup', ['--detach', loop]);
  }
}

function backingDevices(): readonly string[] {
  try {
    return readdirSync(BDI).filter((name) => name.startsWith('erofs-'));
  } catch {
    return [];
  }
}

export interface OverlayMount {
  readonly lower: string;
  readonly upper: string;
  readonly work: string;
  readonly target: string;
}

/** Mounts a writable layer over a mounted image. */
export async function mountOverlay({ lower, upper, work, target }: OverlayMount): Promise<MountRecord> {
  // The folder on top is what the mount's root looks like.
  if (mkdirSync(upper, { recursive: true }) !== undefined) {
    const root = await stat(lower);
    await chown(upper, root.uid, root.gid).catch(() => undefined);
    await chmod(upper, root.mode & 0o7777);
  }
  mkdirSync(work, { recursive: true });
  const quoted = (path: string): string => path.replace(/[\\:,]/g, '\\$&');
  const data = `lowerdir=${quoted(lower)},upperdir=${quoted(upper)},workdir=${quoted(work)}${isRealRoot() ? '' : ',userxattr'}`;
  if (data.length >= MAX_OPTIONS) throw new LazypullError('UNSUPPORTED', `paths of the writable layer are too long: ${data.length} bytes of ${MAX_OPTIONS}`);
  try {
    await mountCall({ source: 'lazypull', target, type: 'overlay', flags: MS.noSuid | MS.noDev, data });
  } catch (error) {
    if (isRefusal(error, 'EPERM')) throw new LazypullError('UNSUPPORTED', 'a writable layer needs root, or a user namespace (unshare -Urm)', { cause: error });
    if (isRefusal(error, 'EINVAL', 'ENODEV')) throw new LazypullError('UNSUPPORTED', `the kernel makes no overlay with a writable layer here: ${error.message}; its file system may not be able to hold one`, { cause: error });
    throw error;
  }
  return recordOf(target, 'overlay');
}

/** Takes a mount out of sight; whoever uses it keeps it, and it ends with the last of them. */
export async function hide(target: string): Promise<void> {
  await takeAway(target, MNT.detach);
}

export function recordOf(target: string, type: MountRecord['type']): MountRecord {
  const mount = mountAt(target);
  if (!mount) throw new LazypullError('IO', `${type} was mounted, and is not there`, { path: target });
  return { target, type, device: mount.device };
}

/** Short names, side by side, for files with long ones: so that more of them fit into the options of a mount. */
export function linkDevices(folder: string, files: readonly string[]): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  for (const [i, file] of files.entries()) symlinkSync(file, join(folder, `${i + 1}`));
}
