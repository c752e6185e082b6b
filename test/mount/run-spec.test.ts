import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Context } from '../../src/mount/run/context.ts';
import { seccompProfile } from '../../src/mount/run/seccomp.ts';
import { runtimeSpec, type ContainerPlan, type SpecOptions } from '../../src/mount/run/spec.ts';
import { checkSpec } from './run-spec-rules.ts';

const ALL = [{ inside: 0, count: 2 ** 32 - 1 }];
const ROOT: Context = { mayMount: true, userNamespace: false, ids: { uids: ALL, gids: ALL }, setGroups: true, cgroup2: false };
const ONE = [{ inside: 0, count: 1 }];
const ROOTLESS: Context = { mayMount: true, userNamespace: true, ids: { uids: ONE, gids: ONE }, setGroups: false, cgroup2: true };
const PLAN: ContainerPlan = {
  process: { args: ['/bin/app', '--serve'], env: ['PATH=/bin', 'HOME=/root'], cwd: '/srv', user: { uid: 0, gid: 0, groups: [0, 10], home: '/root', name: 'root' }, terminal: false },
  hostname: 'box',
  readonly: false,
  net: 'host',
  mounts: [{ destination: '/data', type: 'bind', source: '/home/me/data', options: ['rbind', 'rprivate', 'ro'] }],
  openFiles: 1024,
};
const OPTIONS: SpecOptions = { context: ROOT, seccomp: false, root: 'rootfs', config: { labels: {}, os: 'linux', architecture: 'amd64', variant: undefined, created: undefined, author: undefined, stopSignal: undefined }, architecture: 'x64' };

const GOLDEN = {
  ociVersion: '1.0.2',
  process: {
    terminal: false,
    user: { uid: 0, gid: 0, umask: 18, additionalGids: [0, 10] },
    args: ['/bin/app', '--serve'],
    env: ['PATH=/bin', 'HOME=/root'],
    cwd: '/srv',
    capabilities: {
      bounding: ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FOWNER', 'CAP_FSETID', 'CAP_KILL', 'CAP_SETGID', 'CAP_SETUID', 'CAP_SETPCAP', 'CAP_NET_BIND_SERVICE', 'CAP_NET_RAW', 'CAP_SYS_CHROOT', 'CAP_MKNOD', 'CAP_AUDIT_WRITE', 'CAP_SETFCAP'],
      effective: ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FOWNER', 'CAP_FSETID', 'CAP_KILL', 'CAP_SETGID', 'CAP_SETUID', 'CAP_SETPCAP', 'CAP_NET_BIND_SERVICE', 'CAP_NET_RAW', 'CAP_SYS_CHROOT', 'CAP_MKNOD', 'CAP_AUDIT_WRITE', 'CAP_SETFCAP'],
      permitted: ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FOWNER', 'CAP_FSETID', 'CAP_KILL', 'CAP_SETGID', 'CAP_SETUID', 'CAP_SETPCAP', 'CAP_NET_BIND_SERVICE', 'CAP_NET_RAW', 'CAP_SYS_CHROOT', 'CAP_MKNOD', 'CAP_AUDIT_WRITE', 'CAP_SETFCAP'],
      inheritable: [],
      ambient: [],
    },
    rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1024, soft: 1024 }],
    noNewPrivileges: false,
  },
  root: { path: 'rootfs', readonly: false },
  hostname: 'box',
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'] },
    { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'] },
    { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'] },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
    { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['nosuid', 'noexec', 'nodev', 'relatime', 'ro'] },
    { destination: '/data', type: 'bind', source: '/home/me/data', options: ['rbind', 'rprivate', 'ro'] },
  ],
  annotations: { 'org.opencontainers.image.os': 'linux', 'org.opencontainers.image.architecture': 'amd64' },
  linux: {
    namespaces: [{ type: 'mount' }, { type: 'pid' }, { type: 'ipc' }, { type: 'uts' }],
    resources: { devices: [{ allow: false, access: 'rwm' }] },
    rootfsPropagation: 'rprivate',
    maskedPaths: [
      '/proc/acpi', '/proc/asound', '/proc/interrupts', '/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/sched_debug', '/proc/scsi', '/proc/timer_list', '/proc/timer_stats',
      '/sys/devices/virtual/powercap', '/sys/firmware',
    ],
    readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
  },
};

