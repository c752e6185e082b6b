import { isDeepStrictEqual } from 'node:util';
import { isDigest, type Digest } from '../core/digest.ts';
import { LazypullError } from '../core/errors.ts';
import type { AssembledImage, Binding, ExtraImage, ImageArtifact, IndexingFormat, StoredImage } from '../core/format.ts';
import { streamSource } from '../core/source.ts';
import { streamOf } from '../core/stream.ts';
import type { Descriptor, Ingest, Platform } from '../core/types.ts';
import { describe, encodeDocument } from '../oci/documents.ts';
import { isForeignLayer, OCI, toOciType } from '../oci/media-types.ts';
import { ATTESTATION_SUBJECT } from '../oci/platform.ts';
import type { LayerJob, LayerOutcome, Outcomes } from './convert-layers.ts';
import type { PlatformReport } from './convert-report.ts';
import { platformOfConfig } from './documents.ts';
import { imagesIn, type DocumentTree, type ImageDocument, type IndexDocument, type OtherDocument } from './documents-tree.ts';
import type { Indexing } from './follow-layer.ts';
import { storeOf } from './image-layer.ts';
import { resolveIfThere } from './place.ts';
import { transferBlob } from './transfer.ts';

/** Bytes of one request for a blob that comes from somewhere unknown. */
const PIECE = 4 << 20;

interface Published {
  readonly descriptor: Descriptor;
  /** What an index lists beside an image. */
  readonly artifacts: readonly Descriptor[];
  /** Annotations that name artifacts: also the image's entry in an index gets them. */
  readonly bound: Readonly<Record<string, string>>;
}

/** Writes the documents of a converted image, children before parents. */
export class Publisher {
  readonly #job: LayerJob;
  readonly #outcomes: Outcomes;
  readonly #bindings: readonly Binding[];
  /** Old digest of a document that was written anew -> what became of it. */
  readonly #published = new Map<string, Published>();
  /** Documents that are no images and come along as they are. */
  readonly #carried = new Set<Digest>();
  readonly platforms: PlatformReport[] = [];
  readonly warnings: string[] = [];
  readonly notes: string[] = [];
  /** Types of the artifacts that any of the images names, new ones and old ones. */
  readonly named = new Set<string>();
  /** Wishes that the artifacts of one image had nothing for. */
  readonly unused: (readonly string[])[] = [];

  /** `bindings` are those of all known formats: what they name changes with the image. */
  constructor(job: LayerJob, outcomes: Outcomes, bindings: readonly Binding[]) {
    this.#job = job;
    this.#outcomes = outcomes;
    this.#bindings = [...new Map([...bindings, ...job.indexing.map(({ format }) => format.binding)].map((binding) => [binding.artifactType, binding])).values()];
  }

  /** Returns the new root's descriptor: an index if artifacts have to be listed beside a single image. */
  async publish(tree: DocumentTree): Promise<Descriptor> {
    for (const digest of othersIn(tree)) this.#carried.add(digest);
    const { descriptor, artifacts, bound } = await this.#document(tree);
    if (artifacts.length === 0) return descriptor;
    const platform = tree.kind === 'image' ? (tree.descriptor.platform ?? platformOfConfig(tree.config)) : undefined;
    const image = { ...descriptor, annotations: bound, ...(platform && { platform }) };
    return this.#put(OCI.index, encodeDocument({ schemaVersion: 2, mediaType: OCI.index, manifests: [image, ...artifacts].map(inOrder) }));
  }

  /**
   * Writes an index with the original images, which are carried along as they are, and the converted ones behind them,
   * marked by an `os.features` of the platform: clients that do not ask for it never choose them. Artifacts about these come last.
   */
  async publishMerged(tree: DocumentTree, feature: string): Promise<Descriptor> {
    for (const digest of othersIn(tree)) this.#carried.add(digest);
    const images = imagesIn(tree);
    const converted: Descriptor[] = [];
    const about: Descriptor[] = [];
    for (const image of images) {
      const { descriptor, artifacts, bound } = await this.#document(image);
      converted.push({ ...descriptor, ...withFeature(image, feature), ...(Object.keys(bound).length > 0 && { annotations: bound }) });
      about.push(...artifacts.map((artifact) => ({ ...artifact, ...withFeature(image, feature) })));
    }
    await this.#carryTree(tree);
    const index = tree.kind === 'index' ? tree.index : { schemaVersion: 2 as const, mediaType: OCI.index };
    const originals = tree.kind === 'index' ? tree.index.manifests : images.map((image) => ({ ...image.descriptor, ...withFeature(image) }));
    return this.#put(OCI.index, encodeDocument({ ...index, mediaType: OCI.index, manifests: [...originals, ...[...converted, ...about].map(inOrder)] }));
  }

