import { constants } from 'node:os';
import { createRequire } from 'node:module';
import { LazypullError } from '../core/errors.ts';

/** A system call that failed: `errno` as a positive number, `name` of it in `errnoName`. */
export class NativeError extends LazypullError {
  readonly errno: number;
  /** Such as `EBUSY`. */
  readonly errnoName: string;

  /** `call` says what was tried, `path` what with. */
  constructor(errno: number, call: string, path?: string) {
    super('IO', `${call}: ${errnoName(errno)}`, path === undefined ? {} : { path });
    this.errno = errno;
    this.errnoName = errnoName(errno);
  }
}

/** Errors by name, such as `ERRNO.ENOENT`: those of this system. */
export const ERRNO = constants.errno;

const NAMES = new Map<number, string>(Object.entries(ERRNO).map(([name, number]) => [number, name]));
// Node's list lacks what network protocols do not know.
const MORE: readonly (readonly [number, string])[] = [[15, 'ENOTBLK'], [117, 'EUCLEAN'], [125, 'ECANCELED']];
for (const [number, name] of MORE) if (!NAMES.has(number)) NAMES.set(number, name);

/** `EBUSY` for 16; `errno 4095` for numbers without a name. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `errno ${errno}`;
}

export const POLL = { in: 1, out: 4, error: 8, hangUp: 16, invalid: 32 } as const;
/** Flags of mount(2). */
export const MS = { readOnly: 1, noSuid: 2, noDev: 4, noExec: 8, remount: 32, bind: 4096, move: 8192, recursive: 16384, private: 1 << 18, slave: 1 << 19 } as const;
/** Flags of umount2(2). */
export const MNT = { force: 1, detach: 2, expire: 4, noFollow: 8 } as const;

/**
 * System calls that Node has no function for, or only ones that go through its thread pool. The calls block the calling
 * thread. `read`, `write` and `pread` are called a hundred thousand times a second: they return a negative errno. All the
 * others throw a NativeError.
 */
export interface Native {
  /** Bytes read, or -errno. */
  read(fd: number, buffer: Uint8Array): number;
  /** Bytes written, or -errno. */
  write(fd: number, buffer: Uint8Array): number;
  /** Bytes read from `offset` on, or -errno. */
  pread(fd: number, buffer: Uint8Array, offset: number): number;
  /** What happened (POLL bits) to each, in order; all 0 after `timeoutMs` (-1: never) or a signal. */
  poll(fds: readonly { readonly fd: number; readonly events: number }[], timeoutMs: number): readonly number[];
  /** Non-blocking, closed on exec; 8 bytes written to it make it readable. */
  eventfd(): number;
  /** The call's result; `argument` is read and written. */
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  mount(source: string, target: string, type: string | null, flags: number, data: string | null): void;
  umount(target: string, flags: number): void;
  /** Gives the blocks of a range back; the size stays. EOPNOTSUPP where the file system cannot. */
  fallocatePunch(fd: number, offset: number, length: number): void;
  /** A pair of connected stream sockets, closed on exec. */
  socketpair(): readonly [number, number];
  /** Waits for one descriptor that the other end sends (SCM_RIGHTS); undefined when it hangs up instead. */
  receiveFd(socket: number): number | undefined;
  /** A descriptor that stands for a process. */
  pidfdOpen(pid: number): number;
  /** A copy of another process' descriptor; needs the right to trace it. */
  pidfdGetfd(pidfd: number, fd: number): number;
  /** An advisory lock on the open file; false when another one holds it and `wait` is not set. Closing the file gives it up. */
  flock(fd: number, kind: 'shared' | 'exclusive' | 'none', wait?: boolean): boolean;
  /** Gives memory that was freed, and that the C library keeps, back to the system. Does nothing where that library has no `malloc_trim`. */
  trimHeap(): void;
}

/** What is used of koffi. */
interface Koffi {
  load(path: string | null): { func(definition: string): (...values: unknown[]) => unknown };
  errno(): number;
  address(buffer: Uint8Array): bigint | number;
}

