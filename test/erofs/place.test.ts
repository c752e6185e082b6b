import assert from 'node:assert/strict';
import { it } from 'node:test';
import { mapRuns } from '../../src/erofs/place.ts';

const HOLE = { device: 0, block: 0xffffffff };

it('a file in one piece is one chunk, whatever its size', () => {
  assert.deepEqual(mapRuns([{ length: 1, device: 1, offset: 512 }], 512), { kind: 'chunks', bits: 0, indexes: [{ device: 1, block: 1 }] });
  assert.deepEqual(mapRuns([{ length: 513, device: 2, offset: 0 }], 512), { kind: 'chunks', bits: 1, indexes: [{ device: 2, block: 0 }] });
  assert.deepEqual(mapRuns([{ length: 5 * 2 ** 30, device: 1, offset: 4096 }], 4096), { kind: 'chunks', bits: 21, indexes: [{ device: 1, block: 1 }] });
  assert.equal(mapRuns([{ length: 3 * 2 ** 43, device: undefined, offset: 0 }], 4096).indexes.length, 3, 'the exponent ends at 31');
});

it('runs that lie together are one', () => {
  const runs = [{ length: 1024, device: 1, offset: 1024 }, { length: 512, device: 1, offset: 2048 }, { length: 0, device: 2, offset: 512 }, { length: 3, device: 1, offset: 2560 }];
  assert.deepEqual(mapRuns(runs, 512), { kind: 'chunks', bits: 2, indexes: [{ device: 1, block: 2 }] });
});

it('chunks are as large as the runs allow', () => {
  const runs = [{ length: 4096, device: 1, offset: 0 }, { length: 8192, device: 2, offset: 4096 }, { length: 4096, device: undefined, offset: 0 }, { length: 100, device: 1, offset: 512 }];
  assert.deepEqual(mapRuns(runs, 512), { kind: 'chunks', bits: 3, indexes: [{ device: 1, block: 0 }, { device: 2, block: 8 }, { device: 2, block: 16 }, HOLE, { device: 1, block: 1 }] });
});

it('an empty file has no chunk', () => {
  assert.deepEqual(mapRuns([], 4096), { kind: 'chunks', bits: 0, indexes: [] });
  assert.deepEqual(mapRuns([{ length: 0, device: 1, offset: 7 }], 4096), { kind: 'chunks', bits: 0, indexes: [] });
});

it('refuses what blocks cannot express', () => {
  assert.throws(() => mapRuns([{ length: 5, device: 1, offset: 512 }], 4096), { code: 'UNSUPPORTED' });
  assert.throws(() => mapRuns([{ length: 100, device: 1, offset: 0 }, { length: 5, device: 2, offset: 512 }], 512), { code: 'UNSUPPORTED' });
  assert.throws(() => mapRuns([{ length: 5, device: 1, offset: 512 * 2 ** 32 }], 512), { code: 'LIMIT' });
  // A boundary at the first block of a file that is nearly all hole.
  assert.throws(() => mapRuns([{ length: 512, device: 1, offset: 0 }, { length: 2 ** 50, device: undefined, offset: 0 }], 512), { code: 'LIMIT' });
});
