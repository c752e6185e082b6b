import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { deflateRawSync, gzipSync } from 'node:zlib';
import { concat } from '../../../src/core/bytes.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { spanRanges } from '../../../formats/soci/zinfo.ts';
import { Checkpoints, MEMBER_LIMIT } from '../../../formats/soci/checkpoints.ts';
import type { Checkpoint, Ztoc } from '../../../formats/soci/layout.ts';
import { mixture, noise } from '../../codec/samples.ts';
import { gzipLayouts } from '../../support/gzip-layouts.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { file } from '../../support/tar-corpus.ts';
import { blockStarts, type BlockStart } from './block-starts.ts';
import { indexed } from './made-by-writer.ts';

const tar = archive(entries(...Array.from({ length: 20 }, (_, i) => file(`files/${i}`, mixture(25_000).subarray(i * 300, i * 1200)))));

type Place = Pick<Checkpoint, 'in' | 'out' | 'bits'>;

const place = ({ in: start, out, bits }: Place): Place => ({ in: start, out, bits });

function places(ztoc: Ztoc): Place[] {
  assert.equal(ztoc.spans.algorithm, 'gzip');
  return ztoc.spans.algorithm === 'gzip' ? ztoc.spans.checkpoints.map(place) : [];
}

/** The rule of the soci CLI, over all block starts at once; then what its readers cannot use is dropped. */
function byRule(starts: readonly BlockStart[], spanSize: number, tarEnd: number): Place[] {
  const chosen: Place[] = [];
  let last = 0;
  for (const start of starts) {
    if (start.out !== 0 && start.out - last <= spanSize) continue;
    last = start.out;
    chosen.push(place(start));
  }
  const zeros = chosen.filter(({ out }) => out === 0).length;
  return chosen.slice(zeros - 1).filter(({ out }, i) => i === 0 || out <= tarEnd);
}

/** The same with every member. Of several at one tar byte the last stays. */
function withMembers(starts: readonly BlockStart[], spanSize: number, tarEnd: number): Place[] {
  const chosen: Place[] = [];
  for (const start of starts) {
    const last = chosen.at(-1);
    if (last && !start.first && start.out !== 0 && start.out - last.out <= spanSize) continue;
    if (last?.out === start.out) chosen.pop();
    chosen.push(place(start));
  }
  return chosen.filter(({ out }, i) => i === 0 || out < tarEnd);
}

function checkDigestsAndWindows(ztoc: Ztoc, packed: Uint8Array, whole: Uint8Array, name: string): void {
  assert.deepEqual(ztoc.spanDigests, spanRanges(ztoc).map(({ packedStart, packedEnd }) => digestOf(packed.subarray(packedStart, packedEnd))), name);
  if (ztoc.spans.algorithm !== 'gzip') return;
  for (const { out, window } of ztoc.spans.checkpoints) {
    const before = whole.subarray(Math.max(0, out - 32_768), out);
    assert.ok(Buffer.concat([new Uint8Array(32_768 - before.length), before]).equals(window), `${name}: window at ${out}`);
  }
}

describe('checkpoints are where zlib says that blocks begin', () => {
  for (const [spanSize, count] of [[1, 16], [700, 32], [20_000, 48], [65_536, 48]] as const) {
    it(`span size ${spanSize}`, async () => {
      for (const { name, packed, tar: whole } of gzipLayouts(tar, { count, seed: spanSize })) {
        const starts = blockStarts(packed);
        const members = starts.filter(({ first }) => first).length;
        const upstream = await indexed(packed, { spanSize, upstreamCheckpoints: true });
        assert.deepEqual(places(upstream.ztoc), byRule(starts, spanSize, tar.length), name);
        assert.equal(upstream.ztoc.tarSize, tar.length);
        checkDigestsAndWindows(upstream.ztoc, packed, whole, name);
        const ours = await indexed(packed, { spanSize });
        const few = members > 1 && members <= MEMBER_LIMIT;
        assert.deepEqual(places(ours.ztoc), few ? withMembers(starts, spanSize, tar.length) : places(upstream.ztoc), name);
        checkDigestsAndWindows(ours.ztoc, packed, whole, name);
      }
    });
  }

  it('however the layer comes in pieces', async () => {
    for (const { name, packed } of gzipLayouts(tar, { count: 16, seed: 5 })) {
      const { bytes } = await indexed(packed, { spanSize: 3000 });
      const cuts: ((i: number) => number)[] = [(i) => 1 + ((i * 7919) % 1500), (i) => (i % 2 === 0 ? 1 : 4096), () => 1 << 18];
      for (const cut of cuts) assert.deepEqual((await indexed(packed, { spanSize: 3000 }, cut)).bytes, bytes, name);
    }
  });
});

const member = (bytes: Uint8Array): Uint8Array => gzipSync(bytes);
const cutUp = (count: number): Uint8Array[] => Array.from({ length: count }, (_, i) => tar.subarray(Math.floor((i * tar.length) / count), Math.floor(((i + 1) * tar.length) / count)));

