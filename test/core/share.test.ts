import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { share } from '../../src/core/share.ts';

/** Lends one buffer again and again, as streams may. */
async function* counting(count: number, log: string[] = []): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(1);
  try {
    for (let i = 0; i < count; i++) {
      log.push(`give ${i}`);
      buffer[0] = i;
      yield buffer;
    }
  } finally {
    log.push('closed');
  }
}

async function read(stream: AsyncIterable<Uint8Array>, each: (byte: number) => Promise<void> | void = () => {}): Promise<number[]> {
  const seen: number[] = [];
  for await (const [byte] of stream) {
    await each(byte as number);
    seen.push(byte as number);
  }
  return seen;
}

test('both readers see every piece before the next one is asked for', async () => {
  const log: string[] = [];
  const [a, b] = share(counting(4, log));
  const slow = async (byte: number): Promise<void> => {
    for (let i = 0; i < 5; i++) await turn();
    log.push(`slow ${byte}`);
  };
  const [fromA, fromB] = await Promise.all([read(a, slow), read(b, (byte) => void log.push(`quick ${byte}`))]);
  assert.deepEqual([fromA, fromB], [[0, 1, 2, 3], [0, 1, 2, 3]]);
  for (let i = 0; i < 3; i++) assert.ok(log.indexOf(`slow ${i}`) < log.indexOf(`give ${i + 1}`));
  assert.deepEqual(await a.next(), { done: true, value: undefined });
});

test('a reader that leaves, or never comes, no longer holds up the other', async () => {
  const log: string[] = [];
  const [a, b] = share(counting(3, log));
  const other = read(b);
  for await (const _ of a) break;
  assert.deepEqual(await other, [0, 1, 2]);
  const [c, d] = share(counting(3, log));
  const alone = read(c);
  await turn();
  await d.return();
  assert.deepEqual(await alone, [0, 1, 2]);
});

test('the source is closed when both have left', async () => {
  const log: string[] = [];
  const [a, b] = share(counting(3, log));
  await Promise.all([a.next(), b.next()]);
  await a.return();
  assert.ok(!log.includes('closed'));
  await b.return();
  assert.ok(log.includes('closed'));
});

test('an error of the source reaches both, also whoever comes later', async () => {
  const [a, b] = share((async function* () {
    yield new Uint8Array(1);
    throw new Error('broken');
  })());
  const results = await Promise.allSettled([read(a), read(b)]);
  assert.deepEqual(results.map(({ status }) => status), ['rejected', 'rejected']);
  await assert.rejects(a.next(), /broken/);
});

test('a reader that leaves while it waits gets the end', async () => {
  const [a, b] = share(counting(1));
  const waiting = a.next();
  await a.return();
  assert.deepEqual(await waiting, { done: true, value: undefined });
  assert.deepEqual(await read(b), [0]);
});
