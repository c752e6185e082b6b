import assert from 'node:assert/strict';
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { digestHex, type Digest } from '../../src/core/digest.ts';
import { collect, streamOf } from '../../src/core/stream.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { encodeDocument } from '../../src/oci/documents.ts';
import { openLayout as open, type LayoutOptions, type LayoutStore } from '../../src/oci/layout.ts';
import { openMemory } from '../../src/oci/memory.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { blobOf, noise, pushBytes, pushImage, pushReferrer, rejectsWith, storeContract } from './store-contract.ts';

const scratch = mkdtempSync(join(tmpdir(), 'lazypull-layout-'));
const opened: LayoutStore[] = [];
after(async () => {
  for (const store of opened) await store.close();
  rmSync(scratch, { recursive: true, force: true });
});
async function openLayout(folder: string, options?: LayoutOptions): Promise<LayoutStore> {
  const store = await open(folder, options);
  opened.push(store);
  return store;
}
let count = 0;
const fresh = (): string => join(scratch, `layout-${(count += 1)}`);
const blobPath = (folder: string, digest: Digest): string => join(folder, 'blobs', digest.slice(0, 6), digestHex(digest));
const indexOf = (folder: string): { manifests: Record<string, unknown>[]; [key: string]: unknown } => JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8')) as never;
const writeIndex = (folder: string, document: object): void => writeFileSync(join(folder, 'index.json'), JSON.stringify(document));

storeContract('layout', async () => {
  const folder = fresh();
  const store = await openLayout(folder, { create: true });
  return {
    store,
    reopen: () => openLayout(folder),
    async damage(descriptor, bytes) {
      writeFileSync(blobPath(folder, descriptor.digest), bytes);
    },
    async leftovers() {
      const names = existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: 'utf8' }) : [];
      return names.filter((name) => name.includes('.lazypull')).length;
    },
    close: () => store.close(),
  };
});

