import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { digestOf } from '../../src/core/digest.ts';
import { parseIndex } from '../../src/oci/documents.ts';
import { MANIFEST_ACCEPT, OCI } from '../../src/oci/media-types.ts';
import { lazypull, lazypullJson, runLazypull, sourceImages } from '../support/peers-cli.ts';
import { startOwnRegistry, startRegistry, type Registry, type RegistryOptions } from '../support/peers-registry.ts';
import { haveTools, scratch, type Ran } from '../support/peers.ts';
import { assertLazyLayers, pushConverted, pushSource, registryManifest } from './steps.ts';

const TOOLS = ['docker-registry', 'skopeo'];
const VARIANTS: readonly (readonly [name: string, options: RegistryOptions, tools: readonly string[]])[] = [
  ['plain', {}, []],
  ['with htpasswd', { htpasswd: true }, ['htpasswd']],
  ['with TLS and a private authority', { tls: true }, ['openssl']],
  ['with TLS and htpasswd', { tls: true, htpasswd: true }, ['openssl', 'htpasswd']],
];

/** How a user reaches this registry: flags, and a docker config for credentials. */
function access(registry: Registry): { flags: readonly string[]; env: Record<string, string> } {
  return {
    flags: registry.ca === undefined ? ['--plain-http'] : ['--tls-ca', registry.ca],
    env: registry.dockerConfig === undefined ? {} : { DOCKER_CONFIG: registry.dockerConfig },
  };
}

for (const [name, options, tools] of VARIANTS) {
  test(`docker-registry ${name}: converted in place, verified against the source`, async (t) => {
    if (!haveTools(t, ...TOOLS, ...tools)) return;
    const registry = await startRegistry(t, options);
    for (const image of sourceImages(t, options.htpasswd && !options.tls ? ['tiny', 'nginx'] : ['tiny'])) await convertAndVerify(registry, await pushSource(registry, image), image.command.at(-1) === '/etc/os-release');
  });
}

async function convertAndVerify(registry: Registry, repository: string, whole: boolean): Promise<void> {
  const { flags, env } = access(registry);
  const source = `docker://${registry.host}/${repository}:1`;
  const target = `docker://${registry.host}/${repository}:1-esgz`;
  const before = await registryManifest(registry, repository, '1');
  const converted = await lazypull(['convert', source, target, '--format', 'estargz', ...flags], { env });
  const written = await registry.get(`/v2/${repository}/manifests/1-esgz`, MANIFEST_ACCEPT);
  assert.equal(converted.text.trim(), `docker://${registry.host}/${repository}@${String(written.headers['docker-content-digest'])}`);

  assert.deepEqual(await registry.tags(repository), ['1', '1-esgz']);
  assert.deepEqual(registry.uploads(repository), []);
  assert.equal((await registryManifest(registry, repository, '1')).digest, before.digest, 'the source tag has moved');
  const { manifest } = await registryManifest(registry, repository, '1-esgz');
  assertLazyLayers(manifest);
  assert.equal(manifest.layers.length, before.manifest.layers.length);
  await lazypull(['verify', target, '--against', source, ...flags], { env });
  const release = await lazypull(['cat', target, '/etc/os-release', ...flags], { env });
  assert.match(release.text, /^NAME=|\nNAME=/);
  if (!whole) return;

  // The bundled image is an index of two platforms with an attestation, which must speak of the new manifest.
  const index = parseIndex(written.body);
  const [amd64, arm64, attestation] = index.manifests;
  assert.equal(amd64?.platform?.architecture, 'amd64');
  assert.equal(arm64?.platform?.architecture, 'arm64');
  assert.equal(attestation?.annotations?.['vnd.docker.reference.digest'], amd64?.digest);
  assert.equal(index.annotations?.['org.example.note'], 'kept');
}

test('docker-registry: another repository of the same registry as target, and a layout', async (t) => {
  if (!haveTools(t, ...TOOLS)) return;
  const registry = await startRegistry(t);
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  const repository = await pushSource(registry, image);
  const source = `docker://${registry.host}/${repository}:1`;
  const elsewhere = `docker://${registry.host}/team/lazy/app:1`;
  const there = digestIn(await lazypull(['convert', source, elsewhere, '--plain-http']));
  await lazypull(['verify', elsewhere, '--against', source, '--plain-http']);
  const layout = `oci:${join(scratch(t), 'out')}:app`;
  const here = digestIn(await lazypull(['convert', source, layout, '--plain-http']));
  await lazypull(['verify', layout, '--against', source, '--plain-http']);
  assert.equal(there, here, 'same input and options, other bytes');

  const copied = digestIn(await lazypull(['copy', layout, `docker://${registry.host}/copied/app:1`, '--plain-http']));
  assert.equal(copied, there, 'a copy has another digest');
  const told = JSON.stringify(await lazypullJson(['inspect', `docker://${registry.host}/copied/app:1`, '--plain-http']));
  assert.ok(told.includes(copied));
});

