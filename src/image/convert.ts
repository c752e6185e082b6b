import { isDigest } from '../core/digest.ts';
import { LazypullError, printable } from '../core/errors.ts';
import { streamOf } from '../core/stream.ts';
import type { Descriptor, ExtraImage, Format, Platform } from '../core/types.ts';
import { ThreadPool, defaultJobs } from '../codec/pool.ts';
import { describe, encodeDocument } from '../oci/documents.ts';
import { OCI, toOciType } from '../oci/media-types.ts';
import { ATTESTATION_SUBJECT } from '../oci/platform.ts';
import { convertLayer, type LayerJob, type LayerOutcome, type SourceLayer } from './convert-layers.ts';
import type { ConvertProgress, ConvertReport, PlatformReport } from './convert-report.ts';
import { discardStore } from './discard.ts';
import { platformOfConfig } from './documents.ts';
import { readDocuments, type ImageDocument, type DocumentTree, type IndexDocument, type OtherDocument } from './documents-tree.ts';
import { DEFAULT_MAX_LAYER_SIZE } from './image-layer.ts';
import { mapLimited } from './limited.ts';
import type { Place } from './place.ts';
import { transferBlob } from './transfer.ts';

export type { ConvertProgress, ConvertReport, LayerReport, PlatformReport } from './convert-report.ts';

export interface ConvertOptions<O> {
  readonly formatOptions: O;
  /** Convert only these of an index; default: all. */
  readonly platforms?: readonly Platform[];
  /** Threads, and layers side by side; default: one per core. */
  readonly jobs?: number;
  /** Do all the work, store nothing. */
  readonly dryRun?: boolean;
  /** Most bytes of plain tar per layer, against decompression bombs; default 64 GiB. */
  readonly maxLayerSize?: number;
  readonly signal?: AbortSignal;
  readonly progress?: (event: ConvertProgress) => void;
}

/**
 * Converts an image from one store into another: every layer of every platform once, then configs, manifests and index,
 * the tag last of all. Whatever fails, the target's tag stays what it was.
 *
 * Manifests become OCI manifests (Docker's cannot carry the annotations that lazy formats need). A manifest in which
 * nothing changes keeps its bytes.
 */
export async function convertImage<O>(source: Place, target: Place, format: Format<O>, options: ConvertOptions<O>): Promise<ConvertReport> {
  const started = performance.now();
  if (isDigest(target.reference)) throw new LazypullError('USAGE', 'the target of a conversion is a tag: its digest is not known before');
  const jobs = options.jobs ?? defaultJobs();
  const signal = options.signal ?? new AbortController().signal;
  const workers = new ThreadPool(jobs);
  workers.warm();
  try {
    const root = await source.store.resolve(source.reference, signal);
    const { tree: documents, warnings } = await readDocuments(source.store, root, { platforms: options.platforms, signal });
    const job: LayerJob<O> = {
      source: source.store,
      target: options.dryRun ? discardStore(target.store.location) : target.store,
      format,
      formatOptions: options.formatOptions,
      workers,
      maxLayerSize: options.maxLayerSize ?? DEFAULT_MAX_LAYER_SIZE,
      dryRun: options.dryRun ?? false,
      signal,
      progress: options.progress ?? (() => undefined),
    };
    const outcomes = await convertLayers(documents, job, jobs);
    const publisher = new Publisher(job, outcomes);
    const top = await publisher.publish(documents);
    const extras = (await format.finish?.(converted(outcomes), options.formatOptions)) ?? [];
    const extraTags = await publisher.publishExtras(extras, target.reference);
    await job.target.tag(top, target.reference, signal);
    return {
      reference: target.reference,
      digest: top.digest,
      source: { digest: root.digest },
      platforms: publisher.platforms,
      totals: totals(outcomes, performance.now() - started),
      extraTags,
      warnings: [...new Set([...warnings, ...unusedWishes(outcomes), ...[...outcomes.values()].flatMap(({ report }) => report.warnings.map((text) => `layer ${report.source.digest}: ${printable(text)}`))])],
      dryRun: job.dryRun,
    };
  } finally {
    await workers.close();
  }
}

/** Layers that several platforms share are converted once; a different diffID makes them different layers. */
function keyOf(layer: SourceLayer): string {
  return `${layer.descriptor.digest} ${layer.diffId}`;
}

async function convertLayers<O>(documents: DocumentTree, job: LayerJob<O>, jobs: number): Promise<Map<string, LayerOutcome>> {
  const layers = new Map<string, SourceLayer>();
  for (const image of imagesOf(documents)) for (const layer of layersOf(image)) layers.set(keyOf(layer), layer);
  // The largest first: what is left at the end is small.
  const queue = [...layers].sort(([, a], [, b]) => b.descriptor.size - a.descriptor.size);
  job.progress({ type: 'total', layers: queue.length, bytes: queue.reduce((sum, [, layer]) => sum + layer.descriptor.size, 0) });
  const done = await mapLimited(queue, Math.min(jobs, 8), async ([key, layer], signal) => [key, await convertLayer(layer, { ...job, signal })] as const, job.signal);
  return new Map(done);
}

