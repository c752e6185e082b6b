import type { Digest } from '../core/digest.ts';
import { LazypullError } from '../core/errors.ts';
import type { FormatChoice, IndexingFormat } from '../core/format.ts';
import { streamOf } from '../core/stream.ts';
import type { Descriptor, ImageStore, Platform } from '../core/types.ts';
import { ThreadPool, defaultJobs } from '../codec/pool.ts';
import { describe } from '../oci/documents.ts';
import { layerWarnings } from './convert.ts';
import { convertLayers, eachOnce, type LayerJob, type LayerOutcome } from './convert-layers.ts';
import type { ConvertOptions, ConvertProgress, LayerReport } from './convert.ts';
import { discardStore } from './discard.ts';
import { platformOfConfig } from './documents.ts';
import { imagesIn, readDocuments, type ImageDocument } from './documents-tree.ts';
import type { SourceLayer } from './follow-layer.ts';
import { DEFAULT_MAX_LAYER_SIZE } from './image-layer.ts';
import type { Place } from './place.ts';
import { describeImage, unusedByAll } from './publish.ts';
import { referrersOf } from './referrers-of.ts';
import { sourceLayers } from './source-layers.ts';

export interface IndexImageOptions extends Omit<ConvertOptions, 'bindings'> {
  /** Also for images that another artifact of this kind refers to already: readers may then take either. */
  readonly force?: boolean;
}

/** `exists`: an artifact of the kind is there already and was left; `unchanged`: exactly this one is; `nothing`: no layer was indexed. */
export type IndexAction = 'indexed' | 'unchanged' | 'exists' | 'nothing';

export interface IndexedImage {
  readonly platform: Platform | null;
  /** Of the manifest, which stays as it is. */
  readonly digest: Digest;
  readonly action: IndexAction;
  /** Manifest that describes it; null when there is none. */
  readonly artifact: Digest | null;
  /** Empty when they were not looked into. */
  readonly layers: readonly LayerReport[];
}

/** What indexing did. Stable: it is what `--json` prints. */
export interface IndexReport {
  /** Tag or digest. */
  readonly reference: string;
  readonly digest: Digest;
  readonly format: string;
  readonly images: readonly IndexedImage[];
  /** Layers that were looked into, each counted once. */
  readonly totals: { readonly layers: number; readonly indexedLayers: number; readonly layerBytes: number; readonly indexBytes: number; readonly seconds: number };
  readonly warnings: readonly string[];
  readonly dryRun: boolean;
}

/**
 * Describes the layers of an image where it is, and stores the result beside it as an artifact that refers to the image
 * (distribution-spec 1.1, referrers). The image itself stays as it is, digest and all.
 */
export async function indexImage(place: Place, choice: FormatChoice<IndexingFormat>, options: IndexImageOptions = {}): Promise<IndexReport> {
  const started = performance.now();
  const { format } = choice;
  const { store } = place;
  const signal = options.signal ?? new AbortController().signal;
  const jobs = options.jobs ?? defaultJobs();
  const workers = new ThreadPool(jobs);
  try {
    const root = await store.resolve(place.reference, signal);
    const { tree, warnings: said } = await readDocuments(store, root, { platforms: options.platforms, keepOthers: true, signal });
    const images = imagesIn(tree);
    if (images.length === 0) throw new LazypullError('UNSUPPORTED', `${store.location} ${root.digest} is no container image`);
    const there = new Map<ImageDocument, Descriptor[]>();
    for (const image of images) there.set(image, (await referrersOf(store, image.descriptor, signal)).filter(({ artifactType }) => artifactType === format.referrerType));
    const wanted = images.filter((image) => options.force || there.get(image)?.length === 0);
    const job: LayerJob = {
      source: store,
      target: options.dryRun ? discardStore(store.location) : store,
      rewriting: undefined,
      indexing: [choice],
      workers,
      maxLayerSize: options.maxLayerSize ?? DEFAULT_MAX_LAYER_SIZE,
      dryRun: options.dryRun ?? false,
      mayRepack: false,
      signal,
      progress: options.progress ?? ((_event: ConvertProgress) => undefined),
    };
    const sources = new Map<ImageDocument, readonly SourceLayer[]>();
    for (const image of wanted) sources.set(image, await sourceLayers(place, image, { readers: [], plain: false, signal }));
    const byImage = await convertLayers(sources, job, jobs);
    const outcomes = eachOnce(byImage);
    const warnings = [...said, ...layerWarnings(outcomes)];
    const reports: IndexedImage[] = [];
    const unused: (readonly string[])[] = [];
    for (const image of images) {
      const { descriptor, config } = image;
      const base = { platform: descriptor.platform ?? platformOfConfig(config) ?? null, digest: descriptor.digest };
      const existing = there.get(image) ?? [];
      if (image.manifest.annotations?.[format.binding.artifactKey] !== undefined) warnings.push(`${descriptor.digest} names a ${format.name} index in its manifest already; readers look for that one`);
      if (!wanted.includes(image)) {
        reports.push({ ...base, action: 'exists', artifact: (existing[0] as Descriptor).digest, layers: [] });
        continue;
      }
      // A conversion gives layers OCI types; here they stay what their manifest says.
      const own = (byImage.get(image) ?? []).map((outcome, i) => ({ ...outcome, descriptor: image.manifest.layers[i] as Descriptor }));
      const { mediaType, digest, size } = descriptor;
      const artifact = await describeImage(choice, own, { mediaType, digest, size }, (type, bytes) => put(job.target, type, bytes, signal));
      warnings.push(...(artifact?.warnings ?? []));
      if (artifact) unused.push(artifact.unused ?? []);
      const layers = own.map(({ report }) => report);
      if (!artifact) {
        reports.push({ ...base, action: 'nothing', artifact: null, layers });
        continue;
      }
      const same = existing.some((other) => other.digest === artifact.descriptor.digest);
      if (existing.length > 0 && !same) warnings.push(`${descriptor.digest} has ${existing.length + 1} ${format.name} indexes now: which of them a reader takes is not defined`);
      await put(job.target, artifact.descriptor.mediaType, artifact.bytes, signal);
      reports.push({ ...base, action: same ? 'unchanged' : 'indexed', artifact: artifact.descriptor.digest, layers });
    }
    return {
      reference: place.reference,
      digest: root.digest,
      format: format.name,
      images: reports,
      totals: totals(outcomes, performance.now() - started),
      warnings: [...new Set([...warnings, ...unusedByAll(unused)])],
      dryRun: job.dryRun,
    };
  } finally {
    await workers.close();
  }
}

async function put(store: ImageStore, mediaType: string, bytes: Uint8Array, signal: AbortSignal): Promise<Descriptor> {
  const descriptor = describe(mediaType, bytes);
  await store.push(descriptor, () => streamOf(bytes), signal);
  return descriptor;
}

function totals(outcomes: readonly LayerOutcome[], milliseconds: number): IndexReport['totals'] {
  const reports = outcomes.map(({ report }) => report);
  const blobs = reports.flatMap(({ indexes }) => indexes).flatMap(({ blob }) => blob ?? []);
  return {
    layers: reports.length,
    indexedLayers: blobs.length,
    layerBytes: reports.reduce((sum, { source }) => sum + source.size, 0),
    indexBytes: blobs.reduce((sum, { size }) => sum + size, 0),
    seconds: Math.round(milliseconds) / 1000,
  };
}