  /** Writes images that a format wants beside the converted one. */
  async publishExtras(extras: readonly ExtraImage[], tag: string): Promise<string[]> {
    const tags: string[] = [];
    for (const { tagSuffix, layers } of extras) {
      const config = await this.#put(OCI.config, Buffer.from('{}'));
      const manifest = await this.#put(OCI.manifest, encodeDocument({ schemaVersion: 2, mediaType: OCI.manifest, config, layers }));
      await this.#job.target.tag(manifest, `${tag}${tagSuffix}`, this.#job.signal);
      tags.push(`${tag}${tagSuffix}`);
    }
    return tags;
  }

  async #document(tree: DocumentTree): Promise<Published> {
    if (tree.kind === 'other') return { descriptor: await this.#other(tree), artifacts: [], bound: {} };
    const published = tree.kind === 'image' ? await this.#image(tree) : { descriptor: await this.#index(tree), artifacts: [], bound: {} };
    this.#published.set(tree.descriptor.digest, published);
    return published;
  }

  async #image(image: ImageDocument): Promise<Published> {
    const outcomes = this.#outcomes.get(image) ?? [];
    const { manifest } = image;
    const { layers } = await this.#assembled(outcomes);
    const config = await this.#config(image, layers);
    const artifacts = await this.#artifacts(outcomes);
    const sameLayers = layers.length === manifest.layers.length && layers.every(({ descriptor }, i) => descriptor.digest === manifest.layers[i]?.digest);
    const bound = await this.#bound(manifest.annotations ?? {}, artifacts, sameLayers);
    const others = Object.entries(manifest.annotations ?? {}).filter(([key]) => !this.#bindings.some(({ artifactKey }) => artifactKey === key));
    const { annotations: _old, ...rest } = manifest;
    const annotations = { ...Object.fromEntries(others), ...bound };
    const document = {
      ...rest,
      mediaType: OCI.manifest,
      config: { ...manifest.config, ...config, mediaType: toOciType(manifest.config.mediaType) },
      layers: layers.map(({ descriptor }) => descriptor),
      ...(Object.keys(annotations).length > 0 && { annotations }),
    };
    const descriptor = await this.#written(image, document, manifest);
    const platform = image.descriptor.platform ?? platformOfConfig(image.config);
    this.platforms.push({
      platform,
      source: image.descriptor.digest,
      digest: descriptor.digest,
      layers: outcomes.map(({ report }) => report),
      artifacts: artifacts.map(({ format, artifact }) => ({ format: format.name, digest: artifact.descriptor.digest })),
    });
    return {
      descriptor,
      bound,
      artifacts: artifacts.map(({ format, artifact }) => ({ ...artifact.descriptor, annotations: { [format.binding.imageKey]: descriptor.digest }, ...(platform && { platform }) })),
    };
  }

  /** The layers of the new manifest. */
  async #assembled(outcomes: readonly LayerOutcome[]): Promise<AssembledImage> {
    const { rewriting, target, signal } = this.#job;
    if (!rewriting?.format.assemble) return { layers: outcomes };
    const layers = outcomes.map(({ converted, report }) => {
      if (converted) return converted;
      throw new LazypullError('UNSUPPORTED', `layer ${report.source.digest} is no tar that a registry holds, and a ${rewriting.format.name} image cannot do without its files`);
    });
    const ingest: Ingest = (mediaType, produce) => target.ingest(mediaType, produce, signal);
    const assembled = await rewriting.format.assemble({ layers, ingest, carry: (blob, from) => this.#bring(blob, from), signal }, rewriting.options);
    this.warnings.push(...(assembled.warnings ?? []));
    this.notes.push(...(assembled.notes ?? []));
    return assembled;
  }

  /** A blob of another image: in the cheapest way, as far as it is known where that image is. */
  async #bring(blob: Descriptor, from: StoredImage): Promise<void> {
    const { target, signal, dryRun } = this.#job;
    const store = storeOf(from);
    if (dryRun) return;
    if (store) await transferBlob(store, target, blob, { signal });
    else if (!(await target.has(blob, signal))) await target.push(blob, () => streamSource(from.open(blob), PIECE, signal), signal);
  }

