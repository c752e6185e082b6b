import assert from 'node:assert/strict';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { accessSync, chmodSync, closeSync, constants, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Digest } from '../../src/core/digest.ts';
import type { LazypullError } from '../../src/core/errors.ts';
import { MemorySource } from '../../src/core/source.ts';
import type { DirectoryNode, RegularNode } from '../../src/core/types.ts';
import { openErofs } from '../../src/erofs/read.ts';
import { linkCounts, walk } from '../../src/layer/walk.ts';
import { mountFuse, type FuseMountOptions } from '../../src/mount/fuse/mount.ts';
import { mountAt } from '../../src/mount/fuse/mountinfo.ts';
import { startFuseSession, type FuseSession, type RequestReport } from '../../src/mount/fuse/session.ts';
import { unmountFuse } from '../../src/mount/fuse/unmount.ts';
import { loadNative } from '../../src/mount/native.ts';
import type { AnswerMiss, Served, ServedDevice } from '../../src/mount/types.ts';
import { escape } from '../erofs/trees.ts';
import { sharedCopy } from './fuse-kernel.ts';

/** Why a test that mounts cannot run here; false when it can. */
export const cannotMount: string | false = (() => {
  if (process.platform !== 'linux') return 'FUSE is Linux';
  if (process.geteuid?.() !== 0) return 'needs root';
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch {
    return 'needs /dev/fuse';
  }
  return false;
})();
export const cannotMountNatively: string | false = cannotMount || (loadNative() ? false : 'needs the optional package koffi');

export const folder = mkdtempSync(join(tmpdir(), 'lazypull-fuse-'));
// Other users look in, too.
chmodSync(folder, 0o755);
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
// A mount that a failed test leaves behind would keep the process waiting.
after(async () => {
  for (const dir of live) if (mountAt(dir)) await unmountFuse(dir, { force: true });
});
const live = new Set<string>();
let counter = 0;

export function place(name: string): string {
  return join(folder, `${name}-${(counter += 1)}`);
}

/** A device whose content is in memory; some of its pages are in a local file, whose other pages hold rubbish. */
export function halfLocal(bytes: Uint8Array, isHere: (page: number) => boolean): { readonly device: ServedDevice; readonly path: string } {
  const pages = Math.ceil(bytes.length / 4096);
  const local = Buffer.alloc(pages * 4096, 0xaa);
  const present = new SharedArrayBuffer(Math.ceil(pages / 8) + 1);
  const map = new Uint8Array(present);
  for (let page = 0; page < pages; page += 1) {
    if (!isHere(page)) continue;
    local.fill(0, page * 4096, (page + 1) * 4096);
    local.set(bytes.subarray(page * 4096, (page + 1) * 4096), page * 4096);
    map[page >> 3] = (map[page >> 3] as number) | (1 << (page & 7));
  }
  const path = place('device');
  writeFileSync(path, local);
  return { device: { size: local.length, fd: openSync(path, 'r'), present }, path };
}

/** Answers from memory. */
export function answerFrom(devices: readonly Uint8Array[]): AnswerMiss {
  return async ({ device, address, length }) => {
    const bytes = new Uint8Array(length);
    bytes.set((devices[device] as Uint8Array).subarray(address, address + length));
    return bytes;
  };
}

export interface Mounted {
  readonly dir: string;
  readonly fd: number;
  readonly session: FuseSession;
  readonly problems: { readonly error: LazypullError; readonly about: RequestReport }[];
  /** Unmounts, and waits for the session to see it. */
  close(): Promise<void>;
}

/** A mount that nobody serves yet. */
export async function mountPlace(options: FuseMountOptions = {}): Promise<{ readonly dir: string; readonly fd: number }> {
  const dir = place('mount');
  mkdirSync(dir);
  const { fd } = await mountFuse(dir, options);
  live.add(dir);
  return { dir, fd };
}

export async function mounted(served: Omit<Served, 'metadata'> & { readonly metadata: Uint8Array }, answer: AnswerMiss, options: FuseMountOptions = {}): Promise<Mounted> {
  const { dir, fd } = await mountPlace(options);
  const problems: Mounted['problems'] = [];
  const session = await startFuseSession({ fd, served: { ...served, metadata: sharedCopy(served.metadata) }, answer, resend: false, onProblem: (error, about) => problems.push({ error, about }) });
  return {
    dir,
    fd,
    session,
    problems,
    async close() {
      if (mountAt(dir)) await unmountFuse(dir);
      assert.equal(await session.ended, 'unmounted');
      closeSync(fd);
      for (const device of served.devices) closeSync(device.fd);
    },
  };
}

/** Runs a program to its end: this process must not look into its own mounts, nor wait for somebody who does. */
export function run(command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(command, args, { maxBuffer: 1 << 28, encoding: 'utf8' }, (error, stdout, stderr) => (error ? reject(new Error(`${command}: ${stderr || error.message}`)) : resolve(stdout)));
  });
}

export interface Child {
  readonly process: ChildProcess;
  /** Resolves with the exit code, or the signal that it died of. */
  readonly ended: Promise<number | string | null>;
  output: string;
  /** Waits for it to say something. */
  says(text: string): Promise<void>;
}

