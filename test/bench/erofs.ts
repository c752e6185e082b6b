import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Attributes, DirectoryNode } from '../../src/core/types.ts';
import { FileSource } from '../../src/core/source.ts';
import { mapRuns } from '../../src/erofs/place.ts';
import { planErofs } from '../../src/erofs/plan.ts';
import { openErofs } from '../../src/erofs/read.ts';
import { writeErofs } from '../../src/erofs/write.ts';
import { NO_XATTRS } from '../../src/layer/nodes.ts';
import { mergeLayers } from '../../src/layer/overlay.ts';
import { TreeBuilder } from '../../src/layer/tree.ts';
import { findTool } from '../support/peers.ts';
import { measure } from './measure.ts';

const BLOCK = 4096;
const FILES_PER_DIRECTORY = 12;
const LAYERS = 8;
/** As bin/lazypull.ts has it. */
const YOUNG = '--semi-space-growth-factor=1';
/** Of a thousand files of the upper layers, so many take the place of one further down, and as many hide one. */
const REPLACED = 10;

interface Figures {
  readonly inodes: number;
  readonly bytes: number;
  readonly bytesOfNames: number;
  readonly bytesPerInodeBeyondNames: number;
  readonly seconds: Readonly<Record<'trees' | 'merge' | 'plan' | 'write', number>>;
  /** MB (1e6 bytes): peaks of the process so far, loading its code included. */
  readonly rss: Readonly<Record<'start' | 'trees' | 'merged' | 'planned' | 'written', number>>;
  readonly sha256: string;
}

interface ReadFigures {
  readonly seconds: number;
  /** MB, peak. */
  readonly rss: number;
}

interface Synthetic {
  /** Lowest first. */
  readonly layers: readonly DirectoryNode[];
  /** Bytes of each layer's device. */
  readonly sizes: readonly number[];
}

/** Path of a file: a dozen to a directory, names as in packages. */
export function pathOf(file: number): string {
  const part = Math.floor(file / FILES_PER_DIRECTORY);
  return `usr/lib${Math.floor(part / 400)}/package${Math.floor(part / 20) % 20}/part-${part % 20}/module_${(file * 31).toString(36)}.py`;
}

/** Layers of an image as they usually are: each brings files of its own, one chunk of content each, and upper ones replace and hide some. */
function syntheticLayers(files: number, layers: number): Synthetic {
  const trees = Array.from({ length: layers }, () => new TreeBuilder());
  const sizes = trees.map(() => 0);
  const attributes = (i: number): Attributes => ({ mode: 0o644, uid: 0, gid: 0, mtime: { seconds: 1_700_000_000 + (i % 100_000), nanoseconds: 0 }, xattrs: NO_XATTRS });
  const add = (layer: number, path: string, i: number): void => {
    const tree = trees[layer] as TreeBuilder;
    const size = 1 + ((i * 7919) % 60_000);
    const offset = sizes[layer] as number;
    const chunk = { blob: layer, offset, length: size, size };
    tree.add(path, tree.make.file(attributes(i), size, [{ fileOffset: 0, length: size, chunk, chunkOffset: 0 }]));
    sizes[layer] = offset + Math.ceil(size / BLOCK) * BLOCK;
  };
  for (let i = 0; i < files; i += 1) {
    const layer = Math.floor((i * layers) / files);
    const path = pathOf(i);
    if (i % FILES_PER_DIRECTORY === 0) (trees[layer] as TreeBuilder).add(path.slice(0, path.lastIndexOf('/')), { ...attributes(i), type: 'directory', mode: 0o755 });
    add(layer, path, i);
    if (layer === 0 || i % 1000 >= 2 * REPLACED) continue;
    const below = pathOf(i % Math.floor(files / layers));
    if (i % 2 === 0) add(layer, below, i);
    else (trees[layer] as TreeBuilder).add(below.replace(/[^/]*$/, '.wh.$&'), (trees[layer] as TreeBuilder).make.file(attributes(i), 0, []));
  }
  return { layers: trees.map((tree) => tree.finish()), sizes };
}

/** MB (1e6 bytes). */
function peakRss(): number {
  return Math.round((process.resourceUsage().maxRSS * 1024) / 1e6);
}

