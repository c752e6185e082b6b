import { mountAt } from '../fuse/mountinfo.ts';
import { unmountFuse } from '../fuse/unmount.ts';
import { MNT } from '../native.ts';
import { isRefusal } from './kernel-calls.ts';
import { mountsFrom } from './mount-table.ts';
import type { MountFolder } from './mount-folder.ts';
import type { MountRecord, MountState } from './state.ts';
import { takeAway } from './take-away.ts';

/** `clean`: fails with EBUSY while somebody uses it. `lazy`: out of sight at once, and gone when the last user leaves. */
export type How = 'clean' | 'lazy' | 'force';

/** Whether a mount that we made is still there, and not another one in its place. */
export function isThere({ target, device }: MountRecord): boolean {
  return mountAt(target)?.device === device;
}

/** Takes away one mount of ours. False when it was gone already. */
export async function takeAwayRecord(record: MountRecord, how: How): Promise<boolean> {
  if (!isThere(record)) return false;
  if (record.type === 'fuse') await unmountFuse(record.target, { force: how === 'force', lazy: how === 'lazy' });
  else await takeAway(record.target, how === 'clean' ? 0 : MNT.detach);
  return true;
}

/** Takes away what nobody serves any more: the mounts, whoever uses them, and the folder. */
export async function clearAway(folder: MountFolder, state: Pick<MountState, 'mounts'>): Promise<void> {
  for (const record of state.mounts.toReversed()) await takeAwayRecord(record, 'force');
  for (const { target, type } of mountsFrom(folder.path)) {
    try {
      if (type.startsWith('fuse')) await unmountFuse(target, { force: true });
      else await takeAway(target, MNT.detach);
    } catch (error) {
      // Somebody else was faster.
      if (!isRefusal(error, 'EINVAL', 'ENOENT')) throw error;
    }
  }
  folder.remove();
}
