import type { Digest } from '../core/digest.ts';
import { corrupt, LazypullError } from '../core/errors.ts';
import type { Descriptor, ImageStore } from '../core/types.ts';
import { isIndexType, isManifestType } from '../oci/media-types.ts';
import type { CopyPlan } from './copy-plan.ts';
import { referrersOf } from './referrers-of.ts';

/** Referrers of referrers of ... that are followed (registry.md §10). */
const MAX_REFERRER_DEPTH = 10;
/** `sha256-<hex>.sig` and its like: what signing tools tagged before there were referrers. */
const DIGEST_TAG = /^(sha256|sha512)-([0-9a-f]{64,128})\.[A-Za-z0-9_.-]+$/;

/**
 * Adds to the plan what refers to any document in it, and what refers to that. Each digest is asked about once, so
 * circles end. Returns how many referrers were found.
 */
export async function planReferrers(store: ImageStore, plan: CopyPlan, signal?: AbortSignal): Promise<number> {
  const asked = new Set<Digest>();
  const found = new Set<Digest>();
  let round: Descriptor[] = [...plan.documents.values()].map(({ descriptor }) => descriptor);
  for (let depth = 0; round.length > 0; depth++) {
    if (depth > MAX_REFERRER_DEPTH) throw new LazypullError('LIMIT', `referrers refer to each other more than ${MAX_REFERRER_DEPTH} levels deep`);
    const next: Descriptor[] = [];
    for (const subject of round) {
      if (asked.has(subject.digest)) continue;
      asked.add(subject.digest);
      for (const referrer of await referrersOf(store, subject, signal)) {
        if (!isIndexType(referrer.mediaType) && !isManifestType(referrer.mediaType)) throw corrupt(`referrer ${referrer.digest} of ${subject.digest} is no manifest`);
        if (!plan.documents.has(referrer.digest)) {
          found.add(referrer.digest);
          await plan.add(referrer, signal);
        }
        next.push(referrer);
      }
    }
    round = next;
  }
  return found.size;
}

/** Adds the images under digest tags about planned documents; returns tag -> image. */
export async function planDigestTags(store: ImageStore, plan: CopyPlan, signal?: AbortSignal): Promise<Map<string, Descriptor>> {
  const tagged = new Map<string, Descriptor>();
  const about = new Set(plan.documents.keys());
  for (const tag of (await store.tags?.(signal)) ?? []) {
    const [, algorithm, hex] = DIGEST_TAG.exec(tag) ?? [];
    if (!about.has(`${algorithm}:${hex}` as Digest)) continue;
    const image = await store.resolve(tag, signal);
    await plan.add(image, signal);
    tagged.set(tag, image);
  }
  return tagged;
}
