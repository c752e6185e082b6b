import { setTimeout as wait } from 'node:timers/promises';
import { LazypullError } from '../../core/errors.ts';
import type { Mounted } from './options.ts';
import { MountFolder } from './mount-folder.ts';
import { healthOf, readState } from './state.ts';

const LOOK_MS = 200;

/** Resolves when a mount is gone, or the signal is aborted. IO when it is still there, but nobody serves it any more. */
export async function awaitUnmount(mounted: Pick<Mounted, 'folder' | 'dir'>, signal: AbortSignal): Promise<void> {
  const folder = new MountFolder(mounted.folder);
  while (!signal.aborted) {
    const state = readState(folder);
    if (!state) return;
    const health = healthOf(state);
    if (health === 'gone') return;
    if (health === 'dead') throw new LazypullError('IO', 'the processes that serve the mount have ended', { path: mounted.dir });
    await wait(LOOK_MS, undefined, { signal }).catch(() => undefined);
  }
}
