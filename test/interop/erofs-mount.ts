import { lstatSync, mkdirSync, readFileSync, readlinkSync, readdirSync } from 'node:fs';
import { release } from 'node:os';
import { decodeName, encodeName } from '../../src/core/bytes.ts';
import { joinPath } from '../../src/layer/walk.ts';
import { escape } from '../erofs/trees.ts';
import { hashFile } from '../support/peers-trees.ts';
import { defer, findTool, must, run, type Scope } from '../support/peers.ts';

/** The kernel as judge of EROFS images: mounting for real, and describing what is mounted. */

/** mount(2) by number: mount(8) makes loop devices of files, and file-backed devices do not go with those. */
const MOUNT_SYSCALL = new Map([['x64', 165], ['arm64', 40]]);
const MOUNT = 'my ($number, $source, $target, $options) = @ARGV; my $type = "erofs"; $! = 0; syscall($number + 0, $source, $target, $type, 1, $options) == 0 or do { print STDERR "$!\\n"; exit(1) };';

/** Whether the kernel knows EROFS, asking it to load the module. */
export async function haveErofs(t: Scope): Promise<boolean> {
  if (findTool('modprobe')) await run('modprobe', ['erofs']);
  if (/\berofs$/m.test(readFileSync('/proc/filesystems', 'latin1'))) return true;
  t.skip(`kernel ${release()} has no EROFS`);
  return false;
}

function kernelIs(major: number, minor: number): boolean {
  const [a = 0, b = 0] = release().split('.').map(Number);
  return a > major || (a === major && b >= minor);
}

/**
 * Mounts an image at a folder that is made: straight from files where the kernel can do that (Linux 6.12), otherwise by loop devices.
 * Returns false after a visible skip. Unmounted and detached when the test ends.
 */
export async function mountErofs(t: Scope, image: string, devices: readonly string[], at: string, blockSize: number): Promise<boolean> {
  if (blockSize < 4096 && !kernelIs(6, 4)) {
    t.skip(`kernel ${release()} has no EROFS blocks smaller than a page`);
    return false;
  }
  const number = MOUNT_SYSCALL.get(process.arch);
  const perl = findTool('perl');
  if (number === undefined || !perl) {
    t.skip(perl ? `number of mount(2) on ${process.arch} is not known here` : 'perl is not installed');
    return false;
  }
  mkdirSync(at, { recursive: true });
  const attempt = async (source: string, files: readonly string[]): Promise<string | undefined> => {
    const ran = await run(perl, ['-e', MOUNT, '--', String(number), source, at, files.map((file) => `device=${file}`).join(',')]);
    if (ran.code !== 0) return ran.stderr.trim();
    // Before the devices are detached, and before the folder goes.
    defer(t, () => must('umount', [at]));
    return undefined;
  };
  // 6.12.0 and 6.12.1 crash over small blocks in files.
  const failure = kernelIs(6, 13) ? await attempt(image, devices) : `kernel ${release()} has no safe file-backed mounts`;
  if (failure === undefined) return true;
  if (!findTool('losetup') || !/no safe|Block device required/.test(failure)) throw new Error(`mount(2) of ${image}: ${failure}`);
  t.diagnostic(`mounted by loop devices: ${failure}`);
  const loops: string[] = [];
  for (const file of [image, ...devices]) {
    const loop = (await must('losetup', ['-r', '-f', '--show', file])).text.trim();
    defer(t, () => must('losetup', ['-d', loop]));
    loops.push(loop);
  }
  const again = await attempt(loops[0] as string, loops.slice(1));
  if (again !== undefined) throw new Error(`mount(2) of ${image} by loop devices: ${again}`);
  return true;
}

const KIND = new Map([[0o010000, 'fifo'], [0o020000, 'char'], [0o040000, 'directory'], [0o060000, 'block'], [0o100000, 'file'], [0o120000, 'symlink']]);

/** What `describe` says of a tree in memory, of one on disk. */
export async function describeDisk(root: string): Promise<readonly string[]> {
  const xattrs = await readXattrs(root);
  const lines: { readonly name: Uint8Array; readonly line: string }[] = [];
  const firsts = new Map<bigint, string>();
  const full = (path: string): Buffer => Buffer.concat([Buffer.from(root), Buffer.from('/'), encodeName(path)]);
  const visit = (path: string): void => {
    const stats = lstatSync(full(path), { bigint: true });
    const mode = Number(stats.mode);
    const kind = KIND.get(mode & 0o170000) ?? 'unknown';
    const seconds = stats.mtimeNs / 1_000_000_000n - (stats.mtimeNs % 1_000_000_000n < 0n ? 1n : 0n);
    const first = kind === 'directory' ? undefined : firsts.get(stats.ino);
    if (first === undefined) firsts.set(stats.ino, path);
    const device = Number(stats.rdev);
    const facts = [
      kind,
      (mode & 0o7777).toString(8),
      `${stats.uid}:${stats.gid}`,
      `${seconds}+${stats.mtimeNs - seconds * 1_000_000_000n}`,
      `links ${stats.nlink}`,
      ...(xattrs.get(path) ?? []),
      kind === 'char' || kind === 'block' ? `${majorOf(stats.rdev)}:${minorOf(stats.rdev)}` : device === 0 ? '' : `rdev ${device}`,
      kind === 'symlink' ? `-> ${escape(decodeName(readlinkSync(full(path), 'buffer')))}` : '',
      kind === 'file' ? `${stats.size} sha256:${hashFile(full(path))}` : '',
      first === undefined ? '' : `= ${escape(first)}`,
    ];
    lines.push({ name: encodeName(path), line: `${escape(path)}: ${facts.filter((fact) => fact !== '').join(' ')}` });
    if (kind !== 'directory') return;
    const names = readdirSync(full(path), { encoding: 'buffer' }).sort(Buffer.compare);
    for (const name of names) visit(joinPath(path, decodeName(name)));
  };
  visit('');
  return lines.map(({ line }) => line);
}

function majorOf(device: bigint): number {
  return Number(((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn));
}

function minorOf(device: bigint): number {
  return Number((device & 0xffn) | ((device >> 12n) & ~0xffn & 0xffffffffn));
}

/** `name=hex` of every attribute, sorted, by path. */
async function readXattrs(root: string): Promise<ReadonlyMap<string, readonly string[]>> {
  const ran = await must('getfattr', ['-R', '-h', '-P', '-d', '-m', '-', '-e', 'hex', '--absolute-names', '.'], { cwd: root });
  const all = new Map<string, readonly string[]>();
  const plainText = (text: string): Buffer => Buffer.from(text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))), 'latin1');
  for (const block of ran.stdout.toString('latin1').split('\n\n')) {
    const [first = '', ...lines] = block.split('\n');
    const named = /^# file: \.\/?(.*)$/.exec(first);
    if (!named) continue;
    const found = lines.filter((line) => line !== '').map((line) => {
      const [name = '', value = ''] = line.split(/=0x|=(?=0s)|=$/);
      return `${escape(decodeName(plainText(name)))}=${value}`;
    });
    if (found.length > 0) all.set(decodeName(plainText(named[1] ?? '')), found.sort());
  }
  return all;
}
