import { collect } from '../core/stream.ts';
import { corrupt, LazypullError } from '../core/errors.ts';
import type { Descriptor, ImageStore, Platform } from '../core/types.ts';
import { MANIFEST_LIMIT, parseConfig, parseIndex, parseManifest, type ImageConfig, type ImageIndex, type ImageManifest } from '../oci/documents.ts';
import { DOCKER, isIndexType, isManifestType, OCI } from '../oci/media-types.ts';
import { isAttestation, selectPlatform } from '../oci/platform.ts';

/** A manifest that describes a container image. */
export interface ImageDocument {
  readonly kind: 'image';
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
  readonly manifest: ImageManifest;
  readonly config: ImageConfig;
}

/** Anything else that an index may list: attestations, artifacts, types from the future. Carried, never changed. */
export interface OtherDocument {
  readonly kind: 'other';
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
  readonly blobs: readonly Descriptor[];
}

export interface IndexDocument {
  readonly kind: 'index';
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
  readonly index: ImageIndex;
  /** The entries that were asked for, in index order. */
  readonly children: readonly ImageDocumentTree[];
}

export type ImageDocumentTree = ImageDocument | OtherDocument | IndexDocument;

/** Indexes inside indexes inside indexes; real images have one level. */
const MAX_DEPTH = 4;

/** Reads a root's documents: index, manifests and configs, each checked. `platforms` narrows an index to the matching images and their attestations. */
export async function readDocuments(
  store: ImageStore,
  root: Descriptor,
  options: { platforms?: readonly Platform[]; signal?: AbortSignal | undefined } = {},
  depth = 0,
): Promise<ImageDocumentTree> {
  const { platforms, signal } = options;
  const what = `${store.location} ${root.digest}`;
  if (depth > MAX_DEPTH) throw new LazypullError('LIMIT', `${what}: more than ${MAX_DEPTH} indexes inside each other`);
  if (!isIndexType(root.mediaType) && !isManifestType(root.mediaType)) {
    throw new LazypullError('UNSUPPORTED', `${what} has media type ${root.mediaType}, which is no image manifest or index`);
  }
  const bytes = await collect(store.fetch(root, signal), MANIFEST_LIMIT, what);
  if (isManifestType(root.mediaType)) return readManifest(store, root, bytes, signal);
  const index = parseIndex(bytes, what);
  const wanted = platforms && platforms.length > 0 ? narrow(index, platforms, what) : index.manifests;
  const children: ImageDocumentTree[] = [];
  for (const child of wanted) {
    const known = isIndexType(child.mediaType) || isManifestType(child.mediaType);
    if (known) children.push(await readDocuments(store, child, { signal }, depth + 1));
    else children.push({ kind: 'other', descriptor: child, bytes: await collect(store.fetch(child, signal), MANIFEST_LIMIT, what), blobs: [] });
  }
  return { kind: 'index', descriptor: root, bytes, index, children };
}

async function readManifest(store: ImageStore, descriptor: Descriptor, bytes: Uint8Array, signal: AbortSignal | undefined): Promise<ImageDocument | OtherDocument> {
  const what = `${store.location} ${descriptor.digest}`;
  const manifest = parseManifest(bytes, what);
  const image = manifest.config.mediaType === OCI.config || manifest.config.mediaType === DOCKER.config;
  if (!image || isAttestation(descriptor)) return { kind: 'other', descriptor, bytes, blobs: [manifest.config, ...manifest.layers] };
  const config = parseConfig(await collect(store.fetch(manifest.config, signal), MANIFEST_LIMIT, `${what} config`), `${what} config`);
  if (config.rootfs.diff_ids.length !== manifest.layers.length) {
    throw corrupt(`${what} has ${manifest.layers.length} layers, but its config lists ${config.rootfs.diff_ids.length} diff_ids`);
  }
  return { kind: 'image', descriptor, bytes, manifest, config };
}

/** The entries that the wanted platforms select, and the attestations about them. */
function narrow(index: ImageIndex, platforms: readonly Platform[], what: string): Descriptor[] {
  const chosen = new Set<string>();
  for (const platform of platforms) {
    const found = selectPlatform(index.manifests, platform);
    if (!found) throw new LazypullError('NOT_FOUND', `${what} has no image for ${platform.os}/${platform.architecture}${platform.variant ? `/${platform.variant}` : ''}`);
    chosen.add(found.digest);
  }
  return index.manifests.filter((child) => chosen.has(child.digest) || (isAttestation(child) && chosen.has(child.annotations?.['vnd.docker.reference.digest'] ?? '')));
}
