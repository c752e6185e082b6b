import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { Digest } from '../../src/core/digest.ts';
import { LazypullError, type ErrorCode } from '../../src/core/errors.ts';
import { collect, streamOf } from '../../src/core/stream.ts';
import type { Descriptor, ImageStore } from '../../src/core/types.ts';
import { copyImage } from '../../src/image/copy.ts';
import { referrersTag } from '../../src/oci/document-facts.ts';
import type { ImageProgress } from '../../src/image/progress.ts';
import { encodeDocument, parseIndex } from '../../src/oci/documents.ts';
import { openLayout } from '../../src/oci/layout.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { openMemory, type MemoryStore } from '../../src/oci/memory.ts';
import { ARM, gzipLayer, LINUX, plainLayer, putAttestation, putBlob, putImage, putIndex, putReferrer } from './fixture.ts';

const fails = (code: ErrorCode, pattern = /./) => (error: unknown): boolean =>
  error instanceof LazypullError && error.code === code && pattern.test(error.message);

const shared = gzipLayer([{ path: 'shared', content: 's'.repeat(5000) }]);
const own = plainLayer([{ path: 'own', content: 'o'.repeat(3000) }]);

interface Fixture {
  store: MemoryStore;
  amd: Descriptor;
  arm: Descriptor;
  attestation: Descriptor;
  index: Descriptor;
}

async function multiArch(): Promise<Fixture> {
  const store = openMemory('source');
  const amd = await putImage(store, { layers: [shared, own], platform: LINUX });
  const arm = await putImage(store, { layers: [shared], platform: ARM });
  const attestation = await putAttestation(store, amd);
  const index = await putIndex(store, [amd, attestation, arm], 'app', { annotations: { keep: 'me' }, 'x-unknown': [1] });
  return { store, amd, arm, attestation, index };
}

/** A store that behaves like another one except for some methods, and that cannot mount. */
function changed(store: ImageStore, changes: Partial<ImageStore>): ImageStore {
  const methods = ['resolve', 'tag', 'has', 'open', 'fetch', 'push', 'ingest', 'tags', 'referrers', 'close'] as const;
  const view = Object.fromEntries(methods.flatMap((name) => {
    const method = store[name] as ((...args: never[]) => unknown) | undefined;
    return method ? [[name, method.bind(store)]] : [];
  }));
  return { location: store.location, ...view, ...changes } as ImageStore;
}

const bytesOf = (store: ImageStore, descriptor: Descriptor): Promise<Uint8Array> => collect(store.fetch(descriptor), 1 << 24);

async function assertSame(from: ImageStore, to: ImageStore, descriptors: readonly Descriptor[]): Promise<void> {
  for (const descriptor of descriptors) assert.deepEqual(Buffer.from(await bytesOf(to, descriptor)), Buffer.from(await bytesOf(from, descriptor)), descriptor.digest);
}

