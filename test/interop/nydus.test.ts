import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import type { Descriptor } from '../../src/core/types.ts';
import { fixtures } from '../../fixtures/pairs.ts';
import { lazypull, sourceImages, type SourceImage } from '../support/peers-cli.ts';
import { buildGo } from '../support/peers-containerd.ts';
import { compareTrees, readTree, type Tree } from '../support/peers-trees.ts';
import { haveRoot, haveTools, must, scratch, type Scope } from '../support/peers.ts';
import { ownScope } from '../support/scope.ts';
import { treeOf } from './mounts.ts';
import { convertByNydus, createLayout, putSource, sourceLayers, unpackBootstrap, type NydusImage } from './nydus-images.ts';
import { haveFuse, openNydusTools, type NydusTools } from './nydus-tools.ts';
import { FOREIGN } from './nydus-variants.ts';
import { unpackedTree } from './shared-images.ts';
import { layoutManifest, unpack } from './steps.ts';
import { tortureImage } from './torture-layers.ts';

const FS_VERSION = 'containerd.io/snapshot/nydus-fs-version';
const BOOTSTRAP = 'containerd.io/snapshot/nydus-bootstrap';
const BLOB_TYPE = 'application/vnd.oci.image.layer.nydus.blob.v1';

/** Where the tools are built the first time, and why there are none. */
let opened: Promise<readonly NydusTools[] | string> | undefined;
const scope = ownScope();
before(async () => {
  opened = openNydusTools(scope);
  await opened.catch(() => undefined);
});
after(() => scope.close());

async function nydusTools(t: TestContext): Promise<readonly NydusTools[]> {
  const tools = await opened;
  if (tools !== undefined && typeof tools !== 'string') return tools;
  t.skip(tools ?? 'no tools');
  return [];
}

const canCompare = (t: Scope): boolean => haveRoot(t) && haveTools(t, 'umoci', 'skopeo', 'getfattr', 'umount') && haveFuse(t);

/** Our own image in a layout of its own, beside what its bootstrap layer holds. */
async function convertToNydus(t: TestContext, image: SourceImage, ...flags: readonly string[]): Promise<{ readonly folder: string; readonly bootstrap: string; readonly blobs: readonly string[] }> {
  const folder = join(scratch(t), 'converted');
  await lazypull(['convert', `oci:${image.layout}:${image.tag}`, `oci:${folder}:nydus`, ...flags, '--platform', 'linux/amd64'], { timeout: 600_000 });
  const { layers } = layoutManifest(folder, 'nydus');
  const last = layers.at(-1);
  assert.ok(last);
  assert.equal(last.annotations?.[BOOTSTRAP], 'true');
  assert.equal(last.annotations[FS_VERSION], '6');
  const bootstrap = join(scratch(t), 'image.boot');
  const found = unpackBootstrap(readFileSync(join(folder, 'blobs', 'sha256', last.digest.slice(7)))).get('image/image.boot');
  assert.ok(found, 'image/image.boot in the last layer');
  writeFileSync(bootstrap, found);
  return { folder, bootstrap, blobs: layers.filter(({ mediaType }) => mediaType === BLOB_TYPE).map(({ annotations, digest }) => (annotations?.['containerd.io/snapshot/nydus-ref'] ?? digest).slice(7)) };
}

const OURS: readonly (readonly [name: string, images: readonly string[], flags: readonly string[]])[] = [
  ['default options', ['tiny', 'torture', 'debian', 'python'], []],
  ['lz4 and SHA-256', ['tiny', 'nginx'], ['--compressor', 'lz4', '--digester', 'sha256', '--chunk-size', '64K']],
  ['nothing compressed', ['tiny'], ['--compressor', 'none', '--chunk-size', '4K']],
  ['batches', ['tiny', 'nginx'], ['--batch-size', '128K']],
  ['aligned', ['tiny'], ['--compressor', 'none', '--aligned']],
  ['chunks of 16M', ['tiny'], ['--chunk-size', '16M']],
];

for (const [name, images, flags] of OURS) {
  test(`Nydus mounts our images and shows what umoci unpacks: ${name}`, (t) => mountOurs(t, images, '--format', 'nydus', ...flags));
}

test('Nydus mounts our images with a prefetch table', (t) => {
  const list = join(scratch(t), 'list');
  writeFileSync(list, 'usr/bin/*\netc/os-release\n');
  return mountOurs(t, ['tiny'], '--format', 'nydus', '--prefetch-list', list);
});

test("Nydus mounts our images over another image's chunks", async (t) => {
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  const dictionary = join(scratch(t), 'dictionary');
  await lazypull(['convert', `oci:${image.layout}:${image.tag}`, `oci:${dictionary}:nydus`, '--format', 'nydus', '--platform', 'linux/amd64']);
  await mountOurs(t, ['tiny', 'debian'], '--format', 'nydus', '--chunk-dict', `oci:${dictionary}:nydus`);
});

