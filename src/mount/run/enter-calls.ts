import { createRequire } from 'node:module';
import { ERRNO, NativeError } from '../native.ts';

/** System calls that a process makes once in its life: on its way into a container. All of them throw a NativeError. */
export interface EnterCalls {
  pivotRoot(newRoot: string, putOld: string): void;
  chroot(path: string): void;
  setHostname(name: string): void;
  /** Switches the network interface of this machine itself on. */
  loopbackUp(): void;
  /** Most open files, soft and hard. */
  limitOpenFiles(count: number): void;
  /** Ends this process, whatever it has become, with the one that started it. Forgotten when its user changes. */
  dieWithParent(): void;
  /** Takes capabilities out of what this process and its children can ever have; numbers that do not exist are no error. */
  dropCapabilities(numbers: readonly number[]): void;
  /** Whatever is ignored by this process is not to be ignored by the program. */
  resetSignals(): void;
  /**
   * Hands the standard streams on, as anybody expects them: Node closes them on exec and does not wait on them. Whatever else
   * is open, somebody has left behind.
   */
  keepStreams(): void;
  /** Replaces this process; returns the error number when that fails. */
  exec(path: string, args: readonly string[], env: readonly string[]): number;
}

const SYS_PIVOT_ROOT = new Map([['x64', 155], ['arm64', 41], ['riscv64', 41], ['loong64', 41]]);
const PR_SET_PDEATHSIG = 1;
const PR_CAPBSET_DROP = 24;
const SIGKILL = 9;
const RLIMIT_NOFILE = 7;
const AF_INET_DGRAM = [2, 2] as const;
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const IFF_UP = 1;
const LAST_SIGNAL = 31;
const SYS_CLOSE_RANGE = 436;
const CLOSE_RANGE_CLOEXEC = 4;
const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0x800;

/** By koffi; undefined when it is not installed. */
export function loadEnterCalls(): EnterCalls | undefined {
  const pivotNumber = SYS_PIVOT_ROOT.get(process.arch);
  if (process.platform !== 'linux' || pivotNumber === undefined || process.env['LAZYPULL_NO_NATIVE']) return undefined;
  let koffi: { load(path: null): { func(definition: string): (...values: unknown[]) => unknown }; errno(): number };
  try {
    koffi = createRequire(import.meta.url)('koffi') as typeof koffi;
  } catch {
    return undefined;
  }
  const libc = koffi.load(null);
  const call = (definition: string): ((...values: unknown[]) => number) => {
    const func = libc.func(definition);
    return (...values) => Number(func(...values));
  };
  const pivot = call('long syscall(long, const char *, const char *)');
  const closeRange = call('long syscall(long, unsigned int, unsigned int, unsigned int)');
  const chroot = call('int chroot(const char *)');
  const sethostname = call('int sethostname(const char *, uint64_t)');
  const socket = call('int socket(int, int, int)');
  const ioctl = call('int ioctl(int, unsigned long, void *)');
  const close = call('int close(int)');
  const setrlimit = call('int setrlimit(int, const void *)');
  const prctl = call('int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)');
  const signal = libc.func('void *signal(int, void *)');
  const fcntl = call('int fcntl(int, int, int64_t)');
  const execve = call('int execve(const char *, const char **, const char **)');
  const check = (result: number, what: string, path?: string): number => {
    if (result === -1) throw new NativeError(koffi.errno(), what, path);
    return result;
  };
  return {
    pivotRoot: (newRoot, putOld) => void check(pivot(pivotNumber, newRoot, putOld), 'pivot_root', newRoot),
    chroot: (path) => void check(chroot(path), 'chroot', path),
    setHostname: (name) => void check(sethostname(name, Buffer.byteLength(name)), `sethostname ${name}`),
    loopbackUp() {
      const fd = check(socket(...AF_INET_DGRAM, 0), 'socket');
      try {
        // struct ifreq: 16 bytes of name, then 16 bits of flags.
        const request = Buffer.alloc(40);
        request.write('lo');
        check(ioctl(fd, SIOCGIFFLAGS, request), 'looking at lo');
        request.writeInt16LE(request.readInt16LE(16) | IFF_UP, 16);
        check(ioctl(fd, SIOCSIFFLAGS, request), 'switching lo on');
      } finally {
        close(fd);
      }
    },
    limitOpenFiles(count) {
      const limit = Buffer.alloc(16);
      limit.writeBigUInt64LE(BigInt(count), 0);
      limit.writeBigUInt64LE(BigInt(count), 8);
      check(setrlimit(RLIMIT_NOFILE, limit), `limit of ${count} open files`);
    },
    dieWithParent: () => void check(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), 'prctl'),
    dropCapabilities(numbers) {
      for (const number of numbers) {
        if (prctl(PR_CAPBSET_DROP, number, 0, 0, 0) === -1 && koffi.errno() !== ERRNO.EINVAL) throw new NativeError(koffi.errno(), `dropping capability ${number}`);
      }
    },
    resetSignals() {
      for (let number = 1; number <= LAST_SIGNAL; number++) signal(number, null);
    },
    keepStreams() {
      // Older kernels do not know it; Node itself closes the first few.
      closeRange(SYS_CLOSE_RANGE, 3, 0xffff_ffff, CLOSE_RANGE_CLOEXEC);
      for (const fd of [0, 1, 2]) {
        const flags = fcntl(fd, F_GETFL, 0);
        // A stream that is closed stays so.
        if (flags === -1) continue;
        check(fcntl(fd, F_SETFD, 0), 'handing a stream on');
        check(fcntl(fd, F_SETFL, flags & ~O_NONBLOCK), 'handing a stream on');
      }
    },
    exec(path, args, env) {
      execve(path, [...args, null], [...env, null]);
      return koffi.errno();
    },
  };
}