/** Little-endian, with 64-bit longs, and with the numbers of the generic system call table where they are used. */
const ARCHITECTURES: readonly string[] = ['x64', 'arm64', 'riscv64', 'loong64'];

let loaded: Native | undefined;
let tried = false;

/** The system calls of this thread; undefined when the optional package koffi is not installed or the system is not Linux. */
export function loadNative(): Native | undefined {
  if (!tried) {
    tried = true;
    const koffi = process.platform === 'linux' && ARCHITECTURES.includes(process.arch) ? loadKoffi() : undefined;
    if (koffi) loaded = bind(koffi);
  }
  return loaded;
}

/** LAZYPULL_NO_NATIVE is for trying what happens without it. */
function loadKoffi(): Koffi | undefined {
  if (process.env['LAZYPULL_NO_NATIVE']) return undefined;
  try {
    return createRequire(import.meta.url)('koffi') as Koffi;
  } catch {
    return undefined;
  }
}

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
const EFD_NONBLOCK_CLOEXEC = 0x800 | 0x80000;
const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 1 | 0x80000;
const SYS_PIDFD_OPEN = 434;
const SYS_PIDFD_GETFD = 438;
const LOCKS = { shared: 1, exclusive: 2, none: 8 } as const;
const LOCK_NB = 4;
const POLLFD_SIZE = 8;

function bind(koffi: Koffi): Native {
  const libc = koffi.load(null);
  const func = <F extends (...values: never[]) => number>(definition: string): F => libc.func(definition) as unknown as F;
  const read = func<(fd: number, buffer: Uint8Array, size: number) => number>('int64_t read(int, void *, uint64_t)');
  const write = func<(fd: number, buffer: Uint8Array, size: number) => number>('int64_t write(int, const void *, uint64_t)');
  const pread = func<(fd: number, buffer: Uint8Array, size: number, offset: number) => number>('int64_t pread(int, void *, uint64_t, int64_t)');
  const poll = func<(fds: Uint8Array, count: number, timeout: number) => number>('int poll(void *, unsigned long, int)');
  const eventfd = func<(value: number, flags: number) => number>('int eventfd(unsigned int, int)');
  const ioctl = func<(fd: number, request: number, argument: Uint8Array) => number>('int ioctl(int, unsigned long, void *)');
  const mount = func<(source: string, target: string, type: string | null, flags: number, data: string | null) => number>('int mount(const char *, const char *, const char *, unsigned long, const char *)');
  const umount2 = func<(target: string, flags: number) => number>('int umount2(const char *, int)');
  const fallocate = func<(fd: number, mode: number, offset: number, length: number) => number>('int fallocate(int, int, int64_t, int64_t)');
  const socketpair = func<(domain: number, type: number, protocol: number, pair: Uint8Array) => number>('int socketpair(int, int, int, void *)');
  const recvmsg = func<(socket: number, message: Uint8Array, flags: number) => number>('int64_t recvmsg(int, void *, int)');
  const flock = func<(fd: number, operation: number) => number>('int flock(int, int)');
  const syscall = func<(number: number, a: number, b: number, c: number) => number>('long syscall(long, long, long, long)');
  const mallocTrim = known(() => func<(pad: number) => number>('int malloc_trim(size_t)'));

  /** The call's result, or a NativeError. Signals are waited out. */
  const check = (call: string, run: () => number, path?: string): number => {
    for (;;) {
      const result = Number(run());
      if (result !== -1) return result;
      const errno = koffi.errno();
      if (errno !== ERRNO.EINTR) throw new NativeError(errno, call, path);
    }
  };
  // 0 would look like a result.
  const failed = (): number => -(koffi.errno() || ERRNO.EIO);

  return {
    read(fd, buffer) {
      const count = Number(read(fd, buffer, buffer.byteLength));
      return count < 0 ? failed() : count;
    },
    write(fd, buffer) {
      const count = Number(write(fd, buffer, buffer.byteLength));
      return count < 0 ? failed() : count;
    },
    pread(fd, buffer, offset) {
      const count = Number(pread(fd, buffer, buffer.byteLength, offset));
      return count < 0 ? failed() : count;
    },
    poll(fds, timeoutMs) {
      const set = Buffer.alloc(fds.length * POLLFD_SIZE);
      for (const [i, { fd, events }] of fds.entries()) {
        set.writeInt32LE(fd, i * POLLFD_SIZE);
        set.writeInt16LE(events, i * POLLFD_SIZE + 4);
      }
      if (Number(poll(set, fds.length, timeoutMs)) === -1) {
        const errno = koffi.errno();
        if (errno !== ERRNO.EINTR) throw new NativeError(errno, 'poll');
        return fds.map(() => 0);
      }
      return fds.map((_, i) => set.readInt16LE(i * POLLFD_SIZE + 6));
    },
    eventfd: () => check('eventfd', () => eventfd(0, EFD_NONBLOCK_CLOEXEC)),
    ioctl: (fd, request, argument) => check(`ioctl 0x${request.toString(16)}`, () => ioctl(fd, request, argument)),
    mount(source, target, type, flags, data) {
      check(`mount of ${type ?? source}`, () => mount(source, target, type, flags, data), target);
    },
    umount(target, flags) {
      check('umount', () => umount2(target, flags), target);
    },
    fallocatePunch(fd, offset, length) {
      check('fallocate', () => fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length));
    },
    socketpair() {
      const pair = Buffer.alloc(8);
      check('socketpair', () => socketpair(AF_UNIX, SOCK_STREAM_CLOEXEC, 0, pair));
      return [pair.readInt32LE(0), pair.readInt32LE(4)];
    },
    receiveFd(socket) {
      const message = new FdMessage((buffer) => koffi.address(buffer));
      const count = check('recvmsg', () => recvmsg(socket, message.header, MSG_CMSG_CLOEXEC));
      return count === 0 ? undefined : message.fd();
    },
    pidfdOpen: (pid) => check('pidfd_open', () => syscall(SYS_PIDFD_OPEN, pid, 0, 0)),
    pidfdGetfd: (pidfd, fd) => check('pidfd_getfd', () => syscall(SYS_PIDFD_GETFD, pidfd, fd, 0)),
    flock(fd, kind, wait = false) {
      try {
        check('flock', () => flock(fd, LOCKS[kind] | (wait ? 0 : LOCK_NB)));
        return true;
      } catch (error) {
        if (error instanceof NativeError && error.errno === ERRNO.EWOULDBLOCK) return false;
        throw error;
      }
    },
    trimHeap: () => void mallocTrim?.(0),
  };
}

