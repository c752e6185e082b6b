import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { digestOf } from '../../../src/core/digest.ts';
import { MemorySource } from '../../../src/core/source.ts';
import { collect } from '../../../src/core/stream.ts';
import { CHUNK_ROW_SIZE, decodeChunkRow } from '../../../formats/nydus/bootstrap-layout.ts';
import { ANNOTATION, BLOB_MEDIA_TYPE } from '../../../formats/nydus/layout.ts';
import { readBootstrapLayer } from '../../../formats/nydus/read-bootstrap.ts';
import { readRafsHead } from '../../../formats/nydus/read-head.ts';
import { nydus } from '../../../formats/nydus/index.ts';
import { openNydus } from '../../../formats/nydus/read.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import type { StoredLayer } from '../../../src/core/format.ts';
import { nodeAt } from '../../../src/layer/tree.ts';
import { walk } from '../../../src/layer/walk.ts';
import { openErofs } from '../../../src/erofs/read.ts';
import type { OpenImage } from '../../../src/image/open.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { directory, file, hardlink, symlink } from '../../support/tar-corpus.ts';
import { noise } from '../../support/noise.ts';
import { tarInput } from '../../support/layers.ts';
import { TarReader } from '../../../src/tar/read.ts';
import { assertShows, convertTars, layersOf } from './images.ts';

const base = (): Uint8Array =>
  archive(entries(
    directory('etc/'), file('etc/hostname', 'lazy\n'), file('etc/shadow', 'secret', { mode: 0o600 }), directory('var/'), directory('var/cache/'), file('var/cache/old', noise(9000, 5)), file('usr/bin/tool', noise(50_000, 1)),
    hardlink('usr/bin/alias', 'usr/bin/tool'), symlink('bin', 'usr/bin'), directory('opt/'), file('opt/file', 'x'),
  ));
const upper = (): Uint8Array =>
  archive(entries(
    file('etc/.wh.shadow'), file('etc/hostname', 'changed\n'), directory('var/cache/', { mode: 0o700 }), file('var/cache/.wh..wh..opq'), file('var/cache/new', noise(100, 6)), file('opt', 'a file now'),
    file('usr/share/doc', noise(20_000, 2)), hardlink('usr/share/doc2', 'usr/share/doc'),
  ));

async function bootstrapOf(image: OpenImage): Promise<{ readonly bytes: Uint8Array; readonly metas: ReadonlyMap<string, Uint8Array> }> {
  const descriptor = layersOf(image).at(-1);
  assert.ok(descriptor);
  const { bootstrap, metas } = await readBootstrapLayer({ descriptor, source: image.place.store.open(descriptor) });
  return { bytes: bootstrap, metas };
}

test('whiteouts, opaque directories, other types and hard links: the merged tree', async () => {
  const { image } = await convertTars([base(), upper()]);
  await assertShows(image, [base(), upper()], 'two layers');
});

test('hard links across layers: one inode in the image, and none in the layer that has only the link', async () => {
  const tars = [base(), archive(entries(hardlink('usr/bin/third', 'usr/bin/tool'), hardlink('moved', 'etc/shadow'), file('etc/.wh.shadow'), file('own', noise(3000, 8)))), archive(entries(hardlink('fourth', 'bin/third')))];
  const { image, store } = await convertTars(tars);
  await assertShows(image, tars, 'across layers');
  const root = await image.tree();
  const names = ['usr/bin/tool', 'usr/bin/alias', 'usr/bin/third', 'fourth'].map((path) => nodeAt(root, path));
  assert.ok(names[0] && new Set(names).size === 1);
  const report = await verifyImage({ store, reference: 'lazy' }, [nydus], { against: { store, reference: 'plain' } });
  assert.deepEqual(report.problems, []);
  const second = image.layers[1]?.stored as StoredLayer;
  const alone = await openNydus({ descriptor: second.descriptor, source: second.source });
  assert.deepEqual([...walk(alone.index.root, { sorted: true })].map(({ path }) => path), ['', 'etc', 'etc/.wh.shadow', 'own', 'usr', 'usr/bin']);
});

