import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../../../src/core/digest.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import type { DescribedImage } from '../../../src/core/format.ts';
import type { Descriptor } from '../../../src/core/types.ts';
import { OCI } from '../../../src/oci/media-types.ts';
import { describeSoci } from '../../../formats/soci/describe.ts';
import { goDifference } from '../../../formats/soci/go-json.ts';
import { decodeSociIndex } from '../../../formats/soci/index-manifest.ts';
import { ANNOTATION, INDEX_TYPE, PREFETCH_MEDIA_TYPE, type SociOptions } from '../../../formats/soci/layout.ts';
import { resolveOptions } from '../../../formats/soci/options.ts';
import { decodePrefetch } from '../../../formats/soci/prefetch.ts';
import { madeLayer, type Made } from './made-ztoc.ts';

const SUBJECT: Descriptor = { mediaType: OCI.manifest, digest: digestOf(Buffer.from('image')), size: 5 };

async function describe(layers: readonly (readonly Made[] | undefined)[], options: SociOptions = {}, subject?: Descriptor) {
  const blobs = new Map<string, { mediaType: string; bytes: Uint8Array }>();
  const image: DescribedImage = {
    layers: layers.map((entries) => {
      if (!entries) return undefined;
      const { descriptor, details } = madeLayer(entries);
      return { descriptor, described: { entries: 1, chunks: 1, blob: details.descriptor, details } };
    }),
    ...(subject && { subject }),
    async put(mediaType, bytes) {
      blobs.set(digestOf(bytes), { mediaType, bytes });
      return { mediaType, digest: digestOf(bytes), size: bytes.length };
    },
  };
  const artifact = await describeSoci(image, resolveOptions(options));
  return { artifact, blobs, index: artifact && decodeSociIndex(artifact.bytes, 'index') };
}

const FILE: readonly Made[] = [{ name: 'opt/', type: 'dir' }, { name: 'opt/a', size: 3000 }];
const OTHER: readonly Made[] = [{ name: 'opt/b', size: 3000 }, { name: 'opt/c', size: 3000 }];

test('an image without an indexed layer has no artifact', async () => {
  const { artifact, blobs } = await describe([undefined, undefined]);
  assert.deepEqual([artifact, blobs.size], [undefined, 0]);
});

test('v2 without a subject, v1 with one; the config is stored', async () => {
  for (const subject of [undefined, SUBJECT]) {
    const { artifact, blobs, index } = await describe([FILE], {}, subject);
    const type = subject ? INDEX_TYPE.v1 : INDEX_TYPE.v2;
    assert.deepEqual(artifact?.descriptor, { mediaType: OCI.manifest, digest: digestOf(artifact?.bytes as Uint8Array), size: artifact?.bytes.length, artifactType: type });
    assert.equal(artifact?.warnings, undefined);
    assert.deepEqual([index?.version, index?.subject], subject ? [1, SUBJECT] : [2, undefined]);
    assert.deepEqual([...blobs.values()].map(({ mediaType, bytes }) => [mediaType, Buffer.from(bytes).toString()]), [[type, '{}']]);
    assert.equal(goDifference(artifact?.bytes as Uint8Array, 'index'), undefined);
  }
});

test('zTOCs are in the order of the layers, with their annotations; one for a layer that is there twice', async () => {
  const { index } = await describe([OTHER, undefined, FILE, OTHER]);
  assert.deepEqual(index?.ztocs, [OTHER, FILE].map((entries) => {
    const { descriptor, details } = madeLayer(entries);
    return { ...details.descriptor, annotations: { [ANNOTATION.layerDigest]: descriptor.digest, [ANNOTATION.layerMediaType]: OCI.layer, [ANNOTATION.spanSize]: '1024' } };
  }));
});

test('layers without xattrs are marked when that is wished for, and only those', async () => {
  const cases: [readonly Made[], string | undefined][] = [
    [FILE, 'true'],
    [[{ name: 'a', pax: { 'LIBARCHIVE.xattr.user.a': 'eA==', mtime: '1' } }], 'true'],
    [[{ name: 'a', pax: { 'SCHILY.xattr.user.a': 'x' } }], undefined],
    [[{ name: 'a/.wh..wh..opq' }], undefined],
    [[{ name: 'a/.wh.b' }], 'true'],
  ];
  for (const [entries, expected] of cases) {
    const { index } = await describe([entries], { optimizeXattr: true });
    assert.equal(index?.ztocs[0]?.annotations?.[ANNOTATION.disableXattrs], expected, JSON.stringify(entries));
  }
  const { index } = await describe([FILE]);
  assert.equal(index?.ztocs[0]?.annotations?.[ANNOTATION.disableXattrs], undefined);
});

test('prefetch lists come after the zTOCs, one for each layer that has anything of them', async () => {
  const { index, blobs, artifact } = await describe([FILE, OTHER], { prefetch: ['opt/c', 'opt/z'] });
  assert.deepEqual([artifact?.warnings, artifact?.unused], [undefined, ['nothing in the indexed layers matches "opt/z" of the prefetch list']]);
  assert.equal(index?.ztocs.length, 2);
  const [list, ...more] = index?.prefetch ?? [];
  assert.deepEqual([more, list?.mediaType, list?.annotations], [[], PREFETCH_MEDIA_TYPE, { [ANNOTATION.layerDigest]: madeLayer(OTHER).descriptor.digest }]);
  // Block 0 is the header of b, 1 to 6 its content; 7 the header of c, 8 to 13 its content.
  assert.deepEqual(decodePrefetch(blobs.get(list?.digest as string)?.bytes as Uint8Array, 'list'), [{ start: 3, end: 6 }]);
});

test('of layers that are left out nothing is known, and what is said does not pretend to', async () => {
  const { artifact } = await describe([FILE, undefined], { prefetch: ['opt/z'] });
  assert.deepEqual(artifact?.unused, ['nothing in the indexed layers matches "opt/z" of the prefetch list']);
});

test('a layer whose names make no tree is indexed, and the prefetch list has no effect', async () => {
  const { artifact, index } = await describe([[{ name: 'a', type: 'hardlink', linkName: 'in-another-layer' }]], { prefetch: ['a'] });
  assert.match(artifact?.warnings?.[0] ?? '', /^the prefetch list has no effect: hard link a points to in-another-layer/);
  assert.deepEqual([index?.ztocs.length, index?.prefetch.length], [1, 0]);
});

test('options have defaults, and nonsense is refused', () => {
  assert.deepEqual(resolveOptions({}), { spanSize: 4 << 20, minLayerSize: 10 << 20, transcodeZstd: false, upstreamCheckpoints: false, optimizeXattr: false, prefetch: [] });
  const nonsense: SociOptions[] = [{ spanSize: 0 }, { spanSize: -1 }, { spanSize: 1.5 }, { spanSize: 2 ** 30 + 1 }, { spanSize: Number.NaN }, { minLayerSize: -1 }, { minLayerSize: Number.POSITIVE_INFINITY }, { prefetch: ['*'.repeat(70_000)] }];
  for (const options of nonsense) assert.throws(() => resolveOptions(options), (error) => error instanceof LazypullError && error.code === 'USAGE', JSON.stringify(options).slice(0, 60));
  assert.equal(resolveOptions({ minLayerSize: 0 }).minLayerSize, 0);
});