export function start(command: string, args: readonly string[], options: { readonly fd?: number; readonly env?: NodeJS.ProcessEnv } = {}): Child {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit', ...(options.fd === undefined ? [] : [options.fd])], env: { ...process.env, ...options.env } });
  const waiting = new Set<() => void>();
  const result: Child = {
    process: child,
    output: '',
    ended: new Promise((resolve) => child.on('close', (code, signal) => resolve(signal ?? code))),
    says: (text) => new Promise((resolve, reject) => {
      const look = (): void => {
        if (!result.output.includes(text)) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      look();
      void result.ended.then((how) => reject(new Error(`${command} ended with ${how} and without ${text}: ${result.output}`)));
    }),
  };
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    result.output += text;
    for (const look of waiting) look();
  });
  return result;
}

const READER = `
import hashlib, json, os, stat, sys
top = os.fsencode(sys.argv[1])
found = []
def visit(path, name):
    s = os.lstat(path)
    one = {'path': os.fsdecode(name), 'ino': s.st_ino, 'mode': s.st_mode, 'uid': s.st_uid, 'gid': s.st_gid, 'nlink': s.st_nlink, 'size': s.st_size, 'blocks': s.st_blocks,
           'mtime': str(s.st_mtime_ns), 'atime': str(s.st_atime_ns), 'ctime': str(s.st_ctime_ns), 'rdev': [os.major(s.st_rdev), os.minor(s.st_rdev)], 'xattrs': {}}
    try:
        for x in os.listxattr(path, follow_symlinks=False):
            one['xattrs'][x] = os.getxattr(path, x, follow_symlinks=False).hex()
    except OSError as e:
        one['noxattrs'] = e.errno
    if stat.S_ISREG(s.st_mode):
        with open(path, 'rb') as f:
            data = f.read()
            # What a mapping shows behind the end is zeros.
            one['digest'] = hashlib.sha256(data).hexdigest()
            for at in (len(data) // 2, 4097, max(len(data) - 3, 0)):
                assert os.pread(f.fileno(), 5000, at) == data[at:at + 5000]
    elif stat.S_ISLNK(s.st_mode):
        one['target'] = os.fsdecode(os.readlink(path))
    found.append(one)
    if stat.S_ISDIR(s.st_mode):
        for child in os.listdir(path):
            visit(os.path.join(path, child), os.path.join(name, child) if name else child)
visit(top, b'')
print(json.dumps(found))
`;

interface Seen {
  readonly path: string;
  readonly ino: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  readonly size: number;
  readonly blocks: number;
  readonly mtime: string;
  readonly atime: string;
  readonly ctime: string;
  readonly rdev: readonly [number, number];
  readonly xattrs: Readonly<Record<string, string>>;
  readonly digest?: string;
  readonly target?: string;
}

const TYPES: Readonly<Record<number, string>> = { 0o10: 'file', 0o04: 'directory', 0o12: 'symlink', 0o02: 'char', 0o06: 'block', 0o01: 'fifo' };

interface Facts extends Omit<Seen, 'atime' | 'ctime' | 'blocks' | 'mode'> {
  readonly type: string;
  readonly mode: number;
}

function line({ path, type, mode, uid, gid, mtime, nlink, xattrs, rdev, target, size, digest, ino }: Facts): string {
  const about = [
    ...Object.entries(xattrs).map(([name, value]) => `${escape(name)}=${value}`).sort(),
    type === 'char' || type === 'block' ? rdev.join(':') : '', type === 'symlink' ? `-> ${escape(target ?? '')}` : '', type === 'file' ? `${size} ${digest}` : '',
  ];
  return `${escape(path)}: ${type} ${mode.toString(8)} ${uid}:${gid} ${mtime} links ${nlink} inode ${ino} ${about.join(' ')}`.trimEnd();
}

/** What another process sees in a folder, one line per name. */
export async function look(dir: string): Promise<readonly string[]> {
  const seen = JSON.parse(await run('python3', ['-c', READER, dir])) as readonly Seen[];
  return seen.map((one) => {
    assert.deepEqual([one.atime, one.ctime], [one.mtime, one.mtime], one.path);
    return line({ ...one, type: TYPES[one.mode >> 12] ?? '?', mode: one.mode & 0o7777, digest: `sha256:${one.digest ?? ''}` });
  }).sort();
}

/** What it should see; inode numbers are those of the image. */
export async function expected(root: DirectoryNode, image: Uint8Array, digestOf: (node: RegularNode) => Digest): Promise<readonly string[]> {
  const read = await openErofs(new MemorySource(image));
  const nids = new Map([...read.nodes].map(([nid, node]) => [node, nid]));
  const inodes = new Map([...walk(read.root)].map(({ path, node }) => [path, nids.get(node) as number]));
  const links = linkCounts(root);
  return [...walk(root)].map(({ path, node }) => line({
    path,
    type: node.type,
    ino: inodes.get(path) as number,
    mode: node.mode,
    uid: node.uid,
    gid: node.gid,
    nlink: links.get(node) as number,
    mtime: `${BigInt(node.mtime.seconds) * 1_000_000_000n + BigInt(node.mtime.nanoseconds)}`,
    rdev: node.type === 'char' || node.type === 'block' ? [node.major, node.minor] : [0, 0],
    xattrs: Object.fromEntries([...node.xattrs].map(([name, value]) => [name, Buffer.from(value).toString('hex')])),
    size: node.type === 'file' ? node.size : 0,
    ...(node.type === 'file' && { digest: digestOf(node) }),
    ...(node.type === 'symlink' && { target: node.target }),
  })).sort();
}

/** The script that serves a mount in a process of its own, see fuse-serve.ts. */
export const SERVE = fileURLToPath(new URL('./fuse-serve.js', import.meta.url));
