import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deflateRawSync, gzipSync } from 'node:zlib';
import { gunzip, type GzipBlock } from '../../src/codec/gzip.ts';
import { neededWindow, WINDOW_LOOKAHEAD, WINDOW_SIZE, WindowBatch } from '../../src/codec/needed-window.ts';
import { ThreadPool } from '../../src/codec/pool.ts';
import { inflatePart } from '../../src/codec/resume.ts';
import { zstdDecompress } from '../../src/codec/zstd.ts';
import { streamOf } from '../../src/core/stream.ts';
import { mixture, noise, text } from './samples.ts';

const PLAIN = Buffer.concat([mixture(150_000), text(150_000), noise(60_000), mixture(100_000)]);

interface Place {
  readonly block: Omit<GzipBlock, 'window'>;
  readonly window: Uint8Array;
}

/** Blocks with a whole window in front of them. */
async function placesOf(packed: Uint8Array): Promise<readonly Place[]> {
  const places: Place[] = [];
  const onBlock = ({ window, ...block }: GzipBlock): void => void (block.out >= WINDOW_SIZE && !block.first && places.push({ block, window: new Uint8Array(window()) }));
  for await (const _ of gunzip(streamOf(packed), { onBlock }));
  return places;
}

function lookahead(packed: Uint8Array, bit: number): Uint8Array {
  const from = Math.floor(bit / 8);
  return new Uint8Array(packed.subarray(from, from + WINDOW_LOOKAHEAD));
}

test('what is kept of a window is enough for everything behind it', async () => {
  for (const options of [{ level: 9 }, { level: 1 }, { level: 6, memLevel: 1 }, { level: 4, windowBits: 11 }]) {
    const packed = gzipSync(PLAIN, options);
    let kept = 0;
    let places = 0;
    for (const { block, window } of await placesOf(packed)) {
      const { bit, out } = block;
      const needed = neededWindow({ bits: bit % 8, window, packed: lookahead(packed, bit) }) ?? new Uint8Array(WINDOW_SIZE);
      const size = PLAIN.length - out;
      const bytes = inflatePart({ start: { bit, out }, window: needed, packed: packed.subarray(Math.floor(bit / 8)), size, what: 'part' });
      assert.ok(PLAIN.subarray(out).equals(bytes), `from ${out}`);
      assert.ok(needed.every((byte, i) => byte === 0 || byte === window[i]));
      kept += needed.filter((byte) => byte !== 0).length;
      places += 1;
    }
    assert.ok(places > 3 && kept < (places * WINDOW_SIZE) / 2, `${kept} bytes kept at ${places} places`);
  }
});

test('nothing is kept where nothing is pointed to', () => {
  const packed = deflateRawSync(noise(100_000), { level: 0 });
  assert.equal(neededWindow({ bits: 0, window: noise(WINDOW_SIZE), packed: new Uint8Array(packed.subarray(0, WINDOW_LOOKAHEAD)) }), undefined);
});

test('all is kept where it cannot be told', () => {
  const window = noise(WINDOW_SIZE);
  const packed = deflateRawSync(text(60_000));
  for (const odd of [noise(WINDOW_LOOKAHEAD, 4).fill(0xff, 0, 1), packed.subarray(0, 40), new Uint8Array(0)]) assert.deepEqual(neededWindow({ bits: 0, window, packed: new Uint8Array(odd) }), window);
});

test('threads pack the same', async () => {
  const packed = gzipSync(PLAIN, { memLevel: 4 });
  const places = (await placesOf(packed)).slice(0, WindowBatch.room);
  const workers = new ThreadPool(2);
  try {
    const results = [];
    for (const pool of [undefined, workers]) {
      const batch = new WindowBatch();
      for (const { block, window } of places) {
        const place = batch.add(block.bit % 8, window);
        const bytes = lookahead(packed, block.bit);
        // In two steps, as bytes come by.
        batch.take(place, bytes.subarray(0, 1001));
        assert.equal(batch.take(place, bytes.subarray(1001)), bytes.length);
      }
      results.push(await batch.pack(pool));
    }
    assert.deepEqual(results[0], results[1]);
    let at = 0;
    for (const [i, { window }] of places.entries()) {
      const size = results[0]?.sizes[i] as number;
      if (size === 0) continue;
      const own = results[0]?.bytes.subarray(at, at + size) as Uint8Array;
      const whole = await zstdDecompress(own, WINDOW_SIZE);
      assert.ok(whole.every((byte, at) => byte === 0 || byte === window[at]) && whole.length === WINDOW_SIZE);
      at += size;
    }
    assert.equal(at, results[0]?.bytes.length);
  } finally {
    await workers.close();
  }
});
