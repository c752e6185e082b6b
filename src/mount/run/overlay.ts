import type { BigIntStats } from 'node:fs';

/** Tried in order: without a sync nobody needs, and without fetching a file's content only because its owner changes. */
const OPTIONS = {
  root: ['volatile,metacopy=on,redirect_dir=on', 'metacopy=on,redirect_dir=on', ''],
  userNamespace: ['volatile,userxattr', 'userxattr'],
} as const;

/**
 * Makes the writable layers of a scratch folder, puts that of the root over the folder `lower`, mounts both at `bundle/rootfs`,
 * and turns into the program behind it. To be run by sh in a mount namespace of its own: what is mounted then goes with its last
 * process.
 */
const SCRIPT = `set -eu
cd "$1"
if [ "$2" = memory ]; then mount -t tmpfs -o mode=0700 lazypull writable; fi
layers=$3
shift 3
while [ "$layers" -gt 0 ]; do
  mkdir -m 0700 "writable/$1" "writable/$1/upper" "writable/$1/work"
  chown "$2" "writable/$1/upper" 2>/dev/null || :
  chmod "$3" "writable/$1/upper"
  layers=$((layers - 1))
  shift 3
done
tries=$1
shift
while [ "$tries" -gt 0 ]; do
  options="lowerdir=lower,upperdir=writable/root/upper,workdir=writable/root/work"
  if [ -n "$1" ]; then options="$options,$1"; fi
  tries=$((tries - 1))
  shift
  if [ "$tries" -eq 0 ]; then mount -t overlay -o "$options" lazypull bundle/rootfs; break; fi
  if mount -t overlay -o "$options" lazypull bundle/rootfs 2>/dev/null; then
    while [ "$tries" -gt 0 ]; do tries=$((tries - 1)); shift; done
    break
  fi
done
exec "$@"
`;

/** A folder that takes what is written, and one that overlayfs works in: `writable/<name>/upper` and `work` of a scratch folder. */
export interface WritableLayer {
  readonly name: string;
  /** Of the folder below: what is seen are those of the writable one. */
  readonly attributes: Pick<BigIntStats, 'uid' | 'gid' | 'mode'>;
}

export const ROOT_LAYER = 'root';

export interface OverlayOptions {
  /** Absolute. */
  readonly scratch: string;
  /** What is written goes to memory. */
  readonly memory: boolean;
  readonly userNamespace: boolean;
  /** That of the root among them. */
  readonly layers: readonly WritableLayer[];
}

/** Arguments for sh that mount the overlay and then run a program. */
export function overlayCommand(options: OverlayOptions, program: readonly string[]): readonly string[] {
  const tries = options.userNamespace ? OPTIONS.userNamespace : OPTIONS.root;
  const layers = options.layers.flatMap(({ name, attributes: { uid, gid, mode } }) => [name, `${uid}:${gid}`, (Number(mode) % 0o10000).toString(8).padStart(4, '0')]);
  return ['-c', SCRIPT, 'lazypull', options.scratch, options.memory ? 'memory' : 'disk', String(options.layers.length), ...layers, String(tries.length), ...tries, ...program];
}

/** A path as one of the list that overlayfs takes: colons part its paths, and commas options. */
export function overlayPath(path: string): string {
  return path.replace(/[\\:,]/g, '\\$&');
}
