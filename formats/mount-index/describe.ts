import { LazypullError } from '../../src/core/errors.ts';
import type { DescribedImage, ImageArtifact } from '../../src/core/format.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { zstdCompress } from '../../src/codec/zstd.ts';
import { describe } from '../../src/oci/documents.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { EMPTY, encodeMountIndex } from './artifact.ts';
import { ARTIFACT_TYPE, TREE_MEDIA_TYPE } from './layout.ts';
import { distinct, mergeTree, type MergedLayer } from './merged-tree.ts';
import { TREE_LEVEL, type IndexedLayer } from './write.ts';

/**
 * The artifact that refers to an image: its merged tree, which is stored on the way, and the blobs about its layers. Undefined
 * where no layer is described, or where the image's manifest would have to name the artifact.
 */
export async function describeImage(image: DescribedImage): Promise<ImageArtifact | undefined> {
  const { subject } = image;
  const described = image.layers.flatMap((one) => (one ? [{ descriptor: one.descriptor, blob: one.described.blob, ...(one.described.details as IndexedLayer) }] : []));
  if (!subject || described.length === 0) return undefined;
  const merged = described.length === image.layers.length ? await mergedTree(image, described) : without('it has layers that are not indexed');
  const layers = distinct(described).map(({ descriptor, blob, head, tree }) => ({ descriptor: blob, layer: descriptor.digest, head, tree }));
  // Some registries list an artifact by its config's type, whatever it says of itself.
  const config = await image.put(ARTIFACT_TYPE, EMPTY);
  const bytes = encodeMountIndex({ subject, layers, ...(merged.tree && { tree: merged.tree }) }, config);
  return {
    descriptor: { ...describe(OCI.manifest, bytes), artifactType: ARTIFACT_TYPE },
    bytes,
    ...(merged.warnings.length > 0 && { warnings: merged.warnings.map((warning) => `mount index of ${subject.digest}: ${warning}`) }),
  };
}

interface MergedTree {
  readonly tree?: Descriptor;
  readonly warnings: readonly string[];
}

function without(why: string): MergedTree {
  return { warnings: [`without the merged tree, which a mount will have to make by itself: ${why}`] };
}

async function mergedTree(image: DescribedImage, layers: readonly MergedLayer[]): Promise<MergedTree> {
  let made: Awaited<ReturnType<typeof mergeTree>>;
  try {
    made = await mergeTree(layers);
  } catch (error) {
    // Names, numbers and sparse files that tars can hold and EROFS cannot.
    if (error instanceof LazypullError && (error.code === 'UNSUPPORTED' || error.code === 'LIMIT' || error.code === 'CORRUPT')) return without(error.message);
    throw error;
  }
  return { tree: await image.put(TREE_MEDIA_TYPE, await zstdCompress(made.metadata, TREE_LEVEL)), warnings: made.warnings };
}
