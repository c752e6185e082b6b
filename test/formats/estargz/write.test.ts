import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { digestOf } from '../../../src/core/digest.ts';
import { LazypullError, type ErrorCode } from '../../../src/core/errors.ts';
import type { LayerIndex, RegularNode } from '../../../src/core/types.ts';
import { estargz, type EstargzOptions } from '../../../formats/estargz/index.ts';
import { ANNOTATION, decodeFooter, decodeToc, type TocEntry } from '../../../formats/estargz/layout.ts';
import { convertTar, gzipInput, stored, tarInput } from '../../support/layers.ts';
import { noise } from '../../support/noise.ts';
import { root } from '../../support/root.ts';
import * as corpus from '../../support/tar-corpus.ts';
import { archive, entries } from '../../support/tar-blocks.ts';

const convert = (tar: Uint8Array, options: EstargzOptions = {}, jobs?: number) => convertTar(estargz, tar, options, jobs);

/** TOC records of a blob that carries its TOC. */
function tocOf(blob: Uint8Array): TocEntry[] {
  const footer = decodeFooter(blob);
  const tar = gunzipSync(blob.subarray(footer?.tocOffset, blob.length - 51));
  return decodeToc(tar.subarray(512, 512 + Number.parseInt(tar.toString('latin1', 124, 135), 8)));
}

const names = (toc: readonly TocEntry[]): string[] => toc.filter((entry) => entry.type !== 'chunk').map((entry) => entry.name);
const refuses = (code: ErrorCode, text: RegExp) => (error: unknown) => error instanceof LazypullError && error.code === code && text.test(error.message);

/** Words in no order: matches of all lengths and distances. */
const text = (size: number): Uint8Array => {
  const words = ['lazy', ' pull', 'layers\n', 'chunk by chunk ', 'the', '\0\0\0\0\0\0', 'members', ' of '];
  const order = noise(size / 2, 3);
  return Buffer.from(Array.from(order, (n) => words[n & 7] as string).join('')).subarray(0, size);
};

const minimalTar = (): Uint8Array => archive(entries({ path: 'hi.txt', type: 'file', mode: 0o644, uid: 0, gid: 0, mtime: { seconds: 1_700_000_000, nanoseconds: 0 }, body: 'hi\n' }));

test('the blob of the format notes is written byte for byte', async () => {
  const { blob, layer } = await convert(minimalTar(), { level: 0 });
  assert.equal(digestOf(blob), 'sha256:b1011a8edc1fb74171880efc797e3e0fad782347e45685f9246b6da30ed5a2d6');
  assert.equal(layer.diffId, 'sha256:fe4b73c452a46b0eb7a1e40db366097160a9d498e75518897b74ea2a16e6c15c');
  assert.equal(layer.tarSize, 4608);
  assert.deepEqual(layer.descriptor.annotations, {
    [ANNOTATION.tocDigest]: 'sha256:f1ba7ef263bba753178724d5e44552544272de3c505cf987024cdae2603b6548',
    [ANNOTATION.uncompressedSize]: '4608',
  });
  assert.deepEqual(Buffer.from(blob), readFileSync(join(root, 'fixtures/golden/estargz/minimal.blob')));
});

test('so is the one with an external TOC', async () => {
  const { blob, layer, store } = await convert(minimalTar(), { level: 0, externalToc: true });
  assert.equal(digestOf(blob), 'sha256:0e86f082a53bcb6f6c91bc73a9f964fc90251d1afb0e154709b63411bc54e8d8');
  assert.equal(layer.diffId, 'sha256:ee267313ce14979e5c1a0c2c1e54bada65aaa242943a93b6e5010f4a5612abec');
  const [toc] = layer.attachments ?? [];
  assert.equal(toc?.digest, 'sha256:3a7359af1af0ed4ad0bcfb5f6407bc0b90e78c41d607f29a4b98c1d76d549f57');
  assert.equal(toc?.annotations?.[ANNOTATION.layerDigest], layer.descriptor.digest);
  assert.equal(store.open(toc).size, 2583);
});

test('the blob inflates to the tar that diffID and size promise, at every level', async () => {
  const tar = archive(entries(corpus.directory('d/'), corpus.file('d/a', noise(100_000)), corpus.file('d/b', 'text '.repeat(9999)), corpus.file('e')));
  for (const level of [0, 1, 6, 9]) {
    const { blob, layer } = await convert(tar, { level, chunkSize: 16_384 });
    const plain = gunzipSync(blob);
    assert.equal(digestOf(plain), layer.diffId, `level ${level}`);
    assert.equal(plain.length, layer.tarSize);
    assert.equal(String(plain.length), layer.descriptor.annotations?.[ANNOTATION.uncompressedSize]);
  }
});

