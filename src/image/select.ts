import { LazypullError } from '../core/errors.ts';
import type { Descriptor, ImageStore, Platform } from '../core/types.ts';
import { isIndexType } from '../oci/media-types.ts';
import { formatPlatform, hostPlatform, matchPlatform, selectPlatform } from '../oci/platform.ts';
import { checkDocumentType } from './documents.ts';
import { entriesAround, imagesOf, platformOf, readIndexTree } from './index-tree.ts';

export interface Selected {
  readonly descriptor: Descriptor;
  /** Things the user should hear: the image is not for the platform that was wanted. */
  readonly warnings: readonly string[];
  /** All entries of the index that it was found in. */
  readonly entries?: readonly Descriptor[];
}

/**
 * The manifest of a platform (the host's unless given) below a root. A root that is a manifest is taken as it is, with a
 * warning when it is for something else; so is the only image of an index when no platform was asked for.
 */
export async function selectImage(store: ImageStore, root: Descriptor, platform?: Platform, signal?: AbortSignal): Promise<Selected> {
  const wanted = platform ?? hostPlatform();
  if (!isIndexType(root.mediaType)) {
    checkDocumentType(store, root);
    const other = otherPlatform(root, await platformOf(store, root, signal), wanted);
    return { descriptor: root, warnings: other ? [other] : [] };
  }
  const tree = await readIndexTree(store, root, signal);
  const images = imagesOf(tree);
  const found = selectPlatform(images, wanted);
  if (found) return { descriptor: found, warnings: [], ...entriesAround(tree, found) };
  const [only, ...others] = images;
  if (only && others.length === 0 && !platform) {
    const is = only.platform ? formatPlatform(only.platform) : 'a platform it does not name';
    return { descriptor: only, ...entriesAround(tree, only), warnings: [`the only image of ${root.digest} is for ${is}, not for ${formatPlatform(wanted)}`] };
  }
  throw noImageFor(wanted, `${store.location} ${root.digest}`, images);
}

/** A warning when an image is for something else than what was wanted. */
export function otherPlatform({ digest }: Descriptor, is: Platform | undefined, wanted: Platform): string | undefined {
  return is && matchPlatform(wanted, is) === undefined ? `${digest} is an image for ${formatPlatform(is)}, not for ${formatPlatform(wanted)}` : undefined;
}

/** NOT_FOUND, with the platforms that there are. */
export function noImageFor(wanted: Platform, where: string, images: readonly Descriptor[]): LazypullError {
  const has = new Set(images.flatMap(({ platform }) => (platform ? [formatPlatform(platform)] : [])));
  return new LazypullError('NOT_FOUND', `${where} has no image for ${formatPlatform(wanted)}; it has ${[...has].join(', ') || 'none that names a platform'}`);
}
