import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bytesFor, PageSet, PAGE_SIZE, touchedPages, wholePages } from '../../../src/mount/data/pages.ts';
import { decodePresence, encodePresence, mergePresence, type Presence } from '../../../src/mount/data/presence.ts';
import { TornPages } from '../../../src/mount/data/torn-pages.ts';

const range = (pages: number): fc.Arbitrary<[number, number]> => fc.tuple(fc.nat(pages), fc.nat(pages)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)]);

test('a set of pages does what a set does, and shows the same bits to others', () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 200 }).chain((pages) => fc.tuple(fc.constant(pages), fc.array(fc.tuple(fc.boolean(), range(pages)), { maxLength: 30 }), range(pages))), ([pages, changes, [from, to]]) => {
    const memory = new SharedArrayBuffer(bytesFor(pages));
    const own = new PageSet(pages);
    const shared = new PageSet(pages, memory);
    const model = new Set<number>();
    for (const [add, [start, end]] of changes) {
      for (const set of [own, shared]) {
        if (add) set.add(start, end);
        else set.delete(start, end);
      }
      for (let page = start; page < end; page += 1) {
        if (add) model.add(page);
        else model.delete(page);
      }
    }
    const all = Array.from({ length: pages }, (_, page) => page);
    const bits = new Uint8Array(memory);
    for (const set of [own, shared]) {
      assert.equal(set.count, model.size);
      assert.deepEqual(all.filter((page) => set.has(page)), all.filter((page) => model.has(page)));
      assert.equal(set.hasAll(from, to), all.slice(from, to).every((page) => model.has(page)));
      for (const inside of [true, false]) {
        const found = [...set.runs(from, to, inside)];
        assert.deepEqual(found.flatMap(([a, b]) => all.slice(a, b)), all.slice(from, to).filter((page) => model.has(page) === inside));
        assert.ok(found.every(([a, b], i) => a < b && (i === 0 || a > (found[i - 1] as [number, number])[1])), 'runs do not touch');
      }
    }
    assert.deepEqual(all.filter((page) => (((bits[page >> 3] as number) >> (page & 7)) & 1) === 1), all.filter((page) => model.has(page)));
  }));
});

test('whole and touched pages of a range', () => {
  assert.deepEqual(wholePages(0, 8192), [0, 2]);
  assert.deepEqual(wholePages(1, 8191), [1, 2]);
  assert.deepEqual(wholePages(5, 10), [1, 1]);
  assert.deepEqual(touchedPages(5, 10), [0, 1]);
  assert.deepEqual(touchedPages(4095, 2), [0, 2]);
  assert.deepEqual(touchedPages(4096, 0), [1, 1]);
});

test('a torn page is whole once all its bytes have come, in whatever order', () => {
  const part = fc.tuple(fc.nat(3), range(PAGE_SIZE)).filter(([, [from, to]]) => to > from);
  fc.assert(fc.property(fc.array(part, { maxLength: 25 }), ([...parts]) => {
    const torn = new TornPages();
    const model = new Map<number, Uint8Array>();
    const done = new Set<number>();
    for (const [page, [from, to]] of parts) {
      if (done.has(page)) continue;
      const bytes = model.get(page) ?? new Uint8Array(PAGE_SIZE);
      model.set(page, bytes.fill(1, from, to));
      const whole = torn.add(page, from, to);
      assert.equal(whole, !bytes.includes(0));
      if (whole) done.add(page);
      else assert.ok(torn.has(page, from, to));
    }
    for (const [page, bytes] of model) {
      if (done.has(page)) continue;
      for (const [from, to] of [[0, 1], [100, 200], [4000, 4096]] as const) assert.equal(torn.has(page, from, to), !bytes.subarray(from, to).includes(0));
    }
    torn.delete(0, 2);
    assert.ok([...torn.parts()].every(({ page }) => page >= 2));
  }));
});

const presence: fc.Arbitrary<Presence> = fc.record({
  size: fc.integer({ min: 1, max: 300 }).map((pages) => pages * PAGE_SIZE),
  sealed: fc.boolean(),
  whole: fc.boolean(),
  bounds: fc.uniqueArray(fc.nat(300), { maxLength: 40 }),
  parts: fc.array(fc.tuple(fc.nat(299), range(PAGE_SIZE)), { maxLength: 5 }),
}).map(({ size, sealed, whole, bounds, parts }) => {
  const pages = size / PAGE_SIZE;
  const sorted = bounds.filter((page) => page <= pages).sort((a, b) => a - b);
  const runs = Array.from({ length: Math.floor(sorted.length / 2) }, (_, i): [number, number] => [sorted[i * 2] as number, sorted[i * 2 + 1] as number]);
  return { size, sealed, whole, runs, parts: parts.filter(([page, [from, to]]) => page < pages && from < to).map(([page, [from, to]]) => ({ page, from, to })) };
});

test('a list of what is there is read back, and any damage makes it worthless', () => {
  fc.assert(fc.property(presence, fc.nat(), fc.integer({ min: 1, max: 255 }), (value, at, bits) => {
    const bytes = encodePresence(value);
    assert.deepEqual(decodePresence(bytes), value);
    const flipped = Uint8Array.from(bytes);
    flipped[at % bytes.length] = (flipped[at % bytes.length] as number) ^ bits;
    assert.equal(decodePresence(flipped), undefined);
    assert.equal(decodePresence(bytes.subarray(0, at % bytes.length)), undefined);
  }));
});

test('two lists together say what either says', () => {
  fc.assert(fc.property(presence, presence, (a, b) => {
    const other = { ...b, size: a.size, runs: b.runs.filter(([, to]) => to * PAGE_SIZE <= a.size) };
    const both = mergePresence(a, other);
    const model = new Set<number>();
    for (const { runs } of [a, other]) for (const [from, to] of runs) for (let page = from; page < to; page += 1) model.add(page);
    assert.deepEqual(both.runs.flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i)), [...model].sort((x, y) => x - y));
    assert.ok(both.parts.every(({ page }) => !model.has(page)));
    assert.equal(both.sealed, a.sealed || other.sealed);
  }));
});