  /** The config with the diffIDs of the new layers, and with a history that fits them. */
  async #config({ manifest, config }: ImageDocument, layers: AssembledImage['layers']): Promise<Descriptor> {
    const diffIds = layers.map(({ diffId }) => diffId);
    const before = config.rootfs.diff_ids;
    if (diffIds.length === before.length && diffIds.every((diffId, i) => diffId === before[i])) return this.#carry(manifest.config);
    const others = layers.length !== before.length || layers.some(({ createdBy }) => createdBy !== undefined);
    const history = others && config.history && { history: layers.map(({ createdBy = 'lazypull: all layers put together' }) => ({ created_by: createdBy })) };
    return this.#put(OCI.config, encodeDocument({ ...config, rootfs: { ...config.rootfs, diff_ids: diffIds }, ...history }));
  }

  /** Stores what the indexing formats say about an image. */
  async #artifacts(outcomes: readonly LayerOutcome[]): Promise<{ readonly format: IndexingFormat; readonly artifact: ImageArtifact }[]> {
    const found: { format: IndexingFormat; artifact: ImageArtifact }[] = [];
    for (const indexing of this.#job.indexing) {
      const artifact = await describeImage(indexing, outcomes, undefined, (mediaType, bytes) => this.#put(mediaType, bytes));
      if (!artifact) continue;
      this.warnings.push(...(artifact.warnings ?? []));
      this.unused.push(artifact.unused ?? []);
      await this.#put(artifact.descriptor.mediaType, artifact.bytes);
      found.push({ format: indexing.format, artifact });
    }
    return found;
  }

  /** The annotations that name artifacts: new ones, and old ones whose artifact still speaks of these layers and is where they lead. */
  async #bound(old: Readonly<Record<string, string>>, artifacts: readonly { readonly format: IndexingFormat; readonly artifact: ImageArtifact }[], sameLayers: boolean): Promise<Record<string, string>> {
    const bound: Record<string, string> = {};
    for (const { artifactKey, artifactType } of this.#bindings) {
      const fresh = artifacts.find(({ format }) => format.binding.artifactType === artifactType);
      const kept = sameLayers && !this.#job.rewriting?.format.plain ? old[artifactKey] : undefined;
      const value = fresh ? fresh.artifact.descriptor.digest : kept;
      if (value === undefined || (!fresh && !(await this.#leadsSomewhere(value)))) continue;
      bound[artifactKey] = value;
      this.named.add(artifactType);
    }
    return bound;
  }

  /** Whether the target has an artifact or is about to get it: one that no index lists is not carried along. */
  async #leadsSomewhere(artifact: string): Promise<boolean> {
    if (!isDigest(artifact)) return false;
    return this.#carried.has(artifact) || (await resolveIfThere(this.#job.target, artifact, this.#job.signal)) !== undefined;
  }

  async #index(tree: IndexDocument): Promise<Descriptor> {
    const entries: Descriptor[] = [];
    const artifacts: Descriptor[] = [];
    const done = new Map<DocumentTree, Published>();
    // Images first: what other entries say about them depends on what became of them.
    for (const child of [...tree.children].sort((a, b) => Number(a.kind === 'other') - Number(b.kind === 'other'))) {
      if (child.kind === 'other' && this.#isReplaced(child.descriptor)) continue;
      done.set(child, await this.#document(child));
    }
    for (const child of tree.children) {
      const published = done.get(child);
      if (!published) continue;
      const entry = { ...child.descriptor, ...published.descriptor };
      const annotations = { ...(child.kind === 'image' ? this.#unbound(entry) : entry.annotations), ...published.bound, ...this.#renamed(entry) };
      const { annotations: _old, ...rest } = entry;
      const kept = isDeepStrictEqual(annotations, child.descriptor.annotations);
      const next = kept || Object.keys(annotations).length > 0 ? { ...rest, annotations } : rest;
      entries.push(isDeepStrictEqual(next, child.descriptor) ? child.descriptor : inOrder(next));
      artifacts.push(...published.artifacts);
    }
    return this.#written(tree, { ...tree.index, mediaType: OCI.index, manifests: [...entries, ...artifacts.map(inOrder)] }, tree.index);
  }

  /** Whether an entry is an artifact about an image that names it no longer, or for which it is listed anew. */
  #isReplaced(entry: Descriptor): boolean {
    return this.#bindings.some(({ artifactType, artifactKey, imageKey }) => {
      const image = this.#published.get(entry.annotations?.[imageKey] ?? '');
      // Some copiers lose the artifact type on the way.
      if ((entry.artifactType ?? artifactType) !== artifactType || !image) return false;
      return image.bound[artifactKey] !== entry.digest || image.artifacts.some(({ digest }) => digest === entry.digest);
    });
  }

  /** An image's own annotations of its entry, without those that name artifacts. */
  #unbound(entry: Descriptor): Record<string, string> {
    return Object.fromEntries(Object.entries(entry.annotations ?? {}).filter(([key]) => !this.#bindings.some(({ artifactKey }) => artifactKey === key)));
  }

  /** Annotations by which an entry names an image that has a new digest now: attestations, artifacts that were kept. */
  #renamed(entry: Descriptor): Record<string, string> {
    const renamed: Record<string, string> = {};
    for (const key of [ATTESTATION_SUBJECT, ...this.#bindings.map(({ imageKey }) => imageKey)]) {
      const moved = this.#published.get(entry.annotations?.[key] ?? '');
      if (moved) renamed[key] = moved.descriptor.digest;
    }
    return renamed;
  }

  /** Stores everything below a document as it is. */
  async #carryTree(tree: DocumentTree): Promise<void> {
    if (tree.kind === 'index') {
      for (const child of tree.children) {
        await this.#carryTree(child);
        // Entries of the root; the root itself is written anew.
        if (child.kind === 'index') await this.#carry(child.descriptor);
      }
      return;
    }
    await this.#other(tree.kind === 'other' ? tree : { ...tree, kind: 'other', blobs: [tree.manifest.config, ...tree.manifest.layers] });
  }

  async #other(document: OtherDocument): Promise<Descriptor> {
    for (const blob of document.blobs) if (!isForeignLayer(blob.mediaType)) await this.#carry(blob);
    return this.#carry(document.descriptor);
  }

  /** Stores a document; one that says the same as before keeps its bytes. */
  async #written<D extends { readonly mediaType: string }>(old: { descriptor: Descriptor; bytes: Uint8Array }, document: D, parsed: object): Promise<Descriptor> {
    const bytes = encodeDocument(document);
    const unchanged = Buffer.from(encodeDocument(parsed)).equals(bytes);
    const stored = await this.#put(unchanged ? old.descriptor.mediaType : document.mediaType, unchanged ? old.bytes : bytes);
    const { platform } = old.descriptor;
    return { ...stored, ...(platform && { platform }) };
  }

  async #put(mediaType: string, bytes: Uint8Array): Promise<Descriptor> {
    const descriptor = describe(mediaType, bytes);
    await this.#job.target.push(descriptor, () => streamOf(bytes), this.#job.signal);
    return descriptor;
  }

  async #carry(descriptor: Descriptor): Promise<Descriptor> {
    if (!this.#job.dryRun) await transferBlob(this.#job.source, this.#job.target, descriptor, { signal: this.#job.signal });
    return descriptor;
  }
}

