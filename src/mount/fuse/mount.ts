import { closeSync, constants, openSync, writeFileSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { LazypullError, wrapError } from '../../core/errors.ts';
import { loadNative, MS, type Native } from '../native.ts';
import { mountAt } from './mountinfo.ts';
import { runTool, type ToolResult } from './tool.ts';

/** mount(2) through koffi; mount(8) with the descriptor inherited; fusermount3, which is there for users who may not mount. */
export type MountWay = 'syscall' | 'mount' | 'fusermount';

export interface FuseMountOptions {
  /** What lists of mounts call the source; default `lazypull`. */
  readonly fsname?: string;
  readonly readonly?: true;
  /** Lets users other than the one who mounts in; default for root, also that of a user namespace. With fusermount, /etc/fuse.conf has to allow it. */
  readonly allowOther?: boolean;
  /** Honours set-user-ID bits and file capabilities, which come from strangers; default false. Not with fusermount. */
  readonly suid?: boolean;
  /** Lets device nodes be opened; default false. Not with fusermount. */
  readonly dev?: boolean;
  /** KiB that the kernel reads ahead; its own default is 128. Set where this process may. */
  readonly readAheadKib?: number;
  /** Default: the first that can work. */
  readonly how?: MountWay;
  /** What `openFuse` has opened. Not with fusermount. */
  readonly fd?: number;
}

export interface FuseMount {
  /** /dev/fuse, non-blocking where koffi is. Belongs to the caller. */
  readonly fd: number;
  readonly how: MountWay;
  /** Absolute path of the mount point, without symlinks. */
  readonly target: string;
  /** `major:minor` that st_dev of its files says. */
  readonly device: string | undefined;
}

/** Seen in lists of mounts. */
export const FUSE_TYPE = 'fuse.lazypull';

const DEVICE = '/dev/fuse';
/** ioctl: sets or clears O_NONBLOCK. */
const FIONBIO = 0x5421;

/**
 * Mounts a FUSE file system on an existing directory. Whoever looks into it waits until somebody serves `fd`.
 * UNSUPPORTED when the system has no FUSE or no way to mount it, IO (a NativeError where the errno is known) when it refuses.
 */
export async function mountFuse(dir: string, options: FuseMountOptions = {}): Promise<FuseMount> {
  const target = await realpath(dir).catch((error: unknown) => {
    throw wrapError(error, (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'NOT_FOUND' : 'IO', 'mount point', { path: dir });
  });
  const native = loadNative();
  const how = options.how ?? defaultWay();
  const allowOther = options.allowOther ?? process.geteuid?.() === 0;
  const fd = how === 'fusermount' ? await viaFusermount(target, options, allowOther, native) : await direct(how, target, options, allowOther, native);
  const device = mountAt(target)?.device;
  if (options.readAheadKib !== undefined && device !== undefined) setReadAhead(device, options.readAheadKib);
  return { fd, how, target, device };
}

/** How this process mounts when nobody says. */
export function defaultWay(): MountWay {
  if (process.geteuid?.() !== 0) return 'fusermount';
  return loadNative() ? 'syscall' : 'mount';
}

/** /dev/fuse for a mount to come, for who wants to hand it on before: not for fusermount, which opens it itself. Fails as `mountFuse` does. */
export function openFuse(): number {
  return openDevice(loadNative() !== undefined);
}

async function direct(how: 'syscall' | 'mount', target: string, options: FuseMountOptions, allowOther: boolean, native: Native | undefined): Promise<number> {
  const { fsname = 'lazypull', suid = false, dev = false } = options;
  const fd = options.fd ?? openDevice(native !== undefined);
  const data = (number: number): string => `fd=${number},rootmode=40000,user_id=${process.geteuid?.() ?? 0},group_id=${process.getegid?.() ?? 0},default_permissions${allowOther ? ',allow_other' : ''}`;
  try {
    if (how === 'syscall') {
      if (!native) throw new LazypullError('UNSUPPORTED', 'mounting by a system call needs the optional package koffi');
      native.mount(fsname, target, FUSE_TYPE, MS.readOnly | (suid ? 0 : MS.noSuid) | (dev ? 0 : MS.noDev), data(fd));
    } else {
      const flags = `ro,${suid ? 'suid' : 'nosuid'},${dev ? 'dev' : 'nodev'}`;
      must(await runTool('mount', ['-i', '-t', FUSE_TYPE, '-o', `${flags},${data(3)}`, '--', fsname, target], { fd }), 'mount', target);
    }
    return fd;
  } catch (error) {
    if (options.fd === undefined) closeSync(fd);
    throw error;
  }
}

/** fusermount3 opens the device itself, and sends it over a socket that it finds in _FUSE_COMMFD. */
async function viaFusermount(target: string, { fsname = 'lazypull' }: FuseMountOptions, allowOther: boolean, native: Native | undefined): Promise<number> {
  if (!native) throw new LazypullError('UNSUPPORTED', 'mounting through fusermount3 needs the optional package koffi');
  const name = fsname.replace(/[\\,]/g, (character) => `\\${character}`);
  const options = `ro,nosuid,nodev,default_permissions,fsname=${name},subtype=lazypull${allowOther ? ',allow_other' : ''}`;
  const [ours, theirs] = native.socketpair();
  try {
    let result: ToolResult;
    try {
      result = await fusermount(['-o', options, '--', target], { fd: theirs, env: { _FUSE_COMMFD: '3' } });
    } finally {
      closeSync(theirs);
    }
    must(result, 'fusermount3', target);
    const fd = native.receiveFd(ours);
    if (fd === undefined) throw new LazypullError('IO', 'fusermount3 has mounted, but sent no descriptor', { path: target });
    native.ioctl(fd, FIONBIO, Uint8Array.of(1, 0, 0, 0));
    return fd;
  } finally {
    closeSync(ours);
  }
}

/** fusermount3, or fusermount of FUSE 2, which does the same. */
export async function fusermount(args: readonly string[], options: Parameters<typeof runTool>[2] = {}): Promise<ToolResult> {
  try {
    return await runTool('fusermount3', args, options);
  } catch (error) {
    if (!(error instanceof LazypullError && error.code === 'UNSUPPORTED')) throw error;
    return await runTool('fusermount', args, options).catch(() => {
      throw new LazypullError('UNSUPPORTED', 'fusermount3 is not installed (package fuse3): without it only root mounts', { cause: error });
    });
  }
}

function must({ code, complaint }: ToolResult, tool: string, path: string): void {
  if (code !== 0) throw new LazypullError('IO', complaint || `${tool} failed with code ${code}`, { path });
}

/** Non-blocking is a property of the open file: every process that inherits it has it so. */
function openDevice(nonBlocking: boolean): number {
  try {
    return openSync(DEVICE, constants.O_RDWR | (nonBlocking ? constants.O_NONBLOCK : 0));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO') throw new LazypullError('UNSUPPORTED', 'this system has no FUSE (is the module fuse loaded?)', { path: DEVICE, cause: error });
    throw wrapError(error, 'IO', 'FUSE cannot be used', { path: DEVICE });
  }
}

/** KiB that the kernel reads ahead on a mounted file system; false when this process may not say. */
export function setReadAhead(device: string, kib: number): boolean {
  try {
    writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, `${kib}`);
    return true;
  } catch {
    return false;
  }
}
