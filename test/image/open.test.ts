import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LazypullError, type ErrorCode } from '../../src/core/errors.ts';
import type { Format } from '../../src/core/format.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { openImage } from '../../src/image/open.ts';
import { walk } from '../../src/layer/walk.ts';
import { encodeDocument } from '../../src/oci/documents.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { openMemory, type MemoryStore } from '../../src/oci/memory.ts';
import { hostPlatform } from '../../src/oci/platform.ts';
import { ARM, gzipLayer, lazyLayer, LINUX, putAttestation, putBlob, putImage, putIndex, testFormat, type Entry } from './fixture.ts';

const fails = (code: ErrorCode, pattern = /./) => (error: unknown): boolean =>
  error instanceof LazypullError && error.code === code && pattern.test(error.message);

const base: Entry[] = [
  { path: 'etc/' }, { path: 'etc/os-release', content: 'NAME=test\n' }, { path: 'usr/' }, { path: 'usr/lib/' },
  { path: 'usr/lib/libc.so', content: 'c'.repeat(1000) }, { path: 'lib', type: 'symlink', linkName: 'usr/lib' },
];
const upper: Entry[] = [{ path: 'etc/.wh.os-release', content: '' }, { path: 'etc/motd', content: 'hello' }, { path: 'etc/motd2', type: 'hardlink', linkName: 'etc/motd' }];

async function lazyImage(store = openMemory()): Promise<MemoryStore> {
  await putImage(store, { layers: [lazyLayer(base), lazyLayer(upper)], platform: hostPlatform() }, 'app');
  return store;
}

