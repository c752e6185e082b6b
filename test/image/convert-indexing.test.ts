import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { estargz } from '../../formats/estargz/index.ts';
import { choose, type FormatChoice } from '../../src/core/format.ts';
import { LazypullError } from '../../src/core/errors.ts';
import { collect } from '../../src/core/stream.ts';
import type { Descriptor, ImageStore } from '../../src/core/types.ts';
import { Inflater } from '../../src/codec/inflate.ts';
import { zstdCompress } from '../../src/codec/zstd.ts';
import { convertImage, type ConvertOptions, type ConvertReport } from '../../src/image/convert.ts';
import { copyImage } from '../../src/image/copy.ts';
import { verifyImage } from '../../src/image/verify.ts';
import { parseIndex, parseManifest, type ImageIndex, type ImageManifest } from '../../src/oci/documents.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { openMemory, type MemoryStore } from '../../src/oci/memory.ts';
import { noise } from '../support/noise.ts';
import { ARM, gzipLayer, LINUX, plainLayer, putAttestation, putImage, putIndex, tarOf, type LayerBlob } from './fixture.ts';
import { TEST_BINDING, testIndexing, type Heard, type TestIndexOptions } from './indexing-format.ts';

const base = gzipLayer([{ path: 'etc/' }, { path: 'etc/noise', content: noise(400_000) }, { path: 'etc/words', content: 'words '.repeat(60_000) }]);
const small = gzipLayer([{ path: 'top', content: 'top' }]);

/** Counts what is fetched of each blob. */
function counting(store: MemoryStore): { readonly store: ImageStore; readonly fetched: Map<string, number> } {
  const fetched = new Map<string, number>();
  const fetch: ImageStore['fetch'] = async function* (descriptor, signal) {
    for await (const bytes of store.fetch(descriptor, signal)) {
      fetched.set(descriptor.digest, (fetched.get(descriptor.digest) ?? 0) + bytes.length);
      yield bytes;
    }
  };
  return { store: wrapped(store, { fetch }), fetched };
}

function wrapped(store: MemoryStore, changes: Partial<ImageStore>): ImageStore {
  return {
    location: store.location,
    resolve: (reference, signal) => store.resolve(reference, signal),
    tag: (descriptor, tag) => store.tag(descriptor, tag),
    has: (descriptor) => store.has(descriptor),
    open: (descriptor) => store.open(descriptor),
    fetch: (descriptor, signal) => store.fetch(descriptor, signal),
    push: (descriptor, open, signal) => store.push(descriptor, open, signal),
    ingest: (mediaType, produce, signal) => store.ingest(mediaType, produce, signal),
    referrers: (subject, signal) => store.referrers(subject, signal),
    close: () => store.close(),
    ...changes,
  };
}

function run(source: ImageStore, target: ImageStore, choices: FormatChoice | readonly FormatChoice[], options: ConvertOptions = {}): Promise<ConvertReport> {
  return convertImage({ store: source, reference: 'in' }, { store: target, reference: 'out' }, choices, { jobs: 2, ...options });
}

async function indexOf(store: ImageStore, reference = 'out'): Promise<ImageIndex> {
  const root = await store.resolve(reference);
  assert.equal(root.mediaType, OCI.index);
  return parseIndex(await collect(store.fetch(root), 1 << 20));
}

async function manifestOf(store: ImageStore, descriptor: Descriptor): Promise<ImageManifest> {
  return parseManifest(await collect(store.fetch(descriptor), 1 << 20));
}

const all = (parts: readonly Uint8Array[]): Buffer => Buffer.concat(parts);

/** Every point really is one from which the stored bytes inflate to the tar. */
function checkPoints({ packed, tar, points }: Heard): void {
  assert.ok(points.length > 0);
  const [blob, plain] = [all(packed), all(tar)];
  for (const { bit, out, member } of points) {
    const inflater = new Inflater();
    // Without a window where it says that none is needed.
    inflater.resume({ bit, out }, member ? new Uint8Array(0) : plain.subarray(Math.max(0, out - 32_768), out));
    inflater.push(blob.subarray(Math.floor(bit / 8), Math.floor(bit / 8) + 200_000));
    inflater.decode(20_000);
    const bytes = Buffer.from(inflater.take());
    inflater.close();
    assert.ok(bytes.equals(plain.subarray(out, out + bytes.length)), `point at ${out}`);
  }
}

