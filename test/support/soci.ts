import { digestOf } from '../../src/core/digest.ts';
import type { IndexingFormat } from '../../src/core/format.ts';
import { followLayer } from '../../src/image/follow-layer.ts';
import { openMemory } from '../../src/oci/memory.ts';
import type { SociLayer, SociOptions, Ztoc } from '../../formats/soci/layout.ts';
import { fetchAll, LAYER_TAR } from './layers.ts';
import { inPieces } from './tar-read.ts';

/** What became of a layer: its zTOC as stored and decoded, or why it has none. */
export type MadeZtoc = { readonly bytes: Uint8Array; readonly ztoc: Ztoc; readonly skipped?: undefined } | { readonly skipped: string };

/** The zTOC of a layer by the library: the layer is followed on one pass, as convert and index do it. Layers of any size have one unless told. */
export async function makeZtoc(format: IndexingFormat<SociOptions>, packed: Uint8Array, tar: Uint8Array, options: SociOptions = {}, pieceSize = 70_001): Promise<MadeZtoc> {
  const gzip = packed[0] === 0x1f && packed[1] === 0x8b;
  const descriptor = { mediaType: gzip ? `${LAYER_TAR}+gzip` : LAYER_TAR, digest: digestOf(packed), size: packed.length };
  const store = openMemory();
  const follower = format.follow(descriptor, { ingest: (mediaType, produce) => store.ingest(mediaType, produce) }, { minLayerSize: 0, ...options });
  if (follower === 'repack') return { skipped: 'it has to be packed anew' };
  if ('skipped' in follower) return follower;
  try {
    const { signal } = new AbortController();
    const { compression } = await followLayer(
      inPieces(packed, [pieceSize]),
      { point: (point) => follower.point(point), packed: (bytes) => follower.packed(bytes), tar: (bytes) => follower.tar(bytes) },
      { descriptor, diffId: digestOf(tar) },
      { maxLayerSize: 1 << 30, workers: { jobs: 1 }, signal },
    );
    const described = await follower.finish({ descriptor, compression });
    if ('skipped' in described) return described;
    const { descriptor: stored, ztoc } = described.details as SociLayer;
    return { bytes: await fetchAll(store, stored), ztoc };
  } catch (error) {
    await follower.abandon();
    throw error;
  }
}
