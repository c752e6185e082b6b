import { LazypullError } from '../core/errors.ts';
import { collect } from '../core/stream.ts';
import type { Descriptor, ImageStore, Platform } from '../core/types.ts';
import { MANIFEST_LIMIT, parseConfig, parseIndex, parseManifest, type ImageConfig } from '../oci/documents.ts';
import { DOCKER, isIndexType, isManifestType, OCI } from '../oci/media-types.ts';
import { formatPlatform, hostPlatform, isAttestation, matchPlatform, selectPlatform } from '../oci/platform.ts';

/** Indexes inside each other that are followed; real images have one. */
export const MAX_INDEX_DEPTH = 4;

/** The bytes of a manifest, index or config: verified by the store, at most 16 MiB. */
export async function fetchDocument(store: ImageStore, descriptor: Descriptor, what: string, signal?: AbortSignal): Promise<Uint8Array> {
  if (descriptor.size > MANIFEST_LIMIT) throw new LazypullError('LIMIT', `${what} has ${descriptor.size} bytes, more than the ${MANIFEST_LIMIT} that documents may have`);
  return collect(store.fetch(descriptor, signal), MANIFEST_LIMIT, what);
}

export interface Selected {
  readonly descriptor: Descriptor;
  /** Things the user should hear: the image is not for the platform that was wanted. */
  readonly warnings: readonly string[];
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
  const images = await listImages(store, root, signal);
  const found = selectPlatform(images, wanted);
  if (found) return { descriptor: found, warnings: [] };
  const [only, ...others] = images;
  if (only && others.length === 0 && !platform) {
    const is = only.platform ? formatPlatform(only.platform) : 'a platform it does not name';
    return { descriptor: only, warnings: [`the only image of ${root.digest} is for ${is}, not for ${formatPlatform(wanted)}`] };
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

/** All image manifests below an index, those of nested indexes too, each with the platform its entry or config tells. */
async function listImages(store: ImageStore, root: Descriptor, signal: AbortSignal | undefined, depth = 0): Promise<Descriptor[]> {
  if (depth > MAX_INDEX_DEPTH) throw new LazypullError('LIMIT', `${store.location} ${root.digest}: more than ${MAX_INDEX_DEPTH} indexes inside each other`);
  const what = `index ${root.digest}`;
  const index = parseIndex(await fetchDocument(store, root, what, signal), what);
  const images: Descriptor[] = [];
  for (const entry of index.manifests) {
    if (isAttestation(entry)) continue;
    if (isIndexType(entry.mediaType)) images.push(...(await listImages(store, entry, signal, depth + 1)));
    else if (isManifestType(entry.mediaType)) images.push(await withPlatform(store, entry, signal));
  }
  return images;
}

/** The descriptor with its platform; when the index does not say it, the image's config is asked. */
export async function withPlatform(store: ImageStore, entry: Descriptor, signal?: AbortSignal): Promise<Descriptor> {
  if (entry.platform) return entry;
  const platform = await platformOf(store, entry, signal);
  return platform ? { ...entry, platform } : entry;
}

/** The platform of a manifest; undefined for what is no image, and for images that do not tell. */
async function platformOf(store: ImageStore, descriptor: Descriptor, signal: AbortSignal | undefined): Promise<Platform | undefined> {
  if (descriptor.platform) return descriptor.platform;
  const what = `manifest ${descriptor.digest}`;
  const manifest = parseManifest(await fetchDocument(store, descriptor, what, signal), what);
  if (!isImageConfigType(manifest.config.mediaType)) return undefined;
  const config = parseConfig(await fetchDocument(store, manifest.config, `config of ${what}`, signal), `config of ${what}`);
  return platformOfConfig(config);
}

/** `os`, `architecture` and `variant` of an image config. */
export function platformOfConfig(config: ImageConfig): Platform | undefined {
  const { os, architecture } = config;
  const variant = config['variant'];
  return os && architecture ? { os, architecture, ...(typeof variant === 'string' && variant !== '' && { variant }) } : undefined;
}

/** Whether a manifest's config makes it a container image; other manifests are artifacts. */
export function isImageConfigType(mediaType: string): boolean {
  return mediaType === OCI.config || mediaType === DOCKER.config;
}

/** UNSUPPORTED for what is neither an image manifest nor an index. */
export function checkDocumentType(store: ImageStore, descriptor: Descriptor): void {
  if (isIndexType(descriptor.mediaType) || isManifestType(descriptor.mediaType)) return;
  throw new LazypullError('UNSUPPORTED', `${store.location} ${descriptor.digest} has media type ${descriptor.mediaType}, which is no image manifest or index`);
}
