import { isDigest } from '../core/digest.ts';
import { LazypullError, printable } from '../core/errors.ts';
import type { Binding, ConvertedLayer, Format, FormatChoice } from '../core/format.ts';
import type { Platform } from '../core/types.ts';
import { ThreadPool, defaultJobs } from '../codec/pool.ts';
import { chosenFormats } from './chosen.ts';
import { convertLayers, eachOnce, type LayerJob, type LayerOutcome, type Sources } from './convert-layers.ts';
import type { ConvertProgress, ConvertReport } from './convert-report.ts';
import { discardStore } from './discard.ts';
import { imagesIn, readDocuments, type DocumentTree } from './documents-tree.ts';
import { DEFAULT_MAX_LAYER_SIZE } from './image-layer.ts';
import type { Place } from './place.ts';
import { Publisher, unusedByAll } from './publish.ts';
import { needsReaders, sourceLayers } from './source-layers.ts';

export type { ConvertProgress, ConvertReport, LayerIndexReport, LayerReport, PlatformReport } from './convert-report.ts';

export interface ConvertOptions {
  /**
   * Convert only these of an index; default: all. A format that makes new layers leaves the others out of the new index;
   * formats that only describe layers keep them in it as they are.
   */
  readonly platforms?: readonly Platform[];
  /** Threads, and layers side by side; default: one per core. */
  readonly jobs?: number;
  /** Keep the original images, and list the converted ones beside them in one index, for formats that ordinary clients cannot run. */
  readonly mergeIndex?: boolean;
  /** Do all the work, store nothing. */
  readonly dryRun?: boolean;
  /** Most bytes of plain tar per layer, against decompression bombs; default 64 GiB. */
  readonly maxLayerSize?: number;
  /** Formats that the source may be in: needed where its layers are no tar archives, and to make ordinary layers of lazy ones. */
  readonly readers?: () => Promise<readonly Format[]>;
  /** How formats tie artifacts to images, chosen ones or not: what no longer holds is left out of the new image. */
  readonly bindings?: readonly Binding[];
  readonly signal?: AbortSignal;
  readonly progress?: (event: ConvertProgress) => void;
}

/**
 * Converts an image from one store into another: every layer of every platform once, then configs, manifests and index,
 * the tag last of all. Whatever fails, the target's tag stays what it was. Of the formats at most one may make new layers;
 * those that describe layers follow the new ones. However many formats: each layer is fetched once and inflated once.
 *
 * Manifests become OCI manifests (Docker's cannot carry the annotations that lazy formats need). A manifest in which
 * nothing changes keeps its bytes.
 */
export async function convertImage(source: Place, target: Place, choices: FormatChoice | readonly FormatChoice[], options: ConvertOptions = {}): Promise<ConvertReport> {
  const started = performance.now();
  if (isDigest(target.reference)) throw new LazypullError('USAGE', 'the target of a conversion is a tag: its digest is not known before');
  const { rewriting, indexing } = chosenFormats(choices);
  const feature = options.mergeIndex ? rewriting?.format.osFeature : undefined;
  if (options.mergeIndex && feature === undefined) throw new LazypullError('USAGE', 'only images that ordinary clients cannot run are merged into an index: those of the chosen format replace the original');
  const jobs = options.jobs ?? defaultJobs();
  const signal = options.signal ?? new AbortController().signal;
  const workers = new ThreadPool(jobs);
  if (rewriting) workers.warm();
  try {
    const root = await source.store.resolve(source.reference, signal);
    const { tree, warnings } = await readDocuments(source.store, root, { platforms: options.platforms, keepOthers: !rewriting, signal });
    const job: LayerJob = {
      source: source.store,
      target: options.dryRun ? discardStore(target.store.location) : target.store,
      rewriting,
      indexing,
      workers,
      maxLayerSize: options.maxLayerSize ?? DEFAULT_MAX_LAYER_SIZE,
      dryRun: options.dryRun ?? false,
      mayRepack: true,
      signal,
      progress: options.progress ?? (() => undefined),
    };
    const byImage = await convertLayers(await allSources(source, tree, job, options.readers), job, jobs);
    const outcomes = eachOnce(byImage);
    const publisher = new Publisher(job, byImage, options.bindings ?? []);
    const top = await (feature === undefined ? publisher.publish(tree) : publisher.publishMerged(tree, feature));
    const extras = (await rewriting?.format.finish?.(converted(outcomes), rewriting.options)) ?? [];
    const extraTags = await publisher.publishExtras(extras, target.reference);
    await job.target.tag(top, target.reference, signal);
    const heard = [...warnings, ...publisher.warnings, ...unusedWishes(outcomes), ...unusedByAll(publisher.unused), ...layerWarnings(outcomes), ...unindexed(job, publisher)];
    return {
      reference: target.reference,
      digest: top.digest,
      source: { digest: root.digest },
      platforms: publisher.platforms,
      totals: totals(outcomes, performance.now() - started),
      extraTags,
      warnings: [...new Set(heard)],
      notes: [...new Set([...layerNotes(outcomes), ...publisher.notes])],
      dryRun: job.dryRun,
    };
  } finally {
    await workers.close();
  }
}