describe('convert with a format that describes layers', () => {
  it('keeps the layers, fetches each once, and lists the artifact beside the image, each naming the other', async () => {
    const memory = openMemory();
    const target = openMemory();
    const image = await putImage(memory, { layers: [base, small] }, 'in');
    const { store, fetched } = counting(memory);
    const { format, heard } = testIndexing();
    const report = await run(store, target, choose(format, {}));
    const { layers } = await manifestOf(memory, image);
    for (const [i, { bytes }] of [base, small].entries()) {
      assert.equal(fetched.get(layers[i]?.digest ?? ''), bytes.length, 'one pass');
      const own = heard.find(({ packed }) => all(packed).equals(Buffer.from(bytes))) as Heard;
      assert.equal(own.ended, 'finished');
      assert.equal(own.compression, 'gzip');
      assert.ok(all(own.tar).equals(gunzipSync(bytes)));
      checkPoints(own);
    }
    const { manifests: [listed, artifact, ...more] } = await indexOf(target);
    assert.equal(more.length, 0);
    assert.deepEqual(listed?.platform, LINUX);
    assert.deepEqual(artifact?.platform, LINUX);
    assert.equal(artifact?.artifactType, TEST_BINDING.artifactType);
    assert.equal(artifact?.annotations?.[TEST_BINDING.imageKey], listed?.digest);
    assert.equal(listed?.annotations?.[TEST_BINDING.artifactKey], artifact?.digest);
    const manifest = await manifestOf(target, listed as Descriptor);
    assert.deepEqual(manifest.layers, layers);
    assert.deepEqual(manifest.annotations, { [TEST_BINDING.artifactKey]: artifact?.digest });
    assert.deepEqual(report.platforms[0]?.artifacts, [{ format: 'listening', digest: artifact?.digest }]);
    assert.deepEqual(report.platforms[0]?.layers.map(({ action, entries }) => [action, entries]), [['indexed', 3], ['indexed', 3]]);
    assert.ok(await target.has(artifact as Descriptor));
    assert.ok((await verifyImage({ store: target, reference: 'out' }, [], { against: { store: memory, reference: 'in' } })).ok);
  });

  it('takes the platform of a lone image from its config, whole', async () => {
    const memory = openMemory();
    const platform = { os: 'windows', architecture: 'amd64', 'os.version': '10.0.20348.1', 'os.features': ['win32k'] };
    await putImage(memory, { layers: [base], config: platform }, 'in');
    const target = openMemory();
    await run(memory, target, choose(testIndexing().format, {}));
    assert.deepEqual((await indexOf(target)).manifests.map((entry) => entry.platform), [platform, platform]);
  });

  it('progress adds up, whatever becomes of a layer', async () => {
    for (const choice of [{}, { leaveOut: 'gzip' }] as TestIndexOptions[]) {
      const memory = openMemory();
      const foreign = { ...small, mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip' };
      await putImage(memory, { layers: [base, foreign] }, 'in');
      let [bytes, total] = [0, 0];
      const phases: string[] = [];
      await run(memory, openMemory(), choose(testIndexing().format, choice), {
        progress(event) {
          if (event.type === 'total') total = event.bytes;
          else if (event.type === 'bytes') bytes += event.packed;
          else if (event.phase !== 'start') phases.push(event.phase);
        },
      });
      assert.equal(bytes, total);
      assert.deepEqual(phases.sort(), choice.leaveOut ? ['reused', 'reused'] : ['done', 'reused']);
    }
  });

  it('follows layers that are in the target already, plain ones too', async () => {
    const store = openMemory();
    const plain = plainLayer([{ path: 'a', content: noise(100_000) }]);
    await putImage(store, { layers: [plain] }, 'in');
    const { format, heard } = testIndexing();
    await run(store, store, choose(format, {}));
    assert.equal(heard.length, 1);
    assert.ok(all((heard[0] as Heard).packed).equals(Buffer.from(plain.bytes)));
    assert.ok(all((heard[0] as Heard).tar).equals(Buffer.from(plain.bytes)));
    assert.equal(heard[0]?.compression, 'none');
  });

  it('leaves out a layer with the reason, and says so when nothing is left', async () => {
    const memory = openMemory();
    await putImage(memory, { layers: [base] }, 'in');
    const { format, heard } = testIndexing();
    const target = openMemory();
    const report = await run(memory, target, choose(format, { leaveOut: 'gzip' }));
    assert.equal(heard.length, 0);
    assert.deepEqual(report.platforms[0]?.layers[0]?.indexes, [{ format: 'listening', blob: null, skipped: 'it is to be left out', entries: 0, chunks: 0 }]);
    assert.match(report.warnings.join('\n'), /no layer has a listening index/);
    assert.equal((await target.resolve('out')).digest, (await memory.resolve('in')).digest);
  });

  it('packs a layer anew as gzip where the index wants that, tar and diffID unchanged', async () => {
    const memory = openMemory();
    const tar = tarOf([{ path: 'big', content: noise(3_000_000) }]);
    const layer: LayerBlob = { ...plainLayer([{ path: 'big', content: noise(3_000_000) }]), bytes: await zstdCompress(tar, 3), mediaType: OCI.layerZstd };
    await putImage(memory, { layers: [layer] }, 'in');
    const { format, heard } = testIndexing();
    const target = openMemory();
    const report = await run(memory, target, choose(format, { repack: 'zstd' }));
    const [made] = report.platforms[0]?.layers ?? [];
    assert.deepEqual([made?.action, made?.entries], ['repacked', 3], 'what is known of a repacked layer is what its index says');
    const [own] = heard as [Heard];
    assert.ok(gunzipSync(all(own.packed)).equals(tar));
    assert.ok(all(own.tar).equals(tar));
    checkPoints(own);
    assert.ok((await verifyImage({ store: target, reference: 'out' }, [], { against: { store: memory, reference: 'in' } })).ok);
  });

  it('goes together with one that makes new layers: one fetch, one inflate, and the index is about the new layer', async () => {
    const memory = openMemory();
    const image = await putImage(memory, { layers: [base] }, 'in');
    const { store, fetched } = counting(memory);
    const { format, heard } = testIndexing();
    for (const options of [{ chunkSize: 30_000 }, { externalToc: true }, { keepDiffId: true }]) {
      heard.length = 0;
      fetched.clear();
      const target = openMemory();
      const report = await run(store, target, [choose(estargz, options), choose(format, {})]);
      const [own] = heard as [Heard];
      const [source] = (await manifestOf(memory, image)).layers;
      assert.equal(fetched.get(source?.digest ?? ''), base.bytes.length);
      const { manifests: [listed] } = await indexOf(target);
      const [layer] = (await manifestOf(target, listed as Descriptor)).layers;
      const blob = Buffer.from(await collect(target.fetch(layer as Descriptor), 1 << 24));
      assert.ok(all(own.packed).equals(blob));
      assert.ok(all(own.tar).equals(gunzipSync(blob)));
      assert.ok(own.points.every(({ member }) => member));
      checkPoints(own);
      assert.equal(report.platforms[0]?.layers[0]?.action, 'converted');
      assert.ok((await verifyImage({ store: target, reference: 'out' }, [estargz], { against: { store: memory, reference: 'in' } })).ok);
    }
  });

  it('follows a layer that is taken over as it is', async () => {
    const memory = openMemory();
    await putImage(memory, { layers: [base] }, 'in');
    const once = openMemory();
    await run(memory, once, choose(estargz));
    await once.tag(await once.resolve('out'), 'in');
    const { format, heard } = testIndexing();
    const target = openMemory();
    const report = await run(once, target, [choose(format, {}), choose(estargz)]);
    assert.equal(report.platforms[0]?.layers[0]?.action, 'passed-through');
    assert.equal(heard.length, 1);
    checkPoints(heard[0] as Heard);
  });

  it('a broken layer ends it: nothing tagged, the follower let go', async () => {
    const memory = openMemory();
    await putImage(memory, { layers: [{ ...base, bytes: Buffer.concat([gzipSync('no tar'), Buffer.from('garbage')]) }] }, 'in');
    const { format, heard } = testIndexing();
    const target = openMemory();
    await assert.rejects(run(memory, target, choose(format, {})), { code: 'CORRUPT' });
    assert.equal(heard[0]?.ended, 'abandoned');
    await assert.rejects(target.resolve('out'), { code: 'NOT_FOUND' });
  });

  it('a push that breaks, asks again or finds the blob there ends well or clean', async () => {
    const memory = openMemory();
    await putImage(memory, { layers: [base] }, 'in');
    const { format, heard } = testIndexing();
    const ends = (): string[] => heard.map(({ ended }) => ended);
    const breaking = (target: MemoryStore, times: number): ImageStore => wrapped(target, {
      async push(descriptor, open, signal) {
        if (descriptor.size > 100_000 && times-- > 0) {
          for await (const _ of open()) throw new LazypullError('NETWORK', 'connection reset');
        }
        return target.push(descriptor, open, signal);
      },
    });
    await assert.rejects(run(memory, breaking(openMemory(), 2), choose(format, {})), { code: 'NETWORK' });
    assert.deepEqual(ends(), ['abandoned', 'abandoned']);
    heard.length = 0;
    await run(memory, breaking(openMemory(), 1), choose(format, {}));
    assert.deepEqual(ends(), ['abandoned', 'finished']);
    heard.length = 0;
    const target = openMemory();
    await run(memory, wrapped(target, {
      async push(descriptor, open, signal) {
        // A retry of its own: begins, and begins again.
        for await (const _ of open()) break;
        return target.push(descriptor, open, signal);
      },
    }), choose(format, {}));
    assert.deepEqual(ends().filter((end) => end === 'finished'), ['finished']);
    heard.length = 0;
    const full = openMemory();
    await run(memory, wrapped(full, {
      async push(descriptor, open, signal) {
        if (descriptor.size < 100_000) return full.push(descriptor, open, signal);
        // Somebody else was quicker: the stream is asked for and left.
        open();
        return full.push(descriptor, () => memory.fetch(descriptor), signal);
      },
    }), choose(format, {}));
    assert.deepEqual(ends(), ['finished']);
  });

  it('two that make new layers, none at all or one named twice are USAGE', async () => {
    const memory = openMemory();
    await putImage(memory, { layers: [base] }, 'in');
    const { format } = testIndexing();
    for (const choices of [[], [choose(estargz), choose({ ...estargz, name: 'other' })], [choose(format), choose(format)]]) {
      await assert.rejects(run(memory, openMemory(), choices), { code: 'USAGE' });
    }
  });
});

describe('what an index lists', () => {
  async function multi(store: MemoryStore): Promise<Descriptor[]> {
    const amd = { ...(await putImage(store, { layers: [base] })), annotations: { note: 'kept' } };
    const arm = await putImage(store, { layers: [small], platform: ARM });
    const attestation = await putAttestation(store, amd);
    await putIndex(store, [amd, attestation, arm], 'in', { annotations: { whole: 'kept' } });
    return [amd, attestation, arm];
  }

  const named = (choice: TestIndexOptions = {}): FormatChoice => choose(testIndexing().format, choice);

  it('attestations and annotations of entries survive; artifacts come last', async () => {
    const memory = openMemory();
    await multi(memory);
    const target = openMemory();
    await run(memory, target, named());
    const index = await indexOf(target);
    const [amd, attestation, arm, ofAmd, ofArm] = index.manifests;
    assert.equal(index.manifests.length, 5);
    assert.deepEqual(index.annotations, { whole: 'kept' });
    assert.deepEqual(amd?.annotations, { note: 'kept', [TEST_BINDING.artifactKey]: ofAmd?.digest });
    assert.deepEqual(attestation?.annotations, { 'vnd.docker.reference.type': 'attestation-manifest', 'vnd.docker.reference.digest': amd?.digest });
    assert.equal(ofAmd?.annotations?.[TEST_BINDING.imageKey], amd?.digest);
    assert.equal(ofArm?.annotations?.[TEST_BINDING.imageKey], arm?.digest);
    assert.deepEqual([ofAmd?.platform, ofArm?.platform], [LINUX, ARM]);
  });

  it('of some platforms leaves the others as they were, artifacts included', async () => {
    const memory = openMemory();
    const [, , arm] = await multi(memory);
    const first = openMemory();
    await run(memory, first, named(), { platforms: [LINUX] });
    const once = (await indexOf(first)).manifests;
    assert.equal(once.length, 4);
    assert.deepEqual(once[2], arm, 'not even the manifest of the other platform changes');
    await first.tag(await first.resolve('out'), 'in');
    const second = openMemory();
    await run(first, second, named({ salt: 'new' }), { platforms: [ARM] });
    const twice = (await indexOf(second)).manifests;
    assert.equal(twice.length, 5);
    assert.deepEqual(twice[0], once[0]);
    assert.deepEqual(twice[3], once[3], 'the artifact of the other platform');
    assert.equal(twice[4]?.annotations?.[TEST_BINDING.imageKey], twice[2]?.digest);
    await second.tag(await second.resolve('out'), 'in');
    const third = openMemory();
    await run(second, third, named({ salt: 'newest' }));
    const thrice = (await indexOf(third)).manifests;
    assert.equal(thrice.length, 5, 'old artifacts are replaced');
    assert.ok(!thrice.some(({ digest }) => digest === once[3]?.digest || digest === twice[4]?.digest));
    await third.tag(await third.resolve('out'), 'in');
    const fourth = openMemory();
    await run(third, fourth, named({ salt: 'newest' }));
    assert.equal((await fourth.resolve('out')).digest, (await third.resolve('in')).digest, 'doing it again changes nothing');
  });

  it('merged, the original stays what it is and the converted images follow, marked', async () => {
    const memory = openMemory();
    const originals = await multi(memory);
    const target = openMemory();
    const marked = { ...estargz, osFeature: 'test.lazy' };
    await run(memory, target, choose(marked, {}), { mergeIndex: true });
    const { manifests, annotations } = await indexOf(target);
    assert.deepEqual(annotations, { whole: 'kept' });
    assert.deepEqual(manifests.slice(0, 3), originals);
    assert.deepEqual(manifests.slice(3).map(({ platform }) => platform), [{ ...LINUX, 'os.features': ['test.lazy'] }, { ...ARM, 'os.features': ['test.lazy'] }]);
    assert.ok((await verifyImage({ store: target, reference: 'out' }, [estargz])).ok);
    const lone = openMemory();
    await putImage(lone, { layers: [base] }, 'in');
    await run(lone, lone, choose(marked, {}), { mergeIndex: true });
    assert.deepEqual((await indexOf(lone)).manifests.map(({ platform }) => platform), [LINUX, { ...LINUX, 'os.features': ['test.lazy'] }]);
    await assert.rejects(run(memory, target, choose(estargz), { mergeIndex: true }), { code: 'USAGE' });
  });

  it('merged, artifacts about the converted images are listed too, and lead to them', async () => {
    const memory = openMemory();
    const originals = await multi(memory);
    const inner = openMemory();
    const pushed: Descriptor[] = [];
    const target = wrapped(inner, {
      push(descriptor, open, signal) {
        pushed.push(descriptor);
        return inner.push(descriptor, open, signal);
      },
    });
    const { format } = testIndexing();
    const marked = { ...estargz, osFeature: 'test.lazy' };
    await run(memory, target, [choose(marked, {}), choose(format, {})], { mergeIndex: true });
    const { manifests } = await indexOf(target);
    assert.equal(manifests.length, 7);
    assert.deepEqual(manifests.slice(0, 3), originals);
    for (const [at, platform] of [[3, LINUX], [4, ARM]] as const) {
      const [image, artifact] = [manifests[at], manifests[at + 2]] as [Descriptor, Descriptor];
      const marks = { ...platform, 'os.features': ['test.lazy'] };
      assert.deepEqual([image.platform, artifact.platform, artifact.artifactType], [marks, marks, TEST_BINDING.artifactType]);
      assert.equal(artifact.annotations?.[TEST_BINDING.imageKey], image.digest);
      assert.equal(image.annotations?.[TEST_BINDING.artifactKey], artifact.digest);
      assert.equal((await manifestOf(target, image)).annotations?.[TEST_BINDING.artifactKey], artifact.digest);
    }
    // Nothing is stored that nobody lists.
    const listed = new Set([(await target.resolve('out')).digest, ...manifests.map(({ digest }) => digest)]);
    for (const { digest, mediaType } of pushed) if (mediaType === OCI.manifest || mediaType === OCI.index) assert.ok(listed.has(digest), `${mediaType} ${digest}`);
    assert.ok((await verifyImage({ store: target, reference: 'out' }, [estargz])).ok);
  });

  it('new layers make old artifacts void, their names in annotations included', async () => {
    const memory = openMemory();
    await multi(memory);
    const indexed = openMemory();
    await run(memory, indexed, named());
    await indexed.tag(await indexed.resolve('out'), 'in');
    const target = openMemory();
    await run(indexed, target, choose(estargz), { bindings: [TEST_BINDING] });
    const { manifests } = await indexOf(target);
    assert.equal(manifests.length, 3);
    assert.ok(manifests.every(({ annotations = {} }) => !(TEST_BINDING.artifactKey in annotations) && !(TEST_BINDING.imageKey in annotations)));
    assert.deepEqual([manifests[0]?.annotations, manifests[2]?.annotations], [{ note: 'kept' }, undefined], 'of what is left, nothing is not a list');
    for (const entry of [manifests[0], manifests[2]]) assert.equal((await manifestOf(target, entry as Descriptor)).annotations, undefined);
  });

  it('an old artifact that stays is not missed', async () => {
    const memory = openMemory();
    await multi(memory);
    const indexed = openMemory();
    await run(memory, indexed, named());
    await indexed.tag(await indexed.resolve('out'), 'in');
    const target = openMemory();
    const report = await run(indexed, target, named({ leaveOut: 'tar' }));
    assert.deepEqual(report.warnings, []);
    assert.equal((await target.resolve('out')).digest, (await indexed.resolve('in')).digest);
  });

  it('an old artifact that does not come along is not named any more', async () => {
    const memory = openMemory();
    await multi(memory);
    const indexed = openMemory();
    await run(memory, indexed, named());
    const [amd] = (await indexOf(indexed)).manifests as [Descriptor];
    const elsewhere = openMemory();
    const leftOut = named({ leaveOut: 'tar' });
    const report = await convertImage({ store: indexed, reference: amd.digest }, { store: elsewhere, reference: 'out' }, leftOut, { jobs: 2 });
    assert.equal((await manifestOf(elsewhere, await elsewhere.resolve('out'))).annotations, undefined);
    assert.match(report.warnings.join(), /no layer has a listening index/);
    // Where the artifact is already, the image keeps it.
    await convertImage({ store: indexed, reference: amd.digest }, { store: indexed, reference: 'again' }, leftOut, { jobs: 2 });
    assert.equal((await indexed.resolve('again')).digest, amd.digest);
  });

  it('of wishes that an image had nothing for, only those are told that all images share', async () => {
    const memory = openMemory();
    await multi(memory);
    const { format } = testIndexing();
    let images = 0;
    const describeImage: typeof format.describeImage = async (image, options) => {
      images += 1;
      const artifact = await format.describeImage(image, options);
      return artifact && { ...artifact, unused: ['nothing for both', `nothing for ${images}`] };
    };
    const report = await run(memory, openMemory(), choose({ ...format, describeImage }));
    assert.equal(images, 2);
    assert.deepEqual(report.warnings, ['nothing for both']);
  });

  it('a copy of one platform, or of one manifest, takes its artifact along', async () => {
    const memory = openMemory();
    await multi(memory);
    const indexed = openMemory();
    await run(memory, indexed, named());
    const [amd, , , ofAmd] = (await indexOf(indexed)).manifests as [Descriptor, Descriptor, Descriptor, Descriptor];
    const narrow = openMemory();
    await copyImage({ store: indexed, reference: 'out' }, { store: narrow, reference: 'out' }, { platforms: [LINUX] });
    assert.deepEqual((await indexOf(narrow)).manifests.map(({ digest }) => digest), [amd.digest, (await indexOf(indexed)).manifests[1]?.digest, ofAmd.digest]);
    const lone = openMemory();
    await copyImage({ store: indexed, reference: amd.digest }, { store: lone, reference: 'one' }, { bindings: [TEST_BINDING] });
    assert.ok(await lone.has(ofAmd));
    assert.equal((await lone.resolve('one')).digest, amd.digest);
  });
});
