import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DirectoryNode, FileNode } from '../../src/core/types.ts';
import { FileSource } from '../../src/core/source.ts';
import { mapRuns } from '../../src/erofs/place.ts';
import { planErofs } from '../../src/erofs/plan.ts';
import { openErofs } from '../../src/erofs/read.ts';
import { writeErofs } from '../../src/erofs/write.ts';
import { findTool } from '../support/peers.ts';
import { measure } from './measure.ts';

const BLOCK = 4096;
const FILES_PER_DIRECTORY = 12;

interface Figures {
  readonly inodes: number;
  readonly bytes: number;
  readonly bytesOfNames: number;
  readonly bytesPerInodeBeyondNames: number;
  readonly seconds: Readonly<Record<'tree' | 'plan' | 'write' | 'read', number>>;
  /** MB (1e6 bytes): of the process with the finished tree, and its peak up to the written image. */
  readonly rss: Readonly<Record<'tree' | 'written', number>>;
  readonly sha256: string;
}

/** Files of an image as they usually are: a dozen to a directory, names of a package's files, one chunk of content each. */
function syntheticTree(files: number): { readonly root: DirectoryNode; readonly size: number } {
  const attributes = (i: number): Omit<FileNode, 'type'> => ({ mode: 0o644, uid: 0, gid: 0, mtime: { seconds: 1_700_000_000 + (i % 100_000), nanoseconds: 0 }, xattrs: NO_XATTRS });
  const NO_XATTRS = new Map<string, Uint8Array>();
  const root: DirectoryNode = { ...attributes(0), type: 'directory', mode: 0o755, children: new Map() };
  let offset = 0;
  let directory = root;
  for (let i = 0; i < files; i += 1) {
    if (i % FILES_PER_DIRECTORY === 0) {
      const number = Math.floor(i / FILES_PER_DIRECTORY);
      const path = ['usr', `lib${Math.floor(number / 400)}`, `package${Math.floor(number / 20) % 20}`, `part-${number % 20}`];
      directory = path.reduce((at, name) => {
        const known = at.children.get(name);
        if (known?.type === 'directory') return known;
        const made: DirectoryNode = { ...attributes(i), type: 'directory', mode: 0o755, children: new Map() };
        at.children.set(name, made);
        return made;
      }, root);
    }
    const size = 1 + ((i * 7919) % 60_000);
    const chunk = { blob: 0, offset, length: size, size };
    directory.children.set(`module_${(i * 31).toString(36)}.py`, { ...attributes(i), type: 'file', size, extents: [{ fileOffset: 0, length: size, chunk, chunkOffset: 0 }] });
    offset += Math.ceil(size / BLOCK) * BLOCK;
  }
  return { root, size: offset };
}

/** One run in a process of its own, so that memory can be told. */
async function runAlone(files: number, path: string): Promise<Figures> {
  const times: number[] = [performance.now()];
  const lap = (): void => void times.push(performance.now());
  const { root, size } = syntheticTree(files);
  lap();
  const treeRss = process.memoryUsage.rss();
  const plan = planErofs(root, { devices: [{ tag: 'data', size }], place: ({ extents }) => mapRuns(extents.map(({ length, chunk }) => ({ length, device: 1, offset: chunk.offset })), BLOCK) });
  lap();
  const file = await open(path, 'w');
  try {
    await writeErofs(plan, async (bytes) => void (await file.write(bytes)));
  } finally {
    await file.close();
  }
  lap();
  const peak = process.resourceUsage().maxRSS * 1024;
  const source = new FileSource(path, plan.size);
  lap();
  await openErofs(source);
  lap();
  const hash = createHash('sha256');
  for (let at = 0; at < plan.size; at += 1 << 20) hash.update(await source.read(at, Math.min(1 << 20, plan.size - at)));
  await source.close();
  let bytesOfNames = 0;
  const { nameSizes, inodes } = plan.inventory;
  for (let i = 0; i < nameSizes.length; i += 1) bytesOfNames += nameSizes.at(i);
  const seconds = (i: number): number => Math.round((times[i + 1] as number) - (times[i] as number)) / 1000;
  return {
    inodes,
    bytes: plan.size,
    bytesOfNames,
    bytesPerInodeBeyondNames: Math.round(((plan.size - bytesOfNames) / inodes) * 10) / 10,
    seconds: { tree: seconds(0), plan: seconds(1), write: seconds(2), read: seconds(4) },
    rss: { tree: Math.round(treeRss / 1e6), written: Math.round(peak / 1e6) },
    sha256: hash.digest('hex'),
  };
}

/**
 * Metadata of 60 000 and of 1 000 000 synthetic files, from a tree in memory to an image on disk and back, each in a process of
 * its own; and mkfs.erofs (--chunksize, --blobdev) on 60 000 such files unpacked, sparse, so that little but metadata counts.
 */
export async function benchErofs(): Promise<object> {
  const work = mkdtempSync(join(tmpdir(), 'lazypull-bench-'));
  try {
    const script = fileURLToPath(import.meta.url);
    const ours = Object.fromEntries([60_000, 1_000_000].map((files) => {
      const ran = spawnSync(process.execPath, ['--max-old-space-size=6000', script, String(files), join(work, `${files}.erofs`)], { encoding: 'utf8', maxBuffer: 1 << 20 });
      if (ran.status !== 0) throw new Error(ran.stderr);
      return [files, JSON.parse(ran.stdout) as Figures];
    }));
    return { scenario: 'erofs', isolates: 'tree in memory to image file, and back', blockSize: BLOCK, filesPerDirectory: FILES_PER_DIRECTORY, ours, mkfs: await benchMkfs(work) };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function benchMkfs(work: string): Promise<object> {
  if (!findTool('mkfs.erofs') || !existsSync('/usr/bin/time')) return { skipped: 'mkfs.erofs or /usr/bin/time is not installed' };
  const folder = join(work, 'unpacked');
  const unpack = (node: DirectoryNode, at: string): void => {
    mkdirSync(at);
    for (const [name, child] of node.children) {
      const path = join(at, name);
      if (child.type === 'directory') unpack(child, path);
      else if (child.type === 'file') {
        writeFileSync(path, '');
        truncateSync(path, child.size);
        utimesSync(path, child.mtime.seconds, child.mtime.seconds);
      }
    }
  };
  unpack(syntheticTree(60_000).root, folder);
  const image = join(work, 'mkfs.erofs');
  const cost = await measure('mkfs.erofs', ['--quiet', '--chunksize=1048576', `--blobdev=${join(work, 'blob')}`, image, folder]);
  return { files: 60_000, bytes: statSync(image).size, ...cost };
}

// Started as a script: one run.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [files, path] = process.argv.slice(2);
  process.stdout.write(JSON.stringify(await runAlone(Number(files), path as string)));
}
