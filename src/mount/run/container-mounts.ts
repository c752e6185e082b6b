import { join } from 'node:path';
import { overlayPath, type WritableLayer } from './overlay.ts';
import { placeInRoot } from './place-in-root.ts';
import type { Scratch } from './scratch.ts';
import type { ContainerMount } from './standard-mounts.ts';
import { cleanPath, type Volume } from './volumes.ts';

export interface ContainerMountOptions {
  readonly scratch: Scratch;
  readonly volumes: readonly Volume[];
  /** Paths that the image wants to keep writable. */
  readonly imageVolumes: readonly string[];
  /** The rest of the root file system is not. */
  readonly readonly: boolean;
  readonly userNamespace: boolean;
  /** Texts of files in /etc, by name. */
  readonly files: ReadonlyMap<string, string>;
}

export interface ContainerMounts {
  /** Besides the standard ones, outer ones first. */
  readonly mounts: readonly ContainerMount[];
  /** What some of them need. */
  readonly layers: readonly WritableLayer[];
}

/** What one container has mounted. */
export async function containerMounts(options: ContainerMountOptions): Promise<ContainerMounts> {
  const { scratch, volumes } = options;
  const covered = (path: string): boolean => volumes.some(({ container }) => path === container || path.startsWith(`${container}/`));
  const mounts: ContainerMount[] = volumes.map(({ host, container, readOnly }) => bind(host, container, readOnly ? 'ro' : 'rw'));
  const layers: WritableLayer[] = [];
  for (const path of new Set(options.imageVolumes.map(cleanPath))) {
    if (path === '/' || covered(path)) continue;
    const made = await imageVolume(options, path, String(layers.length));
    if (!made) continue;
    mounts.push(made.mount);
    layers.push(made.layer);
  }
  // Into a folder of the user's nothing is put.
  for (const [name, text] of options.files) if (!covered(`/etc/${name}`)) mounts.push(bind(scratch.writeFile(name, text), `/etc/${name}`, 'rw'));
  const depth = ({ destination }: ContainerMount): number => destination.split('/').length;
  return { mounts: mounts.sort((a, b) => depth(a) - depth(b)), layers };
}

function bind(source: string, destination: string, access: 'ro' | 'rw'): ContainerMount {
  return { destination, type: 'bind', source, options: ['rbind', 'rprivate', access] };
}

/** What the image has at such a path is there from the start. It is part of the writable root, unless there is none. */
async function imageVolume(options: ContainerMountOptions, path: string, name: string): Promise<{ mount: ContainerMount; layer: WritableLayer } | undefined> {
  const { scratch, readonly, userNamespace } = options;
  const { path: from, inside, stats } = await placeInRoot(scratch.lower, path);
  if (inside === '/' || (stats && (!readonly || !stats.isDirectory()))) return undefined;
  const upper = join(scratch.path, 'writable', name, 'upper');
  if (!stats) return { mount: bind(upper, path, 'rw'), layer: { name, attributes: { uid: 0n, gid: 0n, mode: 0o755n } } };
  const work = join(scratch.path, 'writable', name, 'work');
  const words = [`lowerdir=${overlayPath(from)}`, `upperdir=${overlayPath(upper)}`, `workdir=${overlayPath(work)}`, ...(userNamespace ? ['userxattr'] : [])];
  return { mount: { destination: path, type: 'overlay', source: 'overlay', options: words }, layer: { name, attributes: stats } };
}
