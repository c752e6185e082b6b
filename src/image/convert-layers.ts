import type { Digest } from '../core/digest.ts';
import { LazypullError } from '../core/errors.ts';
import type { ConvertContext, ConvertedLayer, DescribedLayer, IndexingFormat, RewritingFormat, StoredLayer } from '../core/format.ts';
import type { ByteStream, Descriptor, ImageStore, Ingest, WorkerPool } from '../core/types.ts';
import { isForeignLayer, isTarLayer, OCI, toOciType } from '../oci/media-types.ts';
import { carryAlong } from './carry-along.ts';
import type { ConvertProgress, LayerIndexReport, LayerReport } from './convert-report.ts';
import type { ImageDocument } from './documents-tree.ts';
import { Followers, followLayer, type Followed, type Indexed, type Indexing, type SourceLayer } from './follow-layer.ts';
import { mapLimited } from './limited.ts';
import { withLayerInput } from './layer-input.ts';
import { repackLayer } from './repack-layer.ts';
import { transferBlob } from './transfer.ts';

/** What became of a layer. */
export interface LayerOutcome {
  /** For the new manifest. */
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  /** Absent for a layer that was not converted. */
  readonly converted?: ConvertedLayer;
  readonly described: ReadonlyMap<IndexingFormat, DescribedLayer>;
  readonly report: LayerReport;
}

export interface LayerJob {
  readonly source: ImageStore;
  readonly target: ImageStore;
  readonly rewriting?: { readonly format: RewritingFormat; readonly options: unknown } | undefined;
  readonly indexing: readonly Indexing[];
  readonly workers: WorkerPool;
  /** Most bytes of plain tar that a layer may have. */
  readonly maxLayerSize: number;
  readonly dryRun: boolean;
  /** A layer may be packed anew because an index wants it as gzip. */
  readonly mayRepack: boolean;
  readonly signal: AbortSignal;
  progress(event: ConvertProgress): void;
}

/** Layers that several platforms share are converted once; a different diffID makes them different layers. */
function keyOf({ descriptor, diffId }: SourceLayer): string {
  return `${descriptor.digest} ${diffId}`;
}

/** The layers of each image. */
export type Sources = ReadonlyMap<ImageDocument, readonly SourceLayer[]>;

/** What became of each layer of each image. */
export type Outcomes = ReadonlyMap<ImageDocument, readonly LayerOutcome[]>;

/** Every layer once, however many images share it. */
export function eachOnce(outcomes: Outcomes): LayerOutcome[] {
  return [...new Set([...outcomes.values()].flat())];
}

/** Brings all layers of all images into the target, some side by side. */
export async function convertLayers(images: Sources, job: LayerJob, jobs: number): Promise<Outcomes> {
  if (job.rewriting?.format.inOrder) return convertInOrder(images, job);
  const layers = new Map<string, SourceLayer>();
  for (const layer of [...images.values()].flat()) layers.set(keyOf(layer), layer);
  // The largest first: what is left at the end is small.
  const queue = [...layers].sort(([, a], [, b]) => b.descriptor.size - a.descriptor.size);
  job.progress({ type: 'total', layers: queue.length, bytes: queue.reduce((sum, [, layer]) => sum + layer.descriptor.size, 0) });
  const done = await mapLimited(queue, Math.min(jobs, 8), async ([key, layer], signal) => [key, await convertLayer(layer, { ...job, signal })] as const, job.signal);
  const outcomes = new Map(done);
  return new Map([...images].map(([image, own]) => [image, own.map((layer) => outcomes.get(keyOf(layer)) as LayerOutcome)]));
}

/** Layer upon layer. Images that begin with the same layers share them. */
async function convertInOrder(images: Sources, job: LayerJob): Promise<Outcomes> {
  const chains = new Map<string, LayerOutcome>();
  const chainOf = (layers: readonly SourceLayer[]): string => layers.map(keyOf).join(' ');
  const stacks = new Map([...images.values()].flatMap((layers) => layers.map((_, i) => layers.slice(0, i + 1)).map((stack) => [chainOf(stack), stack] as const)));
  const tops = [...stacks.values()].map((stack) => (stack.at(-1) as SourceLayer).descriptor.size);
  job.progress({ type: 'total', layers: stacks.size, bytes: tops.reduce((sum, size) => sum + size, 0) });
  const outcomes = new Map<ImageDocument, LayerOutcome[]>();
  for (const [image, layers] of images) {
    const own: LayerOutcome[] = [];
    for (const [i, layer] of layers.entries()) {
      const chain = chainOf(layers.slice(0, i + 1));
      const outcome = chains.get(chain) ?? (await convertLayer(layer, job, own.flatMap(({ converted }) => converted ?? [])));
      chains.set(chain, outcome);
      own.push(outcome);
    }
    outcomes.set(image, own);
  }
  return outcomes;
}