test('output does not depend on threads or on how the input arrives', async () => {
  const files = Array.from({ length: 300 }, (_, i) => corpus.file(`dir/file-${i}`, noise((i * 977) % 40_000, i)));
  const tar = archive(entries(corpus.directory('dir/'), ...files, corpus.file('big', text(5_000_000)), ...Array.from({ length: 2000 }, (_, i) => corpus.symlink(`l${i}`, 'big'))), new Uint8Array(2_500_000));
  const packed = gzipSync(tar);
  for (const options of [{ chunkSize: 1 << 20 }, { keepDiffId: true }]) {
    for (const [what, input] of [
      ['plain', (piece: number) => tarInput(tar, piece)],
      ['gzip', (piece: number) => gzipInput(packed, tar, piece)],
    ] as const) {
      const digests = new Set<string>();
      for (const [jobs, piece] of [[1, 1 << 20], [3, 1000], [2, 77_777]] as const) {
        const { layer } = await convertTar(estargz, input(piece), options, jobs);
        digests.add(layer.descriptor.digest);
      }
      assert.equal(digests.size, 1, what);
    }
  }
});

test('chunks: sizes, offsets and digests by the letter of §6.1', async () => {
  const body = noise(250_000);
  const { blob, layer } = await convert(archive(entries(corpus.file('big', body), corpus.file('exact', body.subarray(0, 100_000)), corpus.file('small', 'x'))), { chunkSize: 100_000 });
  const toc = tocOf(blob).slice(1);
  assert.deepEqual(toc.map(({ name, type, size, chunkOffset, chunkSize }) => ({ name, type, size, chunkOffset, chunkSize })), [
    { name: 'big', type: 'reg', size: 250_000, chunkOffset: undefined, chunkSize: 100_000 },
    { name: 'big', type: 'chunk', size: undefined, chunkOffset: 100_000, chunkSize: 100_000 },
    { name: 'big', type: 'chunk', size: undefined, chunkOffset: 200_000, chunkSize: undefined },
    { name: 'exact', type: 'reg', size: 100_000, chunkOffset: undefined, chunkSize: 100_000 },
    { name: 'small', type: 'reg', size: 1, chunkOffset: undefined, chunkSize: undefined },
  ]);
  assert.equal(toc[0]?.digest, digestOf(body));
  assert.equal(toc[1]?.chunkDigest, digestOf(body.subarray(100_000, 200_000)));
  assert.deepEqual([layer.entries, layer.chunks], [3, 6]);
  for (const entry of toc) {
    const start = entry.chunkOffset ?? 0;
    const source = entry.name === 'small' ? Buffer.from('x') : body;
    const length = Math.min(100_000, (entry.name === 'big' ? 250_000 : entry.name === 'exact' ? 100_000 : 1) - start);
    assert.deepEqual(gunzipSync(blob.subarray(entry.offset)).subarray(0, length), Buffer.from(source.subarray(start, start + length)));
  }
});

test('with a minimal chunk size payloads share members, except the first and the landmark', async () => {
  const files = Array.from({ length: 40 }, (_, i) => corpus.file(`f${i}`, noise(1000, i)));
  const tar = archive(entries(corpus.file('empty'), ...files));
  const { blob, layer, store } = await convert(tar, { minChunkSize: 8000 });
  const toc = tocOf(blob).filter((entry) => entry.offset !== undefined || entry.innerOffset !== undefined);
  assert.ok(toc.every((entry) => (entry.offset ?? 0) > 0), 'no payload at offset 0');
  assert.equal(new Set(toc.map((entry) => entry.offset)).size, 1 + Math.ceil(40 / 6));
  const opened = await estargz.open(stored({ layer, blob, store }));
  for (const [i, file] of files.entries()) {
    const [extent] = (opened.index.root.children.get(`f${i}`) as RegularNode).extents;
    const { chunk } = extent as NonNullable<typeof extent>;
    assert.deepEqual(Buffer.from(await opened.inflate(chunk, blob.subarray(chunk.offset, chunk.offset + chunk.length))), Buffer.from(file.body as Uint8Array));
  }
});

