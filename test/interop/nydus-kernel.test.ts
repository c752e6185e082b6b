import assert from 'node:assert/strict';
import { closeSync, ftruncateSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { OpenLayer } from '../../src/core/types.ts';
import { openImage } from '../../src/image/open.ts';
import { ChunkLoader } from '../../src/layer/chunks.ts';
import { ChunkCache } from '../../src/layer/cache.ts';
import { openLocation } from '../../src/oci/location.ts';
import { nydus } from '../../formats/nydus/index.ts';
import { RafsChunk } from '../../formats/nydus/read-chunks.ts';
import { lazypull, type SourceImage } from '../support/peers-cli.ts';
import { compareTrees, readTree } from '../support/peers-trees.ts';
import { findTool, haveRoot, haveTools, must, scratch } from '../support/peers.ts';
import { haveErofs, mountErofs } from './erofs-mount.ts';
import { unpackBootstrap } from './nydus-images.ts';
import { unpackedTree } from './shared-images.ts';
import { layoutManifest } from './steps.ts';
import { imageNamed } from './torture-layers.ts';

// A RAFS v6 bootstrap is an EROFS image, and a blob's uncompressed address space a device of it: the kernel mounts the two without
// any of Nydus' software. It takes no notice of what RAFS has beyond EROFS (compat bit, second superblock, tables, the upper bits of
// chunk indexes); those are for nydus.test.ts.

interface Bootstrap {
  readonly path: string;
  /** Ids of its devices, in order. */
  readonly blobs: readonly string[];
}

/** Takes the bootstrap out of an image; its device table is read by offsets alone. */
function bootstrapOf(t: TestContext, folder: string): Bootstrap {
  const layer = layoutManifest(folder, 'nydus').layers.at(-1);
  assert.ok(layer);
  const bytes = unpackBootstrap(readFileSync(join(folder, 'blobs', 'sha256', layer.digest.slice(7)))).get('image/image.boot');
  assert.ok(bytes);
  const path = join(scratch(t), 'image.boot');
  writeFileSync(path, bytes);
  const count = bytes.readUInt16LE(1024 + 0x56);
  assert.equal(bytes.readUInt16LE(1024 + 0x58), 11);
  return { path, blobs: Array.from({ length: count }, (_, i) => bytes.toString('latin1', 1408 + i * 128, 1408 + i * 128 + 64)) };
}

/** What nydusd's cache holds when all of an image was read: every chunk of a blob, inflated, at its address. */
async function spreadOut(t: TestContext, folder: string, { blobs }: Bootstrap): Promise<readonly string[]> {
  const place = await openLocation(`oci:${folder}:nydus`);
  try {
    const image = await openImage(place, [nydus]);
    const open = (await image.layers.at(-1)?.open()) as OpenLayer;
    const loader = new ChunkLoader(open, {}, new ChunkCache(1 << 26));
    const work = scratch(t);
    const paths = blobs.map((id) => join(work, id));
    const files = paths.map((path) => openSync(path, 'w'));
    for (const chunk of open.index.chunks) {
      assert.ok(chunk instanceof RafsChunk);
      const bytes = (await loader.load([chunk])).get(chunk);
      assert.ok(bytes);
      writeSync(files[chunk.blob] as number, bytes, 0, bytes.length, chunk.address);
    }
    for (const [i, file] of files.entries()) {
      ftruncateSync(file, Math.ceil(statSync(paths[i] as string).size / 4096) * 4096);
      closeSync(file);
    }
    return paths;
  } finally {
    await place.store.close();
  }
}

/** Ways to write an image, and where its devices then come from: the blobs themselves, or what is in them. */
const VARIANTS: readonly { readonly about: string; readonly flags: readonly string[]; readonly images: readonly string[]; readonly blobs?: boolean }[] = [
  { about: 'the blobs themselves as devices', flags: ['--compressor', 'none', '--aligned'], images: ['tiny', 'torture', 'debian', 'python', 'torch'], blobs: true },
  { about: 'the blobs themselves as devices, chunks of 4K', flags: ['--compressor', 'none', '--aligned', '--chunk-size', '4K'], images: ['torture'], blobs: true },
  { about: 'default options', flags: [], images: ['torture'] },
  { about: 'lz4, chunks of 64K', flags: ['--compressor', 'lz4', '--chunk-size', '64K'], images: ['torture'] },
  { about: 'batches', flags: ['--batch-size', '128K'], images: ['torture'] },
  { about: 'chunks of 16M', flags: ['--chunk-size', '16M'], images: ['torture'] },
  { about: 'gzip layers as they are', flags: ['--format', 'nydus-zran'], images: ['torture'] },
];

for (const { about, flags, images, blobs = false } of VARIANTS) {
  for (const name of images) {
    test(`the kernel mounts our Nydus images and shows what umoci unpacks: ${about}: ${name}`, async (t) => {
      if (!haveRoot(t) || !haveTools(t, 'umoci', 'skopeo', 'getfattr', 'umount') || !(await haveErofs(t))) return;
      const image = imageNamed(t, name);
      if (image) await mountOurs(t, image, flags, blobs);
    });
  }
}

async function mountOurs(t: TestContext, image: SourceImage, flags: readonly string[], blobs: boolean): Promise<void> {
  const since = Date.now() - 1000;
  const wanted = await unpackedTree(image);
  const folder = join(scratch(t), 'converted');
  const format = flags.includes('--format') ? [] : ['--format', 'nydus'];
  await lazypull(['convert', `oci:${image.layout}:${image.tag}`, `oci:${folder}:nydus`, ...format, ...flags, '--platform', 'linux/amd64'], { timeout: 600_000 });
  const bootstrap = bootstrapOf(t, folder);
  assert.ok(bootstrap.blobs.length > 0);
  const devices = blobs ? bootstrap.blobs.map((id) => join(folder, 'blobs', 'sha256', id)) : await spreadOut(t, folder, bootstrap);
  // 1.5 looks at every inode, and with --extract reads all content; of what is RAFS' own it knows nothing.
  if (findTool('fsck.erofs')) {
    const checked = await must('fsck.erofs', ['-d3', ...devices.map((path) => `--device=${path}`), '--extract', bootstrap.path]);
    assert.match(checked.text + checked.stderr, /No errors found/);
  }
  const at = join(scratch(t), 'mounted');
  if (!(await mountErofs(t, bootstrap.path, devices, at, 4096))) return;
  assert.deepEqual(compareTrees(wanted, await readTree(at, since), true), []);
  t.diagnostic(`${image.name}: ${wanted.size} names compared, bootstrap of ${statSync(bootstrap.path).size} bytes, ${devices.length} devices`);
}
