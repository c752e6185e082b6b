import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { digestOf, type Digest } from '../../../src/core/digest.ts';
import { collect } from '../../../src/core/stream.ts';
import type { Descriptor, Platform } from '../../../src/core/types.ts';
import { inspectImage, type InspectReport } from '../../../src/image/inspect.ts';
import { openMemory, type MemoryStore } from '../../../src/oci/memory.ts';
import { nydus } from '../../../formats/nydus/index.ts';
import { ANNOTATION, BLOB_MEDIA_TYPE, MANIFEST_ARTIFACT_TYPE, OS_FEATURE } from '../../../formats/nydus/layout.ts';
import { LINUX, putImage, putIndex, type LayerBlob } from '../../image/fixture.ts';
import { noise } from '../../support/noise.ts';
import { convertTars, plainLayers } from './images.ts';
import { bootstrapLayer, madeRafs, TARS } from './samples.ts';

const FINE = /^a nydus-snapshotter mounts this image lazily \(RAFS v6, 2 blobs\); other runtimes cannot unpack it$/;

/** The layers of a converted image, to be changed. */
async function layers(): Promise<LayerBlob[]> {
  const { image } = await convertTars(TARS);
  return Promise.all(image.layers.map(async ({ descriptor, diffId }) => ({
    bytes: await collect(image.place.store.fetch(descriptor), 1 << 26), diffId, mediaType: descriptor.mediaType, annotations: { ...descriptor.annotations },
  })));
}

async function said(all: readonly LayerBlob[], store: MemoryStore = openMemory()): Promise<Pick<InspectReport, 'problems' | 'notes'>> {
  await putImage(store, { layers: all }, 'lazy');
  return inspectImage({ store, reference: 'lazy' }, [nydus]);
}

const changed = (all: readonly LayerBlob[], at: number, change: Partial<LayerBlob>): LayerBlob[] => all.map((layer, i) => (i === at ? { ...layer, ...change } : layer));

describe('what is said about a Nydus image', () => {
  it('is nothing but its fate when it is as it should be', async () => {
    const { problems, notes } = await said(await layers());
    assert.deepEqual(problems, []);
    assert.equal(notes.length, 1);
    assert.match(notes[0] as string, FINE);
  });

  it('is nothing at all about others', async () => {
    assert.deepEqual((await said(plainLayers(TARS))).notes, []);
  });

  it('names what is wrong with its packaging', async () => {
    const all = await layers();
    const [, , boot] = all;
    const other = digestOf(noise(5));
    const cases: readonly (readonly [string, readonly LayerBlob[], RegExp, RegExp?])[] = [
      ['no annotation on a blob', changed(all, 0, { annotations: {} }), /layer 1 .* has no annotation containerd\.io\/snapshot\/nydus-blob/],
      ['media type of a blob', changed(all, 1, { mediaType: 'application/octet-stream' }), /layer 2 .* has media type application\/octet-stream, not/],
      ['diffID of a blob', changed(all, 0, { diffId: other }), /layer 1 .* has diffID sha256:.* but a Nydus blob's is its own digest/],
      ['a plain layer between', [...all.slice(0, 2), ...plainLayers(TARS.slice(0, 1)), ...all.slice(2)], /layer 3 .* is no Nydus blob/],
      ['bootstrap not last', [all[2], all[0], all[1]] as LayerBlob[], /bootstrap layer is not the last one/, /cannot mount/],
      ['no bootstrap', all.slice(0, 2), /no bootstrap layer/, /cannot mount/],
      ['two bootstraps', [...all, boot as LayerBlob], /2 layers are annotated as Nydus bootstrap/],
      ['no version', changed(all, 2, { annotations: { [ANNOTATION.bootstrap]: 'true' } }), /no annotation containerd\.io\/snapshot\/nydus-fs-version: it is taken for RAFS v5, and is v6/],
      ['another version', changed(all, 2, { annotations: { [ANNOTATION.bootstrap]: 'true', [ANNOTATION.fsVersion]: '5' } }), /says 5, the bootstrap is RAFS v6/],
      ['a blob that is missing', all.slice(1), /blob 0 .* is in no layer of the manifest/, /cannot read what is in 1 of its blobs/],
    ];
    for (const [name, changedLayers, problem, note] of cases) {
      const { problems, notes } = await said(changedLayers);
      assert.ok(problems.some((text) => problem.test(text)), `${name}: ${problems.join(' | ')}`);
      if (note) assert.ok(notes.some((text) => note.test(text)), `${name}: ${notes.join(' | ')}`);
    }
  });

  it('names a bootstrap that cannot be read', async () => {
    const all = await layers();
    const bytes = bootstrapLayer({ 'image/image.boot': noise(8192) });
    const { problems, notes } = await said(changed(all, 2, { bytes }));
    assert.ok(problems.some((text) => /magic number/.test(text)), problems.join(' | '));
    assert.match(notes.join(), /its bootstrap cannot be read/);
  });

  it('names blobs of others that nothing keeps alive', async () => {
    const { bootstrap, metas } = await madeRafs();
    const all = await layers();
    const files = { 'image/image.boot': bootstrap, ...Object.fromEntries([...metas].map(([id, bytes]) => [`image/${id}.blob.meta`, bytes])) };
    const annotations = { [ANNOTATION.bootstrap]: 'true', [ANNOTATION.fsVersion]: '6' };
    const bytes = bootstrapLayer(files);
    const layer: LayerBlob = { bytes, diffId: digestOf(bytes), mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', annotations };
    const store = openMemory();
    await putImage(store, { layers: all }, 'other');
    const lonely = await said([layer], store);
    assert.ok(lonely.problems.some((text) => /registries may throw it away/.test(text)));
    const named = await said([{ ...layer, annotations: { ...annotations, [ANNOTATION.referenceBlobIds]: JSON.stringify([...metas.keys()]) } }], store);
    assert.ok(!named.problems.some((text) => /registries may throw it away/.test(text)), named.problems.join());
  });

  it('names images of an index that cannot be told apart', async () => {
    const all = await layers();
    const index = async (entry: (manifest: Descriptor) => Descriptor): Promise<readonly string[]> => {
      const store = openMemory();
      const plain = await putImage(store, { layers: plainLayers(TARS) });
      const lazy = await putImage(store, { layers: all });
      await putIndex(store, [plain, entry(lazy)], 'both');
      return (await inspectImage({ store, reference: 'both' }, [nydus])).problems;
    };
    const platform: Platform = { ...LINUX, 'os.features': [OS_FEATURE] };
    const twins = /two images for linux\/amd64/;
    assert.ok((await index((lazy) => lazy)).some((text) => twins.test(text)));
    assert.deepEqual((await index((lazy) => ({ ...lazy, platform }))).filter((text) => twins.test(text)), []);
    assert.deepEqual((await index((lazy) => ({ ...lazy, artifactType: MANIFEST_ARTIFACT_TYPE }))).filter((text) => twins.test(text)), []);
  });

  it('is asked of blobs by media type alone', () => {
    const digest: Digest = digestOf();
    const layer = (mediaType: string, annotations?: Record<string, string>): { descriptor: Descriptor } => ({ descriptor: { mediaType, digest, size: 0, ...(annotations && { annotations }) } });
    const claims = (one: { descriptor: Descriptor }): boolean | undefined => nydus.claims?.(one as never);
    assert.equal(claims(layer(BLOB_MEDIA_TYPE)), true);
    assert.equal(claims(layer('x', { [ANNOTATION.bootstrap]: 'true' })), true);
    assert.equal(claims(layer('x', { [ANNOTATION.bootstrap]: 'false' })), false);
  });
});
