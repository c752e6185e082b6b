import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WINDOW_SIZE } from '../../../src/codec/needed-window.ts';
import { takeRoom } from '../../../src/core/room.ts';
import type { LayerIndexBlob } from '../../../formats/mount-index/layer-index.ts';
import type { PieceTable } from '../../../formats/mount-index/piece-table.ts';
import { Windows } from '../../../formats/mount-index/read-windows.ts';

const PIECES = 200;
const KEPT = 32;

/** Windows that the index has are not asked for here. */
function windows(): Windows {
  return new Windows({} as LayerIndexBlob, { count: PIECES, window: () => ({ offset: 0, size: 1 }) } as unknown as PieceTable);
}

test('what comes in front of a piece is what was put last, however much memory goes round', async () => {
  const all = windows();
  const rooms = new Set<ArrayBufferLike>();
  for (let piece = 0; piece < PIECES; piece += 1) {
    all.put(piece, new Uint8Array(WINDOW_SIZE + piece).fill(piece + 1, piece));
    await all.use(piece, (window) => {
      rooms.add(window.buffer);
      assert.equal(window.length, WINDOW_SIZE);
      assert.ok(window.every((byte) => byte === piece + 1));
    });
  }
  assert.ok(rooms.size <= KEPT + 2, `${rooms.size} windows for ${KEPT} that are kept`);
  // Whoever takes memory now must not get what is still kept.
  for (let i = 0; i < 2 * KEPT; i += 1) takeRoom(WINDOW_SIZE).fill(0);
  for (let piece = PIECES - KEPT; piece < PIECES; piece += 1) assert.ok(await all.use(piece, (window) => window.every((byte) => byte === piece + 1)), `piece ${piece}`);
});

test('a piece that is put once more keeps one window', async () => {
  const all = windows();
  for (const byte of [1, 2, 3]) all.put(5, new Uint8Array(WINDOW_SIZE).fill(byte));
  assert.ok(await all.use(5, (window) => window.every((byte) => byte === 3)));
});