/** The digest in the reference that convert and copy print. */
function digestIn(ran: Ran): string {
  const digest = /@(sha256:[0-9a-f]{64})\n$/.exec(ran.text)?.[1];
  assert.ok(digest, ran.text);
  return digest;
}

test('docker-registry: a second conversion uploads nothing and keeps the digest', async (t) => {
  if (!haveTools(t, ...TOOLS)) return;
  const registry = await startRegistry(t);
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  await pushConverted(registry, image);
  const first = await registryManifest(registry, image.name, 'esgz');
  const uploads = (): number => registry.log().match(/"(?:PUT|PATCH) \/v2\/[^ ]*\/blobs\/uploads\//g)?.length ?? 0;
  const before = uploads();
  assert.ok(before > 0, registry.log());
  await pushConverted(registry, image);
  assert.equal(uploads(), before);
  assert.equal((await registryManifest(registry, image.name, 'esgz')).digest, first.digest);
});

test('docker-registry knows no referrers: copy keeps them under the fallback tag, and finds them there again', async (t) => {
  if (!haveTools(t, 'docker-registry')) return;
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  const { subject, referrer } = addReferrer(image.layout, image.tag);
  const registry = await startRegistry(t);
  const own = await startOwnRegistry(t);

  await lazypull(['copy', `oci:${image.layout}:${image.tag}`, `docker://${registry.host}/app:1`, '--referrers', '--plain-http']);
  assert.equal((await registry.get(`/v2/app/referrers/${subject}`)).status, 404);
  const fallback = await registry.get(`/v2/app/manifests/${subject.replace(':', '-')}`, MANIFEST_ACCEPT);
  assert.deepEqual(parseIndex(fallback.body).manifests.map(({ digest, artifactType }) => [digest, artifactType]), [[referrer, 'application/vnd.example.sbom']]);

  await lazypull(['copy', `docker://${registry.host}/app:1`, `docker://${own.host}/app:1`, '--referrers', '--plain-http']);
  const listed = parseIndex((await own.get(`/v2/app/referrers/${subject}`)).body).manifests;
  assert.deepEqual(listed.map(({ digest }) => digest), [referrer]);
});

/** Adds a manifest that refers to a tagged image: listed in index.json without a name, as other tools do it. */
function addReferrer(layout: string, tag: string): { subject: string; referrer: string } {
  const path = join(layout, 'index.json');
  const index = JSON.parse(readFileSync(path, 'utf8')) as { manifests: { mediaType: string; digest: string; size: number; annotations?: Record<string, string> }[] };
  const top = index.manifests.find(({ annotations }) => annotations?.['org.opencontainers.image.ref.name'] === tag);
  assert.ok(top);
  const add = (bytes: Buffer): { digest: string; size: number } => {
    const digest = digestOf(bytes);
    writeFileSync(join(layout, 'blobs', 'sha256', digest.slice(7)), bytes);
    return { digest, size: bytes.length };
  };
  const manifest = {
    schemaVersion: 2, mediaType: OCI.manifest, artifactType: 'application/vnd.example.sbom',
    config: { mediaType: OCI.empty, ...add(Buffer.from('{}')) },
    layers: [{ mediaType: 'text/plain', ...add(Buffer.from('one file of every kind\n')) }],
    subject: { mediaType: top.mediaType, digest: top.digest, size: top.size },
  };
  const added = add(Buffer.from(JSON.stringify(manifest)));
  index.manifests.push({ mediaType: OCI.manifest, ...added });
  writeFileSync(path, JSON.stringify(index));
  return { subject: top.digest, referrer: added.digest };
}

test('docker-registry refuses us: exit codes name the reason and nothing is tagged', async (t) => {
  if (!haveTools(t, ...TOOLS, 'htpasswd', 'openssl')) return;
  const registry = await startRegistry(t, { tls: true, htpasswd: true });
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  const target = `docker://${registry.host}/app:esgz`;
  const source = `oci:${image.layout}:${image.tag}`;
  const { env, flags } = access(registry);

  await fails(t, ['convert', source, target, ...flags], {}, 4, /unauthorized|credential|401/i);
  await fails(t, ['convert', source, target, ...flags, '--username', 'tester', '--password-stdin'], {}, 4, /unauthorized|credential|401/i, 'wrong');
  await fails(t, ['convert', source, target], env, 5, /certificate|self.signed|verify/i);
  await fails(t, ['convert', source, target, '--plain-http'], env, 5, /./);
  await fails(t, ['inspect', `docker://${registry.host}/nothing:here`, ...flags], env, 3, /nothing/);
  assert.deepEqual(await registry.tags('app'), []);
});

async function fails(t: TestContext, args: readonly string[], env: Record<string, string>, code: number, said: RegExp, input = ''): Promise<void> {
  const ran = await runLazypull(args, { env, input: Buffer.from(input) });
  t.diagnostic(ran.stderr.trim());
  assert.equal(ran.code, code, `${args.join(' ')}\n${ran.stderr}`);
  assert.match(ran.stderr, said);
  assert.equal(ran.text, '', 'a failure prints no result');
}
