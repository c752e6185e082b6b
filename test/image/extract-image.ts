import { estargz, type EstargzOptions } from '../../formats/estargz/index.ts';
import { choose } from '../../src/core/format.ts';
import { convertImage } from '../../src/image/convert.ts';
import { openImage, type OpenImage } from '../../src/image/open.ts';
import { openMemory } from '../../src/oci/memory.ts';
import { hostPlatform } from '../../src/oci/platform.ts';
import { gzipLayer, putImage, type Entry, type LayerBlob } from './fixture.ts';

/** A lazy image of these layers, in memory: the format that keeps every attribute. */
export async function lazyImage(layers: readonly (readonly Entry[] | LayerBlob)[], options: EstargzOptions = {}): Promise<OpenImage> {
  const store = openMemory();
  const blobs = layers.map((layer) => ('bytes' in layer ? layer : gzipLayer(layer)));
  await putImage(store, { layers: blobs, platform: hostPlatform() }, 'app');
  await convertImage({ store, reference: 'app' }, { store, reference: 'lazy' }, [choose(estargz, options)], { jobs: 1 });
  return openImage({ store, reference: 'lazy' }, [estargz]);
}
