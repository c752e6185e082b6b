import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { digestOf } from '../../../src/core/digest.ts';
import type { ByteStream } from '../../../src/core/types.ts';
import { ThreadPool } from '../../../src/codec/pool.ts';
import { nydus, nydusZran } from '../../../formats/nydus/index.ts';
import { openMemory } from '../../../src/oci/memory.ts';
import { encodeTarHeader } from '../../../src/tar/write.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { file } from '../../support/tar-corpus.ts';
import { gzipInput } from '../../support/layers.ts';
import { noise } from '../../support/noise.ts';
import { convertTars } from './images.ts';

// What test/formats/contract.ts asks of formats whose layers open by themselves, for one whose images open as a whole.

test('opening and reading touch only what they need', async () => {
  const tar = archive(entries(file('data/first', noise(300_000, 7)), file('data/small', noise(20_000)), file('data/last', noise(3_000_000, 9))));
  const { image } = await convertTars([tar]);
  await image.tree();
  const opened = image.stats();
  assert.ok(opened.requests <= 6 && opened.bytes < 50_000, JSON.stringify(opened));
  assert.deepEqual(Buffer.from(await image.readFile('/data/small', { offset: 100, length: 4096 })), Buffer.from(noise(20_000).subarray(100, 4196)));
  const read = image.stats();
  assert.equal(read.requests - opened.requests, 1, 'a read is one request');
  assert.ok(read.bytes - opened.bytes < 25_000, `${read.bytes - opened.bytes} bytes`);
});

for (const format of [nydus, nydusZran]) {
  test(`${format.name}: a cancelled conversion stores nothing`, async () => {
    const workers = new ThreadPool(2);
    const store = openMemory();
    const stop = new AbortController();
    const tar = archive(entries(file('a', noise(2_000_000))));
    const input = gzipInput(gzipSync(tar), tar, 10_000);
    const stopping = (stream: () => ByteStream) => async function* (): ByteStream {
      let seen = 0;
      for await (const bytes of stream()) {
        seen += bytes.length;
        if (seen > 500_000) stop.abort();
        yield bytes;
        stop.signal.throwIfAborted();
      }
    };
    let stores = 0;
    const ingest = async (mediaType: string, produce: Parameters<typeof store.ingest>[1]) => {
      const descriptor = await store.ingest(mediaType, produce);
      stores += 1;
      return descriptor;
    };
    try {
      await assert.rejects(format.convert({ ...input, tar: stopping(input.tar), packed: stopping(input.packed) }, { workers, signal: stop.signal, ingest }, {}));
      assert.equal(stores, 0);
    } finally {
      await workers.close();
    }
  });
}

test('a slow sink holds the source back', async () => {
  const workers = new ThreadPool(2);
  const body = noise(1 << 20);
  const size = 96 << 20;
  let produced = 0;
  let consumed = 0;
  let ahead = 0;
  const tar = async function* (): ByteStream {
    yield encodeTarHeader({ path: 'big', type: 'file', mode: 0o644, uid: 0, gid: 0, size, mtime: { seconds: 0, nanoseconds: 0 } });
    for (; produced < size; produced += body.length) {
      ahead = Math.max(ahead, produced - consumed);
      // Each piece another, or they would be stored once.
      body[0] = (body[0] as number) + 1;
      yield body;
    }
    yield new Uint8Array(1024);
  };
  try {
    await nydus.convert(
      { descriptor: { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: digestOf(), size: 0 }, tar, packed: tar },
      {
        workers,
        ingest: async (mediaType, produce) => {
          let total = 0;
          await produce(async (bytes) => {
            for (let i = 0; i < 5; i++) await turn();
            total += bytes.length;
            consumed += bytes.length;
          }, () => digestOf());
          return { mediaType, digest: digestOf(), size: total };
        },
      },
      { compressor: 'none' },
    );
  } finally {
    await workers.close();
  }
  assert.ok(consumed > 90 << 20);
  assert.ok(ahead < 64 << 20, `${ahead} bytes were taken in before they were written out`);
});