describe('copyImage', () => {
  it('takes images along that stand beside the tag, and only those', async () => {
    const { store, index } = await multiArch();
    const beside = await putImage(store, { layers: [own] });
    await store.tag(beside, 'app-toc');
    const target = openMemory('target');
    const report = await copyImage({ store, reference: 'app' }, { store: target, reference: 'v1' }, { companions: ['-toc', '-none'] });
    assert.deepEqual(report.tags, ['v1-toc', 'v1']);
    assert.equal((await target.resolve('v1-toc')).digest, beside.digest);
    await assertSame(store, target, [beside]);
    const byDigest = openMemory('by digest');
    assert.deepEqual((await copyImage({ store, reference: index.digest }, { store: byDigest, reference: 'v1' }, { companions: ['-toc'] })).tags, ['v1']);
  });

  it('copies a whole index byte for byte, attestations too, and shared blobs once', async () => {
    const { store, amd, arm, attestation, index } = await multiArch();
    const target = openMemory('target');
    const report = await copyImage({ store, reference: 'app' }, { store: target, reference: 'v1' });
    assert.equal((await target.resolve('v1')).digest, index.digest);
    await assertSame(store, target, [index, amd, arm, attestation]);
    assert.deepEqual([report.action, report.rewritten, report.digest, report.tags], ['copied', false, index.digest, ['v1']]);
    assert.equal(report.source, 'memory:source:app');
    assert.equal(report.manifests.copied, 4);
    // shared, own, three configs and the statement.
    assert.equal(report.blobs.total, 6);
    assert.equal(report.blobs.mounted, 6, 'memory stores can mount');
    assert.deepEqual(report.warnings, []);
  });

  it('streams what cannot be mounted and skips what is there', async () => {
    const { store } = await multiArch();
    const from = changed(store, {});
    const target = openMemory('target');
    await putBlob(target, shared.mediaType, shared.bytes);
    const events: ImageProgress[] = [];
    const report = await copyImage({ store: from, reference: 'app' }, { store: target, reference: 'app' }, { progress: (event) => events.push(event) });
    assert.deepEqual([report.blobs.copied, report.blobs.existing, report.blobs.mounted], [5, 1, 0]);
    assert.equal(report.bytes.existing, shared.bytes.length);
    const total = events.find((event) => event.type === 'total');
    assert.deepEqual(total, { type: 'total', blobs: 6, bytes: report.bytes.total });
    const moved = events.reduce((sum, event) => sum + (event.type === 'bytes' ? event.bytes : 0), 0);
    assert.equal(moved, report.bytes.copied);
    assert.equal(events.filter((event) => event.type === 'blob' && event.moved).length, 5);
    const again = await copyImage({ store: from, reference: 'app' }, { store: target, reference: 'app' });
    assert.deepEqual([again.blobs.copied, again.manifests.copied, again.bytes.copied], [0, 0, 0]);
  });

  it('copies by digest, to a digest, and refuses a wrong one', async () => {
    const { store, arm, amd } = await multiArch();
    const target = openMemory('target');
    const report = await copyImage({ store, reference: arm.digest }, { store: target, reference: arm.digest });
    assert.deepEqual(report.tags, []);
    await assertSame(store, target, [arm]);
    await assert.rejects(copyImage({ store, reference: arm.digest }, { store: target, reference: amd.digest }), fails('USAGE'));
  });

  it('tags last, and not at all when something fails', async () => {
    const { store, amd, index } = await multiArch();
    for (const broken of [shared.bytes.length, amd.size, index.size]) {
      const target = openMemory('target');
      const order: string[] = [];
      const fragile = changed(target, {
        push: async (descriptor, open, signal) => {
          order.push(descriptor.mediaType);
          if (descriptor.size === broken) throw new LazypullError('NETWORK', 'broken pipe');
          return target.push(descriptor, open, signal);
        },
        tag: async () => {
          order.push('tag');
        },
      });
      await assert.rejects(copyImage({ store, reference: 'app' }, { store: fragile, reference: 'app' }), fails('NETWORK'));
      assert.ok(!order.includes('tag'));
    }
    const order: string[] = [];
    const target = openMemory('target');
    const watched = changed(target, {
      push: (descriptor, open, signal) => {
        order.push(descriptor.mediaType);
        return target.push(descriptor, open, signal);
      },
      tag: (descriptor, tag) => {
        order.push('tag');
        return target.tag(descriptor, tag);
      },
    });
    await copyImage({ store, reference: 'app' }, { store: watched, reference: 'app' });
    assert.deepEqual(order.slice(-5), [OCI.manifest, OCI.manifest, OCI.manifest, OCI.index, 'tag']);
  });

  it('notices a source that lies and a target that does not keep its word', async () => {
    const { store } = await multiArch();
    const lying = changed(store, { fetch: (descriptor, signal) => (descriptor.size === shared.bytes.length ? streamOf(Buffer.alloc(descriptor.size)) : store.fetch(descriptor, signal)) });
    const target = openMemory('target');
    await assert.rejects(copyImage({ store: lying, reference: 'app' }, { store: target, reference: 'app' }), fails('DIGEST_MISMATCH'));
    await assert.rejects(target.resolve('app'), fails('NOT_FOUND'));
    const { digest, size } = await putImage(target, { layers: [] }, 'other');
    const stubborn = changed(target, { tag: async () => undefined, resolve: async () => ({ mediaType: OCI.manifest, digest, size }) });
    await assert.rejects(copyImage({ store, reference: 'app' }, { store: stubborn, reference: 'app' }), fails('DIGEST_MISMATCH', /after the copy/));
  });

  it('counts the bytes of a retried transfer once', async () => {
    const { store } = await multiArch();
    const target = openMemory('target');
    const retrying = changed(target, {
      push: async (descriptor, open, signal) => {
        for await (const bytes of open()) if (bytes.length > 0) break;
        return target.push(descriptor, open, signal);
      },
    });
    let moved = 0;
    const report = await copyImage({ store, reference: 'app' }, { store: retrying, reference: 'app' }, {
      progress: (event) => {
        if (event.type === 'bytes') moved += event.bytes;
      },
    });
    assert.equal(moved, report.bytes.copied);
  });

  it('leaves foreign layers where they are, with their urls', async () => {
    const store = openMemory('source');
    const foreign = { mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', digest: `sha256:${'a'.repeat(64)}` as Digest, size: 1e9, urls: ['https://example.com/layer'] };
    const config = await putBlob(store, OCI.config, encodeDocument({ rootfs: { type: 'layers', diff_ids: [foreign.digest] } }));
    const manifest = await putBlob(store, OCI.manifest, encodeDocument({ schemaVersion: 2, config, layers: [foreign] }));
    await store.tag(manifest, 'app');
    const target = openMemory('target');
    const report = await copyImage({ store, reference: 'app' }, { store: target, reference: 'app' });
    assert.deepEqual(report.foreign, [foreign.digest]);
    await assertSame(store, target, [manifest]);
  });

  it('copies indexes inside indexes, and blobs that an index lists itself', async () => {
    const { store, index, arm } = await multiArch();
    const cache = await putBlob(store, 'application/x-cache', Buffer.from('cache'));
    const outer = await putIndex(store, [index, cache], 'outer');
    const target = openMemory('target');
    await copyImage({ store, reference: 'outer' }, { store: target, reference: 'outer' });
    await assertSame(store, target, [outer, index, arm, cache]);
    let deep = index;
    for (let i = 0; i < 6; i++) deep = await putIndex(store, [deep]);
    await store.tag(deep, 'deep');
    await assert.rejects(copyImage({ store, reference: 'deep' }, { store: target, reference: 'deep' }), fails('LIMIT'));
  });

  it('refuses one blob of two sizes', async () => {
    const store = openMemory('source');
    const layer = await putBlob(store, OCI.layer, own.bytes);
    const config = await putBlob(store, OCI.config, encodeDocument({ rootfs: { type: 'layers', diff_ids: [] } }));
    const manifest = await putBlob(store, OCI.manifest, encodeDocument({ schemaVersion: 2, config, layers: [layer, { ...layer, size: 5 }] }));
    await store.tag(manifest, 'app');
    await assert.rejects(copyImage({ store, reference: 'app' }, { store: openMemory('target'), reference: 'app' }), fails('CORRUPT', /3\d+ and 5 bytes|5 bytes/));
  });

  it('plans without touching the target', async () => {
    const { store } = await multiArch();
    const target = openMemory('target');
    await putBlob(target, shared.mediaType, shared.bytes);
    const report = await copyImage({ store, reference: 'app' }, { store: target, reference: 'app' }, { dryRun: true });
    assert.deepEqual([report.action, report.blobs.copied, report.blobs.existing, report.manifests.copied], ['planned', 5, 1, 4]);
    await assert.rejects(target.resolve('app'), fails('NOT_FOUND'));
    assert.equal(await target.has({ mediaType: own.mediaType, digest: own.diffId, size: own.bytes.length }), false);
  });

  it('obeys ifChanged and noClobber', async () => {
    const { store, index } = await multiArch();
    const target = openMemory('target');
    const place = { store: target, reference: 'app' };
    assert.equal((await copyImage({ store, reference: 'app' }, place, { noClobber: true })).action, 'copied');
    for (const options of [{ ifChanged: true }, { noClobber: true }]) {
      const report = await copyImage({ store, reference: 'app' }, place, options);
      assert.deepEqual([report.action, report.digest, report.blobs.total, report.tags], ['unchanged', index.digest, 0, []]);
    }
    const other = await putImage(store, { layers: [own] }, 'other');
    await assert.rejects(copyImage({ store, reference: 'other' }, place, { noClobber: true }), fails('USAGE', /exists already/));
    assert.equal((await target.resolve('app')).digest, index.digest);
    assert.equal((await copyImage({ store, reference: 'other' }, place, { ifChanged: true })).action, 'copied');
    assert.equal((await target.resolve('app')).digest, other.digest);
  });

  it('is cancelled by its signal, and nothing is tagged', async () => {
    const { store } = await multiArch();
    const target = openMemory('target');
    const controller = new AbortController();
    const slow = changed(target, {
      push: async (descriptor, open, signal) => {
        controller.abort();
        return target.push(descriptor, open, signal);
      },
    });
    await assert.rejects(copyImage({ store, reference: 'app' }, { store: slow, reference: 'app' }, { signal: controller.signal }), fails('CANCELLED'));
    await assert.rejects(target.resolve('app'), fails('NOT_FOUND'));
  });
});

describe('copying some platforms', () => {
  it('writes the index anew with what is left, and says so', async () => {
    const { store, amd, attestation, index, arm } = await multiArch();
    const target = openMemory('target');
    const report = await copyImage({ store, reference: 'app' }, { store: target, reference: 'app' }, { platforms: [LINUX] });
    assert.ok(report.rewritten);
    assert.match(report.warnings.join(), /only some platforms/);
    const root = await target.resolve('app');
    assert.equal(root.digest, report.digest);
    assert.notEqual(root.digest, index.digest);
    const bytes = await bytesOf(target, root);
    assert.deepEqual(parseIndex(bytes).manifests.map(({ digest }) => digest), [amd.digest, attestation.digest]);
    const document = JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>;
    assert.deepEqual([document['annotations'], document['x-unknown']], [{ keep: 'me' }, [1]]);
    assert.equal(await target.has(arm), false);
    await assertSame(store, target, [amd, attestation]);
  });

  it('keeps the bytes of an index that loses nothing', async () => {
    const { store, index } = await multiArch();
    const report = await copyImage({ store, reference: 'app' }, { store: openMemory('target'), reference: 'app' }, { platforms: [ARM, LINUX] });
    assert.deepEqual([report.digest, report.rewritten, report.warnings], [index.digest, false, []]);
  });

  it('rewrites nested indexes and drops empty ones', async () => {
    const { store, arm, amd } = await multiArch();
    const outer = await putIndex(store, [await putIndex(store, [arm]), await putIndex(store, [amd])], 'outer');
    const target = openMemory('target');
    const report = await copyImage({ store, reference: 'outer' }, { store: target, reference: 'outer' }, { platforms: [ARM] });
    assert.notEqual(report.digest, outer.digest);
    const inner = parseIndex(await bytesOf(target, await target.resolve('outer'))).manifests;
    assert.equal(inner.length, 1);
    assert.deepEqual(parseIndex(await bytesOf(target, inner[0] as Descriptor)).manifests.map(({ digest }) => digest), [arm.digest]);
  });

  it('fails when a platform is missing, and takes a lone image with a warning', async () => {
    const { store, arm } = await multiArch();
    const platforms = [{ os: 'linux', architecture: 's390x' }];
    const target = { store: openMemory('target'), reference: 'app' };
    await assert.rejects(copyImage({ store, reference: 'app' }, target, { platforms }), fails('NOT_FOUND', /linux\/s390x; it has linux\/amd64, linux\/arm64/));
    const report = await copyImage({ store, reference: arm.digest }, target, { platforms });
    assert.match(report.warnings.join(), /arm64/);
    assert.equal(report.rewritten, false);
    assert.deepEqual((await copyImage({ store, reference: arm.digest }, target, { platforms: [LINUX, ARM] })).warnings, []);
  });
});

describe('copying referrers', () => {
  async function signed(): Promise<Fixture & { signature: Descriptor; counter: Descriptor; sbom: Descriptor }> {
    const fixture = await multiArch();
    const signature = await putReferrer(fixture.store, fixture.index, 'signature');
    const counter = await putReferrer(fixture.store, signature, 'countersignature');
    const sbom = await putReferrer(fixture.store, fixture.arm, 'sbom');
    return { ...fixture, signature, counter, sbom };
  }

  it('takes those of the index, of its images, and theirs', async () => {
    const { store, signature, counter, sbom } = await signed();
    const target = openMemory('target');
    const without = await copyImage({ store, reference: 'app' }, { store: target, reference: 'app' });
    assert.equal(without.referrers, 0);
    assert.equal(await target.has(signature), false);
    const report = await copyImage({ store, reference: 'app' }, { store: target, reference: 'app' }, { referrers: true, ifChanged: true });
    assert.deepEqual([report.referrers, report.action], [3, 'unchanged']);
    await assertSame(store, target, [signature, counter, sbom]);
    assert.deepEqual((await target.referrers(signature)).map(({ digest }) => digest), [counter.digest]);
  });

  it('finds them by the fallback tag of a store without the API', async () => {
    const { store, index, signature, counter, sbom, arm } = await signed();
    await putIndex(store, [signature, sbom], referrersTag(index.digest));
    await putIndex(store, [counter], referrersTag(signature.digest));
    const { referrers: _none, ...old } = changed(store, {});
    const target = openMemory('target');
    const report = await copyImage({ store: old, reference: 'app' }, { store: target, reference: 'app' }, { referrers: true });
    // The list claims that sbom is about the index too; it is not.
    assert.equal(report.referrers, 2);
    await assertSame(store, target, [signature, counter]);
    assert.equal(await target.has(sbom), false);
    assert.ok(arm);
    assert.deepEqual(report.tags, ['app'], 'the fallback tag is the registry\'s business');
  });

  it('takes tags about a digest along', async () => {
    const { store, index, arm } = await multiArch();
    const signature = await putImage(store, { layers: [own] }, `${referrersTag(arm.digest)}.sig`);
    await putImage(store, { layers: [] }, `sha256-${'0'.repeat(64)}.sig`);
    const target = openMemory('target');
    const report = await copyImage({ store, reference: 'app' }, { store: target, reference: 'app' }, { referrers: true });
    assert.deepEqual(report.tags, [`${referrersTag(arm.digest)}.sig`, 'app']);
    assert.equal((await target.resolve(`${referrersTag(arm.digest)}.sig`)).digest, signature.digest);
    assert.equal(report.digest, index.digest);
  });

  it('ends when referrers go in circles or too deep', async () => {
    const { store, amd } = await multiArch();
    const circle = changed(store, { referrers: async (subject) => (subject.digest === amd.digest ? [await store.resolve('app')] : [amd]) });
    const report = await copyImage({ store: circle, reference: 'app' }, { store: openMemory('target'), reference: 'app' }, { referrers: true });
    assert.equal(report.referrers, 0);
    let last = amd;
    for (let i = 0; i < 12; i++) last = await putReferrer(store, last, `link ${i}`);
    await assert.rejects(copyImage({ store, reference: 'app' }, { store: openMemory('target'), reference: 'app' }, { referrers: true }), fails('LIMIT', /levels/));
  });

  it('says that those of a rewritten index stay behind', async () => {
    const { store, sbom, signature } = await signed();
    const target = openMemory('target');
    const report = await copyImage({ store, reference: 'app' }, { store: target, reference: 'app' }, { referrers: true, platforms: [ARM] });
    assert.match(report.warnings.join(), /refers to .* as a whole is not copied/);
    assert.equal(report.referrers, 1);
    assert.deepEqual([await target.has(sbom), await target.has(signature)], [true, false]);
  });
});

describe('copying into a layout and back', () => {
  const folders: string[] = [];
  after(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true }))));

  it('gives the same image', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'lazypull-copy-'));
    folders.push(folder);
    const { store, index, amd } = await multiArch();
    const signature = await putReferrer(store, amd, 'signature');
    const layout = await openLayout(join(folder, 'layout'), { create: true });
    await copyImage({ store, reference: 'app' }, { store: layout, reference: 'app' }, { referrers: true });
    const back = openMemory('back');
    const report = await copyImage({ store: layout, reference: 'app' }, { store: back, reference: 'app' }, { referrers: true });
    await layout.close();
    assert.equal(report.digest, index.digest);
    await assertSame(store, back, [index, amd, signature]);
  });
});
