import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { digestOf, verified, type Digest } from '../../../src/core/digest.ts';
import { MemorySource } from '../../../src/core/source.ts';
import { collect, streamOf, tap } from '../../../src/core/stream.ts';
import type { ByteSource, Descriptor, ImageStore } from '../../../src/core/types.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import { openMemory } from '../../../src/oci/memory.ts';
import { nydus, type NydusOptions } from '../../../formats/nydus/index.ts';
import { BLOB_MEDIA_TYPE } from '../../../formats/nydus/layout.ts';
import { plainLayer, putImage, type LayerBlob } from '../../image/fixture.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { file } from '../../support/tar-corpus.ts';
import { noise } from '../../support/noise.ts';
import { convertTars, plainLayers } from './images.ts';
import { TARS } from './samples.ts';

async function layersOf(options: NydusOptions = {}): Promise<LayerBlob[]> {
  const { image } = await convertTars(TARS, options);
  return Promise.all(image.layers.map(async ({ descriptor, diffId }) => ({
    bytes: await collect(image.place.store.fetch(descriptor), 1 << 26), diffId, mediaType: descriptor.mediaType, ...(descriptor.annotations && { annotations: { ...descriptor.annotations } }),
  })));
}

function changed(store: ImageStore, methods: Partial<Pick<ImageStore, 'open' | 'fetch'>>): ImageStore {
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(methods, name) ?? Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

/** The store, but for other bytes of one blob. */
function serving(store: ImageStore, digest: Digest, bytes: Uint8Array): ImageStore {
  return changed(store, {
    open: (descriptor) => (descriptor.digest === digest ? new MemorySource(bytes) : store.open(descriptor)),
    fetch: (descriptor) => (descriptor.digest === digest ? verified(streamOf(bytes.subarray(0, 1000), bytes.subarray(1000)), descriptor, 'blob') : store.fetch(descriptor)),
  });
}

/** The store, and what is asked of it: bytes by digest. */
function counting(store: ImageStore): { readonly store: ImageStore; readonly fetched: Map<string, number>; readonly ranged: Map<string, number> } {
  const fetched = new Map<string, number>();
  const ranged = new Map<string, number>();
  const add = (to: Map<string, number>, { digest }: Descriptor, bytes: number): void => void to.set(digest, (to.get(digest) ?? 0) + bytes);
  const counted = changed(store, {
    open(descriptor): ByteSource {
      const source = store.open(descriptor);
      return {
        size: source.size,
        read(offset, length, signal) {
          add(ranged, descriptor, length);
          return source.read(offset, length, signal);
        },
      };
    },
    fetch: (descriptor) => tap(store.fetch(descriptor), ({ length }) => add(fetched, descriptor, length)),
  });
  return { store: counted, fetched, ranged };
}

describe('verify on Nydus images', () => {
  it('reads every chunk, and finds the same as in the original', async () => {
    for (const options of [{}, { digester: 'sha256' as const, compressor: 'lz4' as const }, { batchSize: 65_536 }]) {
      const { store } = await convertTars(TARS, options);
      const report = await verifyImage({ store, reference: 'lazy' }, [nydus], { against: { store, reference: 'plain' } });
      assert.deepEqual(report.problems, []);
      assert.ok(report.ok);
      const [, , bootstrap] = report.images[0]?.layers ?? [];
      assert.equal(bootstrap?.format, 'nydus');
      assert.ok((bootstrap?.chunks ?? 0) >= 4 && (bootstrap?.files ?? 0) >= 5, JSON.stringify(bootstrap));
      assert.equal(report.totals.files, bootstrap?.files);
      assert.ok(report.notes.some((note) => /not stored layer by layer/.test(note)));
    }
  });

  it('finds what differs from an original', async () => {
    const { store } = await convertTars(TARS);
    const others: readonly (readonly [string, Parameters<typeof plainLayer>[0], RegExp])[] = [
      ['content', [{ path: 'etc/hosts', content: '127.0.0.2 localhost\n', mtime: { seconds: 0, nanoseconds: 0 } }], /content/],
      ['a file more', [{ path: 'more', content: 'x' }], /missing/],
      ['mode', [{ path: 'etc/words', content: 'words and words '.repeat(700), mode: 0o600 }], /mode/],
    ];
    for (const [name, entries, text] of others) {
      await putImage(store, { layers: [...plainLayers(TARS), plainLayer(entries)] }, 'other');
      const report = await verifyImage({ store, reference: 'lazy' }, [nydus], { against: { store, reference: 'other' } });
      assert.ok(report.problems.some(({ code, message }) => code === 'DIFFERENT' && text.test(message)), `${name}: ${JSON.stringify(report.problems)}`);
    }
  });

  it('names the files that a damaged chunk is in', async () => {
    for (const options of [{ compressor: 'none' as const }, { batchSize: 65_536 }, {}]) {
      const layers = await layersOf(options);
      const [first] = layers as [LayerBlob];
      const bytes = Uint8Array.from(first.bytes, (byte, at) => (at === 2 ? byte ^ 1 : byte));
      const store = openMemory();
      await putImage(store, { layers }, 'lazy');
      const broken = serving(store, digestOf(first.bytes), bytes);
      const report = await verifyImage({ store: broken, reference: 'lazy' }, [nydus]);
      assert.equal(report.ok, false);
      assert.ok(report.problems.some(({ path, code }) => path !== undefined && path !== '' && (code === 'DIGEST_MISMATCH' || code === 'CORRUPT')), JSON.stringify(report.problems));
    }
  });

  it('reads every blob once, whether the contents are compared or not', async () => {
    const tars = [1, 2].map((seed) => archive(entries(...[500_000, 20_000, 300_000, 1, 40_000].map((size, i) => file(`${seed}/${i}`, noise(size, seed * 10 + i))), file(`${seed}/again`, noise(20_000, 11)))));
    for (const options of [{}, { compressor: 'none' as const, aligned: true }, { batchSize: 65_536 }]) {
      for (const compared of [false, true]) {
        const { store: plain, image } = await convertTars(tars, options);
        const { store, fetched, ranged } = counting(plain);
        const report = await verifyImage({ store, reference: 'lazy' }, [nydus], compared ? { against: { store: plain, reference: 'plain' } } : {});
        assert.ok(report.ok, JSON.stringify(report.problems));
        for (const { digest, size, mediaType } of image.manifest.layers) {
          assert.equal(fetched.get(digest), size);
          // What tells the parts of a blob: its chunks come by. The bootstrap layer is a tar as well as an index.
          const limit = mediaType === BLOB_MEDIA_TYPE ? 32_768 : size;
          assert.ok((ranged.get(digest) ?? 0) <= limit, `${ranged.get(digest)} of ${size} bytes of ${mediaType} by ranges`);
        }
      }
    }
  });

  it('finds a bootstrap whose tar is another than the config says', async () => {
    const layers = await layersOf();
    const store = openMemory();
    await putImage(store, { layers: layers.map((layer, i) => (i === 2 ? { ...layer, diffId: (layers[0] as LayerBlob).diffId } : layer)) }, 'lazy');
    const report = await verifyImage({ store, reference: 'lazy' }, [nydus]);
    assert.ok(report.problems.some(({ message }) => /inflates to diffID/.test(message)));
  });
});
