import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { pages } from '../../fixtures/tiny-tree.ts';
import { lazypull, lazypullJson, runLazypull, sourceImages, type SourceImage } from '../support/peers-cli.ts';
import { startContainerd, type Containerd } from '../support/peers-containerd.ts';
import { startRegistry, type Registry } from '../support/peers-registry.ts';
import { haveRoot, haveTools, run, scratch } from '../support/peers.ts';
import { layoutManifest, pushSource, registryManifest, TOC_DIGEST } from './steps.ts';

const TOOLS = ['containerd', 'ctr', 'ctr-remote', 'docker-registry', 'skopeo'];

/** Has ctr-remote convert `<name>:1` of the registry to `<name>:theirs`. */
async function convertTheirs(containerd: Containerd, registry: Registry, image: SourceImage, command: readonly string[]): Promise<string> {
  const source = `${registry.host}/${await pushSource(registry, image)}:1`;
  const target = `${registry.host}/${image.name}:theirs`;
  await containerd.ctr(['images', 'pull', '--plain-http', '--platform', 'linux/amd64', source]);
  await containerd.ctrRemote([...command, source, target], { timeout: 300_000 });
  await containerd.ctr(['images', 'push', '--plain-http', '--platform', 'linux/amd64', target]);
  return target;
}

/** The bundled image as they convert it, in a registry. Undefined after a visible skip. */
async function theirTiny(t: TestContext, command: readonly string[], ...tools: readonly string[]): Promise<{ readonly registry: Registry; readonly image: SourceImage; readonly theirs: string } | undefined> {
  if (!haveRoot(t) || !haveTools(t, ...TOOLS, ...tools)) return undefined;
  const registry = await startRegistry(t);
  const containerd = await startContainerd(t);
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  return { registry, image, theirs: `docker://${await convertTheirs(containerd, registry, image, command)}` };
}

const VARIANTS: readonly (readonly [name: string, command: readonly string[]])[] = [
  ['convert', ['images', 'convert', '--estargz', '--oci', '--platform', 'linux/amd64']],
  ['convert, small chunks', ['images', 'convert', '--estargz', '--oci', '--platform', 'linux/amd64', '--estargz-chunk-size', '100000']],
  ['convert, level 1', ['images', 'convert', '--estargz', '--oci', '--platform', 'linux/amd64', '--estargz-compression-level', '1']],
  ['optimize without a run', ['images', 'optimize', '--oci', '--platform', 'linux/amd64', '--no-optimize']],
];

for (const [name, command] of VARIANTS) {
  test(`an image made by ctr-remote ${name} is inspected, listed, read and verified by us`, async (t) => {
    if (!haveRoot(t) || !haveTools(t, ...TOOLS)) return;
    const registry = await startRegistry(t);
    const containerd = await startContainerd(t);
    for (const image of sourceImages(t, name === 'convert' ? ['tiny', 'nginx'] : ['tiny'])) {
      const theirs = `docker://${await convertTheirs(containerd, registry, image, command)}`;
      await readTheirs(theirs, registry, image);
    }
  });
}

async function readTheirs(theirs: string, registry: Registry, image: SourceImage): Promise<void> {
  const { manifest } = await registryManifest(registry, image.name, 'theirs');
  const told = JSON.stringify(await lazypullJson(['inspect', theirs, '--plain-http']));
  for (const layer of manifest.layers) assert.ok(told.includes(layer.digest) && told.includes(layer.annotations?.[TOC_DIGEST] ?? '?'), 'inspect leaves a layer out');
  assert.match(told, /estargz/i);

  const listed = (await lazypull(['ls', theirs, '/usr/bin', '--plain-http'])).text;
  assert.match(listed, image.name === 'tiny' ? /show/ : /bash/);
  assert.match((await lazypull(['cat', theirs, '/etc/os-release', '--plain-http'])).text, /NAME=/);
  if (image.name === 'tiny') {
    const { stdout } = await lazypull(['cat', theirs, '/usr/share/book/pages.txt', '--plain-http']);
    assert.equal(createHash('sha256').update(stdout).digest('hex'), createHash('sha256').update(pages(4_500_000)).digest('hex'));
  }
  await lazypull(['verify', theirs, '--plain-http', '--platform', 'linux/amd64']);
  await lazypull(['verify', theirs, '--against', `docker://${registry.host}/${image.name}:1`, '--plain-http', '--platform', 'linux/amd64']);
}

test('an image that ctr-remote optimized by running it: the prefetch landmark is understood', async (t) => {
  const command = ['images', 'optimize', '--oci', '--platform', 'linux/amd64', '--period', '3', '--args', '["/usr/bin/show","/usr/share/book/noise"]'];
  const made = await theirTiny(t, command, 'runc');
  if (!made) return;
  const { registry, image, theirs } = made;
  await readTheirs(theirs, registry, image);
  const { manifest } = await registryManifest(registry, image.name, 'theirs');
  const answer = await registry.get(`/v2/${image.name}/blobs/${manifest.layers[1]?.digest ?? ''}`);
  const blob = join(scratch(t), 'layer.tar.gz');
  writeFileSync(blob, answer.body);
  const names = (await run('tar', ['-tzf', blob])).text.split('\n');
  // The peer has seen the program read: what it read stands in front of the landmark.
  assert.ok(names.indexOf('usr/share/book/noise') < names.indexOf('.prefetch.landmark'), names.slice(0, 8).join(' '));
});

test('an image that already is eStargz passes through a conversion of ours untouched', async (t) => {
  const made = await theirTiny(t, VARIANTS[0]?.[1] ?? []);
  if (!made) return;
  const { registry, image, theirs } = made;
  const folder = join(scratch(t), 'ours');
  await lazypull(['convert', theirs, `oci:${folder}:ours`, '--format', 'estargz', '--plain-http']);
  const { manifest } = await registryManifest(registry, image.name, 'theirs');
  assert.deepEqual(layoutManifest(folder, 'ours').layers, manifest.layers);
});

test('a byte of their layer changed on the way is found by verify and by cat', async (t) => {
  const made = await theirTiny(t, VARIANTS[0]?.[1] ?? []);
  if (!made) return;
  const folder = join(scratch(t), 'theirs');
  await lazypull(['copy', made.theirs, `oci:${folder}:theirs`, '--plain-http']);
  const [base] = layoutManifest(folder, 'theirs').layers;
  const path = join(folder, 'blobs', 'sha256', base?.digest.slice(7) ?? '');
  const blob = readFileSync(path);
  // The noise of the library is most of the base layer: its middle is payload.
  blob.writeUInt8(blob.readUInt8(15_000) ^ 1, 15_000);
  writeFileSync(path, blob);
  const verified = await runLazypull(['verify', `oci:${folder}:theirs`]);
  assert.equal(verified.code, 1, verified.stderr);
  assert.match(verified.text, /DIGEST_MISMATCH.*libnoise\.so\.1\.0/);
  const cat = await runLazypull(['cat', `oci:${folder}:theirs`, '/usr/lib/x86_64-linux-gnu/libnoise.so.1.0']);
  assert.equal(cat.code, 6, cat.stderr);
  await lazypull(['cat', `oci:${folder}:theirs`, '/etc/os-release']);
});
