import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { linkSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, symlinkSync, truncateSync, utimesSync, writeFileSync, chmodSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { decodeName, encodeName } from '../../src/core/bytes.ts';
import { cleanPath } from '../../src/tar/path.ts';
import { archive, entries, type Item } from '../support/tar-blocks.ts';
import { tarCases } from '../support/tar-corpus.ts';
import { readTar } from '../support/tar-read.ts';

// Held against GNU tar: it writes trees that we read, and unpacks what we write.

interface Node {
  type: string;
  mode: number;
  /** Nanoseconds since the epoch. */
  mtime: bigint;
  content: string;
  /** First of the names that share its inode. */
  same?: string;
}

const found = spawnSync('tar', ['--version'], { encoding: 'utf8' });
const skip = found.status === 0 && found.stdout.includes('GNU tar') ? false : 'GNU tar is not here';

/** Archives that GNU tar does not read as meant. */
const NOT_READ: Readonly<Record<string, string>> = {
  noBytes: 'no bytes are no archive to it',
  paxGlobal: 'it applies global headers as POSIX says; containers do not see that',
  paxGlobalHoles: 'it does not take a sparse map from a global header',
  paxGlobalValues: 'it does not take values that are no numbers, also where containers do not see them',
  paxBeforeGlobal: 'it keeps the records in front of a global header; containers do not see them',
  paxGlobalAtEnd: 'it wants an entry behind a global header',
  paxEmptyValues: 'it takes no value for an invalid one',
  gnuWithPrefix: 'only Go knows of that prefix',
};

/** The tree below a folder, by names of `decodeName`; times of directories are left to tar's order of work. */
function treeOf(top: string): Map<string, Node> {
  const tree = new Map<string, Node>();
  const inodes = new Map<bigint, string>();
  const walk = (dir: Buffer, prefix: string): void => {
    const names = readdirSync(dir, { encoding: 'buffer' }).sort((a, b) => Buffer.compare(a, b));
    for (const name of names) {
      const full = Buffer.concat([dir, Buffer.from('/'), name]);
      const path = `${prefix}${decodeName(name)}`;
      const stat = lstatSync(full, { bigint: true });
      const type = stat.isDirectory() ? 'directory' : stat.isSymbolicLink() ? 'symlink' : stat.isFIFO() ? 'fifo' : 'file';
      const content = type === 'file' ? readFileSync(full).toString('latin1') : type === 'symlink' ? decodeName(readlinkSync(full, { encoding: 'buffer' })) : '';
      const node: Node = { type, mode: Number(stat.mode & 0o7777n), mtime: stat.mtimeNs, content };
      const first = inodes.get(stat.ino);
      if (first !== undefined) node.same = first;
      else if (type !== 'directory' && stat.nlink > 1n) inodes.set(stat.ino, path);
      tree.set(path, node);
      if (type === 'directory') walk(full, `${path}/`);
    }
  };
  walk(Buffer.from(top), '');
  return tree;
}

/** The tree that an archive describes, in the same terms. */
async function treeIn(bytes: Uint8Array, wholeSeconds: boolean): Promise<Map<string, Node>> {
  const tree = new Map<string, Node>();
  for (const { entry, body } of (await readTar(bytes)).entries) {
    const path = cleanPath(entry.path);
    if (path === '') continue;
    if (entry.type === 'hardlink') {
      const target = cleanPath(entry.linkName);
      tree.set(path, { ...(tree.get(target) as Node), same: target });
      continue;
    }
    const content = entry.type === 'file' ? Buffer.from(body).toString('latin1') : entry.linkName;
    if (wholeSeconds) assert.equal(entry.mtime.nanoseconds, 0);
    tree.set(path, { type: entry.type, mode: entry.mode, mtime: BigInt(entry.mtime.seconds) * 1_000_000_000n + BigInt(entry.mtime.nanoseconds), content });
  }
  return tree;
}

function comparable(tree: Map<string, Node>, wholeSeconds: boolean): [string, object][] {
  const floor = (time: bigint): bigint => (time - (((time % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n));
  return [...tree]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([path, { mtime, mode, ...rest }]) => [path, { ...rest, mode: rest.type === 'symlink' ? 0 : mode, mtime: rest.type === 'directory' ? '' : String(wholeSeconds ? floor(mtime) : mtime) }]);
}

function tar(...args: string[]): Buffer {
  const run = spawnSync('tar', args, { maxBuffer: 1 << 28, env: { ...process.env, LC_ALL: 'C', TAR_OPTIONS: '' } });
  assert.equal(run.status, 0, run.stderr.toString());
  return run.stdout;
}

describe('GNU tar', { skip }, () => {
  let dir = '';
  beforeEach(() => rmSync(join(dir, 'out'), { recursive: true, force: true }));
  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'lazypull-tar-'));
    const at = (...names: string[]): string => join(dir, ...names);
    mkdirSync(at('short', 'sub'), { recursive: true });
    writeFileSync(at('short', 'sub', 'file'), 'content\n');
    writeFileSync(at('short', 'empty'), '');
    writeFileSync(at('short', 'n'.repeat(90)), 'x'.repeat(100_000));
    linkSync(at('short', 'sub', 'file'), at('short', 'twice'));
    symlinkSync('sub/file', at('short', 'link'));
    chmodSync(at('short', 'empty'), 0o4711);
    utimesSync(at('short', 'empty'), 1_000_000_000, 1_000_000_000);
    mkdirSync(at('long', 'd'.repeat(120), 'e'.repeat(120)), { recursive: true });
    writeFileSync(at('long', 'd'.repeat(120), 'e'.repeat(120), 'f'.repeat(200)), 'deep');
    symlinkSync('l'.repeat(300), at('long', 'link'));
    linkSync(at('long', 'd'.repeat(120), 'e'.repeat(120), 'f'.repeat(200)), at('long', 'zz-deep'));
    writeFileSync(at('long', 'größe-文件'), 'utf-8');
    writeFileSync(Buffer.concat([Buffer.from(at('long', 'bytes-')), Buffer.of(0xff, 0xc3)]), 'no utf-8');
    utimesSync(at('long', 'größe-文件'), -5.5, -5.5);
    writeFileSync(at('long', 'sparse'), 'start');
    truncateSync(at('long', 'sparse'), 1_000_000);
    writeFileSync(at('long', 'sparse'), 'middle', { flag: 'a' });
    truncateSync(at('long', 'sparse'), 2_000_000);
    spawnSync('mkfifo', [at('long', 'pipe')]);
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  const formats: [string, string, string[]][] = [
    ['v7', 'short', ['--format=v7']],
    ['ustar', 'short', ['--format=ustar']],
    ['oldgnu', 'short', ['--format=oldgnu']],
    ['gnu', 'long', ['--format=gnu']],
    ['gnu, sparse', 'long', ['--format=gnu', '--sparse']],
    ['gnu, incremental times', 'short', ['--format=gnu', '--atime-preserve=system']],
    ['posix', 'long', ['--format=posix']],
    ...['0.0', '0.1', '1.0'].map((version): [string, string, string[]] => [`posix, sparse ${version}`, 'long', ['--format=posix', '--sparse', `--sparse-version=${version}`]]),
  ];
  for (const [name, tree, options] of formats) {
    it(`writes ${name}, and we read it`, async () => {
      const wholeSeconds = !name.startsWith('posix');
      const bytes = tar('-C', join(dir, tree), '--sort=name', ...options, '-cf', '-', '.');
      assert.deepEqual(comparable(await treeIn(bytes, wholeSeconds), wholeSeconds), comparable(treeOf(join(dir, tree)), wholeSeconds));
      const sparse = (await readTar(bytes)).entries.find(({ entry }) => entry.path === './sparse')?.entry;
      if (name.includes('sparse')) assert.ok(sparse?.sparse && sparse.storedSize < 100_000 && sparse.size === 2_000_000);
    });
  }

  it('unpacks what we write', async () => {
    const items: Item[] = [];
    const source = tar('-C', join(dir, 'long'), '--sort=name', '--format=posix', '-cf', '-', '.');
    for (const { entry, body } of (await readTar(source)).entries) items.push({ ...entry, body });
    writeFileSync(join(dir, 'ours.tar'), archive(entries(...items)));
    mkdirSync(join(dir, 'out'));
    tar('-C', join(dir, 'out'), '--no-same-owner', '-pxf', join(dir, 'ours.tar'));
    assert.deepEqual(comparable(treeOf(join(dir, 'out')), false), comparable(treeOf(join(dir, 'long')), false));
  });

  it('lists the names that we read', async () => {
    for (const { name, bytes, expected } of tarCases()) {
      if (expected !== 'ok' || name in NOT_READ) continue;
      writeFileSync(join(dir, 'case.tar'), bytes);
      const listed = tar('--quoting-style=literal', '--absolute-names', '-tf', join(dir, 'case.tar'));
      const ours = (await readTar(bytes)).entries.map(({ entry }) => Buffer.from(encodeName(entry.path)).toString('latin1'));
      assert.deepEqual(listed.toString('latin1').split('\n').slice(0, -1), ours, name);
    }
  });
});