test('a prefetch list moves files, parents and link targets to the front, in its order', async () => {
  const tar = archive(
    entries(
      corpus.directory('usr/'), corpus.directory('usr/bin/'), corpus.file('usr/bin/a', 'A'), corpus.file('usr/bin/b', 'B'), corpus.hardlink('usr/bin/c', 'usr/bin/b'),
      corpus.directory('etc/'), corpus.file('etc/conf', 'C'), corpus.file('etc/[x]', 'D'), corpus.file('other', 'E'),
    ),
  );
  const list = async (...prefetch: string[]): Promise<string[]> => names(tocOf((await convert(tar, { prefetch })).blob));
  assert.deepEqual((await list('./etc/[x]', '/usr/bin/c')).slice(0, 7), ['etc/', 'etc/[x]', 'usr/', 'usr/bin/', 'usr/bin/b', 'usr/bin/c', '.prefetch.landmark']);
  assert.deepEqual((await list('usr/**', 'etc/conf')).slice(0, 8), ['usr/', 'usr/bin/', 'usr/bin/a', 'usr/bin/b', 'usr/bin/c', 'etc/', 'etc/conf', '.prefetch.landmark']);
  assert.deepEqual((await list('nothing/like/it'))[0], '.no.prefetch.landmark');
  assert.deepEqual((await list('other')).sort(), (await list()).map((name) => name.replace('.no.', '.')).sort());
});

test('the prefetch range ends at the landmark and holds the listed files', async () => {
  const converted = await convert(archive(entries(corpus.file('cold', noise(50_000)), corpus.file('hot', noise(20_000, 2)))), { prefetch: ['hot'] });
  const index: LayerIndex = (await estargz.open(stored(converted))).index;
  const [range] = index.prefetch ?? [];
  const [hot] = (index.root.children.get('hot') as RegularNode).extents;
  const [cold] = (index.root.children.get('cold') as RegularNode).extents;
  assert.ok(range && hot && cold && hot.chunk.offset < range.end && cold.chunk.offset >= range.end);
});

test('a list names a path twice in the layer: only its last entry counts', async () => {
  const tar = archive(entries(corpus.file('a', 'old'), corpus.file('b', 'b'), corpus.file('a', 'new')));
  const { blob } = await convert(tar, { prefetch: ['a'] });
  const toc = tocOf(blob);
  assert.deepEqual(names(toc), ['a', '.prefetch.landmark', 'b']);
  assert.equal(toc[0]?.digest, digestOf(Buffer.from('new')));
});

test('keepDiffId keeps the tar to the byte, wherever it comes from', async () => {
  for (const [name, tar] of [['plain', corpus.simple()], ['gnu names', corpus.longNamesGnu()], ['pax globals', corpus.paxGlobal()], ['a long end', archive(entries(corpus.file('a', 'x')), new Uint8Array(3_000_000))], ['no end', corpus.noEndBlocks()]] as const) {
    const { blob, layer } = await convert(tar, { keepDiffId: true });
    assert.equal(layer.diffId, digestOf(tar), name);
    assert.deepEqual(gunzipSync(blob), Buffer.from(tar), name);
    assert.equal(decodeFooter(blob)?.kind, 'external');
    assert.equal(layer.attachments?.length, 1);
  }
});

test('what keepDiffId cannot keep is refused', async () => {
  await assert.rejects(convert(corpus.gnuSparse(), { keepDiffId: true }), refuses('UNSUPPORTED', /sparse/));
  await assert.rejects(convert(archive(entries(corpus.file('stargz.index.json', '{}'))), { keepDiffId: true }), refuses('CORRUPT', /stargz\.index\.json/));
  await assert.rejects(convert(corpus.simple(), { keepDiffId: true, prefetch: ['a'] }), refuses('USAGE', /prefetch/));
  const dirty = corpus.simple().slice();
  const at = dirty.indexOf(0x0a, 512) + 1;
  dirty[at] = 0x55;
  await assert.rejects(convert(dirty, { keepDiffId: true }), refuses('UNSUPPORTED', /byte for byte/));
});

test('a path that comes twice is in the TOC once, the last time, and names stay carried', async () => {
  const { blob } = await convert(corpus.duplicateNames());
  const toc = tocOf(blob);
  assert.deepEqual(names(toc), ['.no.prefetch.landmark', './a', 'd/x', 'd/']);
  assert.equal(toc[1]?.userName, 'user');
  assert.equal(toc[1]?.size, 14);
  assert.equal(toc.at(-1)?.mode, 0o700);
});