test('the manifest: blobs and the bootstrap layer, diffIDs and history that fit them', async () => {
  const { image } = await convertTars([base(), upper()]);
  const layers = layersOf(image);
  assert.deepEqual(layers.map(({ mediaType }) => mediaType), [BLOB_MEDIA_TYPE, BLOB_MEDIA_TYPE, 'application/vnd.oci.image.layer.v1.tar+gzip']);
  assert.deepEqual(layers.map(({ annotations }) => annotations), [{ [ANNOTATION.blob]: 'true' }, { [ANNOTATION.blob]: 'true' }, { [ANNOTATION.bootstrap]: 'true', [ANNOTATION.fsVersion]: '6' }]);
  const boot = await collect(image.place.store.fetch(layers[2] as (typeof layers)[number]), 1 << 24);
  const tar = gunzipSync(boot);
  assert.deepEqual(image.config.rootfs.diff_ids, [layers[0]?.digest, layers[1]?.digest, digestOf(tar)]);
  const reader = new TarReader(tarInput(tar).tar());
  const found: string[] = [];
  for (let entry = await reader.next(); entry; entry = await reader.next()) {
    found.push(`${entry.path} ${entry.mode.toString(8)}`);
    assert.deepEqual([entry.uid, entry.gid, entry.mtime], [0, 0, { seconds: 0, nanoseconds: 0 }]);
  }
  assert.deepEqual(found, ['image/ 755', 'image/image.boot 444', ...layers.slice(0, 2).map(({ digest }) => `image/${digest.slice(7)}.blob.meta 444`).sort()]);
});

test('the bootstrap obeys the rules of loaders, and its tables agree with each other', async () => {
  const { image } = await convertTars([base(), upper()], { chunkSize: 4096 });
  const { bytes, metas } = await bootstrapOf(image);
  const head = await readRafsHead(new MemorySource(bytes));
  assert.deepEqual(head.problems, []);
  assert.equal(bytes.length % 4096, 0);
  assert.deepEqual(head.blobs.map(({ id }) => `sha256:${id}`), layersOf(image).slice(0, 2).map(({ digest }) => digest));
  const erofs = await openErofs(new MemorySource(bytes));
  assert.deepEqual(erofs.problems, []);
  assert.equal(erofs.superblock.rootNid, 128);
  for (const [i, { tag, blocks, address }] of erofs.devices.entries()) {
    assert.equal(tag, head.blobs[i]?.id);
    assert.equal(blocks * 4096, head.blobs[i]?.uncompressedSize);
    assert.ok(address % 128 === 0 && address * 4096 >= bytes.length);
  }
  const rows = Array.from({ length: head.chunkRows.length / CHUNK_ROW_SIZE }, (_, i) => decodeChunkRow(head.chunkRows.subarray(i * CHUNK_ROW_SIZE, (i + 1) * CHUNK_ROW_SIZE), 0));
  for (let i = 1; i < rows.length; i += 1) assert.ok(Buffer.compare(rows[i - 1]?.digest ?? Buffer.alloc(0), rows[i]?.digest ?? Buffer.alloc(0)) < 0, 'sorted, each once');
  for (const [i, entry] of head.blobs.entries()) {
    const meta = metas.get(entry.id);
    assert.equal(meta?.length, Math.ceil(entry.contextUncompressedSize / 4096) * 4096 + 4096);
    assert.ok(rows.some(({ blobIndex }) => blobIndex === i));
  }
});

