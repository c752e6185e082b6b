import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import { ANNOTATION, INDEX_TYPE, PREFETCH_MEDIA_TYPE, ZTOC_MEDIA_TYPE } from '../../formats/soci/layout.ts';
import { decodeZtoc } from '../../formats/soci/ztoc.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { parseIndex, parseManifest, type ImageManifest } from '../../src/oci/documents.ts';
import { isIndexType, MANIFEST_ACCEPT, OCI } from '../../src/oci/media-types.ts';
import { lazypull, lazypullJson, runLazypull, sourceImages, type SourceImage } from '../support/peers-cli.ts';
import { buildGo, startContainerd } from '../support/peers-containerd.ts';
import { skopeoCopy, startOwnRegistry, startRegistry, type Registry } from '../support/peers-registry.ts';
import { haveRoot, haveTools, run, scratch } from '../support/peers.ts';
import { ownScope } from '../support/scope.ts';
import { openGoSoci, type GoSoci } from './go-soci.ts';
import { pushSource, TOC_DIGEST } from './steps.ts';

/** The bundled image is small. */
const SMALL = ['--span-size', '65536', '--min-layer-size', '0'];

/** Where documents and blobs are read from, past lazypull. */
interface Shelf {
  /** A manifest by tag or digest. */
  document(reference: string): Promise<{ readonly digest: string; readonly bytes: Buffer; readonly mediaType: string }>;
  blob(digest: string): Promise<Buffer>;
}

function registryShelf(registry: Registry, repository: string): Shelf {
  return {
    async document(reference) {
      const { status, headers, body } = await registry.get(`/v2/${repository}/manifests/${reference}`, MANIFEST_ACCEPT);
      assert.equal(status, 200, `${repository}:${reference}: ${body.toString()}`);
      return { digest: String(headers['docker-content-digest']), bytes: body, mediaType: String(headers['content-type']) };
    },
    async blob(digest) {
      const { status, body } = await registry.get(`/v2/${repository}/blobs/${digest}`);
      assert.equal(status, 200, `${repository} ${digest}`);
      return body;
    },
  };
}

function layoutShelf(folder: string): Shelf {
  const blob = (digest: string): Buffer => readFileSync(join(folder, 'blobs', ...digest.split(':')));
  return {
    async document(reference) {
      const entries = parseIndex(readFileSync(join(folder, 'index.json'))).manifests;
      const digest = reference.includes(':') ? reference : entries.find(({ annotations }) => annotations?.['org.opencontainers.image.ref.name'] === reference)?.digest;
      assert.ok(digest, `${folder} has no ${reference}`);
      const bytes = blob(digest);
      return { digest, bytes, mediaType: (JSON.parse(bytes.toString()) as { mediaType: string }).mediaType };
    },
    blob: async (digest) => blob(digest),
  };
}

/** Entries of an index, or the one manifest. */
async function entriesOf(shelf: Shelf, reference: string): Promise<readonly Descriptor[]> {
  const { mediaType, digest, bytes } = await shelf.document(reference);
  return isIndexType(mediaType) ? parseIndex(bytes).manifests : [{ mediaType, digest: digest as Descriptor['digest'], size: bytes.length }];
}

const platformName = ({ platform }: Descriptor): string => `${platform?.os}/${platform?.architecture}`;
const isImage = ({ artifactType, platform }: Descriptor): boolean => artifactType === undefined && platform?.os !== 'unknown';

/** Holds a SOCI index against its image, and every zTOC of it against its layer, with the official code. Returns the zTOCs' layers. */
async function checkSoci(go: GoSoci | undefined, shelf: Shelf, image: string, artifact: string, type: string): Promise<readonly string[]> {
  const manifest = parseManifest((await shelf.document(image)).bytes);
  const { bytes } = await shelf.document(artifact);
  const index = parseManifest(bytes);
  assert.equal(index.config.mediaType, type);
  assert.equal((await shelf.blob(index.config.digest)).toString(), '{}');
  const ztocs = index.layers.filter(({ mediaType }) => mediaType === ZTOC_MEDIA_TYPE);
  const layers = ztocs.map(({ annotations }) => annotations?.[ANNOTATION.layerDigest] ?? '');
  assert.deepEqual(manifest.layers.map(({ digest }) => digest as string).filter((digest) => layers.includes(digest)), layers, 'zTOCs in the order of the layers');
  if (!go) return layers;
  const told = await go.index(bytes);
  assert.equal(told.error, undefined);
  assert.deepEqual(told, { artifactType: type, layers, ...(type === INDEX_TYPE.v1 && { subject: image }) });
  for (const [i, { digest }] of ztocs.entries()) {
    const checked = await go.check(await shelf.blob(digest), await shelf.blob(layers[i] as string));
    assert.equal(checked.error, undefined, `layer ${i}: ${checked.error}`);
  }
  return layers;
}

