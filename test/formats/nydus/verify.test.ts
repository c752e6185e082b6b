import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { digestOf, type Digest } from '../../../src/core/digest.ts';
import { MemorySource } from '../../../src/core/source.ts';
import { collect } from '../../../src/core/stream.ts';
import type { ByteSource, Descriptor, ImageStore } from '../../../src/core/types.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import { openMemory } from '../../../src/oci/memory.ts';
import { nydus, type NydusOptions } from '../../../formats/nydus/index.ts';
import { plainLayer, putImage, type LayerBlob } from '../../image/fixture.ts';
import { convertTars, plainLayers } from './images.ts';
import { TARS } from './samples.ts';

async function layersOf(options: NydusOptions = {}): Promise<LayerBlob[]> {
  const { image } = await convertTars(TARS, options);
  return Promise.all(image.layers.map(async ({ descriptor, diffId }) => ({
    bytes: await collect(image.place.store.fetch(descriptor), 1 << 26), diffId, mediaType: descriptor.mediaType, ...(descriptor.annotations && { annotations: { ...descriptor.annotations } }),
  })));
}

/** The store, but for other bytes of one blob where ranges are read. */
function serving(store: ImageStore, digest: Digest, bytes: Uint8Array): ImageStore {
  return new Proxy(store, {
    get(target, name) {
      if (name === 'open') return (descriptor: Descriptor): ByteSource => (descriptor.digest === digest ? new MemorySource(bytes) : target.open(descriptor));
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
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

  it('finds a bootstrap whose tar is another than the config says', async () => {
    const layers = await layersOf();
    const store = openMemory();
    await putImage(store, { layers: layers.map((layer, i) => (i === 2 ? { ...layer, diffId: (layers[0] as LayerBlob).diffId } : layer)) }, 'lazy');
    const report = await verifyImage({ store, reference: 'lazy' }, [nydus]);
    assert.ok(report.problems.some(({ message }) => /inflates to diffID/.test(message)));
  });
});