/** Brings one layer into the target: converted, described, kept because it is in the format already, or left alone. */
async function convertLayer(layer: SourceLayer, job: LayerJob, below: readonly ConvertedLayer[] = []): Promise<LayerOutcome> {
  const { descriptor, diffId } = layer;
  const started = performance.now();
  job.progress({ type: 'layer', digest: descriptor.digest, phase: 'start', size: descriptor.size });
  const placed = await place(layer, job, below);
  const { converted, indexed = new Map<IndexingFormat, Indexed>() } = placed;
  const described = new Map([...indexed].filter((pair): pair is [IndexingFormat, DescribedLayer] => !('skipped' in pair[1])));
  const action = placed.action === 'kept' && described.size > 0 ? 'indexed' : placed.action;
  // What the eye is to fall on: the new layer's own index, or else the first one about it.
  const own = action === 'converted' ? converted : placed.adopted;
  const [facts = { entries: 0, chunks: 0 }] = own ? [own] : described.values();
  const reused = action === 'kept' || action === 'passed-through' || action === 'foreign';
  job.progress({ type: 'layer', digest: descriptor.digest, phase: reused ? 'reused' : 'done', size: descriptor.size });
  const newDiffId = converted?.diffId ?? diffId;
  if (newDiffId === undefined) throw new LazypullError('INTERNAL', `layer ${descriptor.digest} was not made`);
  return {
    descriptor: placed.descriptor,
    diffId: newDiffId,
    ...(converted && { converted }),
    described,
    report: {
      source: { digest: descriptor.digest, size: descriptor.size },
      target: { digest: placed.descriptor.digest, size: placed.descriptor.size },
      diffId: newDiffId,
      action,
      entries: facts.entries,
      chunks: facts.chunks,
      tarSize: converted?.tarSize ?? placed.followed?.tarSize ?? 0,
      ratio: descriptor.size === 0 ? 1 : Math.round((placed.descriptor.size / descriptor.size) * 10_000) / 10_000,
      seconds: Math.round(performance.now() - started) / 1000,
      warnings: [...(converted?.warnings ?? []), ...[...described.values()].flatMap(({ warnings = [] }) => warnings)],
      indexes: [...indexed].map(([format, found]) => indexReport(format.name, found)),
    },
  };
}

function indexReport(format: string, found: Indexed): LayerIndexReport {
  if ('skipped' in found) return { format, blob: null, skipped: found.skipped, entries: 0, chunks: 0 };
  const { blob, entries, chunks } = found;
  return { format, blob: { digest: blob.digest, size: blob.size }, skipped: null, entries, chunks };
}

interface Placed {
  readonly action: LayerReport['action'];
  readonly descriptor: Descriptor;
  readonly converted?: ConvertedLayer;
  readonly adopted?: { readonly entries: number; readonly chunks: number };
  readonly followed?: Followed;
  readonly indexed?: ReadonlyMap<IndexingFormat, Indexed>;
}

async function place(layer: SourceLayer, job: LayerJob, below: readonly ConvertedLayer[]): Promise<Placed> {
  const { source, signal, rewriting } = job;
  const descriptor = { ...layer.descriptor, mediaType: toOciType(layer.descriptor.mediaType) };
  if (isForeignLayer(descriptor.mediaType)) {
    job.progress({ type: 'bytes', packed: descriptor.size, tar: 0 });
    return { action: 'foreign', descriptor };
  }
  if (!isTarLayer(descriptor.mediaType)) {
    await carry(layer, job);
    return { action: 'kept', descriptor };
  }
  if (!rewriting) return layer.tar ? rewrite(layer, job) : keep(layer, descriptor, job);
  const { format } = rewriting;
  if (format.plain && !layer.lazy && descriptor.mediaType === OCI.layerGzip) return keep(layer, descriptor, job);
  if (layer.tar) return rewrite(layer, job, { ...rewriting, below });
  const stored: StoredLayer = { descriptor, source: source.open(layer.descriptor) };
  if (await format.detect(stored, signal)) {
    const adopted = await format.adopt(stored, signal);
    if (adopted) return { ...(await keep(layer, adopted.descriptor, job)), action: 'passed-through', adopted };
  }
  return rewrite(layer, job, { ...rewriting, below });
}

