import type { Descriptor, ImageStore } from '../core/types.ts';
import { referrersTag } from '../oci/document-facts.ts';
import { parseIndex, parseManifest } from '../oci/documents.ts';
import { isIndexType } from '../oci/media-types.ts';
import { fetchDocument } from './documents.ts';
import { resolveIfThere } from './place.ts';

/** By the store's own means, or by the fallback tag when it has none. Only what really names the subject counts. */
export async function referrersOf(store: ImageStore, subject: Descriptor, signal: AbortSignal | undefined): Promise<readonly Descriptor[]> {
  if (store.referrers) return store.referrers(subject, signal);
  const root = await resolveIfThere(store, referrersTag(subject.digest), signal);
  if (!root || !isIndexType(root.mediaType)) return [];
  const what = `referrers of ${subject.digest}`;
  const listed = parseIndex(await fetchDocument(store, root, what, signal), what).manifests;
  const referrers: Descriptor[] = [];
  for (const entry of listed) {
    const bytes = await fetchDocument(store, entry, `referrer ${entry.digest}`, signal);
    const document = isIndexType(entry.mediaType) ? parseIndex(bytes) : parseManifest(bytes);
    if (document.subject?.digest === subject.digest) referrers.push(entry);
  }
  return referrers;
}
