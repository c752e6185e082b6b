import { readFileSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

/** One line of /proc/self/mountinfo. */
export interface MountEntry {
  /** `major:minor` of what st_dev of its files says. */
  readonly device: string;
  /** Absolute path of the mount point. */
  readonly target: string;
  /** Such as `fuse.lazypull`. */
  readonly type: string;
  readonly source: string;
}

/** The mounts that this process sees, in their order: of several on one directory, the last is on top. Asks the kernel, no file system. */
export function listMounts(): readonly MountEntry[] {
  return parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** See proc_pid_mountinfo(5): fields up to a lone hyphen, then type and source. */
export function parseMountinfo(text: string): readonly MountEntry[] {
  const mounts: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const fields = line.split(' ');
    const hyphen = fields.indexOf('-', 6);
    const [device, target, type, source] = [fields[2], fields[4], fields[hyphen + 1], fields[hyphen + 2]];
    if (hyphen < 0 || device === undefined || target === undefined || type === undefined) continue;
    mounts.push({ device, target: unescape(target), type, source: unescape(source ?? '') });
  }
  return mounts;
}

/** The mount on top of a directory, which is given by its absolute path. */
export function mountAt(target: string): MountEntry | undefined {
  return listMounts().findLast((mount) => mount.target === target);
}

/**
 * The mount on top of a directory, however it is written. Symlinks are followed without looking at what is mounted: a mount
 * that nobody serves would never answer.
 */
export async function findMount(dir: string): Promise<MountEntry | undefined> {
  const target = resolve(dir);
  const exact = mountAt(target);
  if (exact) return exact;
  const parent = await realpath(dirname(target)).catch(() => dirname(target));
  const inParent = mountAt(join(parent, basename(target)));
  // Nothing is mounted on the name itself, so that it can be looked at.
  return inParent ?? mountAt(await realpath(target).catch(() => target));
}

/** Spaces, tabs, newlines and backslashes are written in octal, byte by byte. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
