import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { equalBytes } from '../../../src/core/bytes.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import type { ByteSource } from '../../../src/core/types.ts';
import { ExpectedReads } from '../../../src/mount/data/expected-reads.ts';
import { noise } from '../../support/noise.ts';

const MIB = 1 << 20;
const BLOB = `sha256:${'a'.repeat(64)}` as const;
const OTHER = `sha256:${'b'.repeat(64)}` as const;

interface Asked {
  readonly offset: number;
  readonly length: number;
  answer(failure?: Error): void;
}

/** A source that answers when it is told to. */
function slow(bytes: Uint8Array): { readonly source: ByteSource; readonly asked: Asked[] } {
  const asked: Asked[] = [];
  return {
    asked,
    source: {
      size: bytes.length,
      fresh: true,
      read: (offset, length, signal) =>
        new Promise((resolve, reject) => {
          signal?.addEventListener('abort', () => reject(new LazypullError('CANCELLED', 'cancelled')));
          asked.push({ offset, length, answer: (failure) => (failure ? reject(failure) : resolve(Buffer.from(bytes.subarray(offset, offset + length)))) });
        }),
    },
  };
}

/** Everything that is asked for is answered. */
async function answerAll(asked: Asked[]): Promise<void> {
  for (let i = 0; i < 20; i += 1) {
    for (const one of asked.splice(0)) one.answer();
    await turn();
  }
}

const BYTES = noise(12 * MIB);

test('what is expected is asked for in pieces, four at a time, and at most 8 MiB of it', async () => {
  const { source, asked } = slow(BYTES);
  const reads = new ExpectedReads();
  reads.expect(BLOB, source, 100, 11 * MIB);
  assert.deepEqual(asked.map(({ offset, length }) => [offset, length]), [0, 1, 2, 3].map((i) => [100 + i * MIB, MIB]));
  asked[1]?.answer();
  await turn();
  assert.equal(asked.length, 5);
  const sizes = asked.map(({ length }) => length);
  for (const one of asked.splice(0)) one.answer();
  await turn();
  sizes.push(...asked.map(({ length }) => length));
  assert.equal(sizes.reduce((sum, size) => sum + size, 0), 8 * MIB);
  reads.expect(OTHER, source, 0, MIB);
  assert.equal(sizes.length, 8);
  assert.equal(reads.has(OTHER, 0, 1), false, 'there is no room for more');
});

test('a read is put together of what is on its way and what is not, and nothing is asked for twice', async () => {
  const { source, asked } = slow(BYTES);
  const reads = new ExpectedReads();
  reads.expect(BLOB, source, MIB, 2 * MIB);
  assert.equal(reads.read(BLOB, source, 0, MIB), undefined);
  assert.equal(reads.read(OTHER, source, MIB, 10), undefined);
  const all = reads.read(BLOB, source, 1000, 4 * MIB) ?? assert.fail();
  assert.deepEqual(asked.map(({ offset, length }) => [offset, length]), [[MIB, MIB], [2 * MIB, MIB], [1000, MIB - 1000], [3 * MIB, MIB + 1000]]);
  await answerAll(asked);
  assert.ok(equalBytes(BYTES.subarray(1000, 1000 + 4 * MIB), await all));
  assert.equal(reads.has(BLOB, 0, BYTES.length), false, 'each byte is handed out once');
});

test('what is expected twice is asked for once', () => {
  const { source, asked } = slow(BYTES);
  const reads = new ExpectedReads();
  for (const blob of [BLOB, BLOB, OTHER]) reads.expect(blob, source, 0, MIB);
  assert.equal(asked.length, 2);
});

test('several reads share a piece, whatever their order', async () => {
  const { source, asked } = slow(BYTES);
  const reads = new ExpectedReads();
  reads.expect(BLOB, source, 0, MIB);
  const parts = [[500_000, 300_000], [0, 500_000], [800_000, MIB - 800_000]].map(([offset = 0, length = 0]) => ({ offset, length, bytes: reads.read(BLOB, source, offset, length) }));
  assert.equal(asked.length, 1);
  await answerAll(asked);
  for (const { offset, length, bytes } of parts) assert.ok(equalBytes(BYTES.subarray(offset, offset + length), (await bytes) ?? assert.fail()));
  assert.equal(reads.has(BLOB, 0, MIB), false);
});

test('what fails on its way is asked for by who reads it, who hears what is wrong', async () => {
  const { source, asked } = slow(BYTES);
  const reads = new ExpectedReads();
  reads.expect(BLOB, source, 0, MIB);
  const read = reads.read(BLOB, source, 10, 20);
  asked.splice(0)[0]?.answer(new LazypullError('NETWORK', 'cut'));
  await turn();
  assert.deepEqual(asked.map(({ offset, length }) => [offset, length]), [[10, 20]]);
  asked[0]?.answer(new LazypullError('NETWORK', 'still cut'));
  await assert.rejects(read ?? assert.fail(), /still cut/);
  assert.equal(reads.has(BLOB, 0, MIB), false);
});

test('who is not interested any more does not wait, and the others get the bytes', async () => {
  const { source, asked } = slow(BYTES);
  const reads = new ExpectedReads();
  reads.expect(BLOB, source, 0, MIB);
  const gone = new AbortController();
  const left = reads.read(BLOB, source, 0, 10, gone.signal);
  const stays = reads.read(BLOB, source, 10, 10);
  gone.abort();
  await assert.rejects(left ?? assert.fail(), { code: 'CANCELLED' });
  await answerAll(asked);
  assert.ok(equalBytes(BYTES.subarray(10, 20), (await stays) ?? assert.fail()));
});

test('after stop nothing more is asked for, after close nothing comes', async () => {
  const { source, asked } = slow(BYTES);
  const reads = new ExpectedReads();
  reads.expect(BLOB, source, 0, 8 * MIB);
  reads.stop();
  assert.equal(reads.has(BLOB, 5 * MIB, MIB), false, 'who reads it asks for it');
  const read = reads.read(BLOB, source, 3 * MIB, MIB);
  asked[3]?.answer();
  assert.ok(equalBytes(BYTES.subarray(3 * MIB, 4 * MIB), (await read) ?? assert.fail()));
  await turn();
  assert.equal(asked.length, 4);
  reads.close();
  assert.equal(reads.has(BLOB, 0, MIB), false);
  reads.expect(BLOB, source, 9 * MIB, MIB);
  assert.equal(asked.length, 4);
  await turn();
});
