import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf, type Digest } from '../../../src/core/digest.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import type { StoredImage } from '../../../src/core/format.ts';
import { collect, streamOf } from '../../../src/core/stream.ts';
import type { Descriptor, Platform } from '../../../src/core/types.ts';
import { describe, encodeDocument } from '../../../src/oci/documents.ts';
import { OCI } from '../../../src/oci/media-types.ts';
import { openMemory, type MemoryStore } from '../../../src/oci/memory.ts';
import { examineSoci } from '../../../formats/soci/examine.ts';
import { CONFIG, CONFIG_BLOB, encodeSociIndex } from '../../../formats/soci/index-manifest.ts';
import { ANNOTATION, INDEX_TYPE, PREFETCH_MEDIA_TYPE, ZTOC_MEDIA_TYPE } from '../../../formats/soci/layout.ts';

const AMD64: Platform = { os: 'linux', architecture: 'amd64' };
const some = (text: string): Digest => digestOf(Buffer.from(text));
const LAYERS: readonly Descriptor[] = ['one', 'two', 'three'].map((name) => ({ mediaType: OCI.layerGzip, digest: some(name), size: 7 }));

function ztoc(layer: Descriptor, annotations: Record<string, string | undefined> = {}): Descriptor {
  const all = { [ANNOTATION.layerDigest]: layer.digest, [ANNOTATION.layerMediaType]: layer.mediaType, [ANNOTATION.spanSize]: '4194304', ...annotations };
  return { mediaType: ZTOC_MEDIA_TYPE, digest: some(`zTOC of ${layer.digest}`), size: 9, annotations: JSON.parse(JSON.stringify(all)) as Record<string, string> };
}

async function put(store: MemoryStore, mediaType: string, bytes: Uint8Array): Promise<Descriptor> {
  const descriptor = describe(mediaType, bytes);
  await store.push(descriptor, () => streamOf(bytes));
  return descriptor;
}

interface Setup {
  /** Whether the manifest names the index; a text is named instead. */
  readonly annotate?: boolean | string;
  /** The index's bytes, made from good ones. */
  readonly change?: (good: Uint8Array) => Uint8Array;
  readonly ztocs?: readonly Descriptor[];
  /** v1 indexes that refer to the image. */
  readonly v1?: number;
  /** What becomes of the entries of the image index; undefined for an image on its own. */
  readonly entries?: ((good: readonly [Descriptor, Descriptor]) => readonly Descriptor[]) | undefined;
  readonly noConfig?: boolean;
  readonly dangling?: boolean;
  /** Last touch to what formats see. */
  readonly image?: Partial<StoredImage>;
}

/** An image with a SOCI index that is right in all but what the test wants wrong. */
async function examined(setup: Setup): Promise<{ problems: readonly string[]; notes: readonly string[]; v2: Digest; image: Digest; asked: number } | undefined> {
  const { annotate = true, change = (good) => good, ztocs = LAYERS.slice(0, 2).map((layer) => ztoc(layer)), v1 = 0 } = setup;
  const store = openMemory();
  const config = await put(store, OCI.config, encodeDocument({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: LAYERS.map(({ digest }) => digest) } }));
  if (!setup.noConfig) await put(store, INDEX_TYPE.v2, CONFIG_BLOB);
  const bytes = change(encodeSociIndex({ layers: ztocs }));
  const v2 = describe(OCI.manifest, bytes);
  if (!setup.dangling) await store.push(v2, () => streamOf(bytes));
  const named = annotate === true ? v2.digest : annotate;
  const annotations: Record<string, string> = named === false ? {} : { [ANNOTATION.indexDigest]: named };
  const manifest = await put(store, OCI.manifest, encodeDocument({ schemaVersion: 2, mediaType: OCI.manifest, config, layers: LAYERS, annotations }));
  for (let i = 0; i < v1; i++) await put(store, OCI.manifest, change(encodeSociIndex({ layers: [...ztocs, ...LAYERS.slice(0, i).map((layer) => ztoc(layer))], subject: manifest })));
  const entries = 'entries' in setup ? setup.entries : (good: readonly Descriptor[]) => good;
  let asked = 0;
  const image: StoredImage = {
    descriptor: manifest,
    annotations,
    layers: LAYERS,
    ...(entries && { entries: entries([{ ...manifest, platform: AMD64 }, { ...v2, platform: AMD64, artifactType: INDEX_TYPE.v2, annotations: { [ANNOTATION.imageDigest]: manifest.digest } }]) }),
    async resolve(digest) {
      try {
        return await store.resolve(digest);
      } catch (error) {
        if (error instanceof LazypullError && error.code === 'NOT_FOUND') return undefined;
        throw error;
      }
    },
    open: (descriptor) => store.open(descriptor),
    async fetch(descriptor, limit) {
      if (descriptor.size > limit) throw new LazypullError('LIMIT', `${descriptor.digest} is too large`);
      return collect(store.fetch(descriptor), limit);
    },
    async referrers(artifactType) {
      asked += 1;
      return (await store.referrers(manifest)).filter((found) => found.artifactType === artifactType);
    },
    sibling: async () => undefined,
    ...setup.image,
  };
  const examination = await examineSoci(image);
  return examination && { ...examination, v2: v2.digest, image: manifest.digest, asked };
}

