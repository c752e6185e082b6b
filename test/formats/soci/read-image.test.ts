import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { digestOf } from '../../../src/core/digest.ts';
import { LazypullError, type ErrorCode } from '../../../src/core/errors.ts';
import type { StoredImage, StoredLayer } from '../../../src/core/format.ts';
import { MemorySource } from '../../../src/core/source.ts';
import type { RegularNode } from '../../../src/core/types.ts';
import { zstdCompress } from '../../../src/codec/zstd.ts';
import { compareTrees } from '../../../src/layer/compare.ts';
import { LayerReader } from '../../../src/layer/reader.ts';
import { walk } from '../../../src/layer/walk.ts';
import { scanTar } from '../../../src/image/scan.ts';
import { OCI } from '../../../src/oci/media-types.ts';
import { ANNOTATION } from '../../../formats/soci/layout.ts';
import { detectSoci, eagerSoci, openSoci } from '../../../formats/soci/read.ts';
import { encodeTarHeader } from '../../../src/tar/write.ts';
import { noise } from '../../codec/samples.ts';
import { gnuSparse, gnuSparseExtended, paxSparse10, sparseOnlyHole } from '../../support/tar-corpus.ts';
import { inPieces } from '../../support/tar-read.ts';
import { indexed } from './made-by-writer.ts';
import { sampleImage, sampleTar, type SampleImage } from './sample-image.ts';

const fails = (code: ErrorCode, pattern = /./) => (error: unknown): boolean => error instanceof LazypullError && error.code === code && pattern.test(error.message);
const TAR = sampleTar([100, 9000, 0]);
const PACKED = gzipSync(TAR);
const { bytes: ZTOC } = await indexed(PACKED, { spanSize: 4000 });

const first = ({ layers }: SampleImage): StoredLayer => layers[0] as StoredLayer;
const withImage = (sample: SampleImage, changes: Partial<StoredImage>): StoredLayer => ({ ...first(sample), image: { ...sample.image, ...changes } });

describe('detectSoci', () => {
  it('finds v2 by the annotation and v1 by the referrers, once for all layers', async () => {
    for (const version of ['v1', 'v2'] as const) {
      const sample = sampleImage([{ packed: PACKED, ztoc: ZTOC }, { packed: TAR }, { packed: await zstdCompress(TAR, 3) }], version);
      assert.deepEqual(await Promise.all(sample.layers.map((layer) => detectSoci(layer))), [true, true, true]);
      assert.deepEqual(sample.fetched, [sample.index.digest]);
      assert.equal((await openSoci(first(sample))).facts?.version, version);
      assert.deepEqual(await Promise.all(sample.layers.map((layer) => eagerSoci(layer))), [undefined, 'the SOCI index has no zTOC for it', 'a zTOC cannot describe zstd']);
    }
  });

  it('takes v2 before v1, the first v1 of several, and no v1 in place of a v2 that is not there', async () => {
    const v1 = sampleImage([{ packed: PACKED, ztoc: ZTOC }], 'v1');
    const v2 = sampleImage([{ packed: PACKED, ztoc: ZTOC }]);
    const both = withImage(v2, { referrers: v1.image.referrers });
    assert.equal((await openSoci(both)).facts?.version, 'v2');
    assert.equal(v1.fetched.length, 0);
    const gone = { ...v1.index, digest: digestOf(Buffer.from('gone')) };
    assert.equal((await openSoci(withImage(v1, { referrers: async () => [v1.index, gone] }))).facts?.version, 'v1');
    const dangling = withImage(v1, { annotations: { [ANNOTATION.indexDigest]: gone.digest } });
    assert.equal(await detectSoci(dangling), false);
    await assert.rejects(openSoci(dangling), fails('NOT_FOUND', /no image that has a SOCI index/));
    assert.equal(await detectSoci(withImage(v1, { annotations: { [ANNOTATION.indexDigest]: '' } })), true);
    assert.equal(await detectSoci(withImage(v1, { annotations: { [ANNOTATION.indexDigest]: 'nonsense' } })), false);
  });

  it('is quiet about layers of other images and other kinds', async () => {
    const sample = sampleImage([{ packed: PACKED, ztoc: ZTOC }]);
    const { image: _, ...alone } = first(sample);
    assert.equal(await detectSoci(alone), false);
    await assert.rejects(openSoci(alone), fails('NOT_FOUND'));
    assert.equal(await detectSoci({ ...first(sample), descriptor: { ...first(sample).descriptor, mediaType: 'application/vnd.in-toto+json' } }), false);
    assert.equal(await detectSoci(withImage(sample, { annotations: {} })), false);
  });

  it('leaves it to open to say what is wrong with an index, and lets a network that fails through', async () => {
    const sample = sampleImage([{ packed: PACKED, ztoc: ZTOC }]);
    sample.blobs.set(sample.index.digest, Buffer.from('{}'));
    assert.equal(await detectSoci(first(sample)), true);
    await assert.rejects(openSoci(first(sample)), fails('CORRUPT', new RegExp(`SOCI index ${sample.index.digest}`)));
    await assert.rejects(eagerSoci(first(sample)), fails('CORRUPT'));
    let down = true;
    const broken = withImage(sampleImage([{ packed: PACKED, ztoc: ZTOC }]), {});
    const { image } = broken as { image: StoredImage };
    const flaky: StoredImage = { ...image, resolve: (digest) => (down ? Promise.reject(new LazypullError('NETWORK', 'down')) : image.resolve(digest)) };
    await assert.rejects(detectSoci({ ...broken, image: flaky }), fails('NETWORK'));
    down = false;
    assert.equal(await detectSoci({ ...broken, image: flaky }), true, 'a failure is not remembered');
  });
});

