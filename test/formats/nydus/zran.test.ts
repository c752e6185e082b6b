import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { digestOf } from '../../../src/core/digest.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import { zstdCompress } from '../../../src/codec/zstd.ts';
import { ANNOTATION } from '../../../formats/nydus/layout.ts';
import { nydusZran } from '../../../formats/nydus/index.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { directory, file, gnuSparse, hardlink, symlink } from '../../support/tar-corpus.ts';
import { noise } from '../../support/noise.ts';
import type { LayerBlob } from '../../image/fixture.ts';
import { assertShows, convertTars, layersOf, type ConvertedTars } from './images.ts';

const GZIP = 'application/vnd.oci.image.layer.v1.tar+gzip';

function gzipLayers(tars: readonly Uint8Array[], pack: (tar: Uint8Array) => Uint8Array = (tar) => gzipSync(tar)): LayerBlob[] {
  return tars.map((tar) => ({ bytes: pack(tar), diffId: digestOf(tar), mediaType: GZIP }));
}

function convert(tars: readonly Uint8Array[], options: object = {}, layers = gzipLayers(tars)): Promise<ConvertedTars> {
  return convertTars(tars, options, { layers, format: nydusZran as never });
}

const words = (size: number, seed = 0): Uint8Array => Buffer.from(Array.from({ length: Math.ceil(size / 8) }, (_, i) => ((i * 2_654_435_761 + seed) % 99_991).toString(36).padStart(7, '_')).join(' ')).subarray(0, size);
const base = (): Uint8Array => archive(entries(directory('d/'), file('d/text', words(1_500_000)), file('d/small', 'x'), file('d/empty'), file('d/noise', noise(1_200_000)), hardlink('d/link', 'd/small'), symlink('l', 'd')));
const upper = (): Uint8Array => archive(entries(file('d/.wh.small'), file('d/more', words(600_000, 7)), file('d/copy', words(1_500_000))));

test('layers of several compressors show as they are, and stay as they are', async () => {
  const packers: Record<string, (tar: Uint8Array) => Uint8Array> = {
    'zlib 6': (tar) => gzipSync(tar),
    'zlib 1': (tar) => gzipSync(tar, { level: 1 }),
    stored: (tar) => gzipSync(tar, { level: 0 }),
    'small blocks': (tar) => gzipSync(tar, { memLevel: 1 }),
    fixed: (tar) => gzipSync(tar, { strategy: 4 }),
  };
  for (const [name, pack] of Object.entries(packers)) {
    const tars = [base(), upper()];
    const layers = gzipLayers(tars, pack);
    const { image } = await convert(tars, {}, layers);
    await assertShows(image, tars, name);
    assert.deepEqual(layersOf(image).slice(0, 2).map(({ annotations }) => annotations?.[ANNOTATION.ref]), layers.map(({ bytes }) => digestOf(bytes)));
    const index = layersOf(image).reduce((sum, { size }) => sum + size, 0);
    // Windows of noise do not compress: 32 KiB for each MiB.
    assert.ok(index < layers.reduce((sum, { bytes }) => sum + bytes.length, 0) / 5, `${name}: ${index} bytes`);
  }
});

test('several gzip members: chunks begin in any of them', async () => {
  const parts = [file('a', words(300_000)), file('b', noise(200_000)), file('c', 'short'), file('d', words(100, 3))].map((item) => entries(item));
  const tars = [Buffer.concat([...parts, new Uint8Array(1024)])];
  const members = Buffer.concat([...parts, new Uint8Array(1024)].map((part) => gzipSync(part)));
  const { image } = await convert(tars, { chunkSize: 65_536 }, [{ bytes: members, diffId: digestOf(...tars), mediaType: GZIP }]);
  await assertShows(image, tars, 'members');
});