const scope = ownScope();
let official: Promise<GoSoci | string> | undefined;
after(() => scope.close());

/** Built once for all tests. */
async function goOrNote(t: TestContext): Promise<GoSoci | undefined> {
  official ??= openGoSoci(scope);
  const go = await official;
  if (typeof go !== 'string') return go;
  t.diagnostic(`not held against soci-snapshotter: ${go}`);
  return undefined;
}

/** Reads through the index: nothing but ranges of layers. */
async function readsLazily(reference: string, ...flags: readonly string[]): Promise<void> {
  const release = await lazypull(['cat', reference, '/etc/os-release', '--stats', ...flags]);
  assert.match(release.text, /^NAME=|\nNAME=/);
  assert.match((await lazypull(['ls', reference, '/etc', ...flags])).text, /os-release/);
  await lazypull(['verify', reference, ...flags]);
}

/** The bundled image in a registry, and what it is held against. */
async function pushedTiny(t: TestContext, start: typeof startRegistry) {
  const go = await goOrNote(t);
  const registry = await start(t);
  const [image] = sourceImages(t, ['tiny']) as [SourceImage];
  const repository = await pushSource(registry, image);
  return { go, registry, repository, shelf: registryShelf(registry, repository) };
}

for (const [name, start, tools, referrersApi] of [['docker-registry, which knows no referrers', startRegistry, ['docker-registry'], false], ['lazypull serve, which does', startOwnRegistry, [], true]] as const) {
  test(`index: an artifact beside the image, at ${name}`, async (t) => {
    if (!haveTools(t, 'skopeo', ...tools)) return;
    const { go, registry, repository, shelf } = await pushedTiny(t, start);
    const reference = `docker://${registry.host}/${repository}:1`;
    const before = await shelf.document('1');
    const referrers = async (digest: string): Promise<readonly Descriptor[]> => {
      const answer = await registry.get(`/v2/${repository}/referrers/${digest}?artifactType=${encodeURIComponent(INDEX_TYPE.v1)}`);
      assert.equal(answer.status, referrersApi ? 200 : 404);
      return referrersApi ? parseIndex(answer.body).manifests : entriesOf(shelf, digest.replace(':', '-'));
    };
    const printed = (await lazypull(['index', reference, ...SMALL, '--plain-http'])).text.trim().split('\n');
    assert.deepEqual(await shelf.document('1'), before, 'the image is another');
    const images = parseIndex(before.bytes).manifests.filter(isImage);
    assert.equal(images.length, 2);
    const found: string[] = [];
    for (const { digest } of images) {
      const [artifact, ...others] = await referrers(digest);
      assert.ok(artifact);
      assert.deepEqual(others, []);
      assert.equal(artifact.artifactType, INDEX_TYPE.v1);
      assert.equal(artifact.mediaType, OCI.manifest);
      assert.equal((await checkSoci(go, shelf, digest, artifact.digest, INDEX_TYPE.v1)).length, parseManifest((await shelf.document(digest)).bytes).layers.length);
      found.push(`docker://${registry.host}/${repository}@${artifact.digest}`);
    }
    assert.deepEqual(printed.sort(), found.sort());
    await readsLazily(reference, '--plain-http');

    // Once more: nothing new, and nothing lost.
    await lazypull(['index', reference, ...SMALL, '--plain-http']);
    for (const { digest } of images) assert.equal((await referrers(digest)).length, 1);
  });

  test(`convert --format soci: index and image bound to each other, at ${name}`, async (t) => {
    if (!haveTools(t, 'skopeo', ...tools)) return;
    const { go, registry, repository, shelf } = await pushedTiny(t, start);
    const source = `docker://${registry.host}/${repository}:1`;
    const target = `docker://${registry.host}/${repository}:soci`;
    await lazypull(['convert', source, target, '--format', 'soci', ...SMALL, '--plain-http']);
    await assertBound(go, shelf, 'soci', ['linux/amd64', 'linux/arm64']);
    assertSameLayers(await manifestsOf(shelf, '1'), await manifestsOf(shelf, 'soci'));
    await readsLazily(target, '--plain-http');
    await lazypull(['verify', target, '--against', source, '--plain-http']);
    if ('uploads' in registry) assert.deepEqual(registry.uploads(repository), []);
  });
}