test('Nydus mounts our images over gzip layers that stay as they are', (t) => mountOurs(t, ['tiny', 'nginx'], '--format', 'nydus-zran'));

async function mountOurs(t: TestContext, images: readonly string[], ...flags: readonly string[]): Promise<void> {
  const all = await nydusTools(t);
  if (all.length === 0 || !canCompare(t)) return;
  for (const image of [...sourceImages(t, images), ...(images.includes('torture') ? [tortureImage(t)] : [])]) {
    const since = Date.now() - 1000;
    const wanted = await unpackedTree(image);
    const { folder, bootstrap, blobs } = await convertToNydus(t, image, ...flags);
    for (const tools of all) {
      const named = await tools.check(bootstrap);
      assert.deepEqual(named.filter((id) => !blobs.includes(id)), [], `${tools.name}: blobs that are no layers`);
      assert.ok(named.length > 0);
      const at = join(scratch(t), 'mounted');
      const { leave } = await tools.mount(t, bootstrap, join(folder, 'blobs', 'sha256'), at);
      assert.deepEqual(compareTrees(wanted, await treeOf(at, since), true), [], `${image.name} by ${tools.name}`);
      await leave();
      t.diagnostic(`${image.name}: ${wanted.size} files, bootstrap of ${statSync(bootstrap).size} bytes, ${tools.name}`);
    }
  }
}

test("Nydus' builder takes our image as chunk dictionary and stores nothing again", async (t) => {
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  for (const tools of await nydusTools(t)) {
    const { bootstrap, folder } = await convertToNydus(t, image, '--format', 'nydus');
    const layout = createLayout(join(scratch(t), 'layout'));
    // The same files as in our image's first layer.
    const sources = putSource(layout, 'source', sourceLayers().slice(0, 1));
    const dictionary = { bootstrap, layout: { ...layout, read: (id: string) => readFileSync(join(folder, 'blobs', 'sha256', id)) } };
    const made = await convertByNydus(tools, layout, 'nydus', sources, { dictionary }, scratch(t));
    const alone = await convertByNydus(tools, layout, 'alone', sources, {}, scratch(t));
    const [first] = made.layers;
    const [whole] = alone.layers;
    assert.ok(first && whole && first.size < whole.size / 2, `${first?.size} of ${whole?.size} bytes`);
  }
});

/** What `extract` says of an image, unpacked by tar; umoci's view of an ordinary one. */
async function extracted(t: TestContext, reference: string, since: number): Promise<Tree> {
  const folder = scratch(t);
  const tar = join(folder, 'image.tar');
  await lazypull(['extract', reference, '--tar', tar]);
  const at = join(folder, 'unpacked');
  mkdirSync(at);
  await must('tar', ['-C', at, '-xpf', tar, '--xattrs', '--xattrs-include=*', '--numeric-owner', '--same-owner', '--delay-directory-restore']);
  return readTree(at, since);
}

/** containerd's own converter with this builder; the tag of the image. */
async function convertByContainerd(program: string, tools: NydusTools, folder: string, source: string, flags: readonly string[]): Promise<string> {
  const index = JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8')) as { manifests: (Descriptor & { annotations: Record<string, string> })[] };
  const name = 'org.opencontainers.image.ref.name';
  const { digest } = index.manifests.find(({ annotations }) => annotations[name] === source) as Descriptor;
  const made = JSON.parse((await must(program, [...flags, tools.command()[0], folder, digest])).text) as Descriptor;
  const tag = ['containerd', ...flags].join('').replace(/[^a-z0-9-]/g, '');
  index.manifests.push({ ...made, annotations: { [name]: tag } });
  writeFileSync(join(folder, 'index.json'), JSON.stringify(index));
  return tag;
}

/** Reads an image of Nydus' making in every way we have. */
async function readForeign(t: TestContext, folder: string, tag: string, source: string, wanted: Tree, since: number): Promise<void> {
  const reference = `oci:${folder}:${tag}`;
  assert.match((await lazypull(['verify', reference, '--against', `oci:${folder}:${source}`])).text, /^same tree as /m);
  const listed = (await lazypull(['ls', reference, '/usr/share'])).text;
  assert.match(listed, /with space & "quotes" <b>/);
  const { stdout } = await lazypull(['cat', reference, '/usr/bin/show']);
  assert.equal(stdout.subarray(0, 4).toString('latin1'), '\x7fELF');
  assert.deepEqual(compareTrees(wanted, await extracted(t, reference, since), true), [], tag);
}