describe('opening a layout', () => {
  it('says what is wrong with a folder that is none', async () => {
    await rejectsWith(openLayout(join(scratch, 'absent')), 'NOT_FOUND', /no such layout.*absent/);
    const empty = fresh();
    mkdirSync(empty);
    await rejectsWith(openLayout(empty), 'NOT_FOUND', /not an OCI layout/);
    const other = fresh();
    mkdirSync(other);
    writeFileSync(join(other, 'thesis.txt'), 'mine');
    for (const create of [true, false]) await rejectsWith(openLayout(other, { create }), 'USAGE', /thesis\.txt/);
    const file = fresh();
    writeFileSync(file, 'x');
    await rejectsWith(openLayout(file), 'IO', /layout-/);
    await rejectsWith(openLayout(join(file, 'below'), { create: true }), 'IO');
  });

  it('refuses versions and files that it does not know', async () => {
    const cases = [
      ['UNSUPPORTED', '{"imageLayoutVersion":"2.0.0"}'],
      ['CORRUPT', '{}'],
      ['CORRUPT', 'no json'],
      ['CORRUPT', '[]'],
      ['LIMIT', `{"a":"${'x'.repeat(5000)}"}`],
    ] as const;
    for (const [code, text] of cases) {
      const folder = fresh();
      mkdirSync(folder);
      writeFileSync(join(folder, 'oci-layout'), text);
      await rejectsWith(openLayout(folder, { create: true }), code, /oci-layout/);
    }
  });

  it('writes nothing before there is something to write, and then a valid layout', async () => {
    const folder = join(fresh(), 'deep', 'er');
    const store = await openLayout(folder, { create: true });
    await rejectsWith(store.resolve('x'), 'NOT_FOUND');
    assert.deepEqual(await store.tags(), []);
    assert.equal(existsSync(folder), false);
    await pushBytes(store, noise(10));
    assert.deepEqual(JSON.parse(readFileSync(join(folder, 'oci-layout'), 'utf8')), { imageLayoutVersion: '1.0.0' });
    assert.deepEqual(indexOf(folder), { schemaVersion: 2, mediaType: OCI.index, manifests: [] });
    assert.deepEqual(readdirSync(folder).sort(), ['blobs', 'index.json', 'oci-layout']);
  });

  it('finishes a layout that another writer left half-made', async () => {
    const folder = fresh();
    mkdirSync(join(folder, 'blobs'), { recursive: true });
    writeIndex(folder, { schemaVersion: 2, manifests: [], note: 'kept' });
    await rejectsWith(openLayout(folder), 'NOT_FOUND');
    const store = await openLayout(folder, { create: true });
    await pushBytes(store, noise(10));
    assert.equal(indexOf(folder)['note'], 'kept');
    await openLayout(folder);
  });

  it('reports an index.json that is missing or broken', async () => {
    for (const [text, code] of [[undefined, 'CORRUPT'], ['{', 'CORRUPT'], ['{"manifests":7}', 'CORRUPT'], ['null', 'CORRUPT']] as const) {
      const folder = fresh();
      mkdirSync(folder);
      writeFileSync(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
      if (text !== undefined) writeFileSync(join(folder, 'index.json'), text);
      const store = await openLayout(folder);
      await rejectsWith(store.resolve('x'), code, /index\.json/);
    }
  });
});

describe('names in a layout', () => {
  const manifest = (seed: number): { descriptor: Descriptor; bytes: Uint8Array } => {
    const bytes = encodeDocument({ schemaVersion: 2, mediaType: OCI.manifest, config: blobOf(Buffer.from('{}'), OCI.config), layers: [], seed });
    return { descriptor: blobOf(bytes, OCI.manifest), bytes };
  };
  /** A layout as another tool could have written it. */
  const foreign = async (entries: readonly unknown[], extra: object = {}): Promise<string> => {
    const folder = fresh();
    const store = await openLayout(folder, { create: true });
    for (const seed of [1, 2, 3]) await pushBytes(store, manifest(seed).bytes, OCI.manifest);
    await store.close();
    writeIndex(folder, { schemaVersion: 2, ...extra, manifests: entries });
    return folder;
  };
  const named = (seed: number, name?: string, fullName?: string): object => ({
    ...manifest(seed).descriptor,
    annotations: { ...(name !== undefined && { 'org.opencontainers.image.ref.name': name }), ...(fullName !== undefined && { 'io.containerd.image.name': fullName }) },
  });

  it('finds an image by ref.name, by full name, and by the tag at its end', async () => {
    const store = await openLayout(await foreign([named(1, 'one'), named(2, '2', 'docker.io/library/app:v2'), named(3, 'localhost/three:latest')]));
    for (const [name, seed] of [['one', 1], ['2', 2], ['docker.io/library/app:v2', 2], ['v2', 2], ['localhost/three:latest', 3], ['latest', 3]] as const) {
      assert.equal((await store.resolve(name)).digest, manifest(seed).descriptor.digest, name);
    }
    assert.deepEqual(await store.tags(), ['2', 'localhost/three:latest', 'one']);
    await rejectsWith(store.resolve('three'), 'NOT_FOUND', /it has 2, localhost\/three:latest, one/);
  });

  it('does not guess between two full names with the same tag', async () => {
    const store = await openLayout(await foreign([named(1, 'a:latest'), named(2, 'b:latest')]));
    await rejectsWith(store.resolve('latest'), 'NOT_FOUND');
    const same = await openLayout(await foreign([named(1, 'a:latest'), named(1, 'b:latest')]));
    assert.equal((await same.resolve('latest')).digest, manifest(1).descriptor.digest);
  });

  it('takes the only image when none is named', async () => {
    const lone = await openLayout(await foreign([named(1, 'one'), named(1, 'again')]));
    assert.equal((await lone.resolve('')).digest, manifest(1).descriptor.digest);
    const two = await openLayout(await foreign([named(1, 'one'), named(2)]));
    await rejectsWith(two.resolve(''), 'NOT_FOUND', /holds 2 images, name one; it has one/);
    const none = await openLayout(await foreign([]));
    await rejectsWith(none.resolve(''), 'NOT_FOUND', /holds no image/);
  });

  it('does not take what is attached to an image for a second image', async () => {
    const folder = fresh();
    const store = await openLayout(folder, { create: true });
    const image = (await pushImage(store, 1)).manifest;
    await store.tag(image, 'app');
    await pushReferrer(store, image, 'application/x.sbom', 'about it');
    const signature = await pushReferrer(store, image, 'application/x.signature', 'of it');
    await store.tag(signature, `sha256-${digestHex(image.digest)}.sig`);
    assert.equal((await store.resolve('')).digest, image.digest);
  });

  it('gives a descriptor as it stands, without the names', async () => {
    const folder = await foreign([{ ...named(1, 'one', 'x/one:1'), annotations: { 'org.opencontainers.image.ref.name': 'one', other: 'kept' }, platform: { os: 'linux', architecture: 'arm64' } }]);
    const store = await openLayout(folder);
    assert.deepEqual(await store.resolve('one'), { ...manifest(1).descriptor, annotations: { other: 'kept' }, platform: { os: 'linux', architecture: 'arm64' } });
  });

  it('keeps foreign entries and fields when it tags', async () => {
    const odd = { mediaType: 'application/vnd.other', digest: 'blake3:00', size: -1, vendor: { deep: [1] } };
    const entries = [odd, 'nonsense', { ...named(1, 'one'), vendor: 'mine' }, named(2, 'two')];
    const folder = await foreign(entries, { annotations: { a: 'b' }, vendor: true });
    const store = await openLayout(folder);
    await store.tag(manifest(3).descriptor, 'one');
    assert.deepEqual(indexOf(folder), { schemaVersion: 2, annotations: { a: 'b' }, vendor: true, manifests: [odd, 'nonsense', named(3, 'one'), named(2, 'two')] });
    await store.tag(manifest(2).descriptor, 'three');
    assert.deepEqual(indexOf(folder).manifests.slice(3), [named(2, 'two'), named(2, 'three')]);
  });

  it('leaves the file alone when nothing changes, and its own fields when the content does not', async () => {
    const folder = await foreign([{ ...named(1, 'one'), vendor: 'kept' }]);
    const store = await openLayout(folder);
    const before = statSync(join(folder, 'index.json')).ino;
    await store.tag(manifest(1).descriptor, 'one');
    assert.equal(statSync(join(folder, 'index.json')).ino, before);
    await store.tag({ ...manifest(1).descriptor, platform: { os: 'linux', architecture: 'arm64' } }, 'one');
    assert.deepEqual(indexOf(folder).manifests, [{ ...manifest(1).descriptor, annotations: { 'org.opencontainers.image.ref.name': 'one' }, vendor: 'kept', platform: { os: 'linux', architecture: 'arm64' } }]);
  });

  it('removes duplicates of the name it sets, and names an unnamed entry of the same content', async () => {
    const folder = await foreign([named(1, 'x'), named(2), named(3, 'x')]);
    const store = await openLayout(folder);
    await store.tag(manifest(2).descriptor, 'x');
    assert.deepEqual(indexOf(folder).manifests.map((entry) => entry['digest']), [manifest(2).descriptor.digest]);
  });

  it('writes an unnamed image in place of the unnamed one', async () => {
    const folder = fresh();
    const store = await openLayout(folder, { create: true });
    const first = (await pushImage(store, 1)).manifest;
    const second = (await pushImage(store, 2)).manifest;
    await store.tag(first, '');
    assert.deepEqual(indexOf(folder).manifests, [first]);
    const note = await pushReferrer(store, first, 'application/x.note', 'stays');
    await store.tag(second, '');
    assert.deepEqual(indexOf(folder).manifests.map((entry) => entry['digest']), [second.digest, note.digest]);
    assert.equal((await store.resolve('')).digest, second.digest);
    await store.tag(first, first.digest);
    await rejectsWith(store.tag(first, second.digest), 'USAGE');
    await rejectsWith(store.resolve(''), 'NOT_FOUND', /holds 2 images/);
  });

  it('keeps a referrer reachable when it loses its name', async () => {
    const store = await openLayout(fresh(), { create: true });
    const image = (await pushImage(store, 1)).manifest;
    const note = await pushReferrer(store, image, 'application/x.note', 'n');
    await store.tag(note, 'shared');
    await store.tag(image, 'shared');
    assert.deepEqual((await store.referrers(image)).map(({ digest }) => digest), [note.digest]);
  });

  it('refuses names that are none', async () => {
    const store = await openLayout(fresh(), { create: true });
    const { manifest: image } = await pushImage(store, 1);
    for (const name of ['../up', '-x', 'a b', 'a\n', 'x'.repeat(300), '.hidden']) await rejectsWith(store.tag(image, name), 'USAGE');
  });

  it('finds referrers that other tools list under the fallback tag only', async () => {
    const folder = fresh();
    const store = await openLayout(folder, { create: true });
    const image = (await pushImage(store, 1)).manifest;
    const note = await pushReferrer(store, image, 'application/x.note', 'n');
    const list = await pushBytes(store, encodeDocument({ schemaVersion: 2, mediaType: OCI.index, manifests: [note] }), OCI.index);
    for (const name of [`sha256-${digestHex(image.digest)}`, `repo:sha256-${digestHex(image.digest)}`]) {
      writeIndex(folder, { schemaVersion: 2, manifests: [{ ...list, annotations: { 'org.opencontainers.image.ref.name': name } }] });
      assert.deepEqual((await store.referrers(image)).map(({ digest }) => digest), [note.digest], name);
    }
  });
});

describe('blobs in a layout', () => {
  it('resolves only manifests by digest', async () => {
    const store = await openLayout(fresh(), { create: true });
    const { manifest, layers, config } = await pushImage(store, 1);
    assert.equal((await store.resolve(manifest.digest)).mediaType, OCI.manifest);
    for (const { digest } of [...layers, config]) await rejectsWith(store.resolve(digest), 'NOT_FOUND', /is not a manifest/);
  });

  it('refuses digests that could become other paths', async () => {
    const store = await openLayout(fresh(), { create: true });
    for (const digest of ['sha256:../../etc/passwd', `sha256:${'A'.repeat(64)}`, `md5:${'0'.repeat(32)}`, '../x', '']) {
      const descriptor = { mediaType: OCI.layer, digest: digest as Digest, size: 1 };
      await rejectsWith(store.has(descriptor), 'CORRUPT');
      await rejectsWith(store.push(descriptor, () => streamOf(Buffer.of(1))), 'CORRUPT');
      assert.throws(() => store.open(descriptor), { code: 'CORRUPT' });
      assert.throws(() => store.fetch(descriptor), { code: 'CORRUPT' });
    }
  });

  it('holds the size of a file against the descriptor before it reads', async () => {
    const folder = fresh();
    const store = await openLayout(folder, { create: true });
    const descriptor = await pushBytes(store, noise(1000));
    writeFileSync(blobPath(folder, descriptor.digest), noise(2000));
    await rejectsWith(store.open(descriptor).read(0, 10), 'SIZE_MISMATCH', /has 2000 bytes, its descriptor says 1000/);
    assert.equal(await store.has(descriptor), false);
    await pushBytes(store, noise(1000));
    assert.deepEqual(Buffer.from(await store.open(descriptor).read(0, 10)), noise(1000).subarray(0, 10));
  });

  it('reads blobs through symbolic links, and nothing that is not a file', async () => {
    const folder = fresh();
    const store = await openLayout(folder, { create: true });
    const bytes = noise(100);
    const descriptor = blobOf(bytes);
    await store.index.create();
    writeFileSync(join(scratch, 'elsewhere'), bytes);
    symlinkSync(join(scratch, 'elsewhere'), blobPath(folder, descriptor.digest));
    assert.deepEqual(Buffer.from(await collect(store.fetch(descriptor), 100)), bytes);
    rmSync(blobPath(folder, descriptor.digest));
    symlinkSync('/dev/zero', blobPath(folder, descriptor.digest));
    await rejectsWith(collect(store.fetch(descriptor), 100), 'CORRUPT', /not a regular file/);
    await rejectsWith(store.open(descriptor).read(0, 1), 'CORRUPT', /not a regular file/);
  });

  it('is not disturbed by temporary files of others, and sweeps those that are old', async () => {
    const folder = fresh();
    await pushBytes(await openLayout(folder, { create: true }), noise(10));
    const old = join(folder, 'blobs', '.lazypull-1-0123456789abcdef');
    const young = join(folder, 'blobs', '.lazypull-1-0123456789abcdee');
    for (const path of [old, young]) writeFileSync(path, 'left over');
    utimesSync(old, new Date(Date.now() - 48 * 3600_000), new Date(Date.now() - 48 * 3600_000));
    await pushBytes(await openLayout(folder), noise(11));
    assert.deepEqual([existsSync(old), existsSync(young)], [false, true]);
  });

  it('mounts from another layout as a hard link, after checking the digest', async () => {
    const [a, b] = [fresh(), fresh()];
    const from = await openLayout(a, { create: true });
    const to = await openLayout(b, { create: true });
    const descriptor = await pushBytes(from, noise(50_000));
    assert.equal(await to.mount(descriptor, from), true);
    assert.equal(statSync(blobPath(b, descriptor.digest)).ino, statSync(blobPath(a, descriptor.digest)).ino);
    assert.equal(await to.mount(descriptor, from), true);
    assert.equal(await to.mount(blobOf(noise(5)), from), false);
    assert.equal(await to.mount(descriptor, openMemory()), false);

    const bad = await pushBytes(from, noise(1000, 2));
    writeFileSync(blobPath(a, bad.digest), noise(1000, 3));
    await rejectsWith(to.mount(bad, from), 'DIGEST_MISMATCH');
    assert.equal(await to.has(bad), false);
  });

  it('does not link to links', async () => {
    const [a, b] = [fresh(), fresh()];
    const from = await openLayout(a, { create: true });
    const to = await openLayout(b, { create: true });
    const bytes = noise(100, 9);
    await from.index.create();
    writeFileSync(join(scratch, 'shared'), bytes);
    symlinkSync(join(scratch, 'shared'), blobPath(a, blobOf(bytes).digest));
    assert.equal(await to.mount(blobOf(bytes), from), false);
    assert.throws(() => lstatSync(blobPath(b, blobOf(bytes).digest)));
  });

  it('keeps sha512 content', async () => {
    const store = await openLayout(fresh(), { create: true });
    const { createHash } = await import('node:crypto');
    const bytes = noise(10_000);
    const digest: Digest = `sha512:${createHash('sha512').update(bytes).digest('hex')}`;
    const descriptor = { mediaType: OCI.layer, digest, size: bytes.length };
    await store.push(descriptor, () => streamOf(bytes));
    assert.deepEqual(Buffer.from(await collect(store.fetch(descriptor), 10_000)), bytes);
    await rejectsWith(store.push({ ...descriptor, digest: `sha512:${'0'.repeat(128)}` }, () => streamOf(bytes)), 'DIGEST_MISMATCH');
  });

  it('refuses manifests that are none', async () => {
    const store = await openLayout(fresh(), { create: true });
    for (const text of ['no json', '[]', '{}', '{"manifests":[],"layers":[]}']) {
      const bytes = Buffer.from(text);
      await rejectsWith(pushBytes(store, bytes, OCI.manifest), 'CORRUPT');
      assert.equal(await store.has(blobOf(bytes, OCI.manifest)), false);
    }
  });
});
