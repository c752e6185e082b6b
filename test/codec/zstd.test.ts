import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { LazypullError } from '../../src/core/errors.ts';
import { framePieces, unzstd, zstdCompress, zstdDecompress } from '../../src/codec/zstd.ts';
import { type FrameDecoder, nativeDecoder, nodeDecoder, wholeDecoder } from '../../src/codec/zstd-decode.ts';
import { MAX_BLOCK, ZstdFrames } from '../../src/codec/zstd-frames.ts';
import { collected, lending, mixture, noise, numbers, pieces, SAMPLES, sha256, text } from './samples.ts';

const LIMIT = 1 << 26;
const SKIPPABLE = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
const EMPTY_SKIPPABLE = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);

/** A frame without stated size, of raw and run length blocks, as RFC 8878 lays it out. */
function frame(blocks: readonly (Uint8Array | { readonly byte: number; readonly times: number })[], windowByte = 0x70): Uint8Array {
  const parts: Uint8Array[] = [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, windowByte])];
  for (const [i, block] of blocks.entries()) {
    const last = i === blocks.length - 1 ? 1 : 0;
    const header = 'byte' in block ? (block.times << 3) | 2 | last : (block.length << 3) | last;
    parts.push(Uint8Array.of(header & 255, (header >> 8) & 255, header >> 16), 'byte' in block ? Uint8Array.of(block.byte) : block);
  }
  return Buffer.concat(parts);
}

test('round trips, streamed and at once', async () => {
  for (const { name, bytes } of SAMPLES) {
    for (const level of [1, 3, 9]) {
      const packed = await zstdCompress(bytes, level);
      assert.ok(Buffer.from(await zstdDecompress(packed, bytes.length)).equals(bytes), name);
      for (const sizes of [[1 << 20], [1, 1000, 3]]) assert.ok(Buffer.from(await collected(unzstd(lending(pieces(packed, ...sizes))))).equals(bytes), name);
    }
  }
});

test('output bytes are the same everywhere', async () => {
  const input = Buffer.concat([mixture(300_000), text(50_000)]);
  assert.equal(sha256(await zstdCompress(input, 3)).slice(0, 16), 'ef4a7e0dd08e0d3b');
  assert.equal(sha256(await zstdCompress(input, 9)).slice(0, 16), 'bb47593d40e3039b');
});

test('many frames, skippable ones between them', async () => {
  const plain = Array.from({ length: 60 }, (_, i) => text((i * 331) % 9000, i));
  const packed = Buffer.concat([SKIPPABLE, ...(await Promise.all(plain.map((bytes) => zstdCompress(bytes, 3)))).flatMap((bytes, i) => [bytes, i % 2 === 0 ? SKIPPABLE : EMPTY_SKIPPABLE])]);
  for (const sizes of [[1 << 20], [4096], [7, 1, 30]]) assert.ok(Buffer.concat(plain).equals(await collected(unzstd(lending(pieces(packed, ...sizes))))));
  assert.ok(Buffer.concat(plain).equals(await zstdDecompress(packed, LIMIT)));
  assert.equal((await collected(unzstd(lending([SKIPPABLE])))).length, 0);
  assert.equal((await zstdDecompress(SKIPPABLE, 10)).length, 0);
});

test('every decoder takes many frames, and stops in the middle of one', async (t) => {
  const native = await import('@cloudpss/zstd/napi').catch(() => undefined);
  const wasm = await import('@cloudpss/zstd/wasm');
  const decoders: [string, FrameDecoder | undefined][] = [['native', native && nativeDecoder(native.Decompressor)], ['node', nodeDecoder()], ['wasm', wholeDecoder(wasm.decompress)]];
  const plain = [text(5000), new Uint8Array(0), mixture(600_000), Buffer.alloc(3_000_000), text(10)];
  const packed = Buffer.concat((await Promise.all(plain.map((bytes) => zstdCompress(bytes, 3)))).flatMap((bytes) => [SKIPPABLE, bytes]));
  for (const [name, decoder] of decoders) {
    if (!decoder) {
      t.diagnostic(`no ${name} decoder here`);
      continue;
    }
    for (const sizes of [[1 << 20], [1000, 1, 2, 3]]) {
      const out = await collected(decoder(framePieces(lending(pieces(packed, ...sizes)), new ZstdFrames(name), undefined)));
      assert.ok(Buffer.concat(plain).equals(out), `${name} ${sizes.join(' ')}`);
    }
    let closed = 0;
    const source = async function* (): AsyncGenerator<Uint8Array> {
      try {
        yield* lending(pieces(packed, 20_000));
      } finally {
        closed += 1;
      }
    };
    for await (const bytes of decoder(framePieces(source(), new ZstdFrames(name), undefined))) if (bytes.length > 0) break;
    assert.equal(closed, 1, name);
  }
});