describe('layers without a zTOC', () => {
  const big = Buffer.concat([encodeTarHeader({ path: 'big', type: 'file', mode: 0o644, size: 9 << 20 }), noise(9 << 20), Buffer.alloc(1024)]);
  const { TMPDIR } = process.env;
  const folder = mkdtempSync(join(tmpdir(), 'lazypull-test-'));
  before(() => void (process.env.TMPDIR = folder));
  after(() => {
    if (TMPDIR === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = TMPDIR;
    rmSync(folder, { recursive: true });
  });

  it('are pulled whole, once, and read like all others', async () => {
    const tars = { sample: TAR, big, gnuSparse: gnuSparse(), gnuSparseExtended: gnuSparseExtended(), paxSparse10: paxSparse10(), sparseOnlyHole: sparseOnlyHole() };
    for (const [name, tar] of Object.entries(tars)) {
      const scanned = await scanTar(inPieces(tar, [100_000]), { what: name });
      for (const packed of [gzipSync(tar, { level: 1 }), tar, await zstdCompress(tar, 1)]) {
        const sample = sampleImage([{ packed }]);
        const layer = await openSoci(first(sample));
        assert.deepEqual([layer.facts?.eager, layer.facts?.version, layer.indexBytes], [true, 'v2', 0]);
        const pulled = sample.layers[0]?.source.bytes;
        assert.equal(pulled, packed.length);
        assert.deepEqual([...compareTrees(scanned.root, layer.index.root, { names: true })], []);
        const reader = new LayerReader(layer);
        const contents = new Map([...walk(scanned.root)].map(({ path, node }) => [path, node]));
        for (const { path, node } of walk(layer.index.root)) {
          if (node.type === 'file') assert.equal(digestOf(await reader.readFile(node, 0, node.size)), (contents.get(path) as RegularNode).digest, `${name}: ${path}`);
        }
        assert.equal(sample.layers[0]?.source.bytes, pulled);
        assert.deepEqual(readdirSync(folder), [], 'no file has a name');
      }
    }
  });

  it('are refused when they are not what the manifest says', async () => {
    const sample = sampleImage([{ packed: PACKED }]);
    const other = Buffer.from(PACKED);
    other[4] = 9;
    await assert.rejects(openSoci({ ...first(sample), source: new MemorySource(other) }), fails('DIGEST_MISMATCH'));
    for (const packed of [PACKED.subarray(0, 500), Buffer.from('nonsense'.repeat(100))]) {
      await assert.rejects(openSoci(first(sampleImage([{ packed, mediaType: OCI.layerGzip }]))), fails('CORRUPT'));
    }
    await assert.rejects(openSoci(first(sample), AbortSignal.abort()), fails('CANCELLED'));
  });
});