async function manifestsOf(shelf: Shelf, reference: string): Promise<readonly ImageManifest[]> {
  const images = (await entriesOf(shelf, reference)).filter(isImage);
  return Promise.all(images.map(async ({ digest }) => parseManifest((await shelf.document(digest)).bytes)));
}

function assertSameLayers(before: readonly ImageManifest[], after: readonly ImageManifest[]): void {
  assert.deepEqual(after.map(({ layers, config }) => [layers, config.digest]), before.map(({ layers, config }) => [layers, config.digest]));
}

/** The rules of a v2 image: notes §7.3. Images come before indexes, because clients take the first entry of their platform. */
async function assertBound(go: GoSoci | undefined, shelf: Shelf, reference: string, platforms: readonly string[]): Promise<void> {
  const entries = await entriesOf(shelf, reference);
  const images = entries.filter(isImage);
  const indexes = entries.filter(({ artifactType }) => artifactType === INDEX_TYPE.v2);
  assert.deepEqual(images.map(platformName), platforms);
  assert.deepEqual(indexes.map(platformName), platforms);
  assert.ok(entries.indexOf(indexes[0] as Descriptor) > entries.indexOf(images.at(-1) as Descriptor), 'an index comes before an image');
  for (const [i, { digest, platform }] of images.entries()) {
    const artifact = indexes[i] as Descriptor;
    const manifest = parseManifest((await shelf.document(digest)).bytes);
    assert.equal(manifest.mediaType, OCI.manifest);
    assert.equal(manifest.annotations?.[ANNOTATION.indexDigest], artifact.digest);
    assert.equal(artifact.annotations?.[ANNOTATION.imageDigest], digest);
    assert.deepEqual(artifact.platform, platform);
    await checkSoci(go, shelf, digest, artifact.digest, INDEX_TYPE.v2);
  }
  for (const { annotations } of entries.filter(({ platform }) => platform?.os === 'unknown')) {
    assert.equal(annotations?.['vnd.docker.reference.type'], 'attestation-manifest');
    assert.ok(images.some(({ digest }) => digest === annotations?.['vnd.docker.reference.digest']), 'the attestation is about another image');
  }
}

test('convert --format soci on layouts: Docker media types, and a real image with the default options', async (t) => {
  const go = await goOrNote(t);
  const [tiny, nginx] = sourceImages(t) as [SourceImage, SourceImage?];
  const folder = join(scratch(t), 'out');
  await lazypull(['convert', `oci:${tiny.layout}:docker`, `oci:${folder}:docker`, '--format', 'soci', ...SMALL]);
  await assertBound(go, layoutShelf(folder), 'docker', ['linux/amd64']);
  await readsLazily(`oci:${folder}:docker`);
  if (!nginx) return;
  await lazypull(['convert', `oci:${nginx.layout}:${nginx.tag}`, `oci:${folder}:nginx`, '--format', 'soci']);
  const shelf = layoutShelf(folder);
  await assertBound(go, shelf, 'nginx', ['linux/amd64']);
  const [image] = await manifestsOf(shelf, 'nginx');
  const index = parseManifest((await shelf.document(image?.annotations?.[ANNOTATION.indexDigest] ?? '')).bytes);
  const large = image?.layers.filter(({ size }) => size >= 10 << 20).map(({ digest }) => digest);
  assert.deepEqual(index.layers.map(({ annotations }) => annotations?.[ANNOTATION.layerDigest]), large);
  await readsLazily(`oci:${folder}:nginx`);
});

