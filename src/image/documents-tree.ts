import type { Digest } from '../core/digest.ts';
import { corrupt } from '../core/errors.ts';
import type { Descriptor, ImageStore, Platform } from '../core/types.ts';
import { parseIndex, parseManifest, type ImageConfig, type ImageIndex, type ImageManifest } from '../oci/documents.ts';
import { isIndexType, isManifestType } from '../oci/media-types.ts';
import { isAttestation } from '../oci/platform.ts';
import { narrowRoot } from './narrow.ts';
import { selectImage } from './select.ts';
import { checkDocumentType, checkIndexDepth, DocumentBudget, fetchConfig, fetchDocument, layerCountProblem } from './documents.ts';

/** A manifest that describes a container image. */
export interface ImageDocument {
  readonly kind: 'image';
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
  readonly manifest: ImageManifest;
  readonly config: ImageConfig;
}

/** Anything else that an index may list: attestations, artifacts, blobs. Carried, never changed. */
export interface OtherDocument {
  readonly kind: 'other';
  readonly descriptor: Descriptor;
  /** What has to be there before it: config and layers of a manifest. */
  readonly blobs: readonly Descriptor[];
}

export interface IndexDocument {
  readonly kind: 'index';
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
  readonly index: ImageIndex;
  /** In index order. */
  readonly children: readonly DocumentTree[];
}

export type DocumentTree = ImageDocument | OtherDocument | IndexDocument;

export interface ReadDocumentsOptions {
  /** Only the images of these, and the attestations about them; default: all. */
  readonly platforms?: readonly Platform[] | undefined;
  /** Images of other platforms stay in the tree, as documents that are carried. */
  readonly keepOthers?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ReadDocuments {
  readonly tree: DocumentTree;
  readonly warnings: readonly string[];
}

/** Reads a root's documents: index, manifests and configs, each checked. */
export async function readDocuments(store: ImageStore, root: Descriptor, { platforms, keepOthers, signal }: ReadDocumentsOptions = {}): Promise<ReadDocuments> {
  checkDocumentType(store, root);
  const from = { store, budget: new DocumentBudget(), signal };
  if (!platforms || platforms.length === 0) return { tree: await read({ ...from, written: new Map() }, root, 0), warnings: [] };
  if (keepOthers && isIndexType(root.mediaType)) {
    const chosen = new Set<Digest>();
    for (const platform of platforms) chosen.add((await selectImage(store, root, platform, signal)).descriptor.digest);
    return { tree: carriedExcept(await read({ ...from, written: new Map() }, root, 0), chosen), warnings: [] };
  }
  const { root: narrowed, written, warnings } = await narrowRoot(store, root, platforms, signal);
  // That the index is written anew is no news here: a conversion does that to every index.
  return { tree: await read({ ...from, written }, narrowed, 0), warnings: narrowed.digest === root.digest ? warnings : [] };
}

/** All images of a tree, in order. */
export function imagesIn(tree: DocumentTree): ImageDocument[] {
  return tree.kind === 'image' ? [tree] : tree.kind === 'index' ? tree.children.flatMap(imagesIn) : [];
}

/** The same tree, in which images that are not chosen are only carried. */
function carriedExcept(tree: DocumentTree, chosen: ReadonlySet<Digest>): DocumentTree {
  if (tree.kind === 'index') return { ...tree, children: tree.children.map((child) => carriedExcept(child, chosen)) };
  if (tree.kind === 'other' || chosen.has(tree.descriptor.digest)) return tree;
  return { kind: 'other', descriptor: tree.descriptor, blobs: [tree.manifest.config, ...tree.manifest.layers] };
}

interface From {
  readonly store: ImageStore;
  /** Documents that are not in the store. */
  readonly written: ReadonlyMap<Digest, Uint8Array>;
  readonly budget: DocumentBudget;
  readonly signal: AbortSignal | undefined;
}

async function read(from: From, descriptor: Descriptor, depth: number): Promise<DocumentTree> {
  const what = `${from.store.location} ${descriptor.digest}`;
  from.budget.spend(1, what);
  if (!isIndexType(descriptor.mediaType) && !isManifestType(descriptor.mediaType)) return { kind: 'other', descriptor, blobs: [] };
  const bytes = from.written.get(descriptor.digest) ?? (await fetchDocument(from.store, descriptor, what, from.signal));
  if (!isIndexType(descriptor.mediaType)) return readManifest(from, descriptor, bytes, what);
  checkIndexDepth(depth, what);
  const index = parseIndex(bytes, what);
  const children: DocumentTree[] = [];
  for (const child of index.manifests) children.push(await read(from, child, depth + 1));
  return { kind: 'index', descriptor, bytes, index, children };
}

async function readManifest(from: From, descriptor: Descriptor, bytes: Uint8Array, what: string): Promise<ImageDocument | OtherDocument> {
  const manifest = parseManifest(bytes, what);
  const config = isAttestation(descriptor) ? undefined : await fetchConfig(from.store, manifest, what, from.signal);
  if (!config) return { kind: 'other', descriptor, blobs: [manifest.config, ...manifest.layers] };
  const problem = layerCountProblem(manifest, config);
  if (problem) throw corrupt(`${what}: ${problem}`);
  return { kind: 'image', descriptor, bytes, manifest, config };
}
