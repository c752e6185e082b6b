import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { dropRooms, giveBack, idleRoom, takeRoom } from '../../src/core/room.ts';

test('nobody has the memory that somebody else has, whatever is given back', () => {
  const steps = fc.array(fc.oneof(fc.record({ take: fc.integer({ min: 1, max: 300_000 }) }), fc.record({ give: fc.nat(), part: fc.boolean() })), { maxLength: 60 });
  fc.assert(fc.property(steps, (all) => {
    const held: { readonly bytes: Uint8Array; readonly mark: number }[] = [];
    let mark = 0;
    for (const step of all) {
      if ('take' in step) {
        const bytes = takeRoom(step.take);
        assert.equal(bytes.length, step.take);
        mark = (mark % 255) + 1;
        bytes.fill(mark);
        held.push({ bytes, mark });
      } else if (held.length > 0) {
        const at = step.give % held.length;
        const { bytes } = held[at] as (typeof held)[number];
        if (step.part) {
          giveBack(bytes.subarray(0, bytes.length - 1));
          giveBack(bytes.subarray(1));
        } else {
          held.splice(at, 1);
          giveBack(bytes);
          // The second time it is somebody else's, perhaps.
          giveBack(bytes);
        }
      }
      for (const one of held) assert.ok(one.bytes[0] === one.mark && one.bytes.at(-1) === one.mark);
    }
  }), { numRuns: 200 });
});

test('what is given back is used again', () => {
  const first = takeRoom(1 << 20);
  giveBack(first);
  const second = takeRoom((1 << 20) - 5000);
  assert.equal(second.buffer, first.buffer);
  assert.equal(second.length, (1 << 20) - 5000);
  assert.notEqual(takeRoom(1 << 20).buffer, second.buffer);
});

test('what did not come from here stays as it is', () => {
  const own = new Uint8Array(1 << 20).fill(7);
  giveBack(own);
  takeRoom(1 << 20).fill(1);
  assert.equal(own[0], 7);
});

test('what waits for its next user can be left to the garbage collector', () => {
  const first = takeRoom(1 << 20);
  const other = takeRoom(1 << 20);
  giveBack(first);
  dropRooms();
  const next = takeRoom(1 << 20);
  assert.notEqual(next.buffer, first.buffer);
  giveBack(other);
  assert.equal(takeRoom(1 << 20).buffer, other.buffer, 'what was in use comes back as ever');
});

test('no more waits for its next user than is allowed, and what was needed last waits longest', () => {
  dropRooms();
  const old = Array.from({ length: 40 }, () => takeRoom(1 << 20));
  const recent = Array.from({ length: 40 }, () => takeRoom(1 << 18));
  for (const bytes of old) giveBack(bytes);
  const most = idleRoom();
  assert.ok(most >= 8 << 20 && most < 40 << 20, String(most));
  for (const bytes of recent) giveBack(bytes);
  assert.ok(idleRoom() <= most);
  const known = new Set<unknown>(recent.map(({ buffer }) => buffer));
  assert.equal(recent.filter(() => known.has(takeRoom(1 << 18).buffer)).length, 40);
});