test('raw and run length blocks without stated size', async () => {
  const bytes = noise(3000);
  const packed = frame([bytes, { byte: 7, times: 100_000 }, new Uint8Array(0), text(500)]);
  const plain = Buffer.concat([bytes, Buffer.alloc(100_000, 7), text(500)]);
  assert.ok(plain.equals(await collected(unzstd(lending(pieces(packed, 11))))));
  assert.ok(plain.equals(await zstdDecompress(packed, plain.length)));
  await assert.rejects(zstdDecompress(packed, plain.length - 1), { code: 'LIMIT' });
});

test('what the zstd command makes', async (t) => {
  const plain = mixture(2_000_000);
  for (const options of [['-3'], ['-19', '--long=24'], ['-1', '--no-check'], ['-3', '--no-content-size']]) {
    const { stdout, error } = spawnSync('zstd', ['-q', '-c', ...options], { input: plain, maxBuffer: LIMIT });
    if (error) {
      t.skip('no zstd command here');
      return;
    }
    assert.ok(Buffer.from(await collected(unzstd(lending(pieces(stdout, 65_536))))).equals(plain), options.join(' '));
    assert.ok(Buffer.from(await zstdDecompress(stdout, LIMIT)).equals(plain), options.join(' '));
  }
});

test('every truncation is found, with its offset', async () => {
  const first = await zstdCompress(text(400), 3);
  const packed = Buffer.concat([first, SKIPPABLE, frame([noise(20), { byte: 1, times: 9 }])]);
  const ends = new Set([first.length, first.length + SKIPPABLE.length]);
  for (let size = 0; size < packed.length; size++) {
    if (ends.has(size)) continue;
    await assert.rejects(zstdDecompress(packed.subarray(0, size), LIMIT, 'layer 2'), { code: 'CORRUPT', offset: size, message: /^layer 2: the zstd data ends early/ }, `${size}`);
    await assert.rejects(collected(unzstd(lending(pieces(packed.subarray(0, size), 50)))), { code: 'CORRUPT' }, `${size}`);
  }
});

test('bit flips give CORRUPT, LIMIT, UNSUPPORTED or content', async () => {
  const next = numbers(8);
  const packed = await zstdCompress(Buffer.concat([text(2000), noise(200)]), 3);
  for (let i = 0; i < 300; i++) {
    const flipped = Uint8Array.from(packed);
    const at = Math.floor(next() ** (i % 3 === 0 ? 4 : 1) * flipped.length);
    flipped[at] = (flipped[at] ?? 0) ^ (1 << Math.floor(next() * 8));
    const verdicts = await Promise.all([zstdDecompress(flipped, 1 << 20), collected(unzstd(lending(pieces(flipped, 100)), { maxSize: 1 << 20 }))].map(async (attempt) => {
      try {
        return (await attempt).length;
      } catch (error) {
        assert.ok(error instanceof LazypullError, String(error));
        assert.ok(['CORRUPT', 'LIMIT', 'UNSUPPORTED'].includes(error.code), error.message);
        return -1;
      }
    }));
    assert.equal(verdicts[0], verdicts[1], `byte ${at}`);
  }
});

