import { createHash } from 'node:crypto';
import { closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync, type Stats } from 'node:fs';
import { run } from './peers.ts';

/** What can be known of a file: a line of facts, and apart from it the time. */
export interface Facts {
  readonly line: string;
  /** Whole seconds; `now` for a time after the test's begin: directories without an entry of their own get the time of unpacking. */
  readonly time: string;
  /** The same, rounded to the nearest second instead of cut. */
  readonly nearest: string;
}

/** A file tree on disk. Names are bytes, kept as latin1 text. */
export type Tree = ReadonlyMap<string, Facts>;

/** Put into the root of a converted layer by the format; no part of the image's own tree. */
const FORMAT_FILES = new Set(['stargz.index.json', '.prefetch.landmark', '.no.prefetch.landmark']);

const KIND = new Map([[0o010000, 'fifo'], [0o020000, 'char'], [0o040000, 'dir'], [0o060000, 'block'], [0o100000, 'file'], [0o120000, 'link'], [0o140000, 'socket']]);

/**
 * Reads a tree: type, mode, owners, whole seconds of mtime, device numbers, link targets, hard link groups, xattrs and
 * sha256 of every file. A time at or after `since` (ms) reads as `now`. Whoever serves a lazy mount may wait for this process to take
 * what it prints: such mounts are read by a process of its own, `treeOf`.
 */
export async function readTree(root: string, since: number): Promise<Tree> {
  const xattrs = await readXattrs(root);
  const found: { path: string; stats: Stats }[] = [];
  const visit = (path: string): void => {
    const full = Buffer.concat([Buffer.from(root), Buffer.from(path === '' ? '' : `/${path}`, 'latin1')]);
    const stats = lstatSync(full);
    found.push({ path, stats });
    if (!stats.isDirectory()) return;
    for (const name of readdirSync(full, { encoding: 'buffer' })) {
      const text = name.toString('latin1');
      if (path === '' && FORMAT_FILES.has(text)) continue;
      visit(path === '' ? text : `${path}/${text}`);
    }
  };
  visit('');
  found.sort((a, b) => (a.path < b.path ? -1 : 1));
  const inodes = new Map<string, string>();
  const tree = new Map<string, Facts>();
  const seconds = (ms: number, whole: (seconds: number) => number): string => (ms >= since ? 'now' : String(whole(ms / 1000)));
  for (const { path, stats } of found) {
    const full = Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, 'latin1')]);
    const kind = KIND.get(stats.mode & 0o170000) ?? 'unknown';
    // Inode numbers of some FUSE servers use all 64 bits.
    const inode = `${stats.dev}:${lstatSync(full, { bigint: true }).ino}`;
    const first = kind === 'dir' ? undefined : inodes.get(inode);
    if (kind !== 'dir' && first === undefined) inodes.set(inode, path);
    const facts = [
      kind,
      (stats.mode & 0o7777).toString(8).padStart(4, '0'),
      `${stats.uid}:${stats.gid}`,
      kind === 'char' || kind === 'block' ? `rdev=${stats.rdev}` : '',
      kind === 'link' ? `-> ${readlinkSync(full, 'buffer').toString('latin1')}` : '',
      first === undefined ? '' : `= ${first}`,
      xattrs.get(path) ?? '',
      kind === 'file' && first === undefined ? `${stats.size} ${hashFile(full)}` : '',
    ];
    tree.set(path, { line: facts.filter((fact) => fact !== '').join(' '), time: seconds(stats.mtimeMs, Math.floor), nearest: seconds(stats.mtimeMs, Math.round) });
  }
  return tree;
}

/** A tree with its times as eStargz's index has them. */
export function withRoundedTimes(tree: Tree): Tree {
  return new Map([...tree].map(([path, facts]) => [path, { ...facts, time: facts.nearest }]));
}

const piece = Buffer.alloc(1 << 20);

/** Without giving way: most files are small, and streams of their own take longer than reading them. */
export function hashFile(path: Buffer): string {
  const hash = createHash('sha256');
  const file = openSync(path, 'r');
  try {
    for (let got = readSync(file, piece); got > 0; got = readSync(file, piece)) hash.update(piece.subarray(0, got));
  } finally {
    closeSync(file);
  }
  return hash.digest('hex');
}

/** xattrs of a whole tree with one run of getfattr. The kernel's own bookkeeping is left out; a file system may have none at all. */
async function readXattrs(root: string): Promise<ReadonlyMap<string, string>> {
  const ran = await run('getfattr', ['-R', '-h', '-P', '-d', '-m', '-', '-e', 'hex', '--absolute-names', '.'], { cwd: root });
  const complaints = ran.stderr.split('\n').filter((line) => line !== '' && !line.endsWith(': Operation not supported'));
  if (complaints.length > 0 || (ran.code !== 0 && ran.stderr === '')) throw new Error(`getfattr: status ${ran.code ?? ran.signal}\n${complaints.join('\n').slice(0, 2000)}`);
  const all = new Map<string, string>();
  for (const block of ran.stdout.toString('latin1').split('\n\n')) {
    const [first = '', ...lines] = block.split('\n');
    const named = /^# file: \.\/?(.*)$/.exec(first);
    if (!named) continue;
    // getfattr writes bytes it does not like, `=` and `\` among them, as \ooo.
    const path = (named[1] ?? '').replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    const kept = lines.filter((line) => line.includes('=') && !/^(trusted\.overlay\.|security\.selinux|system\.)/.test(line));
    if (kept.length > 0) all.set(path, kept.sort().join(' '));
  }
  return all;
}

/** What Go prints for no time: how the stargz snapshotter shows a directory that has no entry of its own. */
const YEAR_ONE = '-62135596800';

/**
 * What differs, one line each, at most twenty. `lazy`: the second tree is a lazy mount, which makes up times for
 * directories without an entry of their own, as the first one's unpacker did.
 */
export function compareTrees(wanted: Tree, got: Tree, lazy = false): readonly string[] {
  const differences: string[] = [];
  const shown = ({ line, time }: Facts): string => `${line} at ${time}`;
  for (const [path, facts] of wanted) {
    const other = got.get(path);
    const madeUp = lazy && facts.line.startsWith('dir ') && (facts.time === 'now' || other?.time === YEAR_ONE);
    if (other === undefined) differences.push(`missing: /${path} (${shown(facts)})`);
    else if (other.line !== facts.line || (other.time !== facts.time && !madeUp)) differences.push(`/${path}: wanted ${shown(facts)}, got ${shown(other)}`);
  }
  for (const [path, facts] of got) if (!wanted.has(path)) differences.push(`not in the source: /${path} (${shown(facts)})`);
  return differences.slice(0, 20);
}
