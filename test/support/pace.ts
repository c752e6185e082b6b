import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { ThreadPool } from '../../src/codec/pool.ts';
import { digestOf } from '../../src/core/digest.ts';
import type { LazypullError } from '../../src/core/errors.ts';
import type { LayerInput, RewritingFormat } from '../../src/core/format.ts';
import type { ByteStream } from '../../src/core/types.ts';
import { openMemory } from '../../src/oci/memory.ts';
import { encodeTarHeader } from '../../src/tar/write.ts';
import { LAYER_TAR } from './layers.ts';
import { noise } from './noise.ts';

/** Conversions that are stopped, and such as are held back: what every format that writes layers has to live with. */

/** A conversion that is cancelled when so many bytes were read fails, and has stored nothing. */
export async function assertCancelled<O>(format: RewritingFormat<O>, input: LayerInput, after: number, options: O): Promise<void> {
  const workers = new ThreadPool(2);
  const store = openMemory();
  const stop = new AbortController();
  const stopping = (stream: () => ByteStream) => async function* (): ByteStream {
    let seen = 0;
    for await (const bytes of stream()) {
      seen += bytes.length;
      if (seen > after) stop.abort();
      yield bytes;
      stop.signal.throwIfAborted();
    }
  };
  let stores = 0;
  const ingest: typeof store.ingest = async (mediaType, produce) => {
    const descriptor = await store.ingest(mediaType, produce);
    stores += 1;
    return descriptor;
  };
  try {
    await assert.rejects(format.convert({ ...input, tar: stopping(input.tar), packed: stopping(input.packed) }, { workers, signal: stop.signal, ingest }, options));
    assert.equal(stores, 0);
  } finally {
    await workers.close();
  }
}

const SIZE = 96 << 20;

/** Converts a layer of one large file into a sink that takes its time: how many bytes were written, and by how many the source was ahead. */
export async function paceOf<O>(format: RewritingFormat<O>, options: O): Promise<{ readonly written: number; readonly ahead: number }> {
  const workers = new ThreadPool(2);
  const body = noise(1 << 20);
  const digest = digestOf();
  let produced = 0;
  let written = 0;
  let ahead = 0;
  const tar = async function* (): ByteStream {
    yield encodeTarHeader({ path: 'big', type: 'file', mode: 0o644, uid: 0, gid: 0, size: SIZE, mtime: { seconds: 0, nanoseconds: 0 } });
    for (; produced < SIZE; produced += body.length) {
      ahead = Math.max(ahead, produced - written);
      // Each piece another, or a format that looks for equal ones would store one.
      body[0] = (body[0] as number) + 1;
      yield body;
    }
    yield new Uint8Array(1024);
  };
  const ingest: Parameters<typeof format.convert>[1]['ingest'] = async (mediaType, produce) => {
    let size = 0;
    await produce(async (bytes) => {
      for (let i = 0; i < 5; i++) await turn();
      size += bytes.length;
      written += bytes.length;
    }, () => digest);
    return { mediaType, digest, size };
  };
  try {
    // A format that keeps the tar's digest finds at the end that this one has another: of no account for the pace.
    await format.convert({ descriptor: { mediaType: LAYER_TAR, digest, size: 0 }, tar, packed: tar }, { workers, ingest }, options).catch((error: unknown) => assert.equal((error as LazypullError).code, 'UNSUPPORTED'));
  } finally {
    await workers.close();
  }
  return { written, ahead };
}

/** What may be in memory at most, of `SIZE`. */
export function assertHeldBack({ ahead }: { readonly ahead: number }): void {
  assert.ok(ahead < 64 << 20, `${ahead} bytes were taken in before they were written out`);
}
