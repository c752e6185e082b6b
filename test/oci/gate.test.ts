import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Gate, type Slot } from '../../src/oci/gate.ts';
import { rejectsWith } from './store-contract.ts';

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

describe('Gate', () => {
  it('lets in as many as it may, in the order of their coming', async () => {
    const gate = new Gate(2);
    const entered: number[] = [];
    const slots = new Map<number, Slot>();
    const all = [0, 1, 2, 3].map(async (i) => {
      slots.set(i, await gate.acquire());
      entered.push(i);
    });
    await turn();
    assert.deepEqual(entered, [0, 1]);
    slots.get(1)?.release();
    slots.get(1)?.release();
    await turn();
    assert.deepEqual(entered, [0, 1, 2]);
    slots.get(0)?.release();
    await Promise.all(all);
    assert.deepEqual(entered, [0, 1, 2, 3]);
    assert.equal(gate.active, 2);
  });

  it('lets a waiter leave', async () => {
    const gate = new Gate(1);
    const slot = await gate.acquire();
    const controller = new AbortController();
    const waiting = gate.acquire(controller.signal);
    const next = gate.acquire();
    controller.abort();
    await rejectsWith(waiting, 'CANCELLED');
    slot.release();
    (await next).release();
    assert.equal(gate.active, 0);
    await rejectsWith(gate.acquire(controller.signal), 'CANCELLED');
  });

  it('halves at 429 and recovers one at a time', async () => {
    const gate = new Gate(8);
    gate.slowDown();
    assert.equal(gate.limit, 4);
    for (let i = 0; i < 10; i++) gate.slowDown();
    assert.equal(gate.limit, 1);
    for (let i = 0; i < 15; i++) gate.succeed();
    assert.equal(gate.limit, 1);
    gate.succeed();
    assert.equal(gate.limit, 2);
    for (let i = 0; i < 1000; i++) gate.succeed();
    assert.equal(gate.limit, 8);
  });

  it('gives away the place of a stream that waits for its reader, but only if someone wants it', async () => {
    const gate = new Gate(1);
    const stalled = await gate.acquire();
    stalled.stalled(true);
    const second = await gate.acquire();
    assert.equal(gate.active, 1);
    stalled.stalled(false);
    assert.equal(gate.active, 2);
    stalled.release();
    second.release();
    assert.equal(gate.active, 0);
  });

  it('keeps the place of a stream that moves', async () => {
    const gate = new Gate(1);
    const moving = await gate.acquire();
    let entered = false;
    const waiting = gate.acquire().then((slot) => {
      entered = true;
      slot.release();
    });
    for (let i = 0; i < 30; i++) {
      moving.stalled(true);
      moving.stalled(false);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.equal(entered, false);
    moving.release();
    await waiting;
  });

  it('wants a sensible limit', () => {
    for (const limit of [0, -1, 1.5, Number.NaN]) assert.throws(() => new Gate(limit), { code: 'USAGE' });
  });
});