/** All that is wrong with a setup: each pattern has to match one problem, and nothing else may be found. */
async function assertProblems(what: string, setup: Setup, patterns: readonly RegExp[], fate: RegExp): Promise<void> {
  const found = await examined(setup);
  assert.ok(found, what);
  assert.equal(found.problems.length, patterns.length, `${what}: ${found.problems.join('\n')}`);
  for (const pattern of patterns) assert.ok(found.problems.some((problem) => pattern.test(problem)), `${what}: ${String(pattern)} in ${found.problems.join('\n')}`);
  assert.match(found.notes[0] ?? '', fate, what);
}

const LAZILY = /^a soci-snapshotter mounts this image lazily \(v2 index sha256:[0-9a-f]{64}: 2 of 3 layers; the others are too small or cannot be indexed, and are unpacked at start\)$/;

test('an image without anything of SOCI costs one question', async () => {
  let asked = 0;
  const referrers = async (): Promise<readonly Descriptor[]> => {
    asked += 1;
    return [];
  };
  const never = async (): Promise<never> => assert.fail('nothing else is asked');
  assert.equal(await examined({ annotate: false, entries: ([image]) => [image], image: { referrers, resolve: never, fetch: never } }), undefined);
  // An annotation without a value is none.
  assert.equal(await examined({ annotate: '', entries: undefined, image: { referrers, resolve: never, fetch: never } }), undefined);
  assert.equal(asked, 2);
});

test('a good v2 image has no problems, in an index and on its own', async () => {
  await assertProblems('in an index', {}, [], LAZILY);
  await assertProblems('on its own', { entries: undefined }, [], LAZILY);
  await assertProblems('all layers', { ztocs: LAYERS.map((layer) => ztoc(layer)) }, [], /all 3 layers\)$/);
});

