import assert from 'node:assert/strict';
import { digestOf } from '../../../src/core/digest.ts';
import type { LayerFollower, SkippedLayer } from '../../../src/core/format.ts';
import { followSoci } from '../../../formats/soci/write.ts';
import { resolveOptions } from '../../../formats/soci/options.ts';
import { decodeZtoc } from '../../../formats/soci/ztoc.ts';
import type { SociLayer, SociOptions, Ztoc } from '../../../formats/soci/layout.ts';
import { GunzipMachine } from '../../../src/codec/gunzip-machine.ts';
import { openMemory } from '../../../src/oci/memory.ts';
import { fetchAll, LAYER_TAR } from '../../support/layers.ts';

export interface Followed {
  readonly ztoc: Ztoc;
  readonly bytes: Uint8Array;
  readonly warnings: readonly string[];
}

/** Drives a follower by hand, without the pipeline that usually does, so that pieces can be cut at will. */
export async function followed(packed: Uint8Array, options: SociOptions = {}, cut: (index: number) => number = () => 70_001): Promise<Followed | SkippedLayer> {
  const store = openMemory();
  const gzip = packed[0] === 0x1f;
  const mediaType = gzip ? `${LAYER_TAR}+gzip` : LAYER_TAR;
  const follower = followSoci({ mediaType, size: packed.length }, { ingest: (type, produce) => store.ingest(type, produce) }, resolveOptions({ minLayerSize: 0, ...options }));
  assert.notEqual(follower, 'repack');
  if (typeof follower === 'string' || 'skipped' in follower) return follower as SkippedLayer;
  if (gzip) await feedGzip(follower, packed, cut);
  else await feedPlain(follower, packed, cut);
  const described = await follower.finish({ descriptor: { mediaType, digest: digestOf(packed), size: packed.length }, compression: gzip ? 'gzip' : 'none' });
  if ('skipped' in described) return described;
  const { descriptor, ztoc } = described.details as SociLayer;
  const bytes = await fetchAll(store, descriptor);
  assert.deepEqual({ entries: described.entries, chunks: described.chunks }, { entries: ztoc.records.length, chunks: ztoc.spanDigests.length });
  return { ztoc: decodeZtoc(bytes), bytes, warnings: described.warnings ?? [] };
}

/** The same when the layer has to be one that is indexed. */
export async function indexed(packed: Uint8Array, options: SociOptions = {}, cut?: (index: number) => number): Promise<Followed> {
  const result = await followed(packed, options, cut);
  if ('skipped' in result) assert.fail(`skipped: ${result.skipped}`);
  return result;
}

async function feedGzip(follower: LayerFollower, packed: Uint8Array, cut: (index: number) => number): Promise<void> {
  const machine = new GunzipMachine({
    onBlock: ({ bit, out, first, window }) => follower.point({ bit, out, member: first, window }),
    onPacked: (bytes) => follower.packed(bytes),
  });
  try {
    for (let at = 0, i = 0; at < packed.length; i += 1) {
      // At most what there is room for, which is more than any of these pieces.
      const size = machine.feed(packed.subarray(at, at + cut(i)));
      at += size;
      if (at === packed.length) machine.end();
      for (let tar = machine.step(); tar; tar = machine.step()) await tell(follower, tar, cut(i));
    }
  } finally {
    machine.close();
  }
}

async function feedPlain(follower: LayerFollower, tar: Uint8Array, cut: (index: number) => number): Promise<void> {
  for (let at = 0, i = 0; at < tar.length; at += cut(i), i += 1) {
    const piece = tar.subarray(at, at + cut(i));
    follower.packed(piece);
    await tell(follower, piece, piece.length);
  }
}

/** In pieces that are spoilt as soon as they may be: whoever keeps bytes has to copy them. */
async function tell(follower: LayerFollower, tar: Uint8Array, size: number): Promise<void> {
  for (let at = 0; at < tar.length; at += size) {
    const piece = new Uint8Array(tar.subarray(at, at + size));
    await follower.tar(piece);
    piece.fill(0xee);
  }
}