describe('gzip members', () => {
  it('each begins a span while they are few', async () => {
    const { ztoc, warnings } = await indexed(concat(cutUp(MEMBER_LIMIT).map(member)), { spanSize: 1 << 20 });
    assert.equal(ztoc.spanDigests.length, MEMBER_LIMIT);
    assert.deepEqual(warnings, []);
  });

  it('one more, and only the span size counts; who is left behind is told', async () => {
    const { ztoc, warnings } = await indexed(concat(cutUp(MEMBER_LIMIT + 1).map(member)), { spanSize: 50_000 });
    assert.ok(ztoc.spanDigests.length < 10);
    assert.match(warnings[0] ?? '', /^its 65 gzip members do not all begin a span/);
  });

  it('empty ones at the start, in the middle and at the end have no span', async () => {
    const empty = member(new Uint8Array(0));
    const [a, b] = cutUp(2).map(member) as [Uint8Array, Uint8Array];
    const { ztoc } = await indexed(concat([empty, empty, a, empty, empty, b, empty]), { spanSize: 1 << 20 });
    const starts = [2 * empty.length, 4 * empty.length + a.length];
    assert.deepEqual(places(ztoc), [{ in: starts[0] as number + 10, out: 0, bits: 0 }, { in: starts[1] as number + 10, out: Math.floor(tar.length / 2), bits: 0 }]);
  });
});

describe('the end of the tar', () => {
  it('behind it there are no checkpoints, but one at it may stay', async () => {
    const padding = noise(400_000).map((byte) => byte & 1);
    const blocks = (...pieces: readonly Uint8Array[]): Uint8Array => {
      const deflated = pieces.map((piece, i) => deflateRawSync(piece, { finishFlush: i === pieces.length - 1 ? 4 : 2 }));
      const all = concat(pieces);
      // A member whose trailer zlib makes: only that is taken of it.
      return concat([gzipSync(new Uint8Array(0)).subarray(0, 10), ...deflated, gzipSync(all).subarray(-8)]);
    };
    const { ztoc } = await indexed(blocks(tar, padding.subarray(0, 200_000), padding.subarray(200_000), new Uint8Array(0)), { spanSize: 1 << 16 });
    assert.equal(ztoc.tarSize, tar.length);
    assert.ok(places(ztoc).every(({ out }) => out <= tar.length));
    const exact = await indexed(blocks(tar, new Uint8Array(0)), { spanSize: 4096 });
    assert.equal(places(exact.ztoc).at(-1)?.out, tar.length);
    assert.deepEqual(spanRanges(exact.ztoc).at(-1)?.tarEnd, tar.length);
  });

  it('a layer that needs no tar byte has one span', async () => {
    const { ztoc } = await indexed(gzipSync(new Uint8Array(0)), {});
    assert.deepEqual([places(ztoc), ztoc.tarSize, ztoc.records], [[{ in: 10, out: 0, bits: 0 }], 0, []]);
    const padded = await indexed(gzipSync(new Uint8Array(100_000)), { spanSize: 10 });
    assert.deepEqual([places(padded.ztoc), padded.ztoc.tarSize], [[{ in: 10, out: 0, bits: 0 }], 1024]);
  });
});

describe('what is too much', () => {
  const options = { spanSize: 10, upstreamCheckpoints: false };
  const window = (): Uint8Array => new Uint8Array(0);

  it('more windows than are kept', () => {
    const checkpoints = new Checkpoints(options, 3);
    for (let i = 0; i < 3; i += 1) checkpoints.point({ bit: 80 + i * 80, out: i * 100, member: i === 0, window });
    assert.equal(checkpoints.refused, undefined);
    checkpoints.point({ bit: 400, out: 300, member: false, window });
    assert.match(checkpoints.refused ?? '', /more than 3 checkpoints of 32 KiB; a larger --span-size/);
    // And from then on nothing matters.
    checkpoints.point({ bit: 0, out: 400, member: true, window });
    checkpoints.packed(new Uint8Array(1000));
  });

  it('stored bytes without end and without output', () => {
    const checkpoints = new Checkpoints(options);
    checkpoints.point({ bit: 80, out: 0, member: true, window });
    const piece = new Uint8Array(1 << 20);
    for (let i = 0; i < 16; i += 1) checkpoints.packed(piece);
    assert.equal(checkpoints.refused, undefined);
    checkpoints.packed(piece);
    assert.match(checkpoints.refused ?? '', /hold no content/);
  });

  it('a point that comes too late is a mistake of the caller', () => {
    const checkpoints = new Checkpoints(options);
    checkpoints.packed(new Uint8Array(100));
    checkpoints.point({ bit: 80, out: 0, member: true, window });
    assert.throws(() => checkpoints.packed(new Uint8Array(1)), { code: 'INTERNAL' });
  });
});