/** The layer's bytes stay; formats that describe it follow it on its way into the target, which is also the only way it goes. */
async function keep(layer: SourceLayer, descriptor: Descriptor, job: LayerJob): Promise<Placed> {
  const begin = (): Followers => new Followers(job.indexing, descriptor, { ingest: ingestOf(job), workers: job.workers, signal: job.signal }, job.mayRepack);
  const first = begin();
  if (first.repack.length > 0) {
    await first.abandon();
    return rewrite(layer, job);
  }
  if (first.size === 0) {
    await carry(layer, job);
    return { action: 'kept', descriptor, indexed: first.skipped };
  }
  let ready: Followers | undefined = first;
  const next = (): Followers => {
    const followers = ready ?? begin();
    ready = undefined;
    return followers;
  };
  const { followed, followers } = await onceMore(() => carryAndFollow(layer, job, next), job.signal);
  const indexed = await followers.finish(descriptor, followed.compression);
  return { action: 'kept', descriptor, followed, indexed };
}

interface Rewriting {
  readonly format: RewritingFormat;
  readonly options: unknown;
  readonly below: readonly ConvertedLayer[];
}

/** Makes a new layer, followed as it is written. Without a format it is the same tar as gzip. */
async function rewrite(layer: SourceLayer, job: LayerJob, rewriting?: Rewriting): Promise<Placed> {
  const { workers, signal } = job;
  const ingest = ingestOf(job);
  const { converted, followers } = await onceMore(async () => {
    const followers = new Followers(job.indexing, { mediaType: OCI.layerGzip }, { ingest, workers, signal }, false);
    try {
      const context = { ingest, workers, signal, ...(followers.size > 0 && { follower: followers }) };
      return { converted: await (rewriting ? convertWith(rewriting, layer, job, context) : withLayerInput(layer, { ...job, hashing: ALONE }, (input) => repackLayer(input, context))), followers };
    } catch (error) {
      await followers.abandon();
      throw error;
    }
  }, signal);
  const indexed = await followers.finish(converted.descriptor, 'gzip');
  return { action: rewriting ? 'converted' : 'repacked', descriptor: converted.descriptor, converted, indexed };
}

/**
 * For layers that are made side by side: while one is read, the pool's threads compress for another, and a thread for hashing
 * would find no processor free. It pays where layers are made one after the other.
 */
const ALONE = { jobs: 1 };

/** A format that goes on needing the old layer reads it on its way into the target. */
async function convertWith({ format, options, below }: Rewriting, layer: SourceLayer, job: LayerJob, context: ConvertContext): Promise<ConvertedLayer> {
  const hashing = format.inOrder ? job.workers : ALONE;
  const convert = (first?: ByteStream): Promise<ConvertedLayer> => withLayerInput(layer, { ...job, hashing }, (input) => format.convert(input, { ...context, below }, options), first);
  if (!format.keepsLayers || layer.tar) return convert();
  return carryAlong(layer.descriptor, job, convert, async () => undefined);
}

function ingestOf({ target, signal }: LayerJob): Ingest {
  return (mediaType, produce) => target.ingest(mediaType, produce, signal);
}

/** Brings a blob as it is into the target, in the cheapest way that works. */
async function carry({ descriptor }: SourceLayer, job: LayerJob): Promise<void> {
  if (!job.dryRun) await transferBlob(job.source, job.target, descriptor, { signal: job.signal });
  job.progress({ type: 'bytes', packed: descriptor.size, tar: 0 });
}

/** Brings a blob into the target while it is followed. */
function carryAndFollow(layer: SourceLayer, job: LayerJob, begin: () => Followers): Promise<{ readonly followed: Followed; readonly followers: Followers }> {
  const follow = async (packed: ByteStream): Promise<{ followed: Followed; followers: Followers }> => {
    const followers = begin();
    try {
      return { followed: await followLayer(packed, followers, layer, job), followers };
    } catch (error) {
      await followers.abandon();
      throw error;
    }
  };
  return carryAlong(layer.descriptor, job, follow, ({ followers }) => followers.abandon());
}

/**
 * A connection that breaks inside an upload of unknown length cannot be mended with every registry: docker-registry forgets
 * the upload. The layer is then made a second time.
 */
async function onceMore<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (signal.aborted || !(error instanceof LazypullError) || error.code !== 'NETWORK') throw error;
    return work();
  }
}
