/** Part of `linux.seccomp` of the runtime specification. */
interface SyscallRule {
  readonly names: readonly string[];
  readonly action: 'SCMP_ACT_ERRNO';
  readonly errnoRet?: number;
  readonly args?: readonly { readonly index: number; readonly value: number; readonly valueTwo?: number; readonly op: 'SCMP_CMP_MASKED_EQ' }[];
}

export interface SeccompProfile {
  readonly defaultAction: 'SCMP_ACT_ALLOW';
  readonly architectures?: readonly string[];
  readonly syscalls: readonly SyscallRule[];
}

/** Each processor with those whose programs it runs besides: a filter has to know them all, or they get around it. */
const ARCHITECTURES = new Map<string, readonly string[]>([
  ['x64', ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32']],
  ['arm64', ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM']],
]);

const EPERM = 1;
const ENOSYS = 38;

/** CLONE_NEW*, as clone(2) takes them: mount, cgroup, uts, ipc, user, pid, net. */
const NEW_NAMESPACE = [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000];
const TIOCSTI = 0x5412;
const TIOCLINUX = 0x541c;

/**
 * What no program in a container has to do with: the machine's kernel, clock, swap and modules, other processes' memory and
 * keys, new namespaces, and interfaces that have been the way out of containers before. Most of it needs capabilities that
 * the container does not have either; a list of what is forbidden, because one of all that is allowed would be out of date
 * with every kernel.
 */
const FORBIDDEN: readonly string[] = [
  // the machine
  'acct', 'clock_settime', 'clock_settime64', 'settimeofday', 'stime', 'iopl', 'ioperm', 'kexec_file_load', 'kexec_load', 'create_module', 'delete_module',
  'finit_module', 'init_module', 'get_kernel_syms', 'query_module', 'nfsservctl', 'quotactl', 'quotactl_fd', 'reboot', 'sethostname', 'setdomainname',
  'swapoff', 'swapon', 'syslog', 'uselib', 'ustat', 'vhangup', 'vm86', 'vm86old', 'vserver', '_sysctl', 'sysfs', 'lookup_dcookie',
  // namespaces and mounts
  'fsconfig', 'fsmount', 'fsopen', 'fspick', 'mount', 'mount_setattr', 'move_mount', 'open_tree', 'pivot_root', 'setns', 'umount', 'umount2', 'unshare',
  // the kernel's insides, other processes, keys
  'add_key', 'bpf', 'fanotify_init', 'kcmp', 'keyctl', 'open_by_handle_at', 'perf_event_open', 'request_key', 'userfaultfd',
  'io_uring_enter', 'io_uring_register', 'io_uring_setup',
];

/** The filter for programs on this machine. Other processors than those above get it for their own programs only. */
export function seccompProfile(architecture: string = process.arch): SeccompProfile {
  const architectures = ARCHITECTURES.get(architecture);
  const masked = (index: number, mask: number, value: number): NonNullable<SyscallRule['args']> => [{ index, value: mask, valueTwo: value, op: 'SCMP_CMP_MASKED_EQ' }];
  return {
    defaultAction: 'SCMP_ACT_ALLOW',
    ...(architectures && { architectures }),
    syscalls: [
      { names: FORBIDDEN, action: 'SCMP_ACT_ERRNO', errnoRet: EPERM },
      // Its flags are in memory, out of a filter's sight; without it the C library takes clone.
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
      ...NEW_NAMESPACE.map((flag): SyscallRule => ({ names: ['clone'], action: 'SCMP_ACT_ERRNO', errnoRet: EPERM, args: masked(0, flag, flag) })),
      // Typing into the terminal that the container was started from.
      ...[TIOCSTI, TIOCLINUX].map((request): SyscallRule => ({ names: ['ioctl'], action: 'SCMP_ACT_ERRNO', errnoRet: EPERM, args: masked(1, 0xffff_ffff, request) })),
    ],
  };
}
