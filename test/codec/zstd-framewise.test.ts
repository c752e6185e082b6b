import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decompress } from '../../src/codec/compression.ts';
import { unzstd, zstdCompress } from '../../src/codec/zstd.ts';
import type { ZstdFrame } from '../../src/codec/zstd-framewise.ts';
import { LazypullError } from '../../src/core/errors.ts';
import { inPieces } from '../support/tar-read.ts';
import { mixture, noise } from './samples.ts';

const SKIPPABLE = Buffer.from('502a4d1803000000aabbcc', 'hex');
const CONTENTS = [mixture(1000), new Uint8Array(0), noise(200_000), mixture(3_000_000), noise(5), noise(2_000_000, 3)];

/** A frame that does not say how much it holds: raw blocks only (RFC 8878, 3.1.1). */
function nameless(content: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [Buffer.from('28b52ffd0058', 'hex')];
  for (let at = 0; at < content.length || at === 0; at += 100_000) {
    const block = content.subarray(at, at + 100_000);
    const header = Buffer.alloc(3);
    header.writeUIntLE(block.length * 8 + (at + 100_000 >= content.length ? 1 : 0), 0, 3);
    parts.push(header, block);
  }
  return Buffer.concat(parts);
}

test('every frame is told with its place, before its content comes', async () => {
  const parts: Uint8Array[] = [];
  const wanted: ZstdFrame[] = [];
  let [offset, out] = [0, 0];
  for (const [i, content] of CONTENTS.entries()) {
    if (i % 2 === 1) {
      parts.push(SKIPPABLE);
      offset += SKIPPABLE.length;
    }
    const frame = i % 3 === 2 ? nameless(content) : await zstdCompress(content, 3);
    wanted.push({ offset, out });
    parts.push(frame);
    offset += frame.length;
    out += content.length;
  }
  parts.push(SKIPPABLE);
  const packed = Buffer.concat(parts);
  for (const pieces of [[packed.length], [65_536], [1, 3, 70_001]]) {
    const told: ZstdFrame[] = [];
    const got: Uint8Array[] = [];
    let size = 0;
    for await (const bytes of unzstd(inPieces(packed, pieces), { onFrame: (frame) => void (told.push(frame), assert.equal(frame.out, size)) })) {
      got.push(new Uint8Array(bytes));
      size += bytes.length;
    }
    assert.deepEqual(told, wanted);
    assert.ok(Buffer.concat(got).equals(Buffer.concat(CONTENTS)));
  }
});

test('frames are places to inflate from, like gzip members', async () => {
  const packed = Buffer.concat([await zstdCompress(CONTENTS[0] as Uint8Array, 1), await zstdCompress(noise(10), 1)]);
  const blocks: unknown[] = [];
  for await (const _ of decompress(inPieces(packed, [500]), { onBlock: ({ bit, out, first, window }) => void blocks.push([bit % 8, out, first, window().length]) }));
  assert.deepEqual(blocks, [[0, 0, true, 0], [0, 1000, true, 0]]);
});

test('broken and cut frames are CORRUPT, as without anybody listening', async () => {
  const packed = Buffer.concat([await zstdCompress(mixture(5000), 1), nameless(noise(300_000)), await zstdCompress(mixture(200_000), 1)]);
  for (let i = 0; i < 200; i += 1) {
    const broken = Buffer.from(i % 2 === 0 ? packed.subarray(0, (i * 7919) % packed.length) : packed);
    if (i % 2 === 1) broken[(i * 104_729) % broken.length] = i;
    const results = [];
    for (const onFrame of [undefined, () => undefined]) {
      const got: Uint8Array[] = [];
      try {
        for await (const bytes of unzstd(inPieces(broken, [40_000]), { maxSize: 1 << 20, onFrame })) got.push(new Uint8Array(bytes));
        results.push(Buffer.concat(got).toString('hex'));
      } catch (error) {
        assert.ok(error instanceof LazypullError, String(error));
        results.push(error.code);
      }
    }
    assert.equal(results[0], results[1], `attempt ${i}`);
  }
});
