import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { digestOf } from '../../src/core/digest.ts';
import { LazypullError, type ErrorCode } from '../../src/core/errors.ts';
import { collect, streamOf } from '../../src/core/stream.ts';
import type { ByteStream, Descriptor, ImageStore } from '../../src/core/types.ts';
import { describe as descriptorOf, encodeDocument } from '../../src/oci/documents.ts';
import { OCI } from '../../src/oci/media-types.ts';

/** A place for a store under test, fresh for each test. */
export interface StoreUnderTest {
  readonly store: ImageStore;
  /** Opens the same place once more, as another process would; absent when nothing outlives the store. */
  reopen?(): Promise<ImageStore>;
  /** Makes stored content damaged behind the store's back; absent where that cannot be. */
  damage?(descriptor: Descriptor, bytes: Uint8Array): Promise<void>;
  /** Files or sessions of uploads that are not finished; 0 after every failure. */
  leftovers?(): Promise<number>;
  close(): Promise<void>;
}

export function rejectsWith(promise: Promise<unknown>, code: ErrorCode, pattern: RegExp = /./): Promise<void> {
  return assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof LazypullError, `not a LazypullError: ${String(error)}`);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  });
}

/** Bytes without a pattern that a mistake in order or position would leave unchanged. */
export function noise(size: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

export function blobOf(bytes: Uint8Array, mediaType: string = OCI.layerGzip): Descriptor {
  return descriptorOf(mediaType, bytes);
}

export async function pushBytes(store: ImageStore, bytes: Uint8Array, mediaType: string = OCI.layerGzip): Promise<Descriptor> {
  const descriptor = blobOf(bytes, mediaType);
  await store.push(descriptor, () => streamOf(bytes));
  return descriptor;
}

export interface TestImage {
  readonly manifest: Descriptor;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

/** Stores a small image: one config, one layer. Equal `seed`, equal image. */
export async function pushImage(store: ImageStore, seed: number, extra: object = {}): Promise<TestImage> {
  const layer = await pushBytes(store, noise(1000 + seed, seed));
  const config = await pushBytes(store, encodeDocument({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [digestOf(noise(10, seed))] } }), OCI.config);
  const manifest = await pushBytes(store, encodeDocument({ schemaVersion: 2, mediaType: OCI.manifest, config, layers: [layer], ...extra }), OCI.manifest);
  return { manifest, config, layers: [layer] };
}

/** Stores an artifact about `subject`, without naming it. */
export async function pushReferrer(store: ImageStore, subject: Descriptor, artifactType: string, note: string): Promise<Descriptor> {
  const config = await pushBytes(store, Buffer.from('{}'), OCI.empty);
  const { mediaType, digest, size } = subject;
  const document = { schemaVersion: 2, mediaType: OCI.manifest, artifactType, config, layers: [config], subject: { mediaType, digest, size }, annotations: { note } };
  return pushBytes(store, encodeDocument(document), OCI.manifest);
}

async function bytesOf(stream: ByteStream): Promise<Uint8Array> {
  return collect(stream, 64 << 20);
}

/** What every `ImageStore` promises (core/types.ts). */
export function storeContract(name: string, make: () => Promise<StoreUnderTest>): void {
  const test = (title: string, body: (under: StoreUnderTest) => Promise<void>): void => {
    it(title, async () => {
      const under = await make();
      try {
        await body(under);
      } finally {
        await under.close();
      }
    });
  };

  describe(`${name}: the contract of stores`, () => {
    test('gives back what was pushed, whole and in ranges', async ({ store, reopen }) => {
      const bytes = noise(3 * 1024 * 1024 + 7);
      const descriptor = await pushBytes(store, bytes);
      for (const one of [store, ...(reopen ? [await reopen()] : [])]) {
        assert.equal(await one.has(descriptor), true);
        assert.deepEqual(Buffer.from(await bytesOf(one.fetch(descriptor))), bytes);
        const source = one.open(descriptor);
        assert.equal(source.size, bytes.length);
        for (const [offset, length] of [[0, 1], [0, bytes.length], [1_000_003, 70_000], [bytes.length - 5, 5], [17, 0]] as const) {
          assert.deepEqual(Buffer.from(await source.read(offset, length)), bytes.subarray(offset, offset + length));
        }
        await rejectsWith(source.read(bytes.length - 1, 2), 'CORRUPT');
        if (one !== store) await one.close();
      }
    });

    test('keeps an empty blob', async ({ store }) => {
      const descriptor = await pushBytes(store, new Uint8Array(0));
      assert.equal(await store.has(descriptor), true);
      assert.equal((await bytesOf(store.fetch(descriptor))).length, 0);
      assert.equal((await store.open(descriptor).read(0, 0)).length, 0);
    });

    test('does not know what was never pushed', async ({ store }) => {
      const descriptor = blobOf(noise(100, 99));
      assert.equal(await store.has(descriptor), false);
      await rejectsWith(bytesOf(store.fetch(descriptor)), 'NOT_FOUND');
      await rejectsWith(store.open(descriptor).read(0, 10), 'NOT_FOUND');
      await rejectsWith(store.resolve('nothing'), 'NOT_FOUND');
      await rejectsWith(store.resolve(descriptor.digest), 'NOT_FOUND');
    });

    test('refuses content that is not what its descriptor says, and keeps none of it', async ({ store, leftovers }) => {
      const bytes = noise(200_000);
      const right = blobOf(bytes);
      const cases = [
        ['SIZE_MISMATCH', right, bytes.subarray(0, 150_000)],
        ['SIZE_MISMATCH', right, Buffer.concat([bytes, Buffer.of(0)])],
        ['DIGEST_MISMATCH', right, noise(200_000, 2)],
      ] as const;
      for (const [code, descriptor, wrong] of cases) {
        await rejectsWith(store.push(descriptor, () => streamOf(wrong)), code);
        assert.equal(await store.has(descriptor), false, code);
      }
      assert.equal((await leftovers?.()) ?? 0, 0);
      await store.push(right, () => streamOf(bytes));
      assert.equal(await store.has(right), true);
    });

    test('takes a push of what is there as success', async ({ store }) => {
      const bytes = noise(5000);
      const descriptor = await pushBytes(store, bytes);
      await store.push(descriptor, () => streamOf(bytes));
      await Promise.all(Array.from({ length: 8 }, () => pushBytes(store, noise(400_000, 5))));
      assert.deepEqual(Buffer.from(await bytesOf(store.fetch(descriptor))), bytes);
    });

    test('copies bytes that are only lent', async ({ store }) => {
      const whole = noise(300_000, 8);
      const descriptor = blobOf(whole);
      const lend = async function* (): AsyncGenerator<Uint8Array> {
        const buffer = Buffer.alloc(1000);
        for (let at = 0; at < whole.length; at += 1000) {
          whole.copy(buffer, 0, at, at + 1000);
          yield buffer;
          buffer.fill(0xee);
        }
      };
      await store.push(descriptor, lend);
      assert.deepEqual(Buffer.from(await bytesOf(store.fetch(descriptor))), whole);
      const ingested = await store.ingest(OCI.layer, async (sink) => {
        for await (const bytes of lend()) await sink(bytes);
      });
      assert.equal(ingested.digest, descriptor.digest);
    });

    test('ingests what has no digest yet', async ({ store }) => {
      const bytes = noise(2_500_000, 3);
      const descriptor = await store.ingest(OCI.layerZstd, async (sink) => {
        for (let at = 0; at < bytes.length; at += 33_333) await sink(bytes.subarray(at, at + 33_333));
      });
      assert.deepEqual(descriptor, blobOf(bytes, OCI.layerZstd));
      assert.deepEqual(Buffer.from(await bytesOf(store.fetch(descriptor))), bytes);
      const empty = await store.ingest(OCI.layer, () => Promise.resolve());
      assert.deepEqual(empty, blobOf(new Uint8Array(0), OCI.layer));
      assert.equal(await store.has(empty), true);
    });

    test('tells what it has taken so far', async ({ store }) => {
      const bytes = noise(3_000_000, 5);
      for (const mediaType of [OCI.layer, OCI.manifest]) {
        const seen: [string, string][] = [];
        const running = store.ingest(mediaType, async (sink, soFar) => {
          seen.push([soFar(), digestOf()]);
          for (let at = 0; at < bytes.length; at += 700_001) {
            await sink(bytes.subarray(at, at + 700_001));
            seen.push([soFar(), digestOf(bytes.subarray(0, at + 700_001))]);
          }
        });
        // No manifest consists of noise: what a store says of that is not looked at here.
        if (mediaType === OCI.manifest) await running.catch(() => undefined);
        else assert.deepEqual(await running, blobOf(bytes, mediaType));
        assert.equal(seen.length, 6);
        for (const [told, right] of seen) assert.equal(told, right);
      }
    });

    test('keeps nothing of a push or ingest that fails half way', async ({ store, leftovers }) => {
      const bytes = noise(700_000, 4);
      const broken = async function* (): AsyncGenerator<Uint8Array> {
        yield bytes.subarray(0, 400_000);
        throw new LazypullError('NETWORK', 'the source broke off');
      };
      await rejectsWith(store.push(blobOf(bytes), broken), 'NETWORK', /broke off/);
      const ingesting = store.ingest(OCI.layer, async (sink) => {
        await sink(bytes.subarray(0, 400_000));
        throw new LazypullError('CORRUPT', 'the layer is broken');
      });
      await rejectsWith(ingesting, 'CORRUPT', /broken/);
      assert.equal(await store.has(blobOf(bytes)), false);
      assert.equal(await store.has(blobOf(bytes.subarray(0, 400_000))), false);
      assert.equal((await leftovers?.()) ?? 0, 0);
    });

    test('stops when it is told to', async ({ store, leftovers }) => {
      const bytes = noise(700_000, 6);
      const stored = await pushBytes(store, noise(3_000_000, 7));
      for (const abortAt of [0, 1]) {
        const controller = new AbortController();
        const slow = async function* (): AsyncGenerator<Uint8Array> {
          for (let i = 0; i < 7; i++) {
            if (i === abortAt) controller.abort();
            yield bytes.subarray(i * 100_000, (i + 1) * 100_000);
          }
        };
        await rejectsWith(store.push(blobOf(bytes), slow, controller.signal), 'CANCELLED');
        await rejectsWith(store.ingest(OCI.layer, async (sink) => {
          for await (const part of slow()) await sink(part);
        }, controller.signal), 'CANCELLED');
        await rejectsWith(bytesOf(store.fetch(stored, controller.signal)), 'CANCELLED');
        await rejectsWith(store.open(stored).read(0, 10, controller.signal), 'CANCELLED');
        await rejectsWith(store.resolve('x', controller.signal), 'CANCELLED');
      }
      assert.equal(await store.has(blobOf(bytes)), false);
      assert.equal((await leftovers?.()) ?? 0, 0);
    });

    test('can be left in the middle of a fetch', async ({ store }) => {
      const descriptor = await pushBytes(store, noise(4_000_000, 12));
      for await (const bytes of store.fetch(descriptor)) {
        assert.ok(bytes.length > 0);
        break;
      }
      assert.equal(await store.has(descriptor), true);
    });

    test('resolves tags and digests of manifests', async ({ store, reopen }) => {
      const { manifest } = await pushImage(store, 1);
      const other = (await pushImage(store, 2)).manifest;
      await store.tag(manifest, 'one');
      await store.tag(other, 'two');
      for (const one of [store, ...(reopen ? [await reopen()] : [])]) {
        const { mediaType, digest, size } = await one.resolve('one');
        assert.deepEqual({ mediaType, digest, size }, manifest);
        assert.equal((await one.resolve('two')).digest, other.digest);
        assert.equal((await one.resolve(manifest.digest)).mediaType, OCI.manifest);
        assert.deepEqual(await one.tags?.(), ['one', 'two']);
        if (one !== store) await one.close();
      }
    });

    test('moves a tag', async ({ store }) => {
      const first = (await pushImage(store, 1)).manifest;
      const second = (await pushImage(store, 2)).manifest;
      await store.tag(first, 'moving');
      await store.tag(second, 'moving');
      await store.tag(second, 'moving');
      assert.equal((await store.resolve('moving')).digest, second.digest);
      assert.equal((await store.resolve(first.digest)).digest, first.digest);
      assert.deepEqual(await store.tags?.(), ['moving']);
    });

    test('does not tag what is not stored', async ({ store }) => {
      await pushImage(store, 1);
      await rejectsWith(store.tag(blobOf(noise(50), OCI.manifest), 'dangling'), 'NOT_FOUND');
      await rejectsWith(store.resolve('dangling'), 'NOT_FOUND');
    });

    test('keeps an index over manifests', async ({ store }) => {
      const children = [(await pushImage(store, 1)).manifest, (await pushImage(store, 2)).manifest];
      const bytes = encodeDocument({ schemaVersion: 2, mediaType: OCI.index, manifests: children });
      const index = await pushBytes(store, bytes, OCI.index);
      await store.tag(index, 'all');
      assert.equal((await store.resolve('all')).mediaType, OCI.index);
      assert.deepEqual(Buffer.from(await bytesOf(store.fetch(index))), Buffer.from(bytes));
    });

    test('keeps every tag of those who tag at the same time', async ({ store }) => {
      const images = await Promise.all([1, 2, 3, 4, 5, 6].map((seed) => pushImage(store, seed)));
      await Promise.all(images.map(({ manifest }, i) => store.tag(manifest, `t${i}`)));
      assert.deepEqual(await store.tags?.(), ['t0', 't1', 't2', 't3', 't4', 't5']);
      for (const [i, { manifest }] of images.entries()) assert.equal((await store.resolve(`t${i}`)).digest, manifest.digest);
    });

    test('lists referrers, of manifests that are not there, too', async ({ store, reopen }) => {
      const { manifest } = await pushImage(store, 1);
      const absent = blobOf(noise(77), OCI.manifest);
      const signature = await pushReferrer(store, manifest, 'application/x.signature', 'one');
      const sbom = await pushReferrer(store, manifest, 'application/x.sbom', 'two');
      const early = await pushReferrer(store, absent, 'application/x.sbom', 'three');
      for (const one of [store, ...(reopen ? [await reopen()] : [])]) {
        assert.ok(one.referrers);
        const found = [...(await one.referrers(manifest))].sort((a, b) => (a.artifactType ?? '').localeCompare(b.artifactType ?? ''));
        assert.deepEqual(found.map(({ digest, artifactType, annotations }) => ({ digest, artifactType, annotations })), [
          { digest: sbom.digest, artifactType: 'application/x.sbom', annotations: { note: 'two' } },
          { digest: signature.digest, artifactType: 'application/x.signature', annotations: { note: 'one' } },
        ]);
        assert.deepEqual((await one.referrers(absent)).map(({ digest }) => digest), [early.digest]);
        assert.deepEqual(await one.referrers(signature), []);
        if (one !== store) await one.close();
      }
    });

    test('notices stored content that has changed', async ({ store, damage }) => {
      if (!damage) return;
      const bytes = noise(100_000);
      for (const [code, wrong] of [
        ['SIZE_MISMATCH', bytes.subarray(0, 50_000)],
        ['SIZE_MISMATCH', Buffer.concat([bytes, bytes])],
        ['DIGEST_MISMATCH', noise(100_000, 2)],
      ] as const) {
        const descriptor = await pushBytes(store, bytes);
        await damage(descriptor, wrong);
        await rejectsWith(bytesOf(store.fetch(descriptor)), code);
        await damage(descriptor, bytes);
      }
    });
  });
}
