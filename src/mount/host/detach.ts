import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { LazypullError } from '../../core/errors.ts';
import { MNT } from '../native.ts';
import type { Channel } from './channel.ts';
import { isRefusal, moveBeneath } from './kernel-calls.ts';
import { RemoteError, sendable, type MoveOrder, type SentError, type ServeOptions } from './messages.ts';
import { MountFolder } from './mount-folder.ts';
import { linkDevices, mountErofs, recordOf } from './show.ts';
import { spawnProcess } from './spawn.ts';
import type { MountRecord } from './state.ts';
import { takeAway } from './take-away.ts';

/** From the process that moves a mount. */
export type Moved = { readonly mounts: readonly MountRecord[] } | { readonly error: SentError };

/**
 * Puts a mount of local files in the place of the one that this process serves. Another process does it: mounting in the place
 * of a mount means looking at it. Files that are open stay on the old mount.
 */
export async function detach(options: ServeOptions, files: { readonly metadata: string; readonly devices: readonly string[] }): Promise<readonly MountRecord[]> {
  const folder = new MountFolder(options.folder);
  const move: MoveOrder = { ...files, dir: options.dir, staging: folder.staging };
  const { channel } = spawnProcess<never, Moved>({ program: options.program, order: { role: 'move', move }, output: 'inherit' });
  const answer = await channel.receive();
  await channel.close();
  if (!answer) throw new LazypullError('INTERNAL', 'the process that moves the mount ended early');
  if ('error' in answer) throw new RemoteError(answer.error);
  return answer.mounts;
}

/** What that process does. */
export async function moveMount(order: MoveOrder, pipe: Channel<Moved, never>): Promise<void> {
  try {
    pipe.send({ mounts: [await replaceMount(order)] });
  } catch (error) {
    pipe.send({ error: sendable(error) });
  }
  await pipe.close();
}

async function replaceMount({ metadata, devices, dir, staging }: MoveOrder): Promise<MountRecord> {
  const links = join(staging, 'devices');
  const target = join(staging, 'mount');
  rmSync(staging, { recursive: true, force: true });
  linkDevices(links, devices);
  linkDevices(target, []);
  const local = { metadata, folder: links, devices: devices.length, loop: false, readAheadKib: 1024 };
  try {
    await mountErofs({ ...local, target });
    try {
      await moveBeneath(target, dir);
      await takeAway(dir, MNT.detach);
    } catch (error) {
      // Kernels before Linux 6.5 put nothing below a mount: for a moment, nothing is mounted.
      if (!isRefusal(error, 'EINVAL', 'ENOSYS', 'EPERM')) throw error;
      await takeAway(dir, MNT.detach);
      await mountErofs({ ...local, target: dir });
    } finally {
      await takeAway(target, MNT.detach);
    }
    return recordOf(dir, 'erofs');
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}
