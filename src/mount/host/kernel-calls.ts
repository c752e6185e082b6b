import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { LazypullError, printable } from '../../core/errors.ts';
import { loadNative, NativeError } from '../native.ts';

/**
 * Calls that mount(8) has no words for: mount(2) of EROFS straight from files, and putting a mount below another one. By
 * koffi where it is installed, otherwise by an interpreter that can make system calls.
 */

const AT_FDCWD = -100;
const OPEN_TREE_CLONE = 1;
const OPEN_TREE_CLOEXEC = 0x80000;
const MOVE_MOUNT_F_EMPTY_PATH = 0x4;
const MOVE_MOUNT_BENEATH = 0x200;
const SYS_OPEN_TREE = 428;
const SYS_MOVE_MOUNT = 429;
/** By Node's names of processors; the last two are in the generic table. */
const SYS_MOUNT = new Map([['x64', 165], ['arm64', 40], ['riscv64', 40], ['loong64', 40]]);

export interface MountCall {
  readonly source: string;
  readonly target: string;
  readonly type: string;
  /** Bits of MS. */
  readonly flags: number;
  readonly data?: string;
}

/**
 * mount(2). Relative paths are taken from `folder`: short paths are what makes long lists of devices fit into its one page of
 * options. NativeError when the kernel refuses; UNSUPPORTED when there is no way to make the call.
 */
export async function mountCall(call: MountCall, folder?: string): Promise<void> {
  const native = loadNative();
  const { source, target, type, flags, data = '' } = call;
  if (!native) {
    const number = SYS_MOUNT.get(process.arch);
    if (number === undefined) throw new LazypullError('UNSUPPORTED', `number of mount(2) on ${process.arch} is not known here; install the package koffi`);
    await callByInterpreter([[number, [source, target, type, flags, data]]], `mount of ${type}`, target, folder);
    return;
  }
  inFolder(folder, () => native.mount(source, target, type, flags, data));
}

/** Where a process works is the process' own business: it is put back before anybody else runs. */
function inFolder(folder: string | undefined, run: () => void): void {
  if (folder === undefined) return run();
  const before = process.cwd();
  process.chdir(folder);
  try {
    run();
  } finally {
    process.chdir(before);
  }
}

/**
 * Puts a copy of the mount at `from` below the one at `to`: nobody sees it until that one is taken away, and nobody sees
 * neither (Linux 6.5). NativeError when the kernel refuses; UNSUPPORTED when there is no way to make the call.
 */
