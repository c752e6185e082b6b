import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { LazypullError } from '../../../src/core/errors.ts';
import { KeepArrived } from '../../../src/mount/data/keep-arrived.ts';

const MIB = 1 << 20;

/** Keeps when it is told, and notes what. */
function slow(fails = false) {
  const kept: number[][] = [];
  const done: number[] = [];
  const gates: (() => void)[] = [];
  const keeping = new KeepArrived(
    async (chunks) => {
      kept.push(chunks.map(([chunk]) => chunk));
      await new Promise<void>((resolve) => gates.push(resolve));
      if (fails) throw new LazypullError('IO', 'full');
    },
    (chunk) => void done.push(chunk),
  );
  return { keeping, kept, done, open: () => gates.shift()?.() };
}

test('what has come is kept while more is to come, in order and one lot at a time', async () => {
  const { keeping, kept, done, open } = slow();
  keeping.add(0, new Uint8Array(10));
  assert.deepEqual(kept, [], 'too little for a system call');
  keeping.add(1, new Uint8Array(MIB));
  assert.deepEqual(kept, [[0, 1]]);
  keeping.add(2, new Uint8Array(MIB));
  keeping.add(3, new Uint8Array(5));
  assert.deepEqual(kept, [[0, 1]]);
  open();
  await turn();
  assert.deepEqual([kept, done], [[[0, 1], [2, 3]], [0, 1]]);
  open();
  await turn();
  keeping.add(4, new Uint8Array(5));
  const end = keeping.end();
  assert.deepEqual(kept.at(-1), [4]);
  open();
  await end;
  assert.deepEqual(done, [0, 1, 2, 3, 4]);
});

test('who brings too much waits until some of it is done', async () => {
  const { keeping, done, open } = slow();
  assert.equal(keeping.room(), undefined);
  keeping.add(0, new Uint8Array(3 * MIB));
  assert.equal(keeping.room(), undefined);
  keeping.add(1, new Uint8Array(3 * MIB));
  let goesOn = false;
  const waiting = keeping.room()?.then(() => (goesOn = true));
  assert.ok(waiting);
  await turn();
  assert.equal(goesOn, false);
  open();
  await waiting;
  assert.deepEqual(done, [0]);
  open();
  await keeping.end();
});

test('what cannot be kept is done all the same, and holds nobody up', async () => {
  const { keeping, done, open } = slow(true);
  keeping.add(0, new Uint8Array(5 * MIB));
  const waiting = keeping.room();
  open();
  await waiting;
  await keeping.end();
  assert.deepEqual(done, [0]);
  await keeping.end();
});