test('a v1 index is for those who enable it', async () => {
  const fate = /^a soci-snapshotter mounts this image lazily only where pull_modes\.soci_v1 is enabled, .* \(v1 index sha256:[0-9a-f]{64}: 2 of 3 layers;/;
  await assertProblems('v1', { annotate: false, v1: 1, entries: undefined }, [], fate);
  await assertProblems('two of them', { annotate: false, v1: 2, entries: undefined }, [/^2 v1 SOCI indexes refer to this image/, /not the only one about layer/], fate);
  const both = await examined({ v1: 1 });
  assert.deepEqual(both?.problems, []);
  assert.match(both?.notes[0] ?? '', LAZILY);
  assert.match(both?.notes[1] ?? '', /also has a v1 SOCI index/);
});

test('an annotation that leads nowhere ends lazy loading, whatever else there is', async () => {
  const fate = /^a soci-snapshotter unpacks this image eagerly: the SOCI index that its manifest names is not in the repository$/;
  const dangling = /names sha256:[0-9a-f]{64}, which is not in the repository: no lazy loading, and no fall back to v1$/;
  await assertProblems('alone', { dangling: true, entries: undefined }, [dangling], fate);
  await assertProblems('with a v1 index', { dangling: true, entries: ([image]) => [image], v1: 1 }, [dangling], fate);
  await assertProblems('no digest', { annotate: 'latest\n', entries: undefined }, [/is no digest: latest\\x0a$/], /names no digest/);
});

test('an index that Go would write otherwise is useless', async () => {
  const fate = /eagerly: its SOCI index is not canonical JSON$/;
  const problem = /is not canonical JSON \(byte \d+ on\): the snapshotter's store rejects it and pulls the whole image eagerly$/;
  await assertProblems('v2', { change: (good) => Buffer.concat([good, Buffer.from('\n')]) }, [problem], fate);
  const indented = (good: Uint8Array): Uint8Array => Buffer.from(JSON.stringify(JSON.parse(Buffer.from(good).toString()), undefined, 2));
  await assertProblems('v1', { annotate: false, entries: undefined, v1: 1, change: indented }, [problem], fate);
});

test('the bindings of v2 are looked at from both ends', async () => {
  const changed = (changes: Partial<Descriptor>) => ([image, index]: readonly [Descriptor, Descriptor]): readonly Descriptor[] => [image, JSON.parse(JSON.stringify({ ...index, ...changes })) as Descriptor];
  await assertProblems('not listed', { entries: ([image]) => [image] }, [/is not in the image index/], LAZILY);
  await assertProblems('in front', { entries: ([image, index]) => [index, image] }, [/comes before its image/], LAZILY);
  await assertProblems('no annotation', { entries: changed({ annotations: {} }) }, [/has no image in its annotation/], LAZILY);
  await assertProblems('another image', { entries: changed({ annotations: { [ANNOTATION.imageDigest]: some('x') } }) }, [/has another image in its annotation .*: sha256:/], LAZILY);
  await assertProblems('no type', { entries: changed({ artifactType: undefined as never }) }, [], LAZILY);
  await assertProblems('another type', { entries: changed({ artifactType: INDEX_TYPE.v1 }) }, [/has artifact type .*index\.v1\+json, not/], LAZILY);
  await assertProblems('another platform', { entries: changed({ platform: { os: 'linux', architecture: 'arm64' } }) }, [/has linux\/arm64, that of its image has linux\/amd64$/], LAZILY);
  await assertProblems('no platform', { entries: changed({ platform: undefined as never }) }, [/has no platform, that of its image/], LAZILY);
  await assertProblems('the same in other words', { entries: changed({ platform: { os: 'Linux', architecture: 'x86_64' } }) }, [], LAZILY);
  const second = { ...LAYERS[0], artifactType: INDEX_TYPE.v2 } as Descriptor;
  const two = ([image, index]: readonly [Descriptor, Descriptor]): readonly Descriptor[] => [image, index, { ...second, annotations: { [ANNOTATION.imageDigest]: image.digest } }];
  await assertProblems('two', { entries: two }, [/the image index has SOCI index sha256:.* for this image, but the manifest names sha256:/], LAZILY);
  await assertProblems('not named', { annotate: false }, [/but the manifest has no annotation/], /eagerly: its manifest names no SOCI index$/);
});

test('the index is held against the layers of the image', async () => {
  const [one, two, three] = LAYERS as [Descriptor, Descriptor, Descriptor];
  const list = (annotations: Record<string, string>): Descriptor => ({ mediaType: PREFETCH_MEDIA_TYPE, digest: some('list'), size: 9, annotations });
  const cases: [string, Descriptor[], RegExp[]][] = [
    ['a stranger', [ztoc({ ...three, digest: some('x') })], [/zTOC sha256:.* is about sha256:.*, which is not a layer of this image$/]],
    ['another media type', [ztoc(three, { [ANNOTATION.layerMediaType]: OCI.layer })], [/says that layer .* is .*tar; it is .*tar\+gzip$/]],
    ['no annotation', [ztoc(three, { [ANNOTATION.layerMediaType]: undefined, [ANNOTATION.spanSize]: undefined })], [/lacks com\.amazon\.soci\.image-layer-mediaType, com\.amazon\.soci\.span-size$/]],
    ['no layer', [ztoc(three, { [ANNOTATION.layerDigest]: undefined })], [/lacks com\.amazon\.soci\.image-layer-digest$/]],
    ['a span size in words', [ztoc(three, { [ANNOTATION.spanSize]: '4 MiB' })], [/span size that is no number: 4 MiB$/]],
    ['one layer twice', [{ ...ztoc(one), digest: some('again') }], [/is not the only one about layer/]],
    ['a blob nobody knows', [{ mediaType: 'text/plain', digest: some('t'), size: 1 }], [/lists a blob of media type text\/plain/]],
    ['a prefetch list', [list({ [ANNOTATION.layerDigest]: one.digest })], []],
    ['a prefetch list about nothing', [list({})], [/prefetch list sha256:.* lacks com\.amazon\.soci\.image-layer-digest$/]],
    ['a prefetch list without a zTOC', [list({ [ANNOTATION.layerDigest]: three.digest })], [/is about layer .*, which has no zTOC$/]],
  ];
  for (const [what, more, patterns] of cases) await assertProblems(what, { ztocs: [ztoc(one), ztoc(two), ...more] }, patterns, /lazily .*[23] (?:of 3 )?layers/);
  await assertProblems('none of them', { ztocs: [] }, [], /eagerly: no zTOC in its SOCI index is about one of its layers$/);
});

test('versions, subject and config are as they have to be', async () => {
  const text = (from: string | RegExp, to: string) => (good: Uint8Array): Uint8Array => Buffer.from(Buffer.from(good).toString().replace(from, to));
  const v1 = { annotate: false, entries: undefined, v1: 1 } as const;
  await assertProblems('v1 for v2', { change: text('index.v2', 'index.v1') }, [/is a v1 index where a v2 index belongs/, /without a subject/], LAZILY);
  await assertProblems('v3', { change: text('index.v2', 'index.v3') }, [/unknown version/], /eagerly: its SOCI index cannot be read$/);
  await assertProblems('no index', { change: text(INDEX_TYPE.v2, OCI.config) }, [/is not a SOCI index/], /eagerly: its SOCI index cannot be read$/);
  await assertProblems('the size of the subject', { ...v1, change: text(/("subject":\{[^}]*"size":)\d+/, '$17') }, [/says its subject is 7 bytes of .*; it is \d+ bytes of/], /soci_v1/);
  const config = `"digest":"${CONFIG.digest}"`;
  await assertProblems('another config', { change: text(config, `"digest":"${some('x')}"`) }, [/has the config sha256:.* of 2 bytes; it has to be \{\}/], LAZILY);
  await assertProblems('no config', { noConfig: true }, [/its config is not there/], LAZILY);
  const elsewhere = async (): Promise<readonly Descriptor[]> => {
    const store = openMemory();
    await put(store, INDEX_TYPE.v1, CONFIG_BLOB);
    return [{ mediaType: OCI.manifest, digest: some('gone'), size: 3, artifactType: INDEX_TYPE.v1 }];
  };
  await assertProblems('a v1 index that is gone', { annotate: false, entries: undefined, image: { referrers: elsewhere } }, [/is not in memory/], /eagerly: its SOCI index cannot be read$/);
});

test('a repository that cannot be reached is an error, not a problem', async () => {
  const fail = async (): Promise<never> => {
    throw new LazypullError('NETWORK', 'gone');
  };
  for (const image of [{ referrers: fail }, { resolve: fail }, { fetch: fail }]) {
    await assert.rejects(examined({ image }), (error) => error instanceof LazypullError && error.code === 'NETWORK');
  }
});
