import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { MemorySource } from '../../../src/core/source.ts';
import type { DirectoryNode, RegularNode } from '../../../src/core/types.ts';
import { openErofs } from '../../../src/erofs/read.ts';
import { streamErofsFile } from '../../../src/erofs/read-content.ts';
import { collect } from '../../../src/core/stream.ts';
import { compareTrees } from '../../../src/layer/compare.ts';
import { mergeLayers } from '../../../src/layer/overlay.ts';
import { walk } from '../../../src/layer/walk.ts';
import { mountIndex } from '../../../formats/mount-index/index.ts';
import { gzipLayer, plainLayer, tarOf, type Entry } from '../../image/fixture.ts';
import { noise } from '../../support/noise.ts';
import { archive, GNU, gnuSparseTail, padded, paxHeader, rawEntry } from '../../support/tar-blocks.ts';
import { indexed, layerOf } from './indexed.ts';

const LOWER: readonly Entry[] = [
  { path: 'etc/' }, { path: 'etc/keep', content: 'kept' }, { path: 'etc/gone', content: 'gone' }, { path: 'opt/' }, { path: 'opt/old', content: 'old' },
  { path: 'bin/' }, { path: 'bin/tool', content: noise(90_000) }, { path: 'bin/again', type: 'hardlink', linkName: 'bin/tool' },
];
const UPPER: readonly Entry[] = [
  { path: 'etc/.wh.gone', content: '' }, { path: 'opt/', mode: 0o700 }, { path: 'opt/.wh..wh..opq', content: '' }, { path: 'opt/new', content: noise(70_000, 2) },
  { path: 'bin/again', content: 'a file of its own now' }, { path: 'usr/lib/x', content: 'x' }, { path: 'l', type: 'symlink', linkName: 'usr/lib' }, { path: 'usr/lib/y', type: 'hardlink', linkName: 'usr/lib/x' },
];

/** The merged tree, its files read from the plain tars that its devices are. */
async function show(metadata: Uint8Array, tars: readonly Uint8Array[]): Promise<{ root: DirectoryNode; contents: Map<string, Buffer> }> {
  const { root, problems } = await openErofs(new MemorySource(metadata));
  assert.deepEqual(problems, []);
  const sources = [new MemorySource(metadata), ...tars.map((tar) => new MemorySource(Buffer.concat([tar, new Uint8Array(512)])))];
  const contents = new Map<string, Buffer>();
  for (const { path, node } of walk(root)) if (node.type === 'file') contents.set(path, Buffer.from(await collect(streamErofsFile(node, sources), 1 << 24)));
  return { root, contents };
}

describe('mount index: the merged tree', () => {
  it('shows what the layers show over each other, with every file at its place in a tar', async () => {
    const layers = [gzipLayer(LOWER), plainLayer(UPPER)];
    const { stored, image } = await indexed(layers);
    const premade = await mountIndex.premade?.(stored);
    assert.ok(premade);
    assert.deepEqual(premade.layers, [0, 1]);
    const opened = await Promise.all(image.layers.map((layer) => layer.open()));
    assert.deepEqual(premade.vouches, opened.map(({ vouch }) => vouch));
    const { root, contents } = await show(premade.metadata, [tarOf(LOWER), tarOf(UPPER)]);
    const merged = mergeLayers(opened.map(({ index }) => index.root));
    assert.deepEqual([...compareTrees(merged, root)].filter(({ kind }) => kind !== 'implied'), []);
    assert.deepEqual([...contents.keys()].sort(), ['bin/again', 'bin/tool', 'etc/keep', 'opt/new', 'usr/lib/x', 'usr/lib/y']);
    for (const [path, bytes] of contents) assert.ok(bytes.equals(await image.readFile(path)), path);
  });

  it('has one device for a layer that is in the image twice', async () => {
    const base = gzipLayer(LOWER);
    const { stored } = await indexed([base, gzipLayer([{ path: 'etc/.wh.keep', content: '' }]), base]);
    const premade = await mountIndex.premade?.(stored);
    assert.deepEqual(premade?.layers, [0, 1]);
    assert.ok((await show(premade?.metadata ?? new Uint8Array(0), [tarOf(LOWER), new Uint8Array(0)])).contents.has('etc/keep'));
  });

  it('has sparse files whose content begins at blocks', async () => {
    const data = noise(2048);
    const tar = archive(rawEntry({ name: 'sparse', typeflag: 'S', magic: GNU, tail: gnuSparseTail([[1024, 512], [8192, 1536]], 20_000) }, data));
    const { stored } = await indexed([layerOf(gzipSync(tar), tar)]);
    const premade = await mountIndex.premade?.(stored);
    const wanted = Buffer.alloc(20_000);
    wanted.set(data.subarray(0, 512), 1024);
    wanted.set(data.subarray(512), 8192);
    const { contents } = await show(premade?.metadata ?? new Uint8Array(0), [tar]);
    assert.ok(contents.get('sparse')?.equals(wanted));
  });

  it('is left out, and that is told, when a sparse file is torn inside a block', async () => {
    const tar = archive(paxHeader([['GNU.sparse.major', '1'], ['GNU.sparse.minor', '0'], ['GNU.sparse.name', 'torn'], ['GNU.sparse.realsize', '3000']]), rawEntry({ name: 'GNUSparseFile.0/torn' }, Buffer.concat([padded('2\n100\n50\n2000\n50\n'), noise(100)])));
    const { stored, report, image } = await indexed([layerOf(gzipSync(tar), tar)]);
    assert.match(report.warnings.join('\n'), /without the merged tree.*block/);
    assert.equal(await mountIndex.premade?.(stored), undefined);
    assert.equal((await image.readFile('torn')).length, 3000);
  });

  it('is made only of what EROFS has room for, and layers are read all the same', async () => {
    const entries: Entry[] = [{ path: 'device', type: 'char', major: 5000, minor: 1 }, { path: 'a', content: 'a' }];
    const { stored, report, image } = await indexed([gzipLayer(entries)]);
    assert.match(report.warnings.join('\n'), /without the merged tree.*5000:1/);
    assert.equal(await mountIndex.premade?.(stored), undefined);
    assert.equal((await image.readFile('a')).length, 1);
  });

  it('costs two small reads, and reading a file then two more', async () => {
    const big: Entry[] = Array.from({ length: 300 }, (_, i) => ({ path: `d${i % 7}/f${i}`, content: noise(10_000, i) }));
    const { stored, image } = await indexed([gzipLayer(big)]);
    await mountIndex.premade?.(stored);
    const before = image.stats();
    assert.equal(before.requests, 1, 'the manifest is not counted');
    assert.ok(before.bytes < 20_000, `${before.bytes} bytes`);
    const [layer] = image.layers;
    const content = await layer?.openContent();
    assert.equal(content?.index.root.children.size, 0);
    assert.equal(image.stats().requests, before.requests + 1);
    const node = (await layer?.open())?.index.root.children.get('d3') as DirectoryNode | undefined;
    const file = node?.children.get('f3') as RegularNode;
    assert.equal(image.stats().requests, before.requests + 2, 'the tree alone');
    const opened = image.stats();
    assert.ok(Buffer.from(noise(10_000, 3)).equals(await image.readFile('d3/f3')));
    const { requests, bytes } = image.stats();
    assert.ok(requests - opened.requests <= 2, 'a window and a piece');
    assert.ok(bytes - opened.bytes < 150_000, `${bytes - opened.bytes} bytes`);
    assert.equal(file.size, 10_000);
  });
});