function imagesOf(tree: DocumentTree): ImageDocument[] {
  return tree.kind === 'image' ? [tree] : tree.kind === 'index' ? tree.children.flatMap(imagesOf) : [];
}

function layersOf(image: ImageDocument): SourceLayer[] {
  return image.manifest.layers.map((descriptor, i) => ({ descriptor, diffId: image.config.rootfs.diff_ids[i] as SourceLayer['diffId'] }));
}

function converted(outcomes: ReadonlyMap<string, LayerOutcome>): NonNullable<LayerOutcome['converted']>[] {
  return [...outcomes.values()].flatMap((outcome) => outcome.converted ?? []);
}

/** Wishes that none of the layers had anything for. Of layers that were not converted nothing is known. */
function unusedWishes(outcomes: ReadonlyMap<string, LayerOutcome>): string[] {
  const [first, ...others] = converted(outcomes);
  if (!first || others.length + 1 < outcomes.size) return [];
  return (first.unused ?? []).filter((wish) => others.every(({ unused }) => unused?.includes(wish)));
}

function totals(outcomes: ReadonlyMap<string, LayerOutcome>, milliseconds: number): ConvertReport['totals'] {
  const reports = [...outcomes.values()].map(({ report }) => report);
  return {
    sourceBytes: reports.reduce((sum, { source }) => sum + source.size, 0),
    targetBytes: reports.reduce((sum, { target }) => sum + target.size, 0),
    tarBytes: reports.reduce((sum, { tarSize }) => sum + tarSize, 0),
    seconds: Math.round(milliseconds) / 1000,
  };
}

/** Writes the documents of a converted image, children before parents. */
class Publisher<O> {
  readonly #job: LayerJob<O>;
  readonly #outcomes: ReadonlyMap<string, LayerOutcome>;
  /** Old manifest digest -> new descriptor. */
  readonly #moved = new Map<string, Descriptor>();
  readonly platforms: PlatformReport[] = [];

  constructor(job: LayerJob<O>, outcomes: ReadonlyMap<string, LayerOutcome>) {
    this.#job = job;
    this.#outcomes = outcomes;
  }

  /** Returns the new root's descriptor. */
  async publish(tree: DocumentTree): Promise<Descriptor> {
    const published = tree.kind === 'image' ? await this.#image(tree) : tree.kind === 'index' ? await this.#index(tree) : await this.#other(tree);
    this.#moved.set(tree.descriptor.digest, published);
    return published;
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

  async #image(image: ImageDocument): Promise<Descriptor> {
    const outcomes = layersOf(image).map((layer) => this.#outcomes.get(keyOf(layer)) as LayerOutcome);
    const { manifest, config } = image;
    const diffIds = outcomes.map(({ diffId }) => diffId);
    const sameConfig = diffIds.every((diffId, i) => diffId === config.rootfs.diff_ids[i]);
    const newConfig = sameConfig
      ? await this.#carry(manifest.config)
      : await this.#put(OCI.config, encodeDocument({ ...config, rootfs: { ...config.rootfs, diff_ids: diffIds } }));
    const document = {
      ...manifest,
      mediaType: OCI.manifest,
      config: { ...manifest.config, ...newConfig, mediaType: toOciType(manifest.config.mediaType) },
      layers: outcomes.map(({ descriptor }) => descriptor),
    };
    const descriptor = await this.#document(image, document, manifest);
    this.platforms.push({
      platform: image.descriptor.platform ?? platformOfConfig(image.config),
      source: image.descriptor.digest,
      digest: descriptor.digest,
      layers: outcomes.map(({ report }) => report),
    });
    return descriptor;
  }

  async #index(tree: IndexDocument): Promise<Descriptor> {
    const entries = new Map<DocumentTree, Descriptor>();
    for (const child of tree.children) entries.set(child, await this.publish(child));
    const manifests = tree.children.map((child) => {
      const entry = { ...child.descriptor, ...entries.get(child) };
      // An attestation names the manifest it speaks of, which has a new digest now.
      const moved = this.#moved.get(child.descriptor.annotations?.[ATTESTATION_SUBJECT] ?? '');
      return moved ? { ...entry, annotations: { ...entry.annotations, [ATTESTATION_SUBJECT]: moved.digest } } : entry;
    });
    return this.#document(tree, { ...tree.index, mediaType: OCI.index, manifests }, tree.index);
  }

  async #other(document: OtherDocument): Promise<Descriptor> {
    for (const blob of document.blobs) await this.#carry(blob);
    return this.#carry(document.descriptor);
  }

  /** Stores a document; one that says the same as before keeps its bytes. */
  async #document<D extends { readonly mediaType: string }>(old: { descriptor: Descriptor; bytes: Uint8Array }, document: D, parsed: object): Promise<Descriptor> {
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
