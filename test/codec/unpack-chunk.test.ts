import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { LazypullError } from '../../src/core/errors.ts';
import { lz4Compress } from '../../src/codec/lz4.ts';
import { type ChunkCompressor, unpackChunk } from '../../src/codec/unpack-chunk.ts';
import { zstdCompress } from '../../src/codec/zstd.ts';
import { mixture, numbers, records, text } from './samples.ts';

async function packers(plain: Uint8Array): Promise<[ChunkCompressor, Uint8Array][]> {
  return [['none', plain], ['zstd', await zstdCompress(plain, 3)], ['lz4', lz4Compress(plain).slice()], ['gzip', gzipSync(plain)]];
}

test('every compressor', async () => {
  for (const plain of [mixture(200_000), text(1), new Uint8Array(0)]) {
    for (const [compressor, packed] of await packers(plain)) {
      assert.ok(Buffer.from(plain).equals(await unpackChunk(compressor, packed, plain.length, 'chunk')), `${compressor}, ${plain.length} bytes`);
    }
  }
});

test('sizes that are not those of the content', async () => {
  const plain = text(5000);
  for (const [compressor, packed] of await packers(plain)) {
    for (const size of [0, 4999, 5001, 2 ** 31, 2 ** 53]) {
      // Of gzip a part may be wanted.
      if (compressor === 'gzip' && size < plain.length) continue;
      await assert.rejects(unpackChunk(compressor, packed, size, 'chunk 9'), (error) => error instanceof LazypullError && error.code === (compressor === 'zstd' && size < plain.length ? 'LIMIT' : 'CORRUPT') && error.message.includes('chunk 9'), `${compressor}, ${size}`);
    }
  }
  await assert.rejects(unpackChunk('xz' as 'none', plain, 5000, 'chunk'), { code: 'UNSUPPORTED' });
});

test('of gzip only the first member is looked at', async () => {
  const plain = text(3000);
  const packed = Buffer.concat([gzipSync(plain), Buffer.from('something else')]);
  assert.ok(Buffer.from(plain).equals(await unpackChunk('gzip', packed, 3000, 'chunk')));
});

test('mutations give an error with a code, or as many bytes as were asked for', async () => {
  const next = numbers(21);
  const plains = [text(700), records(700), mixture(5000)];
  for (const plain of plains) {
    for (const [compressor, packed] of await packers(plain)) {
      for (let i = 0; i < 1000; i++) {
        let bytes = Uint8Array.from(packed);
        const at = Math.floor(next() ** (i % 3 === 0 ? 4 : 1) * bytes.length);
        if (i % 5 === 4) bytes = bytes.subarray(0, at);
        else bytes[at] = (bytes[at] ?? 0) ^ (1 << Math.floor(next() * 8));
        try {
          assert.equal((await unpackChunk(compressor, bytes, plain.length, 'chunk')).length, plain.length);
        } catch (error) {
          assert.ok(error instanceof LazypullError, `${compressor}: ${String(error)}`);
          assert.ok(['CORRUPT', 'LIMIT', 'UNSUPPORTED'].includes(error.code), error.message);
        }
      }
    }
  }
});
