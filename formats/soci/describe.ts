import type { DescribedImage, ImageArtifact } from '../../src/core/format.ts';
import type { Digest } from '../../src/core/digest.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { describe } from '../../src/oci/documents.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { chooseSpans, type ChosenSpans } from './choose-prefetch.ts';
import { finding } from './finding.ts';
import { CONFIG_BLOB, encodeSociIndex } from './index-manifest.ts';
import { ANNOTATION, INDEX_TYPE, PREFETCH_MEDIA_TYPE, ZTOC_MEDIA_TYPE, type SociLayer, type SociOptions, type Ztoc } from './layout.ts';
import { encodePrefetch } from './prefetch.ts';

interface Described extends SociLayer {
  /** The image's layer. */
  readonly layer: Descriptor;
}

/**
 * The index manifest about an image: v1 when there is a subject, v2 otherwise. Its config's blob and prefetch lists are
 * stored on the way; the zTOCs are stored already. Undefined when no layer has a zTOC.
 */
export async function describeSoci(image: DescribedImage, options: Required<SociOptions>): Promise<ImageArtifact | undefined> {
  const all = image.layers.map((one) => one && { layer: one.descriptor, ...(one.described.details as SociLayer) });
  // A layer may be in an image twice, and has one zTOC all the same.
  const described = new Map<Digest, Described>();
  for (const one of all) if (one && !described.has(one.layer.digest)) described.set(one.layer.digest, one);
  if (described.size === 0) return undefined;
  const ztocs = [...described.values()].map((one) => ztocDescriptor(one, options));
  const { lists, ...said } = await prefetchLists(image, all, options);
  const type = image.subject ? INDEX_TYPE.v1 : INDEX_TYPE.v2;
  await image.put(type, CONFIG_BLOB);
  const bytes = encodeSociIndex({ layers: [...ztocs, ...lists], ...(image.subject && { subject: image.subject }) });
  return { descriptor: { ...describe(OCI.manifest, bytes), artifactType: type }, bytes, ...said };
}

function ztocDescriptor({ layer, descriptor, ztoc }: Described, { optimizeXattr }: Required<SociOptions>): Descriptor {
  return {
    mediaType: ZTOC_MEDIA_TYPE,
    digest: descriptor.digest,
    size: descriptor.size,
    annotations: {
      [ANNOTATION.layerDigest]: layer.digest,
      [ANNOTATION.layerMediaType]: layer.mediaType,
      [ANNOTATION.spanSize]: String(ztoc.spans.spanSize),
      ...(optimizeXattr && !needsXattrs(ztoc) && { [ANNOTATION.disableXattrs]: 'true' }),
    },
  };
}

/** Whether a mount has to answer questions about xattrs: files have some, or a directory is opaque, which overlayfs asks by one (notes §7.5). */
function needsXattrs({ records }: Ztoc): boolean {
  return records.some(({ name, pax }) => name.endsWith(OPAQUE_WHITEOUT) || [...pax.keys()].some((key) => key.startsWith(XATTR_PREFIX)));
}

const OPAQUE_WHITEOUT = '.wh..wh..opq';
const XATTR_PREFIX = 'SCHILY.xattr.';

type Prefetched = Pick<ImageArtifact, 'warnings' | 'unused'> & { readonly lists: readonly Descriptor[] };

async function prefetchLists(image: DescribedImage, layers: readonly (Described | undefined)[], { prefetch }: Required<SociOptions>): Promise<Prefetched> {
  if (prefetch.length === 0) return { lists: [] };
  const chosen = choose(layers, prefetch);
  if ('warning' in chosen) return { lists: [], warnings: [chosen.warning] };
  const lists: Descriptor[] = [];
  for (const digest of new Set(layers.flatMap((one) => one?.layer.digest ?? []))) {
    const runs = chosen.runs.get(digest);
    if (!runs) continue;
    const { digest: list, size } = await image.put(PREFETCH_MEDIA_TYPE, encodePrefetch(runs));
    lists.push({ mediaType: PREFETCH_MEDIA_TYPE, digest: list, size, annotations: { [ANNOTATION.layerDigest]: digest } });
  }
  // Of layers that were left out no file is known.
  return { lists, unused: chosen.unmatched.map((pattern) => `nothing in the indexed layers matches ${JSON.stringify(pattern)} of the prefetch list`) };
}

/** A prefetch list is advice: layers whose names make no tree are indexed all the same, and a snapshotter may make more of them. */
function choose(layers: readonly (Described | undefined)[], patterns: readonly string[]): ChosenSpans | { readonly warning: string } {
  try {
    return chooseSpans(layers.map((one) => one && { digest: one.layer.digest, ztoc: one.ztoc }), patterns);
  } catch (error) {
    return { warning: `the prefetch list has no effect: ${finding(error)}` };
  }
}