export async function moveBeneath(from: string, to: string): Promise<void> {
  const clone: SystemCall = [SYS_OPEN_TREE, [AT_FDCWD, from, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC]];
  const move = (fd: number | 'result'): SystemCall => [SYS_MOVE_MOUNT, [fd, '', AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH]];
  const calls = loadNative() && bindCalls();
  if (!calls) {
    await callByInterpreter([clone, move('result')], 'move_mount', to);
    return;
  }
  const fd = calls.openTree(AT_FDCWD, from, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  try {
    calls.moveMount(fd, '', AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH);
  } finally {
    calls.close(fd);
  }
}

interface Calls {
  openTree(folder: number, path: string, flags: number): number;
  moveMount(fromFolder: number, from: string, toFolder: number, to: string, flags: number): void;
  close(fd: number): void;
}

let bound: Calls | undefined;

function bindCalls(): Calls {
  if (bound) return bound;
  const koffi = createRequire(import.meta.url)('koffi') as { load(path: null): { func(definition: string): (...values: unknown[]) => unknown }; errno(): number };
  const libc = koffi.load(null);
  const check = (result: unknown, call: string, path?: string): number => {
    if (Number(result) === -1) throw new NativeError(koffi.errno(), call, path);
    return Number(result);
  };
  // Older C libraries have no functions of these names.
  const openTree = libc.func('long syscall(long, int, const char *, unsigned int)');
  const moveMount = libc.func('long syscall(long, int, const char *, int, const char *, unsigned int)');
  const close = libc.func('int close(int)');
  bound = {
    openTree: (folder, path, flags) => check(openTree(SYS_OPEN_TREE, folder, path, flags), 'open_tree', path),
    moveMount: (fromFolder, from, toFolder, to, flags) => void check(moveMount(SYS_MOVE_MOUNT, fromFolder, from, toFolder, to, flags), 'move_mount', to),
    close: (fd) => void close(fd),
  };
  return bound;
}

type SystemCall = readonly [number: number, values: readonly (number | string)[]];

/** Prints the error number of the first call that fails. `r` stands for the result of the call before. */
const PERL = `my $r = 0; my @call; push @ARGV, ',';
for my $a (@ARGV) {
  if ($a eq ',') { my $n = shift @call; $! = 0; $r = syscall($n, @call); if ($r == -1) { print 0 + $!; exit 1; } @call = (); }
  elsif ($a eq 'r') { push @call, $r; }
  elsif ($a =~ /^i(.*)/) { push @call, 0 + $1; }
  else { push @call, substr($a, 1); }
}`;
const PYTHON = `import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True); libc.syscall.restype = ctypes.c_long; r = 0; call = []
for a in [os.fsencode(a) for a in sys.argv[1:]] + [b',']:
    if a == b',':
        r = libc.syscall(*call); call = []
        if r == -1: sys.stdout.write(str(ctypes.get_errno())); sys.exit(1)
    elif a == b'r': call.append(ctypes.c_long(r))
    elif a[:1] == b'i': call.append(ctypes.c_long(int(a[1:])))
    else: call.append(ctypes.c_char_p(a[1:]))
`;
const INTERPRETERS: readonly (readonly [string, readonly string[]])[] = [['perl', ['-e', PERL, '--']], ['python3', ['-c', PYTHON]]];

async function callByInterpreter(calls: readonly SystemCall[], what: string, path: string, folder?: string): Promise<void> {
  const words = calls.flatMap(([number, values], i) => [
    ...(i === 0 ? [] : [',']),
    `i${number}`,
    ...values.map((value) => (value === 'result' ? 'r' : typeof value === 'number' ? `i${value}` : `s${value}`)),
  ]);
  for (const [command, args] of INTERPRETERS) {
    const ran = await runQuietly(command, [...args, ...words], folder);
    if (ran === undefined) continue;
    if (ran.code === 0) return;
    const errno = Number(/^\d+$/.exec(ran.output.trim())?.[0] ?? Number.NaN);
    if (Number.isInteger(errno)) throw new NativeError(errno, what, path);
    throw new LazypullError('IO', `${command} failed: ${printable(ran.output.slice(0, 200))}`, { path });
  }
  throw new LazypullError('UNSUPPORTED', `no way to make system calls: install the package koffi, perl or python3 (wanted: ${what})`);
}

/** Runs a program to its end without waiting in this thread; undefined when it is not installed. */
export async function runQuietly(command: string, args: readonly string[], folder?: string): Promise<{ readonly code: number; readonly output: string } | undefined> {
  return new Promise((resolve, reject) => {
    // Descriptors 3 and 4 are those of our own processes: nobody else is to keep them open.
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe', 'ignore', 'ignore'], ...(folder === undefined ? {} : { cwd: folder }), env: { ...process.env, LC_ALL: 'C' } });
    let output = '';
    const take = (piece: Buffer): void => {
      output = (output + piece.toString()).slice(-10_000);
    };
    child.stdout?.on('data', take);
    child.stderr?.on('data', take);
    child.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') resolve(undefined);
      else reject(new LazypullError('IO', `cannot run ${command}: ${error.message}`, { cause: error }));
    });
    child.once('close', (code) => resolve({ code: code ?? 255, output }));
  });
}

/** What a refusal of the kernel says to a user. */
export function isRefusal(error: unknown, ...names: readonly string[]): error is NativeError {
  return error instanceof NativeError && names.includes(error.errnoName);
}
