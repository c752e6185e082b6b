import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type Compression, decompress, detectCompression } from '../../src/codec/compression.ts';
import { zstdCompress } from '../../src/codec/zstd.ts';
import { collected, lending, pieces, text } from './samples.ts';

test('the first bytes tell', () => {
  const cases: [Compression, number[]][] = [
    ['gzip', [0x1f, 0x8b, 8, 0]], ['gzip', [0x1f, 0x8b]], ['zstd', [0x28, 0xb5, 0x2f, 0xfd]], ['zstd', [0x50, 0x2a, 0x4d, 0x18]], ['zstd', [0x5f, 0x2a, 0x4d, 0x18]],
    ['none', []], ['none', [0x1f]], ['none', [0x28, 0xb5, 0x2f]], ['none', [0x60, 0x2a, 0x4d, 0x18]], ['none', [0, 0, 0, 0]], ['none', [...Buffer.from('BZh9')]],
  ];
  for (const [compression, head] of cases) assert.equal(detectCompression(Uint8Array.from(head)), compression, head.join(' '));
});

test('each kind is inflated by what it is, however it arrives', async () => {
  const plain = Buffer.from(text(60_000));
  const skippable = Buffer.from([0x51, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9]);
  const kinds: [Compression, Uint8Array][] = [['gzip', gzipSync(plain)], ['zstd', await zstdCompress(plain, 3)], ['zstd', Buffer.concat([skippable, await zstdCompress(plain, 3)])], ['none', plain]];
  for (const [compression, packed] of kinds) {
    for (const sizes of [[1 << 20], [1, 2, 5000], [3, 1, 200]]) {
      const told: Compression[] = [];
      const out = await collected(decompress(lending(pieces(packed, ...sizes)), { maxSize: plain.length, onCompression: (name) => told.push(name) }));
      assert.ok(plain.equals(out), `${compression} in pieces of ${sizes.join(' ')}`);
      assert.deepEqual(told, [compression]);
    }
    await assert.rejects(collected(decompress(lending(pieces(packed, 1000)), { maxSize: plain.length - 1 })), { code: 'LIMIT' });
  }
});

test('streams of almost nothing', async () => {
  assert.equal((await collected(decompress(lending([])))).length, 0);
  assert.equal((await collected(decompress(lending([new Uint8Array(0)])))).length, 0);
  assert.deepEqual([...(await collected(decompress(lending([Uint8Array.of(7), new Uint8Array(0), Uint8Array.of(8)]))))], [7, 8]);
  await assert.rejects(collected(decompress(lending([Uint8Array.of(0x1f, 0x8b)]))), { code: 'CORRUPT' });
});

test('the source is closed, whatever happens', async () => {
  const plain = text(100_000);
  for (const packed of [plain, gzipSync(plain), await zstdCompress(plain, 3), gzipSync(plain).subarray(0, 9000)]) {
    let closed = 0;
    const source = async function* (): AsyncGenerator<Uint8Array> {
      try {
        yield* lending(pieces(packed, 2000));
      } finally {
        closed += 1;
      }
    };
    try {
      for await (const bytes of decompress(source())) if (bytes.length > 0) break;
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'CORRUPT');
    }
    assert.equal(closed, 1);
    const aborted = AbortSignal.abort();
    await assert.rejects(collected(decompress(source(), { signal: aborted })), { code: 'CANCELLED' });
  }
});
