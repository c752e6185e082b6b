import { digestOf } from '../../../src/core/digest.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import { choose, type StoredImage, type StoredLayer } from '../../../src/core/format.ts';
import type { OpenLayer } from '../../../src/core/types.ts';
import { indexImage, type IndexReport } from '../../../src/image/index-image.ts';
import { openImage, type OpenImage } from '../../../src/image/open.ts';
import type { Place } from '../../../src/image/place.ts';
import { ChunkLoader } from '../../../src/layer/chunks.ts';
import { ChunkCache } from '../../../src/layer/cache.ts';
import { OCI } from '../../../src/oci/media-types.ts';
import { openMemory, type MemoryStore } from '../../../src/oci/memory.ts';
import { mountIndex, type MountIndexOptions } from '../../../formats/mount-index/index.ts';
import { putImage, type LayerBlob } from '../../image/fixture.ts';

/** An image in memory with a mount index beside it. */
export interface Indexed {
  readonly store: MemoryStore;
  readonly place: Place;
  readonly report: IndexReport;
  readonly image: OpenImage;
  readonly stored: StoredImage;
  readonly layers: readonly StoredLayer[];
}

export function layerOf(packed: Uint8Array, tar: Uint8Array): LayerBlob {
  const [a, b] = packed;
  const mediaType = a === 0x1f && b === 0x8b ? OCI.layerGzip : a === 0x28 && b === 0xb5 ? OCI.layerZstd : OCI.layer;
  return { bytes: packed, diffId: digestOf(tar), mediaType };
}

export async function indexed(layers: readonly LayerBlob[], options: MountIndexOptions = {}, jobs = 1): Promise<Indexed> {
  const store = openMemory();
  await putImage(store, { layers }, 'app');
  const place = { store, reference: 'app' };
  const report = await indexImage(place, choose(mountIndex, options), { jobs });
  return { place, report, ...(await reopened(place)), store };
}

/** The same, with nothing known from before. */
export async function reopened(place: Place): Promise<Pick<Indexed, 'image' | 'stored' | 'layers'>> {
  const image = await openImage(place, [mountIndex]);
  const layers = image.layers.map(({ stored }) => stored);
  const stored = layers[0]?.image;
  if (!stored) throw new LazypullError('INTERNAL', 'an image without layers');
  return { image, stored, layers };
}

/** All chunks of a layer behind each other: its tar. */
export async function tarOf(layer: OpenLayer): Promise<Buffer> {
  const loader = new ChunkLoader(layer, {}, new ChunkCache(0));
  const parts: Uint8Array[] = [];
  for (const chunk of layer.index.chunks) parts.push((await loader.load([chunk])).get(chunk) as Uint8Array);
  return Buffer.concat(parts);
}