test('a prefetch list copes with long chains of links and names that come again and again', async () => {
  const many = 15_000;
  const chain = [corpus.file('l0', 'x'), ...Array.from({ length: many }, (_, i) => corpus.hardlink(`l${i + 1}`, `l${i}`))];
  const toc = tocOf((await convert(archive(entries(...chain)), { prefetch: [`l${many}`], level: 1 })).blob);
  assert.deepEqual(names(toc), [...chain.map(({ path }) => path), '.prefetch.landmark']);
  const again = Array.from({ length: many }, () => corpus.file('again', ''));
  assert.deepEqual(names(tocOf((await convert(archive(entries(...again)), { prefetch: ['again'], level: 1 })).blob)), ['again', '.prefetch.landmark']);
});

test('a prefetch list may name the root; what is no glob is refused', async () => {
  assert.deepEqual(names(tocOf((await convert(archive(entries(corpus.file('a', 'a'))), { prefetch: ['/'] })).blob)), ['.no.prefetch.landmark', 'a']);
  await assert.rejects(convert(minimalTar(), { prefetch: ['a'.repeat(70_000)] }), refuses('USAGE', /not a glob: a/));
});

test('links that would change their inode in silence are refused', async () => {
  const tar = archive(entries(corpus.file('a', 'old'), corpus.hardlink('b', 'a'), corpus.file('a', 'new')));
  await assert.rejects(convert(tar), refuses('UNSUPPORTED', /replaced later/));
  await assert.rejects(convert(tar, { prefetch: ['a'] }), refuses('UNSUPPORTED', /replaced later/));
  await assert.rejects(convert(corpus.hardLinkForward()), refuses('CORRUPT', /does not come before/));
  await assert.rejects(convert(corpus.hardLinkOutOfLayer()), refuses('CORRUPT', /does not come before/));
});

test('reserved names of an earlier conversion are dropped', async () => {
  const first = await convert(corpus.simple());
  const again = await convert(gunzipSync(first.blob));
  assert.equal(again.layer.descriptor.digest, first.layer.descriptor.digest);
});

test('names and times that a TOC cannot hold are refused with path and offset', async () => {
  await assert.rejects(convert(corpus.invalidUtf8Names()), (error) => refuses('UNSUPPORTED', /not UTF-8/)(error) && (error as LazypullError).offset === 0);
  await assert.rejects(convert(archive(entries(corpus.file('a', 'x', { mtime: { seconds: 300_000_000_000, nanoseconds: 0 } })))), refuses('UNSUPPORTED', /9999/));
});

test('headers of many entries without payload do not pile up in one member', async () => {
  const { blob } = await convert(archive(entries(corpus.file('a', 'x'), ...Array.from({ length: 4000 }, (_, i) => corpus.symlink(`link-${i}`, 'a')), corpus.file('z', 'z'))));
  assert.ok(gunzipSync(blob).length > 2_000_000);
  const toc = tocOf(blob);
  assert.equal(names(toc).length, 4003);
  assert.equal(gunzipSync(blob.subarray(toc.at(-1)?.offset))[0], 'z'.charCodeAt(0));
});

test('a TOC of many pieces is one gzip member with one digest', async () => {
  const many = Array.from({ length: 6000 }, (_, i) => corpus.file(`directory-${i % 50}/a-file-with-a-longer-name-${i}`, i % 3 ? String(i) : ''));
  for (const level of [0, 6]) {
    const { blob, layer } = await convert(archive(entries(...many)), { level });
    assert.equal(names(tocOf(blob)).length, 6001);
    assert.equal(digestOf(gunzipSync(blob)), layer.diffId);
    await estargz.open({ descriptor: layer.descriptor, source: { size: blob.length, read: async (at, n) => blob.subarray(at, at + n) } });
  }
});

test('options that make no sense are USAGE errors', async () => {
  for (const options of [{ chunkSize: 10 }, { chunkSize: 1 << 30 }, { level: 10 }, { level: 1.5 }, { minChunkSize: -1 }]) {
    await assert.rejects(convert(corpus.simple(), options), refuses('USAGE', /must be a whole number/));
  }
});

test('directories without an entry are warned about, unless one comes later', async () => {
  const { layer } = await convert(archive(entries(corpus.file('opt/app/bin/run', 'x'), corpus.directory('opt/app/'), corpus.file('srv/a', 'x'))));
  assert.deepEqual(layer.warnings?.map((text) => text.slice(0, text.indexOf(';'))), ['3 directories, such as "opt/app/bin", have no tar entry']);
  assert.deepEqual((await convert(corpus.simple())).layer.warnings, []);
});