function othersIn(tree: DocumentTree): Digest[] {
  if (tree.kind === 'index') return tree.children.flatMap(othersIn);
  return tree.kind === 'other' ? [tree.descriptor.digest] : [];
}

/** The platform of an image, with one more feature. */
function withFeature({ descriptor, config }: ImageDocument, feature?: string): { readonly platform?: Platform } {
  const platform = descriptor.platform ?? platformOfConfig(config);
  if (!platform || feature === undefined) return platform ? { platform } : {};
  return { platform: { ...platform, 'os.features': [...new Set([...(platform['os.features'] ?? []), feature])] } };
}

/** Fields in the order in which Go's tools write them; those they do not know come last. */
function inOrder({ mediaType, digest, size, urls, annotations, data, platform, artifactType, ...others }: Descriptor): Descriptor {
  return {
    mediaType,
    digest,
    size,
    ...(urls && { urls }),
    ...(annotations && { annotations }),
    ...(data !== undefined && { data }),
    ...(platform && { platform }),
    ...(artifactType !== undefined && { artifactType }),
    ...others,
  };
}

/** What nobody had anything for. */
export function unusedByAll(each: readonly (readonly string[])[]): string[] {
  const [first = [], ...others] = each;
  return first.filter((wish) => others.every((other) => other.includes(wish)));
}

/** What a format says about an image whose layers it has followed; undefined when that is nothing. */
export function describeImage(
  { format, options }: Indexing,
  outcomes: readonly LayerOutcome[],
  subject: Descriptor | undefined,
  put: (mediaType: string, bytes: Uint8Array) => Promise<Descriptor>,
): Promise<ImageArtifact | undefined> {
  const layers = outcomes.map(({ descriptor, described }) => {
    const found = described.get(format);
    return found && { descriptor, described: found };
  });
  return format.describeImage({ layers, put, ...(subject && { subject }) }, options);
}
