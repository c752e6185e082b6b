import type { Digest } from '../core/digest.ts';
import { corrupt } from '../core/errors.ts';
import type { Descriptor, ImageStore, Platform } from '../core/types.ts';
import { describe, encodeDocument } from '../oci/documents.ts';
import { isIndexType } from '../oci/media-types.ts';
import { selectPlatform } from '../oci/platform.ts';
import { imagesOf, isIndexTree, readIndexTree, type IndexTree } from './index-tree.ts';
import { noImageFor, selectImage } from './select.ts';

export interface Narrowed {
  readonly root: Descriptor;
  /** Bytes of indexes that had to be written anew, by their new digest. */
  readonly written: ReadonlyMap<Digest, Uint8Array>;
  readonly warnings: readonly string[];
}

/**
 * Leaves only the images of the wanted platforms, and attestations and artifacts about them, in an index. Leaving something out
 * means other bytes and another digest; an index that keeps all its entries keeps its bytes (registry.md: never silently).
 */
export async function narrowRoot(store: ImageStore, root: Descriptor, platforms: readonly Platform[], signal?: AbortSignal): Promise<Narrowed> {
  if (!isIndexType(root.mediaType)) {
    const all = await Promise.all(platforms.map((platform) => selectImage(store, root, platform, signal)));
    const fits = all.some(({ warnings }) => warnings.length === 0);
    return { root, written: new Map(), warnings: fits ? [] : (all[0]?.warnings ?? []) };
  }
  const tree = await readIndexTree(store, root, signal);
  const images = imagesOf(tree);
  const chosen = new Set<Digest>();
  for (const platform of platforms) {
    const found = selectPlatform(images, platform);
    if (!found) throw noImageFor(platform, `${store.location} ${root.digest}`, images);
    chosen.add(found.digest);
  }
  const written = new Map<Digest, Uint8Array>();
  const narrowed = rewrite(tree, chosen, written);
  if (!narrowed) throw corrupt(`${store.location} ${root.digest} lost all its entries`);
  const warnings = narrowed.digest === root.digest ? [] : [`only some platforms of ${root.digest} are copied: the index is written anew as ${narrowed.digest}`];
  return { root: narrowed, written, warnings };
}

/** The descriptor of what is left of an index; undefined when that is nothing. */
function rewrite(tree: IndexTree, chosen: ReadonlySet<Digest>, written: Map<Digest, Uint8Array>): Descriptor | undefined {
  const raw = tree.document['manifests'] as Record<string, unknown>[];
  let changed = false;
  const manifests: unknown[] = [];
  for (const [at, entry] of tree.entries.entries()) {
    if (isIndexTree(entry)) {
      const nested = rewrite(entry, chosen, written);
      if (nested) manifests.push({ ...raw[at], digest: nested.digest, size: nested.size });
      changed ||= nested?.digest !== entry.descriptor.digest;
    } else if (isKept(entry, chosen)) {
      // As it was, in every field: what we filled in to choose is not the index's own word.
      manifests.push(raw[at]);
    } else {
      changed = true;
    }
  }
  if (manifests.length === 0) return undefined;
  if (!changed) return tree.descriptor;
  const bytes = encodeDocument({ ...tree.document, manifests });
  const descriptor = describe(tree.descriptor.mediaType, bytes);
  written.set(descriptor.digest, bytes);
  return descriptor;
}

/** A chosen image, or something about one: an attestation, or an artifact that names it in an annotation (SOCI v2). */
function isKept(entry: Descriptor, chosen: ReadonlySet<Digest>): boolean {
  return chosen.has(entry.digest) || Object.values(entry.annotations ?? {}).some((value) => chosen.has(value as Digest));
}
