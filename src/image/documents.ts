import { LazypullError } from '../core/errors.ts';
import { collect } from '../core/stream.ts';
import type { Descriptor, ImageStore, Platform } from '../core/types.ts';
import { MANIFEST_LIMIT, manifestMediaType, parseConfig, type ImageConfig, type ImageManifest } from '../oci/documents.ts';
import { DOCKER, isIndexType, isManifestType, OCI } from '../oci/media-types.ts';

/** Indexes inside each other that are followed; real images have one or two. */
const MAX_INDEX_DEPTH = 4;
/** Manifests and indexes of one image: more are a trap. */
const MAX_DOCUMENTS = 20_000;

/** The bytes of a manifest, index or config: verified by the store, at most 16 MiB, and not something else by their own word. */
export async function fetchDocument(store: ImageStore, descriptor: Descriptor, what: string, signal?: AbortSignal): Promise<Uint8Array> {
  if (descriptor.size > MANIFEST_LIMIT) throw new LazypullError('LIMIT', `${what} has ${descriptor.size} bytes, more than the ${MANIFEST_LIMIT} that documents may have`);
  const bytes = await collect(store.fetch(descriptor, signal), MANIFEST_LIMIT, what);
  if (isIndexType(descriptor.mediaType) || isManifestType(descriptor.mediaType)) manifestMediaType(bytes, descriptor.mediaType, what);
  return bytes;
}

/** The config of a manifest that describes a container image; undefined for other manifests, which are artifacts. `what` names the manifest. */
export async function fetchConfig(store: ImageStore, { config }: ImageManifest, what: string, signal?: AbortSignal): Promise<ImageConfig | undefined> {
  if (config.mediaType !== OCI.config && config.mediaType !== DOCKER.config) return undefined;
  return parseConfig(await fetchDocument(store, config, `config of ${what}`, signal), `config of ${what}`);
}

/** UNSUPPORTED for what is neither an image manifest nor an index. */
export function checkDocumentType(store: ImageStore, descriptor: Descriptor): void {
  if (isIndexType(descriptor.mediaType) || isManifestType(descriptor.mediaType)) return;
  throw new LazypullError('UNSUPPORTED', `${store.location} ${descriptor.digest} has media type ${descriptor.mediaType}, which is no image manifest or index`);
}

/** LIMIT for an index (`what`) with too many around it; `depth` is how many those are. */
export function checkIndexDepth(depth: number, what: string): void {
  if (depth >= MAX_INDEX_DEPTH) throw new LazypullError('LIMIT', `${what}: more than ${MAX_INDEX_DEPTH} indexes inside each other`);
}

/** Counts the documents of one image. A few small indexes that list each other many times stand for more than can ever be read. */
export class DocumentBudget {
  #left = MAX_DOCUMENTS;

  /** LIMIT when it is used up; `what` is the document that needs `count` more. */
  spend(count: number, what: string): void {
    this.#left -= count;
    if (this.#left < 0) throw new LazypullError('LIMIT', `${what}: more than ${MAX_DOCUMENTS} manifests belong to one image`);
  }
}

/** image-spec 1.1 config.md: one diff_id per layer. */
export function layerCountProblem({ layers }: ImageManifest, config: ImageConfig): string | undefined {
  const ids = config.rootfs.diff_ids;
  return layers.length === ids.length ? undefined : `${layers.length} layers, but the config lists ${ids.length} diff_ids`;
}

/** image-spec 1.1 config.md: history, if there is any, has one entry per layer besides those marked `empty_layer`. */
export function historyProblem({ layers }: ImageManifest, config: ImageConfig): string | undefined {
  const history = config.history ?? [];
  const counted = history.filter((entry) => !entry.empty_layer).length;
  return history.length === 0 || counted === layers.length ? undefined : `${layers.length} layers, but the config's history speaks of ${counted}`;
}

/** The platform that an image config names, whole. */
export function platformOfConfig(config: ImageConfig): Platform | undefined {
  const { os, architecture } = config;
  if (!os || !architecture) return undefined;
  const { 'os.version': version, 'os.features': features, variant } = config;
  // In the order in which Go's tools write them, so that one that writes the index again changes nothing.
  return {
    architecture,
    os,
    ...(isText(version) && { 'os.version': version }),
    ...(Array.isArray(features) && features.length > 0 && features.every(isText) && { 'os.features': features }),
    ...(isText(variant) && { variant }),
  };
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}
