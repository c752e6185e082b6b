import { existsSync, readFileSync } from 'node:fs';
import { isRealRoot, mayMount } from '../host/processes.ts';

/** A run of ids of this user namespace. */
export interface IdRange {
  readonly inside: number;
  readonly count: number;
}

/** What the process that starts a container is allowed to. */
export interface Context {
  /** It may mount. Otherwise a user namespace has to be made first. */
  readonly mayMount: boolean;
  /** It is root in a user namespace only: no devices, no cgroups, attributes of the overlay as user's. */
  readonly userNamespace: boolean;
  /** Ids that exist here. */
  readonly ids: { readonly uids: readonly IdRange[]; readonly gids: readonly IdRange[] };
  /** Supplementary groups can be set. */
  readonly setGroups: boolean;
  /** The machine has one tree of control groups only. */
  readonly cgroup2: boolean;
}

export function readContext(): Context {
  const root = isRealRoot();
  return {
    mayMount: process.geteuid?.() === 0 && mayMount(),
    userNamespace: !root,
    ids: { uids: idRanges('/proc/self/uid_map'), gids: idRanges('/proc/self/gid_map') },
    setGroups: read('/proc/self/setgroups').trim() !== 'deny',
    cgroup2: existsSync('/sys/fs/cgroup/cgroup.controllers'),
  };
}

/** Whether an id exists. */
export function isMapped(ranges: readonly IdRange[], id: number): boolean {
  return ranges.some(({ inside, count }) => inside <= id && id < inside + count);
}

function idRanges(path: string): readonly IdRange[] {
  return read(path).split('\n').flatMap((line) => {
    const [inside, , count] = line.trim().split(/\s+/).map(Number);
    return inside === undefined || count === undefined ? [] : [{ inside, count }];
  });
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
