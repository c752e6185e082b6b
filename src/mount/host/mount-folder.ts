import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { LazypullError, printable, wrapError } from '../../core/errors.ts';
import { mountsFrom } from './mount-table.ts';
import { makeRuntimeFolder } from './runtime-folder.ts';

/** The longest path that a unix socket can have, without its NUL. */
const MAX_SOCKET_PATH = 107;

/** A folder of the runtime folder with everything that belongs to one mount. Private to its user. */
export class MountFolder {
  readonly path: string;
  readonly id: string;

  constructor(path: string) {
    this.path = path;
    this.id = path.slice(path.lastIndexOf('/') + 1);
  }

  static create(env: Readonly<Record<string, string | undefined>>): MountFolder {
    const runtime = makeRuntimeFolder(env);
    const folder = new MountFolder(join(runtime, randomBytes(6).toString('hex')));
    if (folder.control.length > MAX_SOCKET_PATH) throw new LazypullError('LIMIT', `path is too long for a socket: ${folder.control.length} bytes, ${MAX_SOCKET_PATH} at most`, { path: runtime });
    try {
      mkdirSync(folder.path, { mode: 0o700 });
    } catch (error) {
      throw wrapError(error, 'IO', 'cannot make a folder for the mount', { path: folder.path });
    }
    return folder;
  }

  /** Socket that the daemon answers on. */
  get control(): string {
    return join(this.path, 'control');
  }

  get log(): string {
    return join(this.path, 'log');
  }

  /** Where the FUSE file system with the devices is mounted until the kernel has opened them. */
  get devices(): string {
    return join(this.path, 'devices');
  }

  /** Where the image is mounted when an overlay is to go over it. */
  get lower(): string {
    return join(this.path, 'lower');
  }

  get writable(): string {
    return join(this.path, 'writable');
  }

  get state(): string {
    return join(this.path, 'state.json');
  }

  /** A mount is made here before it is moved to its place. */
  get staging(): string {
    return join(this.path, 'staging');
  }

  /** Takes the folder away. Refuses while anything is mounted in it: deleting must not reach into a mount. */
  remove(): void {
    const left = mountsFrom(this.path);
    if (left.length > 0) throw new LazypullError('IO', `still mounted: ${left.map(({ target }) => printable(target)).join(', ')}`);
    rmSync(this.path, { recursive: true, force: true });
  }
}