test("committed images by Nydus' builder are read by ls, cat, extract and verify", async (t) => {
  if (!haveRoot(t) || !haveTools(t, 'umoci', 'skopeo', 'getfattr', 'tar')) return;
  const folder = join(scratch(t), 'foreign');
  cpSync(join(fixtures, 'foreign', 'nydus'), folder, { recursive: true });
  const facts = JSON.parse(readFileSync(join(folder, 'facts.json'), 'utf8')) as Record<string, { readonly source: string }>;
  for (const [tag, { source }] of Object.entries(facts)) {
    await t.test(tag, async (s) => {
      const since = Date.now() - 1000;
      await readForeign(s, folder, tag, source, await readTree(await unpack(s, `oci:${folder}:${source}`), since), since);
    });
  }
});

test("images made anew by Nydus' builder are read, too", async (t) => {
  const all = await nydusTools(t);
  if (all.length === 0 || !haveRoot(t) || !haveTools(t, 'umoci', 'skopeo', 'getfattr', 'tar')) return;
  const tars = sourceLayers();
  for (const tools of all) {
    const layout = createLayout(join(scratch(t), 'layout'));
    const digests = putSource(layout, 'source', tars);
    for (const count of new Set(FOREIGN.flatMap(({ layers }) => layers ?? []))) putSource(layout, `source-${count}`, tars.slice(0, count));
    const made = new Map<string, NydusImage>();
    for (const { tag, dictionaryOf, layers = tars.length, ...variant } of FOREIGN) {
      const other = made.get(dictionaryOf ?? '');
      made.set(tag, await convertByNydus(tools, layout, tag, digests.slice(0, layers), { ...variant, ...(other && { dictionary: { bootstrap: other.bootstrap, layout } }) }, scratch(t)));
    }
    const tags: { readonly tag: string; readonly source: string }[] = FOREIGN.map(({ tag, layers }) => ({ tag, source: layers === undefined ? 'source' : `source-${layers}` }));
    const converter = await buildGo(t, 'nydus-converter');
    if (converter.program === undefined) t.diagnostic(`without containerd's converter: ${converter.reason}`);
    else for (const flags of [[], ['-zran'], ['-compressor', 'lz4_block', '-chunk-size', '0x10000']]) tags.push({ tag: await convertByContainerd(converter.program, tools, layout.folder, 'source', flags), source: 'source' });
    for (const { tag, source } of tags) {
      await t.test(`${tag} by ${tools.name}`, async (s) => {
        const since = Date.now() - 1000;
        await readForeign(s, layout.folder, tag, source, await readTree(await unpack(s, `oci:${layout.folder}:${source}`), since), since);
      });
    }
  }
});

test('Nydus holds chunks against our digests: a byte changed in a blob cannot be read', async (t) => {
  const all = await nydusTools(t);
  if (all.length === 0 || !canCompare(t)) return;
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  for (const digester of ['blake3', 'sha256']) {
    const { folder, bootstrap, blobs } = await convertToNydus(t, image, '--format', 'nydus', '--compressor', 'none', '--digester', digester);
    const shelf = join(folder, 'blobs', 'sha256');
    const needle = 'PRETTY_NAME="Tiny';
    const [path] = blobs.map((id) => join(shelf, id)).filter((file) => readFileSync(file).includes(needle));
    assert.ok(path);
    const bytes = readFileSync(path);
    bytes[bytes.indexOf(needle)] = 0x51;
    writeFileSync(path, bytes);
    for (const tools of all) {
      const at = join(scratch(t), 'mounted');
      const { leave } = await tools.mount(t, bootstrap, shelf, at);
      assert.throws(() => readFileSync(join(at, 'etc', 'os-release')), { code: 'EIO' }, `${digester}, ${tools.name}`);
      assert.match(readFileSync(join(at, 'etc', 'passwd'), 'utf8'), /^root:/);
      await leave();
    }
  }
});

test('Nydus refuses what we refuse: a bootstrap cut short, and one whose blob table lies', async (t) => {
  const [image] = sourceImages(t, ['tiny']);
  assert.ok(image);
  const all = await nydusTools(t);
  if (all.length === 0) return;
  const { bootstrap } = await convertToNydus(t, image, '--format', 'nydus');
  assert.ok(existsSync(bootstrap));
  const whole = readFileSync(bootstrap);
  const lying = Buffer.from(whole);
  // Chunk size of the first blob entry: must be that of the superblock.
  lying.writeUInt32LE(0x1000, Number(whole.readBigUInt64LE(1160)) + 68);
  for (const tools of all) {
    for (const bytes of [whole.subarray(0, 4096), lying]) {
      const path = join(scratch(t), 'broken.boot');
      writeFileSync(path, bytes);
      assert.notEqual((await tools.attempt(['check', '--bootstrap', path])).code, 0, tools.name);
    }
  }
});
