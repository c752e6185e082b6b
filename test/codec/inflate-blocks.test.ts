import assert from 'node:assert/strict';
import { test } from 'node:test';
import { constants, deflateRawSync } from 'node:zlib';
import * as pako from 'pako';
import { deflateRaw } from '../../src/codec/deflate.ts';
import { type BlockStart, Inflater } from '../../src/codec/inflate.ts';
import { mixture, noise, pieces, SAMPLES, text } from './samples.ts';

interface Traced {
  readonly out: Uint8Array;
  readonly blocks: (BlockStart & { readonly window: Uint8Array })[];
}

/** Decodes a stream and keeps every block start with its window. */
function trace(parts: Iterable<Uint8Array>): Traced {
  const inflater = new Inflater();
  const out: Uint8Array[] = [];
  const blocks: Traced['blocks'] = [];
  inflater.begin((block) => blocks.push({ ...block, window: inflater.window(block.out).slice() }));
  const drain = (): void => {
    for (let status = inflater.decode(); ; status = inflater.decode()) {
      out.push(inflater.take().slice());
      if (status !== 'output') break;
    }
  };
  for (const part of parts) {
    for (let at = 0; at < part.length;) {
      at += inflater.push(part.subarray(at));
      drain();
    }
  }
  inflater.end();
  drain();
  inflater.close();
  return { out: Buffer.concat(out), blocks };
}

/** Block starts as zlib's port tells them: `Z_BLOCK` stops at each, with the unused bits of the last byte in `data_type`. */
function pakoBlocks(packed: Uint8Array): BlockStart[] {
  const stream = new pako.ZStream();
  pako.zlibInflateInit2(stream, -15);
  stream.input = packed;
  stream.next_in = 0;
  stream.avail_in = packed.length;
  stream.output = new Uint8Array(1 << 16);
  const blocks = [{ bit: 0, out: 0 }];
  for (;;) {
    stream.next_out = 0;
    stream.avail_out = stream.output.length;
    const status = pako.zlibInflate(stream, pako.Z_BLOCK);
    if (status === pako.Z_STREAM_END) return blocks;
    assert.equal(status, pako.Z_OK);
    const isBoundary = (stream.data_type & 128) !== 0 && (stream.data_type & 64) === 0;
    if (isBoundary) blocks.push({ bit: stream.total_in * 8 - (stream.data_type & 7), out: stream.total_out });
  }
}

function packings(): { name: string; packed: Uint8Array; plain: Uint8Array }[] {
  const plain = mixture(200_000);
  const flushed = Buffer.concat([...pieces(plain, 20_000)].map((part) => deflateRawSync(part, { finishFlush: constants.Z_SYNC_FLUSH })).concat(Buffer.of(3, 0)));
  return [
    ...[{ level: 6 }, { level: 9, memLevel: 1 }, { level: 0 }, { level: 6, strategy: constants.Z_FIXED }].map((options) => ({ name: JSON.stringify(options), packed: deflateRawSync(plain, options), plain })),
    { name: 'flushed', packed: flushed, plain },
    { name: 'ours', packed: deflateRaw(plain).slice(), plain },
    ...SAMPLES.map(({ name, bytes }) => ({ name, packed: deflateRawSync(bytes, { memLevel: 1 }), plain: bytes })),
  ];
}

test('block starts are those of zlib', () => {
  for (const { name, packed, plain } of packings()) {
    const { out, blocks } = trace(pieces(packed, 5000, 1, 100_000));
    assert.ok(Buffer.from(out).equals(plain), name);
    assert.deepEqual(blocks.map(({ bit, out: at }) => ({ bit, out: at })), pakoBlocks(packed), name);
    for (const block of blocks) assert.ok(Buffer.from(block.window).equals(plain.subarray(Math.max(0, block.out - 32_768), block.out)), name);
  }
});

test('more blocks than the log holds', () => {
  const packed = Buffer.concat([...pieces(text(27_000), 3)].map((part) => deflateRawSync(part, { finishFlush: constants.Z_SYNC_FLUSH })).concat(Buffer.of(3, 0)));
  const { out, blocks } = trace([packed]);
  assert.equal(blocks.length, 18_001);
  assert.equal(out.length, 27_000);
});

test('decoding resumes at every block', () => {
  for (const { name, packed, plain } of packings()) {
    const { blocks } = trace([packed]);
    // Of very many blocks, some.
    for (const block of blocks.filter((_, i) => i % Math.ceil(blocks.length / 40) === 0)) {
      const inflater = new Inflater();
      const later: BlockStart[] = [];
      inflater.resume(block, block.window, (start) => later.push(start));
      const from = Math.floor(block.bit / 8);
      let at = from;
      while (at < packed.length) {
        at += inflater.push(packed.subarray(at, at + 50_000));
        if (at === packed.length) inflater.end();
        while (inflater.decode() === 'output') {
          const start = inflater.produced - inflater.pending;
          const bytes = inflater.take();
          assert.ok(Buffer.from(bytes).equals(plain.subarray(start, start + bytes.length)), name);
        }
      }
      const start = inflater.produced - inflater.pending;
      assert.ok(Buffer.from(inflater.take()).equals(plain.subarray(start)), name);
      assert.equal(inflater.produced, plain.length);
      assert.equal(inflater.position, packed.length);
      assert.deepEqual(later, blocks.filter(({ bit }) => bit >= block.bit).map(({ bit, out }) => ({ bit, out })));
      inflater.close();
    }
  }
});

test('windows and misuse', () => {
  const inflater = new Inflater();
  inflater.push(deflateRawSync(noise(50_000)));
  inflater.end();
  assert.throws(() => inflater.resume({ bit: 0, out: 0 }, new Uint8Array(0)), { code: 'INTERNAL' });
  assert.equal(inflater.decode(), 'done');
  assert.equal(inflater.window().length, 32_768);
  assert.throws(() => inflater.window(50_001), { code: 'INTERNAL' });
  assert.throws(() => inflater.skip(1), { code: 'INTERNAL' });
  inflater.close();
  inflater.close();
});

test('a block that begins in the last byte before the input window moves on', () => {
  const plain = text(1_500_000);
  const packed = deflateRawSync(plain, { memLevel: 1 });
  const expected = pakoBlocks(packed);
  // Enough behind it to fill the window.
  const cuts = expected.filter(({ bit }) => bit % 8 !== 0 && bit / 8 < packed.length - 300_000).slice(0, 40);
  assert.equal(cuts.length, 40);
  for (const { bit } of cuts) {
    const cut = Math.ceil(bit / 8);
    const { blocks } = trace([packed.subarray(0, cut), packed.subarray(cut)]);
    assert.deepEqual(blocks.map(({ bit: at, out }) => ({ bit: at, out })), expected, `cut at ${cut}`);
  }
});
