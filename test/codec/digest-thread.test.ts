import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../../src/core/digest.ts';
import { crc32 } from '../../src/codec/crc32.ts';
import { DigestThread, SLOT } from '../../src/codec/digest-thread.ts';
import { noise, numbers, pieces } from './samples.ts';

test('the digest is that of all bytes, whatever the pieces', async () => {
  for (const size of [0, 1, SLOT, SLOT + 1, 17_000_000]) {
    const bytes = noise(size);
    for (const piece of [70_001, 3_000_000]) {
      const thread = new DigestThread('stream');
      // One buffer, lent again and again.
      const lent = new Uint8Array(piece);
      for (const part of pieces(bytes, piece)) {
        lent.set(part);
        await thread.update(lent.subarray(0, part.length));
        lent.fill(0);
      }
      assert.equal(thread.size, size);
      assert.equal(await thread.finish(), digestOf(bytes), `${size} bytes by ${piece}`);
      await thread.close();
    }
  }
});

test('closing early is fine, and what comes after it fails', async () => {
  await new DigestThread('stream').close();
  const thread = new DigestThread('stream');
  for (let i = 0; i < 3; i++) await thread.update(noise(SLOT));
  await thread.close();
  await assert.rejects(async () => {
    for (let i = 0; i < 10; i++) await thread.update(noise(SLOT));
    await thread.finish();
  }, { code: 'INTERNAL' });
});

test('one thread serves one stream after another, and none that was left', async () => {
  let started = 0;
  const count = (): void => void (started += 1);
  process.on('worker', count);
  try {
    const first = new DigestThread('stream');
    const bytes = noise(5 << 20);
    await first.update(bytes);
    // Another at the same time needs another thread.
    const other = new DigestThread('stream');
    await other.update(bytes.subarray(1));
    assert.equal(await first.finish(), digestOf(bytes));
    assert.equal(await other.finish(), digestOf(bytes.subarray(1)));
    await first.close();
    await other.close();
    const before = started;
    for (let i = 0; i < 4; i++) {
      const next = new DigestThread('stream');
      next.gzip = i % 2 === 0;
      if (next.gzip) next.onTrailer({ crc: crc32(bytes.subarray(i)), offset: 1, out: bytes.length - i });
      await next.update(bytes.subarray(i));
      assert.equal(await next.finish(), digestOf(bytes.subarray(i)));
      await next.close();
      await next.close();
    }
    assert.equal(started, before);
    // What is still hashed for a stream that was left is not for the next one.
    const left = new DigestThread('stream');
    await left.update(bytes);
    await left.close();
    const last = new DigestThread('stream');
    await last.update(bytes);
    assert.equal(await last.finish(), digestOf(bytes));
    await last.close();
  } finally {
    process.off('worker', count);
  }
});

/** Members of the sizes given: their trailers, and all their content. */
function membersOf(sizes: readonly number[]): { readonly content: Uint8Array; readonly trailers: readonly { crc: number; offset: number; out: number }[] } {
  const content = noise(sizes.reduce((sum, size) => sum + size, 0));
  let out = 0;
  const trailers = sizes.map((size, i) => {
    out += size;
    return { crc: crc32(content.subarray(out - size, out)), offset: 1000 + i, out };
  });
  return { content, trailers };
}

/** Tells everything; `ahead`: ends are told so many bytes before they come. */
async function tell(thread: DigestThread, content: Uint8Array, trailers: readonly { crc: number; offset: number; out: number }[], piece: number, ahead: number): Promise<void> {
  let next = 0;
  let at = 0;
  for (const part of pieces(content, piece)) {
    for (; next < trailers.length && (trailers[next]?.out ?? 0) <= at + ahead; next++) thread.onTrailer(trailers[next] as (typeof trailers)[number]);
    await thread.update(part);
    at += part.length;
  }
  for (const trailer of trailers.slice(next)) thread.onTrailer(trailer);
}

const SIZES = [
  [10, 20],
  [SLOT],
  [SLOT - 1, 1, 1, SLOT],
  [3 * SLOT + 5, 7, SLOT - 12, 2 * SLOT],
  Array.from({ length: 9000 }, () => 100),
];

test('members have the CRCs that were told, wherever they end', async (t) => {
  for (const sizes of SIZES) {
    const { content, trailers } = membersOf(sizes);
    for (const [piece, ahead] of [[SLOT, SLOT], [SLOT, 0], [70_001, 70_001], [3_000_000, 3_000_000]] as const) {
      const thread = new DigestThread('stream');
      thread.gzip = true;
      t.after(() => thread.close());
      await tell(thread, content, trailers, piece, ahead);
      assert.equal(await thread.fault(), undefined);
      assert.equal(await thread.finish(), digestOf(content));
      await thread.close();
    }
  }
});

test('each wrong CRC is found, and of several the first', async (t) => {
  const next = numbers(5);
  for (const sizes of SIZES) {
    const { content, trailers } = membersOf(sizes);
    for (const bad of sizes.length < 10 ? sizes.keys() : [0, 4500, 8999]) {
      const wrong = trailers.map((trailer, i) => (i === bad || (i > bad && next() < 0.5) ? { ...trailer, crc: trailer.crc ^ 1 } : trailer));
      for (const end of ['finish', 'fault'] as const) {
        const thread = new DigestThread('stream');
        t.after(() => thread.close());
        thread.gzip = true;
        const work = async (): Promise<unknown> => {
          await tell(thread, content, wrong, SLOT, SLOT);
          if (end === 'finish') return thread.finish();
          throw (await thread.fault()) ?? new Error('nothing is found');
        };
        await assert.rejects(work, { code: 'CORRUPT', offset: 1000 + bad, message: `stream: content does not match the CRC-32 of its gzip trailer (at offset ${1000 + bad})` });
        assert.equal((await thread.fault())?.offset, 1000 + bad);
        await thread.close();
      }
    }
  }
});

test('a member that ends behind all content is no success', async () => {
  const thread = new DigestThread('stream');
  thread.gzip = true;
  await thread.update(noise(10));
  thread.onTrailer({ crc: 0, offset: 5, out: 11 });
  await assert.rejects(thread.finish(), { code: 'INTERNAL' });
});
