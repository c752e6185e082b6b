import { mkdirSync } from 'node:fs';
import { formatPlatform } from '../../oci/platform.ts';
import { mountAt } from '../fuse/mountinfo.ts';
import type { ServeOptions } from './messages.ts';
import { MountFolder } from './mount-folder.ts';
import { bootId, mountNamespace, ownMark } from './processes.ts';
import type { MountState } from './state.ts';

/** Of a mount that has just been asked for, by this process. */
export function firstState(folder: MountFolder, about: Pick<MountState, 'dir' | 'image' | 'platform' | 'writable' | 'upper' | 'cacheDir'>): MountState {
  return {
    version: 1,
    id: folder.id,
    boot: bootId(),
    namespace: mountNamespace(),
    phase: 'starting',
    ...about,
    digest: '',
    backend: 'fuse',
    why: '',
    mounts: [],
    owner: ownMark(),
    mountedAt: Date.now(),
    restarts: 0,
  };
}

/** Of a mount that is served, and whose state is lost. */
export function rebuiltState(options: ServeOptions): MountState {
  const folder = new MountFolder(options.folder);
  mkdirSync(folder.path, { recursive: true, mode: 0o700 });
  const { dir, image, writable, upper, cacheDir, backend, why, planned, platform, mountedAt } = options;
  const { owner: _owner, ...state } = firstState(folder, { dir, image, cacheDir, writable, platform: platform ? formatPlatform(platform) : '', ...(upper === undefined ? {} : { upper }) });
  const type = writable ? 'overlay' : backend;
  const device = mountAt(dir)?.device;
  return { ...state, phase: 'ready', digest: planned?.digest ?? '', backend, why, mountedAt, mounts: device === undefined ? [] : [{ target: dir, type, device }] };
}