/** A function that not every C library has. */
function known<F>(find: () => F): F | undefined {
  try {
    return find();
  } catch {
    return undefined;
  }
}

const MSG_CMSG_CLOEXEC = 0x4000_0000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
/** cmsghdr: u64 length, i32 level, i32 type, and behind them what is sent. */
const CMSG_HEADER = 16;

/** struct msghdr of a system with 64-bit pointers, with room for one byte and one descriptor. */
class FdMessage {
  readonly header = Buffer.alloc(56);
  readonly #control = Buffer.alloc(24);
  // The struct has addresses only: what they point to must not be collected.
  readonly #parts: readonly Buffer[];

  constructor(addressOf: (buffer: Uint8Array) => bigint | number) {
    const payload = Buffer.alloc(16);
    const vector = Buffer.alloc(16);
    this.#parts = [payload, vector];
    vector.writeBigUInt64LE(BigInt(addressOf(payload)), 0);
    vector.writeBigUInt64LE(1n, 8);
    this.header.writeBigUInt64LE(BigInt(addressOf(vector)), 16);
    this.header.writeBigUInt64LE(1n, 24);
    this.header.writeBigUInt64LE(BigInt(addressOf(this.#control)), 32);
    this.header.writeBigUInt64LE(BigInt(this.#control.length), 40);
  }

  fd(): number | undefined {
    const control = this.#control;
    if (this.#parts.length === 0 || control.readBigUInt64LE(0) < CMSG_HEADER + 4) return undefined;
    if (control.readInt32LE(8) !== SOL_SOCKET || control.readInt32LE(12) !== SCM_RIGHTS) return undefined;
    return control.readInt32LE(CMSG_HEADER);
  }
}
