import type { Context } from './context.ts';

/** A mount in a container, as the runtime specification has them. */
export interface ContainerMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/**
 * Kernel file systems that every Linux container has (runtime-spec config-linux.md, default filesystems), and the usual ones
 * besides; none where one of the container's own mounts is to be.
 */
export function standardMounts(context: Pick<Context, 'userNamespace' | 'ids'>, own: readonly ContainerMount[] = []): readonly ContainerMount[] {
  const { userNamespace } = context;
  // A number that means nobody cannot own a terminal.
  const tty = context.ids.gids.some(({ inside, count }) => inside <= 5 && 5 < inside + count) ? ['gid=5'] : [];
  const mount = (destination: string, type: string, source: string, ...options: readonly string[]): ContainerMount => ({ destination, type, source, options });
  const all = [
    mount('/proc', 'proc', 'proc', 'nosuid', 'noexec', 'nodev'),
    mount('/dev', 'tmpfs', 'tmpfs', 'nosuid', 'strictatime', 'mode=755', 'size=65536k'),
    mount('/dev/pts', 'devpts', 'devpts', 'nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', ...tty),
    mount('/dev/shm', 'tmpfs', 'shm', 'nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'),
    mount('/dev/mqueue', 'mqueue', 'mqueue', 'nosuid', 'noexec', 'nodev'),
    // A new sysfs belongs to a network namespace, and that of the machine is not this user namespace's. Read-only does not
    // reach what is mounted below.
    ...(userNamespace
      ? [mount('/sys', 'none', '/sys', 'rbind', 'rslave', 'nosuid', 'noexec', 'nodev', 'ro'), mount('/sys/fs/cgroup', 'tmpfs', 'tmpfs', 'nosuid', 'noexec', 'nodev', 'ro', 'mode=755')]
      : [mount('/sys', 'sysfs', 'sysfs', 'nosuid', 'noexec', 'nodev', 'ro'), mount('/sys/fs/cgroup', 'cgroup', 'cgroup', 'nosuid', 'noexec', 'nodev', 'relatime', 'ro')]),
  ];
  return all.filter(({ destination }) => !own.some((other) => other.destination === destination));
}

/** What says more about the machine than a container should know. */
export const MASKED_PATHS: readonly string[] = [
  '/proc/acpi', '/proc/asound', '/proc/interrupts', '/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/sched_debug', '/proc/scsi', '/proc/timer_list', '/proc/timer_stats',
  '/sys/devices/virtual/powercap', '/sys/firmware',
];

/** What a container could change the machine by. */
export const READONLY_PATHS: readonly string[] = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

/** Device nodes that every Linux container has (runtime-spec config-linux.md, default devices). */
export const DEVICES: readonly string[] = ['null', 'zero', 'full', 'random', 'urandom', 'tty'];