describe('openImage', () => {
  it('merges the layers and says which one has a path', async () => {
    const image = await openImage({ store: await lazyImage(), reference: 'app' }, [testFormat]);
    const paths = [...walk(await image.tree(), { sorted: true })].map(({ path }) => path);
    assert.deepEqual(paths, ['', 'etc', 'etc/motd', 'etc/motd2', 'lib', 'usr', 'usr/lib', 'usr/lib/libc.so']);
    const libc = await image.find('/lib/libc.so');
    assert.deepEqual([libc?.path, libc?.layer?.number], ['usr/lib/libc.so', 0]);
    assert.equal((await image.find('etc/motd2'))?.layer?.number, 1);
    // The upper layer only implies etc: it is the lower one that describes it.
    assert.equal((await image.find('etc'))?.layer?.number, 0);
    assert.equal(await image.find('etc/os-release'), undefined);
    assert.equal((await image.find('lib', { followSymlinks: false }))?.node.type, 'symlink');
    assert.deepEqual(image.warnings, []);
  });

  it('reads files by ranges and counts what it reads', async () => {
    const image = await openImage({ store: await lazyImage(), reference: 'app' }, [testFormat]);
    assert.deepEqual(image.stats(), { requests: 0, bytes: 0 });
    await image.tree();
    const opened = image.stats();
    assert.equal(opened.requests, 4, 'a footer and an index for each of two layers');
    assert.equal(Buffer.from(await image.readFile('/lib/libc.so', { offset: 70, length: 10 })).toString(), 'c'.repeat(10));
    assert.deepEqual(image.stats(), { requests: opened.requests + 1, bytes: opened.bytes + 64 });
    const parts: Uint8Array[] = [];
    for await (const part of image.streamFile('usr/lib/libc.so')) parts.push(new Uint8Array(part));
    assert.equal(Buffer.concat(parts).toString(), 'c'.repeat(1000));
    assert.equal(Buffer.from(await image.readFile('etc/motd')).toString(), 'hello');
    assert.equal((await image.readFile('etc/motd', { offset: 100 })).length, 0);
  });

  it('says what is not a file and what is not there', async () => {
    const image = await openImage({ store: await lazyImage(), reference: 'app' }, [testFormat]);
    await assert.rejects(image.readFile('etc'), fails('USAGE', /directory/));
    await assert.rejects(image.readFile('nope'), fails('NOT_FOUND', /nope/));
    await assert.rejects(image.streamFile('etc/os-release').next(), fails('NOT_FOUND'));
  });

  it('asks to convert an image whose layers are in no format, without reading them', async () => {
    const store = openMemory();
    await putImage(store, { layers: [lazyLayer(base), gzipLayer(upper)], platform: hostPlatform() }, 'app');
    const image = await openImage({ store, reference: 'app' }, [testFormat]);
    assert.equal(await image.layers[1]?.format(), undefined);
    await assert.rejects(image.tree(), fails('UNSUPPORTED', /layer 2 .*\(looked for: test\); convert the image first/));
    await assert.rejects((await openImage({ store, reference: 'app' }, [])).tree(), fails('UNSUPPORTED', /none/));
  });

  it('takes the first format that knows a layer', async () => {
    const asked: string[] = [];
    const other: Format<unknown> = { ...testFormat, name: 'other', detect: async () => asked.push('other') < 0 };
    const image = await openImage({ store: await lazyImage(), reference: 'app' }, [other, testFormat]);
    assert.equal((await image.layers[0]?.format())?.name, 'test');
    assert.equal((await image.layers[0]?.format())?.name, 'test');
    assert.deepEqual(asked, ['other']);
  });

  it('leaves foreign layers alone', async () => {
    const store = openMemory();
    const foreign = { ...gzipLayer(base), mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip' };
    await putImage(store, { layers: [foreign], platform: hostPlatform() }, 'app');
    await assert.rejects((await openImage({ store, reference: 'app' }, [testFormat])).tree(), fails('UNSUPPORTED', /foreign/));
  });

  it('tries again after a failure instead of keeping it', async () => {
    let down = true;
    const flaky: Format<unknown> = { ...testFormat, open: (layer, signal) => (down ? Promise.reject(new LazypullError('NETWORK', 'down')) : testFormat.open(layer, signal)) };
    const image = await openImage({ store: await lazyImage(), reference: 'app' }, [flaky]);
    await assert.rejects(image.tree(), fails('NETWORK'));
    down = false;
    assert.ok((await image.tree()).children.has('etc'));
  });

  it('is cancelled by its signal', async () => {
    const store = await lazyImage();
    await assert.rejects(openImage({ store, reference: 'app' }, [testFormat], { signal: AbortSignal.abort() }), fails('CANCELLED'));
    const image = await openImage({ store, reference: 'app' }, [testFormat]);
    await assert.rejects(image.tree(AbortSignal.abort()), fails('CANCELLED'));
    assert.ok(await image.tree());
  });
});

describe('choosing a platform', () => {
  async function both(): Promise<{ store: MemoryStore; amd: Descriptor; arm: Descriptor }> {
    const store = openMemory();
    const amd = await putImage(store, { layers: [lazyLayer(base)], platform: LINUX });
    const arm = await putImage(store, { layers: [lazyLayer(upper)], platform: ARM });
    await putIndex(store, [amd, await putAttestation(store, amd), arm], 'app');
    return { store, amd, arm };
  }

  it('takes the wanted image of an index, and names what there is when it is missing', async () => {
    const { store, amd, arm } = await both();
    for (const [platform, want] of [[LINUX, amd], [ARM, arm]] as const) {
      const image = await openImage({ store, reference: 'app' }, [testFormat], { platform });
      assert.equal(image.descriptor.digest, want.digest);
      assert.deepEqual(image.platform, platform);
    }
    await assert.rejects(
      openImage({ store, reference: 'app' }, [testFormat], { platform: { os: 'linux', architecture: 's390x' } }),
      fails('NOT_FOUND', /no image for linux\/s390x; it has linux\/amd64, linux\/arm64/),
    );
  });

  it('asks the config where an index does not name platforms', async () => {
    const { store, amd, arm } = await both();
    const bare = ({ mediaType, digest, size }: Descriptor): Descriptor => ({ mediaType, digest, size });
    await putIndex(store, [bare(amd), bare(arm)], 'bare');
    assert.equal((await openImage({ store, reference: 'bare' }, [testFormat], { platform: ARM })).descriptor.digest, arm.digest);
  });

  it('looks into nested indexes', async () => {
    const { store, amd, arm } = await both();
    const inner = await putIndex(store, [arm]);
    await putIndex(store, [amd, inner], 'nested');
    assert.equal((await openImage({ store, reference: 'nested' }, [testFormat], { platform: ARM })).descriptor.digest, arm.digest);
    let deep = inner;
    for (let i = 0; i < 6; i++) deep = await putIndex(store, [deep]);
    await store.tag(deep, 'deep');
    await assert.rejects(openImage({ store, reference: 'deep' }, [testFormat], { platform: ARM }), fails('LIMIT'));
  });

  it('uses a lone image for something else with a warning', async () => {
    const store = openMemory();
    const other = { os: 'linux', architecture: 's390x' };
    const lone = await putImage(store, { layers: [lazyLayer(base)], platform: other }, 'lone');
    await putIndex(store, [lone, await putAttestation(store, lone)], 'index-of-one');
    for (const reference of ['lone', 'index-of-one']) {
      const image = await openImage({ store, reference }, [testFormat]);
      assert.match(image.warnings.join(), /s390x/, reference);
    }
    assert.match((await openImage({ store, reference: 'lone' }, [testFormat], { platform: ARM })).warnings.join(), /linux\/s390x, not for linux\/arm64/);
    await assert.rejects(openImage({ store, reference: 'index-of-one' }, [testFormat], { platform: ARM }), fails('NOT_FOUND'));
  });
});

describe('documents that lie', () => {
  it('are refused', async () => {
    const store = openMemory();
    const layers = [lazyLayer(base)];
    await putImage(store, { layers, config: { rootfs: { type: 'layers', diff_ids: [] } } }, 'no-diff-ids');
    await assert.rejects(openImage({ store, reference: 'no-diff-ids' }, [testFormat]), fails('CORRUPT', /1 layers.*0 diff_ids/));

    const artifact = await putBlob(store, OCI.empty, Buffer.from('{}'));
    const manifest = await putBlob(store, OCI.manifest, encodeDocument({ schemaVersion: 2, config: artifact, layers: [] }));
    await store.tag(manifest, 'artifact');
    await assert.rejects(openImage({ store, reference: 'artifact' }, [testFormat]), fails('UNSUPPORTED', /artifact/));

    const blob = await putBlob(store, 'text/plain', Buffer.from('{}'));
    await store.tag(blob, 'blob');
    await assert.rejects(openImage({ store, reference: 'blob' }, [testFormat]), fails('UNSUPPORTED', /text\/plain/));

    const garbage = await putImage(store, { layers, manifest: { schemaVersion: 3 } }, 'garbage');
    assert.ok(garbage);
    await assert.rejects(openImage({ store, reference: 'garbage' }, [testFormat]), fails('CORRUPT'));
    await assert.rejects(openImage({ store, reference: 'missing' }, [testFormat]), fails('NOT_FOUND'));
  });

  it('in their history only are read with a warning', async () => {
    const store = openMemory();
    const history = [{ created_by: 'a' }, { created_by: 'b' }, { empty_layer: true }];
    await putImage(store, { layers: [lazyLayer(base)], platform: hostPlatform(), config: { history } }, 'app');
    assert.match((await openImage({ store, reference: 'app' }, [testFormat])).warnings.join(), /history speaks of 2/);
  });
});

describe('siblings', () => {
  const SUFFIX = '-side';

  async function siblingOf(store: MemoryStore, reference: string): Promise<readonly Descriptor[] | undefined> {
    const image = await openImage({ store, reference }, [testFormat]);
    return (await image.layers[0]?.stored.image?.sibling(SUFFIX))?.map(({ descriptor }) => descriptor);
  }

  it('are found by tag, in the same store, and their reads are counted', async () => {
    const store = await lazyImage();
    const side = lazyLayer([{ path: 'x', content: 'x' }]);
    await putImage(store, { layers: [side] }, `app${SUFFIX}`);
    const image = await openImage({ store, reference: 'app' }, [testFormat]);
    const [layer] = (await image.layers[0]?.stored.image?.sibling(SUFFIX)) ?? [];
    await layer?.source.read(0, 10);
    assert.deepEqual(image.stats(), { requests: 1, bytes: 10 });
    assert.equal(layer?.descriptor.size, side.bytes.length);
  });

  it('are undefined when there is no such tag or no tag at all', async () => {
    const store = await lazyImage();
    assert.equal(await siblingOf(store, 'app'), undefined);
    await putImage(store, { layers: [] }, `app${SUFFIX}`);
    assert.deepEqual(await siblingOf(store, 'app'), []);
    const { digest } = await store.resolve('app');
    assert.equal(await siblingOf(store, digest), undefined);
  });
});
