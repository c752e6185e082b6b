import { writeFileSync } from 'node:fs';
import { LazypullError } from '../../core/errors.ts';
import { ERRNO, loadNative, MNT, NativeError } from '../native.ts';
import { fusermount, type MountWay } from './mount.ts';
import { findMount, mountAt } from './mountinfo.ts';
import { runTool } from './tool.ts';

export interface UnmountOptions {
  /** Ends the connection first: whoever waits for an answer gets an error, then the mount is taken off, busy or not. */
  readonly force?: boolean;
  /** Takes the mount off the tree at once, and ends it when nobody uses it any more. */
  readonly lazy?: boolean;
  /** How it was mounted; default: as root, or through fusermount3. */
  readonly how?: MountWay;
}

/**
 * Takes a FUSE mount off a directory, without looking into it. NOT_FOUND when there is none; a NativeError with EBUSY when
 * somebody uses it and neither `force` nor `lazy` is set.
 */
export async function unmountFuse(dir: string, options: UnmountOptions = {}): Promise<void> {
  const mount = await findMount(dir);
  if (!mount || !/^fuse(?:\.|$)/.test(mount.type)) throw new LazypullError('NOT_FOUND', mount ? `what is mounted here is ${mount.type}` : 'nothing is mounted here', { path: dir });
  const { target } = mount;
  const { force = false, lazy = false } = options;
  const user = options.how === 'fusermount' || process.geteuid?.() !== 0;
  if (force) {
    const ended = abortConnection(mount.device);
    if (!ended && !user) await forceDirectly(target);
    // MNT_FORCE may have taken it off already.
    if (mountAt(target)?.device !== mount.device) return;
  }
  const off = force || lazy;
  if (user) return toolUnmount(await fusermount(['-u', ...(off ? ['-z'] : []), '--', target]), target);
  const native = loadNative();
  if (native) return native.umount(target, off ? MNT.detach : 0);
  toolUnmount(await runTool('umount', ['-i', '-c', ...(off ? ['-l'] : []), target]), target);
}

/** Ends a connection through fusectl: every request in it fails. False where fusectl is not mounted or not ours to write to. */
export function abortConnection(device: string): boolean {
  try {
    writeFileSync(`/sys/fs/fuse/connections/${device.split(':')[1]}/abort`, '1');
    return true;
  } catch {
    return false;
  }
}

/** MNT_FORCE ends the connection even when the mount is busy and stays. */
async function forceDirectly(target: string): Promise<void> {
  const native = loadNative();
  if (!native) {
    await runTool('umount', ['-i', '-c', '-f', target]);
    return;
  }
  try {
    native.umount(target, MNT.force);
  } catch (error) {
    if (!(error instanceof NativeError && error.errno === ERRNO.EBUSY)) throw error;
  }
}

function toolUnmount({ code, complaint }: Awaited<ReturnType<typeof runTool>>, target: string): void {
  if (code === 0) return;
  if (/busy/i.test(complaint)) throw new NativeError(ERRNO.EBUSY, 'umount', target);
  throw new LazypullError('IO', complaint || `umount failed with code ${code}`, { path: target });
}