/** The layers of all images. Formats are loaded only when one of the images cannot do without. */
async function allSources(place: Place, tree: DocumentTree, { rewriting, signal }: LayerJob, load: ConvertOptions['readers']): Promise<Sources> {
  const images = imagesIn(tree);
  const plain = rewriting?.format.plain ?? false;
  const readers = plain || images.some(needsReaders) ? ((await load?.()) ?? []) : [];
  const sources = new Map<(typeof images)[number], Awaited<ReturnType<typeof sourceLayers>>>();
  for (const image of images) sources.set(image, await sourceLayers(place, image, { readers, plain, signal }));
  return sources;
}

function converted(outcomes: readonly LayerOutcome[]): ConvertedLayer[] {
  return outcomes.flatMap((outcome) => outcome.converted ?? []);
}

/** Wishes that none of the layers had anything for. Of layers that were not converted nothing is known. */
function unusedWishes(outcomes: readonly LayerOutcome[]): string[] {
  const all = converted(outcomes);
  return all.length < outcomes.length ? [] : unusedByAll(all.map(({ unused = [] }) => unused));
}

function layerNotes(outcomes: readonly LayerOutcome[]): string[] {
  return outcomes.flatMap(({ converted: made, report }) => (made?.notes ?? []).map((text) => `layer ${report.source.digest}: ${printable(text)}`));
}

/** What each layer's report warns of, for people. */
export function layerWarnings(outcomes: readonly LayerOutcome[]): string[] {
  return outcomes.flatMap(({ report }) => report.warnings.map((text) => `layer ${report.source.digest}: ${printable(text)}`));
}

/** Formats of which no image has an index now, not even the one that it had before. */
function unindexed({ indexing }: LayerJob, { platforms, named }: Publisher): string[] {
  const without = indexing.filter(({ format }) => platforms.length > 0 && !named.has(format.binding.artifactType));
  return without.map(({ format }) => `no layer has a ${format.name} index: the image runs, but not lazily by it`);
}

function totals(outcomes: readonly LayerOutcome[], milliseconds: number): ConvertReport['totals'] {
  const reports = outcomes.map(({ report }) => report);
  return {
    sourceBytes: reports.reduce((sum, { source }) => sum + source.size, 0),
    targetBytes: reports.reduce((sum, { target }) => sum + target.size, 0),
    indexBytes: reports.flatMap(({ indexes }) => indexes).reduce((sum, { blob }) => sum + (blob?.size ?? 0), 0),
    tarBytes: reports.reduce((sum, { tarSize }) => sum + tarSize, 0),
    seconds: Math.round(milliseconds) / 1000,
  };
}