test('gzip members that end anywhere, also exactly where a chunk does', async () => {
  const tars = [archive(entries(file('a', words(300_000)), file('b', noise(70_000)), file('c', words(131_072, 5)), file('d', 'x')))];
  const [tar] = tars as [Uint8Array];
  const start = 512 + 300_032 + 512 + 70_144 + 512;
  for (const cuts of [[100, 100_000, 100_001, 200_000], [512, 512 + 65_536, 512 + 131_072], [start, start + 65_536, start + 131_072], Array.from({ length: 60 }, (_, i) => 8192 * (i + 1)), Array.from({ length: 400 }, (_, i) => 300 + i * 7)]) {
    const ends = [...cuts.filter((cut) => cut < tar.length), tar.length];
    const packed = Buffer.concat([...ends.map((end, i) => gzipSync(tar.subarray(i === 0 ? 0 : ends[i - 1], end))), gzipSync('')]);
    const { image } = await convert(tars, { chunkSize: 65_536 }, [{ bytes: packed, diffId: digestOf(tar), mediaType: GZIP }]);
    await assertShows(image, tars, cuts.slice(0, 4).join());
  }
});

test('what cannot be referred to is UNSUPPORTED, and says what to do', async () => {
  const tar = archive(entries(file('a', words(200_000))));
  const cases: [string, LayerBlob][] = [
    ['plain', { bytes: tar, diffId: digestOf(tar), mediaType: 'application/vnd.oci.image.layer.v1.tar' }],
    ['zstd', { bytes: await zstdCompress(tar, 3), diffId: digestOf(tar), mediaType: 'application/vnd.oci.image.layer.v1.tar+zstd' }],
    ['sparse', { bytes: gzipSync(gnuSparse()), diffId: digestOf(gnuSparse()), mediaType: GZIP }],
  ];
  for (const [name, layer] of cases) await assert.rejects(convert([tar], {}, [layer]), (error) => error instanceof LazypullError && error.code === 'UNSUPPORTED' && error.message.includes('nydus instead'), name);
});

test('a prefetch list goes into the table; what it finds nothing for is said', async () => {
  const { image, report } = await convert([base()], { prefetch: ['d/noise', 'nowhere'] });
  await assertShows(image, [base()], 'prefetch');
  assert.deepEqual(report.warnings.filter((text) => text.includes('prefetch list')), ['nothing matches "nowhere" of the prefetch list']);
});

test('a layer that is not what the config says is refused', async () => {
  const tar = base();
  await assert.rejects(convert([tar], {}, [{ bytes: gzipSync(tar), diffId: digestOf(), mediaType: GZIP }]), (error) => error instanceof LazypullError && error.code === 'DIGEST_MISMATCH');
});

test('the same index on every run', async () => {
  const tars = [base()];
  const [one, two] = [await convert(tars), await convert(tars)];
  assert.deepEqual(layersOf(one.image), layersOf(two.image));
});

test('gzip of other makes', async (t) => {
  const tars = [base()];
  for (const tool of ['pigz', 'gzip']) {
    if (spawnSync(tool, ['--version']).status !== 0) {
      t.diagnostic(`${tool} is not installed`);
      continue;
    }
    const pack = (tar: Uint8Array): Uint8Array => spawnSync(tool, ['-c', '-n'], { input: tar, maxBuffer: 1 << 26 }).stdout;
    const { image } = await convert(tars, {}, gzipLayers(tars, pack));
    await assertShows(image, tars, tool);
  }
});

test('whatever the sizes of files and chunks', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.record({ size: fc.integer({ min: 0, max: 200_000 }), text: fc.boolean() }), { maxLength: 8 }), fc.constantFrom(4096, 65_536, 1 << 20), fc.integer({ min: 1, max: 9 }), async (files, chunkSize, memLevel) => {
      const tars = [archive(entries(...files.map(({ size, text }, i) => file(`f${i}`, text ? words(size, i) : noise(size, i)))))];
      const { image } = await convert(tars, { chunkSize }, gzipLayers(tars, (tar) => gzipSync(tar, { memLevel })));
      await assertShows(image, tars, 'property');
    }),
    { numRuns: 15 },
  );
});
