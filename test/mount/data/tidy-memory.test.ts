import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { tidyMemory } from '../../../src/mount/data/tidy-memory.ts';

const inUse = (): number => {
  const { arrayBuffers, heapUsed } = process.memoryUsage();
  return arrayBuffers + heapUsed;
};

/** Objects and buffers that nobody has any more, so many bytes of each and more. */
function litter(bytes: number): void {
  let objects: unknown[] = [];
  for (let made = 0; made < bytes; made += 64) objects.push({ made });
  const buffers = Array.from({ length: Math.ceil(bytes / (1 << 20)) }, () => new Uint8Array(1 << 20).fill(1));
  assert.ok(objects.length > 0 && buffers.length > 0);
  objects = [];
}

test('a process that has become large by garbage loses it when it asks', async () => {
  tidyMemory();
  const before = inUse();
  litter(96 << 20);
  tidyMemory();
  // Buffers are given back by another thread.
  for (let patience = 100; inUse() >= before + (32 << 20) && patience > 0; patience -= 1) await wait(50);
  assert.ok(inUse() < before + (32 << 20), `${before} bytes in use before, ${inUse()} after`);
});
