import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { it } from 'node:test';
import { takeRoom } from '../../src/core/room.ts';
import { Counters } from '../../src/mount/fuse/counters.ts';
import { MissDesk } from '../../src/mount/fuse/misses.ts';
import type { MissedRead } from '../../src/mount/fuse/server.ts';

const LENGTH = 1 << 20;

function read(unique: bigint, ...devices: readonly number[]): MissedRead {
  return { unique, node: 2, offset: 0, pid: 0, runs: devices.map((device) => ({ device, offset: 0, length: LENGTH })) };
}

it('the memory of an answer is used again once the kernel has it', async () => {
  const fd = openSync('/dev/null', 'w');
  const given: ArrayBufferLike[] = [];
  const answer = async (): Promise<Uint8Array> => {
    const bytes = takeRoom(LENGTH);
    given.push(bytes.buffer);
    return bytes;
  };
  const failures: unknown[] = [];
  const desk = new MissDesk(fd, new SharedArrayBuffer(4096), answer, new Counters(), (_, error) => error && failures.push(error));
  try {
    for (let i = 0; i < 20; i += 1) await desk.take(read(BigInt(i + 1), 1, 2));
    assert.deepEqual(failures, []);
    assert.equal(desk.bytes, 40 * LENGTH);
    assert.equal(given.length, 40);
    assert.equal(new Set(given).size, 2, 'two at a time are all that is needed');
  } finally {
    closeSync(fd);
  }
});

it('bytes that somebody else has as well are not taken from them', async () => {
  const fd = openSync('/dev/null', 'w');
  const own = new Uint8Array(LENGTH).fill(7);
  const desk = new MissDesk(fd, new SharedArrayBuffer(4096), async () => own, new Counters(), () => undefined);
  try {
    await desk.take(read(1n, 1));
    takeRoom(LENGTH).fill(1);
    assert.ok(own.every((byte) => byte === 7));
  } finally {
    closeSync(fd);
  }
});
