import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import type { Chunk } from '../../src/core/types.ts';
import { planRequests } from '../../src/layer/plan.ts';

const chunk = (offset: number, length: number, blob = 0): Chunk => ({ blob, offset, length, size: length });

it('joins neighbours and bridges small gaps', () => {
  const [a, b, c, d] = [chunk(0, 10), chunk(10, 10), chunk(25, 5), chunk(100, 1)] as [Chunk, Chunk, Chunk, Chunk];
  assert.deepEqual(planRequests([d, b, a, c], { gap: 5 }), [
    { blob: 0, offset: 0, length: 30, chunks: [a, b, c] },
    { blob: 0, offset: 100, length: 1, chunks: [d] },
  ]);
  assert.equal(planRequests([a, b, c], { gap: 4 }).length, 2);
});

it('keeps requests small, except for one chunk that is large itself', () => {
  const chunks = [chunk(0, 60), chunk(60, 60), chunk(120, 500), chunk(620, 10)];
  assert.deepEqual(planRequests(chunks, { maxRequest: 100 }).map(({ offset, length }) => [offset, length]), [[0, 60], [60, 60], [120, 500], [620, 10]]);
});

it('fetches nothing for nothing, a chunk once, and each blob for itself', () => {
  assert.deepEqual(planRequests([]), []);
  const one = chunk(5, 5);
  assert.equal(planRequests([one, one])[0]?.chunks.length, 1);
  assert.equal(planRequests([chunk(0, 5, 1), chunk(5, 5, 0)]).length, 2);
});

it('orders the chunks of one stored unit by their place in it', () => {
  const late = { ...chunk(0, 50), skip: 20 };
  const early = chunk(0, 50);
  assert.deepEqual(planRequests([late, early])[0]?.chunks, [early, late]);
});

it('covers every chunk exactly once, within its limits, in stored order', () => {
  const any = fc.record({ blob: fc.nat(2), offset: fc.nat(10_000), length: fc.nat(400), size: fc.nat(400) });
  const limits = fc.record({ gap: fc.nat(200), maxRequest: fc.integer({ min: 1, max: 3000 }) });
  fc.assert(fc.property(fc.array(any, { maxLength: 60 }), limits, (chunks, options) => {
    const requests = planRequests(chunks, options);
    assert.deepEqual(new Set(requests.flatMap((r) => r.chunks)), new Set(chunks));
    assert.equal(requests.reduce((n, r) => n + r.chunks.length, 0), chunks.length);
    for (const [at, request] of requests.entries()) {
      const end = request.offset + request.length;
      for (const c of request.chunks) assert.ok(c.blob === request.blob && c.offset >= request.offset && c.offset + c.length <= end);
      assert.equal(Math.min(...request.chunks.map((c) => c.offset)), request.offset);
      assert.equal(Math.max(...request.chunks.map((c) => c.offset + c.length)), end);
      assert.ok(request.length <= options.maxRequest || request.chunks.some((c) => c.length === request.length));
      // No byte of a hole larger than the gap is fetched.
      let reached = request.offset;
      for (const c of request.chunks) {
        assert.ok(c.offset <= reached + options.gap);
        reached = Math.max(reached, c.offset + c.length);
      }
      const before = requests[at - 1];
      if (before) assert.ok(before.blob < request.blob || before.offset <= request.offset);
    }
  }));
});
