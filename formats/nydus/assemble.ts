import { LazypullError } from '../../src/core/errors.ts';
import type { AssembledImage, AssembledLayer, ConvertedImage, StoredImage } from '../../src/core/format.ts';
import { mergeLayers } from '../../src/layer/overlay.ts';
import { impliedDirectory } from '../../src/layer/tree.ts';
import { Bootstrap } from './bootstrap-writer.ts';
import type { BlobFacts } from './layer-blobs.ts';
import { prefetchNodes, unmatchedNote } from './layer-prefetch.ts';
import { nydusLayer, type NydusLayer } from './layer-result.ts';
import { ANNOTATION } from './layout.ts';
import { resolveOptions, type NydusOptions, type NydusSettings } from './options.ts';
import { packBootstrap, type MetaFile, type PackedLayer } from './pack.ts';

const BOOTSTRAP_MEDIA_TYPE = 'application/vnd.oci.image.layer.v1.tar+gzip';
const FS_VERSION = '6';

/**
 * Puts the trees of all layers on top of each other, and packs the bootstrap of what shows (§13, §16). The image's layers are
 * then the blobs that some file has a chunk in, those of a dictionary among them, and the bootstrap layer.
 */
export async function assembleNydus(image: ConvertedImage, options: NydusOptions): Promise<AssembledImage> {
  const layers = image.layers.map((layer): NydusLayer => {
    const found = nydusLayer(layer);
    if (!found) throw new LazypullError('INTERNAL', `layer ${layer.descriptor.digest} was not made by this format`);
    return found;
  });
  const top = layers.at(-1);
  const settings = top?.settings ?? resolveOptions(options);
  const root = layers.length === 0 ? impliedDirectory() : mergeLayers(layers.map((layer) => layer.root));
  const blobs = top?.blobs ?? [];
  const prefetch = prefetchNodes(root, settings.prefetch);
  const bootstrap = new Bootstrap({
    root,
    blobs: blobs.map(({ chunks, facts }) => facts && { chunks, entry: facts.entry }),
    settings,
    ...(top?.zran && { compressor: 'gzip' }),
    prefetch: prefetch.nodes,
    signal: image.signal,
  });
  const used = bootstrap.used.map((number) => blobs[number]?.facts as BlobFacts);
  // Blobs of the dictionary's image have to be where the new image is.
  for (const { foreign, descriptor } of used) if (foreign) await image.carry(descriptor, dictionaryOf(settings));
  const metas = used.flatMap(({ entry, meta }): MetaFile[] => {
    const found = meta();
    return found ? [{ id: entry.id, ...found }] : [];
  });
  let packed: PackedLayer | undefined;
  const stored = await image.ingest(BOOTSTRAP_MEDIA_TYPE, async (sink) => {
    packed = await packBootstrap({ size: bootstrap.size, write: (out) => bootstrap.write(out) }, metas, sink);
  });
  const { diffId } = packed as PackedLayer;
  const descriptor = { ...stored, annotations: { [ANNOTATION.bootstrap]: 'true', [ANNOTATION.fsVersion]: FS_VERSION } };
  const data = used.map((facts): AssembledLayer => ({ descriptor: facts.descriptor, diffId: facts.descriptor.digest, createdBy: 'Nydus Converter' }));
  const left = blobs.filter(({ facts }, number) => facts && !facts.foreign && !bootstrap.used.includes(number)).length;
  return {
    layers: [...data, { descriptor, diffId, createdBy: 'Nydus Bootstrap Layer' }],
    // Where files are put first, each layer says itself what it found nothing for.
    warnings: [...bootstrap.warnings, ...(top?.zran ? prefetch.unmatched.map(unmatchedNote) : [])],
    notes: [
      `bootstrap: ${bootstrap.inodes} inodes, ${bootstrap.chunks} chunks in ${used.length} blobs, ${bootstrap.size} bytes`,
      ...(left > 0 ? [`${left} ${left === 1 ? 'blob is' : 'blobs are'} left out: layers above hide all that ${left === 1 ? 'it holds' : 'they hold'}`] : []),
    ],
  };
}

function dictionaryOf({ chunkDict }: NydusSettings): StoredImage {
  if (!chunkDict) throw new LazypullError('INTERNAL', 'a blob is of a dictionary that is not there');
  return chunkDict;
}