test('prefetch: files of the list are first in the blob and in the table, in the order of the list', async () => {
  const tar = archive(entries(directory('a/'), file('a/cold', noise(30_000, 1)), file('a/hot', noise(30_000, 2)), directory('lib/'), file('lib/one', noise(30_000, 3)), file('lib/two', noise(5000, 4)), hardlink('link', 'a/cold2'), file('a/cold2', noise(5000, 5)), file('never', 'x')));
  const { image, report } = await convertTars([tar], { prefetch: ['link', 'lib', '/a/h*', 'missing'], compressor: 'none' });
  await assertShows(image, [tar], 'prefetch');
  const { bytes } = await bootstrapOf(image);
  const head = await readRafsHead(new MemorySource(bytes));
  const { nodes, root } = await openErofs(new MemorySource(bytes));
  const named = (path: string): unknown => path.split('/').reduce<unknown>((node, name) => (node as typeof root).children.get(name), root);
  assert.deepEqual(head.prefetchNids.map((nid) => nodes.get(nid)), [named('link'), named('lib'), named('a/hot')]);
  const blob = await collect(image.place.store.fetch(layersOf(image)[0] as never), 1 << 24);
  const first = Buffer.concat([noise(5000, 5), noise(30_000, 3), noise(5000, 4), noise(30_000, 2), noise(30_000, 1)]);
  assert.deepEqual(Buffer.from(blob.subarray(0, first.length)), first);
  assert.ok(report.warnings.some((text) => text.includes('"missing"')) && !report.warnings.some((text) => text.includes('"lib"')), report.warnings.join());
});

test('an image without any content is a bootstrap alone', async () => {
  const tars = [archive(entries(directory('etc/'), symlink('etc/to', 'x'), file('etc/empty')))];
  const { image } = await convertTars(tars);
  assert.equal(layersOf(image).length, 1);
  await assertShows(image, tars, 'no content');
  assert.deepEqual((await readRafsHead(new MemorySource((await bootstrapOf(image)).bytes))).blobs, []);
});

test('many small files: what the bootstrap takes for each', async () => {
  const tar = archive(entries(directory('d/'), ...Array.from({ length: 5000 }, (_, i) => file(`d/file-${String(i).padStart(6, '0')}`, `content ${i}`))));
  const { image } = await convertTars([tar]);
  const { bytes } = await bootstrapOf(image);
  const head = await readRafsHead(new MemorySource(bytes));
  const names = 5000 * 'file-000000'.length;
  // Head and tables begin on blocks of their own; the chunk table is for tools.
  const each = (bytes.length - (16 << 10) - names - head.chunkRows.length) / 5000;
  assert.ok(each <= 110, `${each} bytes`);
});

test('fsck.erofs takes the bootstrap, and finds content in blobs that are their own address space', async (t) => {
  if (spawnSync('fsck.erofs', ['-V']).error) {
    t.skip('fsck.erofs is not installed');
    return;
  }
  const folder = await mkdtemp(join(tmpdir(), 'lazypull-nydus-'));
  try {
    const tars = [base(), upper()];
    const { image } = await convertTars(tars, { compressor: 'none', aligned: true, chunkSize: 4096 });
    await writeFile(join(folder, 'image.boot'), (await bootstrapOf(image)).bytes);
    const devices: string[] = [];
    for (const [i, layer] of layersOf(image).slice(0, 2).entries()) {
      const path = join(folder, `blob-${i}`);
      await writeFile(path, await collect(image.place.store.fetch(layer), 1 << 24));
      devices.push(`--device=${path}`);
    }
    const out = join(folder, 'tree');
    const run = spawnSync('fsck.erofs', [...devices, `--extract=${out}`, '--no-preserve', join(folder, 'image.boot')], { encoding: 'utf8' });
    assert.equal(run.status, 0, run.stderr);
    for (const path of ['etc/hostname', 'usr/bin/tool', 'usr/bin/alias', 'var/cache/new', 'opt', 'usr/share/doc2']) {
      assert.deepEqual(await readFile(join(out, path)), Buffer.from(await image.readFile(`/${path}`)), path);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