test('limits', async () => {
  const packed = await zstdCompress(text(300_000), 3);
  assert.equal((await collected(unzstd(lending(pieces(packed, 1000)), { maxSize: 300_000 }))).length, 300_000);
  let size = 0;
  await assert.rejects(async () => {
    for await (const bytes of unzstd(lending(pieces(packed, 1000)), { maxSize: 299_999, what: 'bomb' })) size += bytes.length;
  }, { code: 'LIMIT', message: /^bomb/ });
  assert.ok(size <= 299_999);
  await assert.rejects(zstdDecompress(packed, 299_999), { code: 'LIMIT' });
  await assert.rejects(collected(unzstd(lending([frame([text(10)], 0x90)]))), { code: 'LIMIT', message: /window/ });
  assert.equal((await collected(unzstd(lending([frame([text(10)], 0x88)])))).length, 10);
});

test('a bomb is stopped long before it is inflated', async () => {
  const bomb = frame(Array.from({ length: 40_000 }, () => ({ byte: 0, times: MAX_BLOCK })));
  let size = 0;
  await assert.rejects(async () => {
    for await (const bytes of unzstd(lending([bomb]), { maxSize: 10_000_000 })) size += bytes.length;
  }, { code: 'LIMIT' });
  assert.ok(size <= 10_000_000);
  // A frame that claims to hold a gigabyte in one small block.
  const claim = Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x04]), Uint8Array.of((5 << 3) | 1, 0, 0), Buffer.from('hello')]);
  await assert.rejects(zstdDecompress(claim, 2 ** 31), { code: 'CORRUPT', message: /claim/ });
});

test('headers that are refused', async () => {
  const good = frame([text(10)]);
  const changed = (at: number, value: number): Uint8Array => Object.assign(Uint8Array.from(good), { [at]: value });
  await assert.rejects(zstdDecompress(changed(0, 0), LIMIT), { code: 'CORRUPT', offset: 0 });
  await assert.rejects(zstdDecompress(changed(4, 8), LIMIT), { code: 'CORRUPT', message: /reserved/ });
  await assert.rejects(zstdDecompress(changed(6, 7), LIMIT), { code: 'CORRUPT', message: /block header/ });
  const dictionary = Buffer.concat([good.subarray(0, 4), Buffer.from([0x01, 0x70, 5]), good.subarray(6)]);
  await assert.rejects(zstdDecompress(dictionary, LIMIT), { code: 'UNSUPPORTED', message: /dictionary/ });
  await assert.rejects(collected(unzstd(lending([dictionary]))), { code: 'UNSUPPORTED' });
});

test('frames are followed in whatever pieces they come', () => {
  const packed = Buffer.concat([frame([noise(50), { byte: 3, times: 20 }]), SKIPPABLE, frame([new Uint8Array(0)]), EMPTY_SKIPPABLE]);
  fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1 }), (sizes) => {
    const frames = new ZstdFrames('x');
    for (const piece of pieces(packed, ...sizes)) for (let at = 0; at < piece.length;) at += frames.advance(piece.subarray(at));
    frames.end();
    assert.deepEqual([frames.frames, frames.blocks, frames.position, frames.contentSize], [2, 3, packed.length, undefined]);
  }), { numRuns: 200 });
});

test('a consumer that stops, a source that fails, and a signal', async () => {
  const packed = await zstdCompress(noise(4_000_000), 1);
  let closed = 0;
  async function* source(fail: boolean): AsyncGenerator<Uint8Array> {
    try {
      yield* lending(pieces(packed.subarray(0, 3_000_000), 100_000));
      if (fail) throw new LazypullError('NETWORK', 'connection lost');
    } finally {
      closed += 1;
    }
  }
  for await (const bytes of unzstd(source(false))) if (bytes.length > 0) break;
  assert.equal(closed, 1);
  await assert.rejects(collected(unzstd(source(true))), { code: 'NETWORK' });
  const controller = new AbortController();
  await assert.rejects(async () => {
    for await (const bytes of unzstd(source(false), { signal: controller.signal })) if (bytes.length > 0) controller.abort();
  }, { code: 'CANCELLED' });
  assert.equal(closed, 3);
});
