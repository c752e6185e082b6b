import type { Descriptor, ImageStore, Platform } from '../core/types.ts';
import { parseIndex, parseManifest, parseObject } from '../oci/documents.ts';
import { isIndexType, isManifestType } from '../oci/media-types.ts';
import { isAttestation } from '../oci/platform.ts';
import { checkIndexDepth, DocumentBudget, fetchConfig, fetchDocument, platformOfConfig } from './documents.ts';

/** An index, and for entries that are indexes what is in them. Images have the platform that their entry or config tells. */
export interface IndexTree {
  readonly descriptor: Descriptor;
  /** As it is stored, with fields that we do not know. */
  readonly document: Readonly<Record<string, unknown>>;
  /** In index order, one for each of `document.manifests`. */
  readonly entries: readonly (Descriptor | IndexTree)[];
}

/** Reads an index with all indexes inside it. */
export async function readIndexTree(store: ImageStore, root: Descriptor, signal?: AbortSignal): Promise<IndexTree> {
  const budget = new DocumentBudget();
  const read = async (descriptor: Descriptor, depth: number): Promise<IndexTree> => {
    const what = `index ${descriptor.digest}`;
    checkIndexDepth(depth, `${store.location} ${descriptor.digest}`);
    const bytes = await fetchDocument(store, descriptor, what, signal);
    const { manifests } = parseIndex(bytes, what);
    budget.spend(manifests.length, what);
    const entries: (Descriptor | IndexTree)[] = [];
    for (const entry of manifests) {
      if (isIndexType(entry.mediaType)) entries.push(await read(entry, depth + 1));
      else entries.push(isImage(entry) ? await withPlatform(store, entry, signal) : entry);
    }
    return { descriptor, document: parseObject(bytes, what), entries };
  };
  return read(root, 0);
}

export function isIndexTree(entry: Descriptor | IndexTree): entry is IndexTree {
  return 'entries' in entry;
}

/** All image manifests in an index and those inside it, in index order. */
export function imagesOf(tree: IndexTree): Descriptor[] {
  return tree.entries.flatMap((entry) => (isIndexTree(entry) ? imagesOf(entry) : isImage(entry) ? [entry] : []));
}

/** What the index says of the index entry itself: that of an artifact names its type, an image's does not. */
function isImage(entry: Descriptor): boolean {
  return isManifestType(entry.mediaType) && !isAttestation(entry) && entry.artifactType === undefined;
}

/** The entries of the innermost index that lists an image, as they are stored. */
export function entriesAround(tree: IndexTree, image: Descriptor): { readonly entries?: readonly Descriptor[] } {
  for (const entry of tree.entries) {
    if (isIndexTree(entry)) {
      const inner = entriesAround(entry, image);
      if (inner.entries) return inner;
    } else if (entry.digest === image.digest) {
      return { entries: tree.document['manifests'] as readonly Descriptor[] };
    }
  }
  return {};
}

async function withPlatform(store: ImageStore, entry: Descriptor, signal: AbortSignal | undefined): Promise<Descriptor> {
  const platform = await platformOf(store, entry, signal);
  return platform ? { ...entry, platform } : entry;
}

/** The platform of a manifest; undefined for what is no image, and for images that do not tell. */
export async function platformOf(store: ImageStore, descriptor: Descriptor, signal?: AbortSignal): Promise<Platform | undefined> {
  if (descriptor.platform) return descriptor.platform;
  const what = `manifest ${descriptor.digest}`;
  const config = await fetchConfig(store, parseManifest(await fetchDocument(store, descriptor, what, signal), what), what, signal);
  return config && platformOfConfig(config);
}
