import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Descriptor } from '../../src/core/types.ts';
import { parseIndex, parseManifest, type ImageManifest } from '../../src/oci/documents.ts';
import { isIndexType, MANIFEST_ACCEPT } from '../../src/oci/media-types.ts';
import { lazypull, type SourceImage } from '../support/peers-cli.ts';
import { skopeoCopy, type Registry } from '../support/peers-registry.ts';
import { must, scratch, type Scope } from '../support/peers.ts';

/** Steps that several interop tests take. */

export const TOC_DIGEST = 'containerd.io/snapshot/stargz/toc.digest';

/** Puts a source image into a registry as `<name>:1`, the whole index, and returns the repository. */
export async function pushSource(registry: Registry, image: SourceImage): Promise<string> {
  const creds = registry.user === undefined ? [] : ['--dest-creds', `${registry.user}:${registry.password ?? ''}`];
  await skopeoCopy(`oci:${image.layout}:${image.tag}`, `docker://${registry.host}/${image.name}:1`, '--all', '--preserve-digests', ...creds);
  return image.name;
}

/** Pushes a source and converts it inside a plain registry: `<name>:1` becomes `<name>:esgz`. Returns the reference without scheme. */
export async function pushConverted(registry: Registry, image: SourceImage, ...flags: readonly string[]): Promise<string> {
  const repository = await pushSource(registry, image);
  const target = `${registry.host}/${repository}:esgz`;
  await lazypull(['convert', `docker://${registry.host}/${repository}:1`, `docker://${target}`, '--format', 'estargz', '--plain-http', ...flags]);
  return target;
}

/** A converted image in a layout of its own: `oci:DIR:esgz`. */
export async function convertToLayout(t: TestContext, image: SourceImage, ...flags: readonly string[]): Promise<string> {
  const target = `oci:${join(scratch(t), 'converted')}:esgz`;
  await lazypull(['convert', `oci:${image.layout}:${image.tag}`, target, '--format', 'estargz', ...flags]);
  return target;
}

/** The manifest of linux/amd64 behind a tag of a registry, with its digest. */
export async function registryManifest(registry: Registry, repository: string, reference: string): Promise<{ digest: string; manifest: ImageManifest }> {
  const answer = await registry.get(`/v2/${repository}/manifests/${reference}`, MANIFEST_ACCEPT);
  assert.equal(answer.status, 200, `${repository}:${reference}: ${answer.body.toString()}`);
  if (!isIndexType(String(answer.headers['content-type']))) {
    return { digest: String(answer.headers['docker-content-digest']), manifest: parseManifest(answer.body) };
  }
  return registryManifest(registry, repository, forAmd64(parseIndex(answer.body).manifests).digest);
}

/** The manifest of linux/amd64 behind a tag of a layout. */
export function layoutManifest(folder: string, tag: string): ImageManifest {
  const read = (digest: string): Buffer => readFileSync(join(folder, 'blobs', 'sha256', digest.slice(7)));
  const entries = parseIndex(readFileSync(join(folder, 'index.json'))).manifests;
  let entry = entries.find(({ annotations }) => annotations?.['org.opencontainers.image.ref.name'] === tag);
  assert.ok(entry, `${folder} has no ${tag}`);
  if (isIndexType(entry.mediaType)) entry = forAmd64(parseIndex(read(entry.digest)).manifests);
  return parseManifest(read(entry.digest));
}

function forAmd64(entries: readonly Descriptor[]): Descriptor {
  const entry = entries.find(({ platform }) => platform?.architecture === 'amd64' && platform.os === 'linux');
  assert.ok(entry, 'no entry for linux/amd64');
  return entry;
}

/** Unpacks an image, named as skopeo names it, with umoci; returns the root folder. */
export async function unpack(t: Scope, source: string): Promise<string> {
  const folder = scratch(t);
  const layout = join(folder, 'layout');
  mkdirSync(layout);
  await skopeoCopy(source, `oci:${layout}:one`, '--override-os', 'linux', '--override-arch', 'amd64');
  await must('umoci', ['unpack', '--image', `${layout}:one`, join(folder, 'bundle')], { timeout: 300_000 });
  return join(folder, 'bundle', 'rootfs');
}

/** Every layer of a converted image says where its TOC is. */
export function assertLazyLayers(manifest: ImageManifest): void {
  assert.ok(manifest.layers.length > 0);
  for (const layer of manifest.layers) {
    assert.match(layer.annotations?.[TOC_DIGEST] ?? '', /^sha256:[0-9a-f]{64}$/, `layer ${layer.digest}`);
    assert.equal(layer.mediaType, 'application/vnd.oci.image.layer.v1.tar+gzip');
  }
}