test('convert --format estargz,soci: layers that both snapshotters read, with checkpoints where members begin', async (t) => {
  const go = await goOrNote(t);
  const estargz = await buildGo(t, 'go-estargz');
  const [tiny, nginx] = sourceImages(t) as [SourceImage, SourceImage?];
  for (const [image, flags] of [[tiny, SMALL], [nginx, []]] as const) {
    if (!image) continue;
    const folder = join(scratch(t), 'out');
    const target = `oci:${folder}:both`;
    await lazypull(['convert', `oci:${image.layout}:${image.tag}`, target, '--format', 'estargz,soci', ...flags]);
    const shelf = layoutShelf(folder);
    await assertBound(go, shelf, 'both', image === tiny ? ['linux/amd64', 'linux/arm64'] : ['linux/amd64']);
    const manifests = await manifestsOf(shelf, 'both');
    for (const { layers, annotations } of manifests) {
      for (const layer of layers) {
        if (estargz.program === undefined) continue;
        const ran = await run(estargz.program, ['check', join(folder, 'blobs', ...layer.digest.split(':')), layer.annotations?.[TOC_DIGEST] ?? ''], { timeout: 300_000 });
        assert.equal(ran.code, 0, ran.text);
      }
      const index = parseManifest((await shelf.document(annotations?.[ANNOTATION.indexDigest] ?? '')).bytes);
      for (const { digest, annotations: about } of index.layers) {
        const { spans } = decodeZtoc(await shelf.blob(digest));
        assert.ok(spans.algorithm === 'gzip');
        const layer = await shelf.blob(about?.[ANNOTATION.layerDigest] ?? '');
        // Members of an eStargz layer have the shortest header there is.
        for (const { in: at, bits } of spans.checkpoints) assert.deepEqual([bits, layer.readUInt16BE(at - 10)], [0, 0x1f8b], `checkpoint at ${at} of ${layer.length}`);
      }
    }
    await readsLazily(target);
    await lazypull(['verify', target, '--against', `oci:${image.layout}:${image.tag}`]);
  }
});

test('convert --prefetch-list --optimize-xattr: spans of the files named, by any name, and who needs no xattrs', async (t) => {
  const go = await goOrNote(t);
  const [image] = sourceImages(t, ['tiny']) as [SourceImage];
  const folder = join(scratch(t), 'out');
  const list = join(scratch(t), 'prefetch.txt');
  // In layers whose names begin with ./ and without it, by the other name of a hard link, through a symlink, by a glob.
  writeFileSync(list, '/bin/show\nusr/share/book/pages-again.txt\netc/os-*\n');
  await lazypull(['convert', `oci:${image.layout}:docker`, `oci:${folder}:soci`, '--format', 'soci', '--prefetch-list', list, '--optimize-xattr', ...SMALL]);
  const shelf = layoutShelf(folder);
  const [manifest] = (await manifestsOf(shelf, 'soci')) as [ImageManifest];
  const { layers } = parseManifest((await shelf.document(manifest.annotations?.[ANNOTATION.indexDigest] ?? '')).bytes);
  const [base, data, ...rest] = manifest.layers.map(({ digest }) => layers.filter(({ annotations }) => annotations?.[ANNOTATION.layerDigest] === digest));
  assert.deepEqual([base?.length, data?.length, ...rest.map(({ length }) => length)], [2, 2, 1, 1]);
  // The first layer has xattrs, the third an opaque directory.
  const withoutXattrs = manifest.layers.map(({ digest }) => layers.find(({ annotations }) => annotations?.[ANNOTATION.layerDigest] === digest)?.annotations?.[ANNOTATION.disableXattrs]);
  assert.deepEqual(withoutXattrs, [undefined, 'true', undefined, 'true']);
  for (const [ztoc, prefetch] of [base, data] as [Descriptor, Descriptor][]) {
    assert.equal(prefetch.mediaType, PREFETCH_MEDIA_TYPE);
    const told = go && (await go.prefetch(await shelf.blob(prefetch.digest)));
    assert.equal(told?.error, undefined);
    const { spanDigests } = decodeZtoc(await shelf.blob(ztoc.digest));
    for (const [first, last] of told?.prefetch ?? []) assert.ok(first >= 0 && first <= last && last < spanDigests.length);
  }
  await readsLazily(`oci:${folder}:soci`);
});