type Spec = typeof GOLDEN;
const spec = (plan: Partial<ContainerPlan> = {}, options: Partial<SpecOptions> = {}): Spec => {
  const made = JSON.parse(JSON.stringify(runtimeSpec({ ...PLAN, ...plan }, { ...OPTIONS, ...options }))) as Spec;
  checkSpec(made);
  return made;
};
const types = (made: Spec): string[] => made.linux.namespaces.map(({ type }) => type);

describe('the config.json of a bundle', () => {
  it('is what a runtime expects', () => {
    assert.deepEqual(spec(), GOLDEN);
  });

  it('has a network namespace only where there is to be no network', () => {
    assert.ok(!types(spec()).includes('network') && types(spec({ net: 'none' })).includes('network'));
  });

  it('hides the tree of control groups where there is one', () => {
    assert.ok(types(spec({}, { context: { ...ROOT, cgroup2: true } })).includes('cgroup'));
  });

  it('leaves capabilities to root alone', () => {
    const { capabilities, user } = spec({ process: { ...PLAN.process, user: { uid: 33, gid: 33, groups: [33], home: '/', name: undefined } } }).process;
    assert.deepEqual([capabilities.effective, capabilities.permitted, capabilities.bounding.length], [[], [], 14]);
    assert.deepEqual(user, { uid: 33, gid: 33, umask: 18, additionalGids: [33] });
  });

  it('asks for nothing that is not to be had in a user namespace', () => {
    const made = spec({}, { context: ROOTLESS });
    assert.ok(!('resources' in made.linux) && !types(made).includes('cgroup') && !('additionalGids' in made.process.user));
    const at = (destination: string): (typeof made.mounts)[number] | undefined => made.mounts.find((mount) => mount.destination === destination);
    assert.ok(at('/sys')?.options.includes('rbind'));
    assert.equal(at('/sys/fs/cgroup')?.type, 'tmpfs');
    assert.ok(!at('/dev/pts')?.options.includes('gid=5'));
  });

  it('puts a volume in place of a standard mount', () => {
    const shm = { destination: '/dev/shm', type: 'bind', source: '/x', options: ['rbind', 'rprivate', 'rw'] };
    assert.deepEqual(spec({ mounts: [shm] }).mounts.filter(({ destination }) => destination === '/dev/shm'), [shm]);
  });

  it('says how large the terminal is, if there is one', () => {
    const size = { height: 24, width: 80 };
    const made = (terminal: boolean): object => spec({ process: { ...PLAN.process, terminal }, consoleSize: size }).process;
    assert.deepEqual((made(true) as { consoleSize?: object }).consoleSize, size);
    assert.ok(!('consoleSize' in made(false)));
  });

  it('passes labels on, but no orders to the runtime', () => {
    const labels = { 'org.example.purpose': 'test', 'org.opencontainers.image.os': 'mine', 'run.oci.handler': 'krun', 'RUN.OCI.x': '1', 'org.systemd.property.x': '1', 'io.katacontainers.y': '1', 'module.wasm.image/variant': 'compat', '': 'x' };
    assert.deepEqual(spec({}, { config: { ...OPTIONS.config, labels, stopSignal: 'SIGQUIT' } }).annotations, {
      'org.opencontainers.image.os': 'mine', 'org.opencontainers.image.architecture': 'amd64', 'org.opencontainers.image.stopSignal': 'SIGQUIT', 'org.example.purpose': 'test',
    });
  });

  it('forbids what no container needs', () => {
    const made = spec({}, { seccomp: true }) as Spec & { linux: { seccomp: ReturnType<typeof seccompProfile> } };
    const { seccomp } = made.linux;
    assert.deepEqual(seccomp.architectures, ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32']);
    const forbidden = seccomp.syscalls.flatMap(({ names, args }) => (args ? [] : names));
    for (const name of ['mount', 'unshare', 'setns', 'kexec_load', 'init_module', 'bpf', 'keyctl', 'reboot', 'open_by_handle_at', 'clone3']) assert.ok(forbidden.includes(name), name);
    for (const name of ['clone', 'ioctl', 'openat', 'execve', 'ptrace', 'chroot']) assert.ok(!forbidden.includes(name), name);
    assert.equal(new Set(forbidden).size, forbidden.length);
    assert.equal(seccompProfile('riscv64').architectures, undefined);
  });
});