/** One run in a process of its own, so that memory can be told. */
async function writeAlone(files: number, path: string): Promise<Figures> {
  const times: number[] = [performance.now()];
  const peaks: number[] = [peakRss()];
  const lap = (): void => {
    times.push(performance.now());
    peaks.push(peakRss());
  };
  const { layers, sizes } = syntheticLayers(files, LAYERS);
  lap();
  const root = mergeLayers(layers);
  lap();
  const devices = sizes.map((size, i) => ({ tag: `layer ${i}`, size }));
  const plan = planErofs(root, { devices, place: ({ extents }) => mapRuns(extents.map(({ length, chunk }) => ({ length, device: chunk.blob + 1, offset: chunk.offset })), BLOCK) });
  lap();
  const file = await open(path, 'w');
  try {
    await writeErofs(plan, async (bytes) => void (await file.write(bytes)));
  } finally {
    await file.close();
  }
  lap();
  const hash = createHash('sha256');
  const source = new FileSource(path, plan.size);
  for (let at = 0; at < plan.size; at += 1 << 20) hash.update(await source.read(at, Math.min(1 << 20, plan.size - at)));
  await source.close();
  let bytesOfNames = 0;
  const { nameSizes, inodes } = plan.inventory;
  for (let i = 0; i < nameSizes.length; i += 1) bytesOfNames += nameSizes[i] as number;
  const seconds = (i: number): number => Math.round((times[i + 1] as number) - (times[i] as number)) / 1000;
  return {
    inodes,
    bytes: plan.size,
    bytesOfNames,
    bytesPerInodeBeyondNames: Math.round(((plan.size - bytesOfNames) / inodes) * 10) / 10,
    seconds: { trees: seconds(0), merge: seconds(1), plan: seconds(2), write: seconds(3) },
    rss: { start: peaks[0] as number, trees: peaks[1] as number, merged: peaks[2] as number, planned: peaks[3] as number, written: peaks[4] as number },
    sha256: hash.digest('hex'),
  };
}

/** The same for reading an image's tree back. */
async function readAlone(path: string): Promise<ReadFigures> {
  const source = new FileSource(path, statSync(path).size);
  const start = performance.now();
  await openErofs(source);
  const seconds = Math.round(performance.now() - start) / 1000;
  await source.close();
  return { seconds, rss: peakRss() };
}

function runAlone(...args: readonly string[]): unknown {
  const ran = spawnSync(process.execPath, [YOUNG, fileURLToPath(import.meta.url), ...args], { encoding: 'utf8', maxBuffer: 1 << 20 });
  if (ran.status !== 0) throw new Error(ran.stderr);
  return JSON.parse(ran.stdout) as unknown;
}

/**
 * Metadata of 60 000 and of 1 000 000 synthetic files in eight layers: trees in memory, merged, to one image on disk and back,
 * each in a process of its own; and mkfs.erofs (--chunksize, --blobdev) on 60 000 such files unpacked, sparse, so that little but metadata counts.
 */
export async function benchErofs(): Promise<object> {
  const work = mkdtempSync(join(tmpdir(), 'lazypull-bench-'));
  try {
    const ours = Object.fromEntries([60_000, 1_000_000].map((files) => {
      const path = join(work, `${files}.erofs`);
      return [files, { written: runAlone('write', path, String(files)), read: runAlone('read', path) }];
    }));
    return { scenario: 'erofs', isolates: 'trees of layers in memory, merged, to an image file, and back', blockSize: BLOCK, filesPerDirectory: FILES_PER_DIRECTORY, layers: LAYERS, ours, rafs: { 60_000: await (await import('./rafs.ts')).benchBootstrap(60_000) }, mkfs: await benchMkfs(work) };
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
  unpack(syntheticLayers(60_000, 1).layers[0] as DirectoryNode, folder);
  const image = join(work, 'mkfs.erofs');
  const cost = await measure('mkfs.erofs', ['--quiet', '--chunksize=1048576', `--blobdev=${join(work, 'blob')}`, image, folder]);
  return { files: 60_000, bytes: statSync(image).size, ...cost };
}

// Started as a script: one run.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [what, path = '', files] = process.argv.slice(2);
  process.stdout.write(JSON.stringify(what === 'read' ? await readAlone(path) : await writeAlone(Number(files), path)));
}
