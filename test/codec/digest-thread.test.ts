import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../../src/core/digest.ts';
import { DigestThread } from '../../src/codec/digest-thread.ts';
import { noise, pieces } from './samples.ts';

test('the digest is that of all bytes, whatever the pieces', async () => {
  for (const size of [0, 1, 1 << 20, (1 << 20) + 1, 9_000_000]) {
    const bytes = noise(size);
    for (const piece of [70_001, 3_000_000]) {
      const thread = new DigestThread();
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
  await new DigestThread().close();
  const thread = new DigestThread();
  for (let i = 0; i < 3; i++) await thread.update(noise(1 << 20));
  await thread.close();
  await assert.rejects(async () => {
    for (let i = 0; i < 10; i++) await thread.update(noise(1 << 20));
    await thread.finish();
  }, { code: 'INTERNAL' });
});
