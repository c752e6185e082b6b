import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { concat } from '../../src/core/bytes.ts';
import { LazypullError } from '../../src/core/errors.ts';
import { ByteReader, collect, streamOf, tap } from '../../src/core/stream.ts';
import type { ByteStream } from '../../src/core/types.ts';

/** Pieces whose memory is overwritten when the next one is asked for, as `ByteStream` allows. */
async function* lent(bytes: Uint8Array, sizes: readonly number[]): ByteStream {
  const memory = Buffer.alloc(Math.max(1, ...sizes));
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = Math.min(sizes[i % sizes.length] as number, bytes.length - at);
    memory.set(bytes.subarray(at, at + size));
    yield memory.subarray(0, size);
    memory.fill(0xee);
    at += size;
  }
}

const is = (code: string) => (error: unknown) => error instanceof LazypullError && error.code === code;

test('whatever the pieces, taking and skipping gives the bytes in order', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 300 }), fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 5 }), fc.array(fc.tuple(fc.constantFrom('upTo', 'exactly', 'some', 'skip', 'ready'), fc.nat(40)), { maxLength: 30 }), async (bytes, sizes, steps) => {
      const reader = new ByteReader(lent(bytes, sizes));
      let at = 0;
      for (const [what, n] of steps) {
        const left = bytes.length - at;
        if (what === 'skip' && n <= left) {
          await reader.skip(n);
          at += n;
        } else if (what === 'exactly' && n > left) {
          await assert.rejects(reader.exactly(n), is('CORRUPT'));
          return;
        } else if (what !== 'skip') {
          const got = what === 'ready' ? (reader.takeReady(n) ?? new Uint8Array(0)) : what === 'some' ? await reader.some(n + 1) : await reader[what as 'upTo'](n);
          if (what === 'upTo') assert.equal(got.length, Math.min(n, left));
          if (what === 'some') assert.ok(got.length > 0 || left === 0);
          assert.deepEqual(new Uint8Array(got), bytes.slice(at, at + got.length));
          at += got.length;
        }
        assert.equal(reader.position, at);
      }
    }),
    { numRuns: 400 },
  );
});

test('skipping past the end is CORRUPT with the position', async () => {
  const reader = new ByteReader(streamOf(Uint8Array.of(1, 2)));
  await assert.rejects(reader.skip(3, 'padding'), (error) => is('CORRUPT')(error) && (error as LazypullError).offset === 2);
});

test('close tells the stream', async () => {
  let closed = false;
  const stream = async function* (): ByteStream {
    try {
      for (;;) yield Uint8Array.of(1);
    } finally {
      closed = true;
    }
  };
  const reader = new ByteReader(stream());
  await reader.some(1);
  await reader.close();
  assert.ok(closed);
  assert.equal((await reader.some(1)).length, 0);
});

test('collect keeps copies and refuses more than its limit', async () => {
  const bytes = Uint8Array.from({ length: 100 }, (_, i) => i);
  assert.deepEqual(await collect(lent(bytes, [7, 13]), 100), bytes);
  await assert.rejects(collect(lent(bytes, [7]), 99), is('LIMIT'));
});

test('tap sees every byte on its way', async () => {
  const seen: Uint8Array[] = [];
  await collect(tap(lent(Uint8Array.of(1, 2, 3), [2]), (bytes) => seen.push(new Uint8Array(bytes))), 10);
  assert.deepEqual(concat(seen), Uint8Array.of(1, 2, 3));
});
