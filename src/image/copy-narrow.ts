import type { Digest } from '../core/digest.ts';
import { corrupt, LazypullError } from '../core/errors.ts';
import type { Descriptor, ImageStore, Platform } from '../core/types.ts';
import { describe, encodeDocument, parseIndex } from '../oci/documents.ts';
import { isIndexType, isManifestType } from '../oci/media-types.ts';
import { ATTESTATION_SUBJECT, isAttestation, selectPlatform } from '../oci/platform.ts';
import { fetchDocument, MAX_INDEX_DEPTH, noImageFor, selectImage, withPlatform } from './select.ts';

export interface Narrowed {
  readonly root: Descriptor;
  /** Bytes of indexes that had to be written anew, by their new digest. */
  readonly written: ReadonlyMap<Digest, Uint8Array>;
  readonly warnings: readonly string[];
}

/** An index, and for entries that are indexes what is in them. */
interface Level {
  readonly descriptor: Descriptor;
  readonly document: Record<string, unknown>;
  readonly entries: readonly (Descriptor | Level)[];
}

/**
 * Leaves only the images of the wanted platforms, and the attestations about them, in an index. Leaving something out
 * means other bytes and another digest; an index that keeps all its entries keeps its bytes (registry.md: never silently).
 */
export async function narrowRoot(store: ImageStore, root: Descriptor, platforms: readonly Platform[], signal?: AbortSignal): Promise<Narrowed> {
  if (!isIndexType(root.mediaType)) {
    const all = await Promise.all(platforms.map((platform) => selectImage(store, root, platform, signal)));
    const fits = all.some(({ warnings }) => warnings.length === 0);
    return { root, written: new Map(), warnings: fits ? [] : (all[0]?.warnings ?? []) };
  }
  const level = await readLevel(store, root, signal, 0);
  const images = candidates(level);
  const chosen = new Set<Digest>();
  for (const platform of platforms) {
    const found = selectPlatform(images, platform);
    if (!found) throw noImageFor(platform, `${store.location} ${root.digest}`, images);
    chosen.add(found.digest);
  }
  const written = new Map<Digest, Uint8Array>();
  const narrowed = rewrite(level, chosen, written);
  if (!narrowed) throw corrupt(`${store.location} ${root.digest} lost all its entries`);
  const warnings = narrowed.digest === root.digest ? [] : [`only some platforms of ${root.digest} are copied: the index is written anew as ${narrowed.digest}`];
  return { root: narrowed, written, warnings };
}

async function readLevel(store: ImageStore, descriptor: Descriptor, signal: AbortSignal | undefined, depth: number): Promise<Level> {
  if (depth > MAX_INDEX_DEPTH) throw new LazypullError('LIMIT', `${store.location}: more than ${MAX_INDEX_DEPTH} indexes inside each other`);
  const what = `index ${descriptor.digest}`;
  const bytes = await fetchDocument(store, descriptor, what, signal);
  const entries: (Descriptor | Level)[] = [];
  for (const entry of parseIndex(bytes, what).manifests) {
    if (isIndexType(entry.mediaType)) entries.push(await readLevel(store, entry, signal, depth + 1));
    else entries.push(isManifestType(entry.mediaType) && !isAttestation(entry) ? await withPlatform(store, entry, signal) : entry);
  }
  return { descriptor, document: JSON.parse(Buffer.from(bytes).toString('utf8')) as Record<string, unknown>, entries };
}

function isLevel(entry: Descriptor | Level): entry is Level {
  return 'entries' in entry;
}

function candidates(level: Level): Descriptor[] {
  return level.entries.flatMap((entry) => (isLevel(entry) ? candidates(entry) : isManifestType(entry.mediaType) && !isAttestation(entry) ? [entry] : []));
}

/** The descriptor of what is left of an index; undefined when that is nothing. */
function rewrite(level: Level, chosen: ReadonlySet<Digest>, written: Map<Digest, Uint8Array>): Descriptor | undefined {
  const raw = level.document['manifests'] as Record<string, unknown>[];
  let changed = false;
  const manifests: unknown[] = [];
  for (const [at, entry] of level.entries.entries()) {
    if (isLevel(entry)) {
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
  if (!changed) return level.descriptor;
  const bytes = encodeDocument({ ...level.document, manifests });
  const descriptor = describe(level.descriptor.mediaType, bytes);
  written.set(descriptor.digest, bytes);
  return descriptor;
}

function isKept(entry: Descriptor, chosen: ReadonlySet<Digest>): boolean {
  if (isAttestation(entry)) return chosen.has((entry.annotations?.[ATTESTATION_SUBJECT] ?? '') as Digest);
  return chosen.has(entry.digest);
}