test('skopeo copies a bound image whole, and it is still bound; of one platform alone it is told what is missing', async (t) => {
  if (!haveTools(t, 'skopeo', 'docker-registry')) return;
  const registry = await startRegistry(t);
  const [image] = sourceImages(t, ['tiny']) as [SourceImage];
  const folder = join(scratch(t), 'out');
  await lazypull(['convert', `oci:${image.layout}:${image.tag}`, `oci:${folder}:soci`, '--format', 'soci', ...SMALL]);
  const wanted = await entriesOf(layoutShelf(folder), 'soci');
  // skopeo before 1.14 knows no artifactType in an index and drops it: the snapshotter does not ask for it.
  const bare = (entries: readonly Descriptor[]): object[] => entries.map(({ mediaType, digest, size, annotations, platform }) => ({ mediaType, digest, size, annotations, platform }));

  await skopeoCopy(`oci:${folder}:soci`, `docker://${registry.host}/app:soci`, '--all');
  assert.deepEqual(bare(await entriesOf(registryShelf(registry, 'app'), 'soci')), bare(wanted));
  await readsLazily(`docker://${registry.host}/app:soci`, '--plain-http');
  const second = join(scratch(t), 'second');
  await skopeoCopy(`docker://${registry.host}/app:soci`, `oci:${second}:soci`, '--all');
  assert.deepEqual(bare(await entriesOf(layoutShelf(second), 'soci')), bare(wanted));
  await lazypull(['verify', `oci:${second}:soci`]);
  // What an old skopeo dropped is there again, once.
  await lazypull(['convert', `oci:${second}:soci`, `oci:${second}:again`, '--format', 'soci', ...SMALL]);
  assert.deepEqual(await entriesOf(layoutShelf(second), 'again'), wanted);

  const alone = `docker://${registry.host}/alone:soci`;
  await skopeoCopy(`oci:${folder}:soci`, alone, '--override-os', 'linux', '--override-arch', 'amd64');
  const { annotations } = parseManifest((await registryShelf(registry, 'alone').document('soci')).bytes);
  assert.ok(annotations?.[ANNOTATION.indexDigest], 'the copy says that it has an index');
  const verified = await runLazypull(['verify', alone, '--plain-http']);
  assert.equal(verified.code, 1, verified.stderr);
  assert.match(verified.text + verified.stderr, /not in the repository/);
});

for (const snapshotter of ['overlayfs', 'native']) {
  test(`containerd pulls a bound image the ordinary way and runs it on ${snapshotter}`, async (t) => {
    if (!haveRoot(t) || !haveTools(t, 'containerd', 'ctr', 'runc', 'docker-registry', 'skopeo')) return;
    const registry = await startRegistry(t);
    const containerd = await startContainerd(t);
    for (const image of sourceImages(t, snapshotter === 'native' ? ['tiny'] : ['tiny', 'nginx'])) {
      const repository = await pushSource(registry, image);
      for (const [tag, format] of [['soci', 'soci'], ['both', 'estargz,soci']] as const) {
        const reference = `${registry.host}/${repository}:${tag}`;
        await lazypull(['convert', `docker://${registry.host}/${repository}:1`, `docker://${reference}`, '--format', format, ...(image.name === 'tiny' ? SMALL : []), '--plain-http']);
        await containerd.ctr(['images', 'pull', '--plain-http', '--snapshotter', snapshotter, reference]);
        const { text, stderr } = await containerd.ctr(['run', '--rm', '--snapshotter', snapshotter, reference, `${image.name}-${tag}`, ...image.command]);
        assert.match(text + stderr, image.prints);
      }
    }
  });
}

test('a registry of our own serves what soci-snapshotter asks for: the index by referrers, its parts as blobs', async (t) => {
  const [image] = sourceImages(t, ['tiny']) as [SourceImage];
  const registry = await startOwnRegistry(t);
  const target = `docker://${registry.host}/app:1`;
  await lazypull(['copy', `oci:${image.layout}:${image.tag}`, target, '--plain-http']);
  const report = (await lazypullJson(['index', target, ...SMALL, '--plain-http'])) as { artifacts: readonly string[] };
  assert.equal(report.artifacts.length, 2);
  const copied = join(scratch(t), 'copied');
  await lazypull(['copy', target, `oci:${copied}:1`, '--referrers', '--plain-http']);
  await readsLazily(`oci:${copied}:1`);
});
