import { isDigest } from '../../src/core/digest.ts';
import type { LazypullError } from '../../src/core/errors.ts';
import type { StoredImage } from '../../src/core/format.ts';
import { OnceFor } from '../../src/core/once.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { MANIFEST_LIMIT } from '../../src/oci/documents.ts';
import { isFinding } from './finding.ts';
import { decodeSociIndex, type SociIndex } from './index-manifest.ts';
import { ANNOTATION, INDEX_TYPE } from './layout.ts';

/** An image's SOCI index, or why it cannot be read. */
export type FoundIndex = { readonly index: SociIndex } | { readonly error: LazypullError };

/** All layers of an image ask for one index. */
const found = new OnceFor<StoredImage, FoundIndex | undefined>(find);

/**
 * Finds the index that a snapshotter would use (notes §7.2, §7.3): the v2 index that the manifest names, or else the first
 * v1 index that refers to it. Undefined when there is none; a v2 index that is named and not there counts as none.
 * An index that is there and wrong is told, not thrown; not reaching the repository is thrown.
 */
export function findIndex(image: StoredImage, signal?: AbortSignal): Promise<FoundIndex | undefined> {
  return found.get(image, signal);
}

async function find(image: StoredImage, signal: AbortSignal | undefined): Promise<FoundIndex | undefined> {
  try {
    const descriptor = await locate(image, signal);
    return descriptor && { index: decodeSociIndex(await image.fetch(descriptor, MANIFEST_LIMIT, signal), `SOCI index ${descriptor.digest}`) };
  } catch (error) {
    if (!isFinding(error)) throw error;
    return { error };
  }
}

async function locate(image: StoredImage, signal: AbortSignal | undefined): Promise<Descriptor | undefined> {
  // An empty annotation is none, for the snapshotter as well.
  const named = image.annotations[ANNOTATION.indexDigest] || undefined;
  if (named === undefined) return (await image.referrers(INDEX_TYPE.v1, signal))[0];
  return isDigest(named) ? image.resolve(named, signal) : undefined;
}
