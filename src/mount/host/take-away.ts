import { LazypullError } from '../../core/errors.ts';
import { loadNative, MNT, NativeError, ERRNO } from '../native.ts';
import { runQuietly } from './kernel-calls.ts';

/**
 * umount2(2) of one mount, never following a symbolic link, and never waiting for who serves it. `flags` are bits of MNT.
 * NativeError EBUSY when somebody works in it; EINVAL when nothing is mounted there.
 */
export async function takeAway(target: string, flags: number = 0): Promise<void> {
  const native = loadNative();
  if (native) {
    native.umount(target, flags | MNT.noFollow);
    return;
  }
  const ran = await runQuietly('umount', ['--no-canonicalize', ...(flags & MNT.detach ? ['-l'] : []), ...(flags & MNT.force ? ['-f'] : []), target]);
  if (ran === undefined) throw new LazypullError('UNSUPPORTED', 'no way to unmount: install the package koffi, or mount(8)');
  if (ran.code === 0) return;
  if (/busy/.test(ran.output)) throw new NativeError(ERRNO.EBUSY, 'umount', target);
  if (/not mounted|no mount point/.test(ran.output)) throw new NativeError(ERRNO.EINVAL, 'umount', target);
  if (/must be superuser|not permitted/i.test(ran.output)) throw new NativeError(ERRNO.EPERM, 'umount', target);
  throw new LazypullError('IO', `umount: ${ran.output.trim().slice(0, 200)}`, { path: target });
}
