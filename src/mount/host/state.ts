import { readFileSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { wrapError } from '../../core/errors.ts';
import { listMounts } from '../fuse/mountinfo.ts';
import { MountFolder } from './mount-folder.ts';
import { bootId, isAlive, mountNamespace } from './processes.ts';
import { checkPrivate, runtimeFolders } from './runtime-folder.ts';

const processMark = z.object({ pid: z.int().positive(), started: z.number() });
const mountRecord = z.object({
  target: z.string(),
  type: z.enum(['fuse', 'erofs', 'overlay']),
  /** `major:minor` of the file system, to tell it from what somebody else mounts there later. */
  device: z.string(),
  /** What sysfs calls its backing device, where that is not `device`. */
  bdi: z.string().regex(/^erofs-\d+$/).optional(),
});

/** What is known of a mount besides what its processes tell: a file for `ps` and `unmount`. No secrets. Another version may know more. */
const mountState = z.object({
  version: z.literal(1),
  id: z.string().regex(/^[0-9a-f]{12}$/),
  boot: z.string(),
  namespace: z.string(),
  /** `detached`: nobody serves it any more, the kernel reads local files. */
  phase: z.enum(['starting', 'ready', 'stopping', 'detached']),
  dir: z.string(),
  image: z.string(),
  digest: z.string(),
  platform: z.string(),
  backend: z.enum(['erofs', 'fuse']),
  why: z.string(),
  writable: z.boolean(),
  /** Folder that keeps what was written; absent when it goes with the mount. */
  upper: z.string().optional(),
  /** In the order in which they were made. */
  mounts: z.array(mountRecord),
  daemon: processMark.optional(),
  supervisor: processMark.optional(),
  /** Whoever starts the mount, until it can be used; and whoever it ends with. */
  owner: processMark.optional(),
  /** Milliseconds since the epoch. */
  mountedAt: z.number(),
  /** How often the daemon was started again. */
  restarts: z.int().nonnegative(),
  cacheDir: z.string(),
  log: z.string().optional(),
  metrics: z.string().optional(),
});

export type MountState = z.infer<typeof mountState>;
export type MountRecord = MountState['mounts'][number];

/** Replaces the state as a whole: readers see the old one or the new one. */
export function writeState(folder: MountFolder, state: MountState): void {
  const draft = `${folder.state}.${process.pid}`;
  try {
    writeFileSync(draft, `${JSON.stringify(mountState.parse(state), undefined, 2)}\n`, { mode: 0o600 });
    renameSync(draft, folder.state);
  } catch (error) {
    throw wrapError(error, 'IO', 'cannot write the state of the mount', { path: folder.state });
  }
}

/** Undefined when there is none, or none that can be understood. */
export function readState(folder: MountFolder): MountState | undefined {
  try {
    const parsed = mountState.safeParse(JSON.parse(readFileSync(folder.state, 'utf8')));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

/** How a mount is doing, as far as can be told without asking anybody. */
export type Health =
  /** It is served, or needs nobody to serve it. */
  | 'alive'
  /** Its processes are gone, but it is still mounted. */
  | 'dead'
  /** Nothing is left of it but its folder. */
  | 'gone';

export interface KnownMount {
  readonly folder: MountFolder;
  readonly state: MountState;
  readonly health: Health;
}

export function healthOf(state: MountState): Health {
  if (state.boot !== bootId()) return 'gone';
  if (isAlive(state.daemon) || isAlive(state.supervisor)) return 'alive';
  // Whoever starts a mount writes its state before there are others.
  if (state.phase === 'starting' && isAlive(state.owner)) return 'alive';
  // What is mounted elsewhere cannot be looked at from here.
  if (state.namespace !== mountNamespace()) return 'gone';
  const mounts = listMounts();
  const mounted = state.mounts.some((record) => mounts.some(({ target, device }) => target === record.target && device === record.device));
  if (!mounted) return 'gone';
  return state.phase === 'detached' ? 'alive' : 'dead';
}

/** All mounts of this user, the oldest first; what is left of those that are gone is taken away. */
export function knownMounts(env: Readonly<Record<string, string | undefined>>): readonly KnownMount[] {
  const known: KnownMount[] = [];
  for (const runtime of runtimeFolders(env)) {
    for (const name of namesIn(runtime)) {
      if (!/^[0-9a-f]{12}$/.test(name)) continue;
      const folder = new MountFolder(join(runtime, name));
      const state = readState(folder);
      if (!state) {
        if (isOld(folder)) tryRemove(folder);
        continue;
      }
      const health = healthOf(state);
      if (health !== 'gone') known.push({ folder, state, health });
      else tryRemove(folder);
    }
  }
  return known.sort((a, b) => a.state.mountedAt - b.state.mountedAt);
}

function namesIn(folder: string): readonly string[] {
  try {
    checkPrivate(folder);
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Long enough for whoever has made it to write a state: what is older was left by a crash. */
function isOld(folder: MountFolder): boolean {
  try {
    return Date.now() - statSync(folder.path).mtimeMs > 600_000;
  } catch {
    return false;
  }
}

function tryRemove(folder: MountFolder): void {
  try {
    folder.remove();
  } catch {
    // Somebody else is at it, or it is in use after all: the next one will see.
  }
}
