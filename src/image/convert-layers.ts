import { Digester, type Digest } from '../core/digest.ts';
import { LazypullError, wrapError } from '../core/errors.ts';
import { tap } from '../core/stream.ts';
import type { ByteStream, ConvertedLayer, Descriptor, Format, ImageStore, LayerInput, StoredLayer, WorkerPool } from '../core/types.ts';
import { decompress } from '../codec/compression.ts';
import { isForeignLayer, isTarLayer, toOciType } from '../oci/media-types.ts';
import type { ConvertProgress, LayerReport } from './convert-report.ts';
import { transferBlob } from './transfer.ts';

/** A layer of the source, with what its config says about it. */
export interface SourceLayer {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
}

/** What became of a layer. */
export interface LayerOutcome {
  /** For the new manifest. */
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  /** Absent for a layer that was not converted. */
  readonly converted?: ConvertedLayer;
  readonly report: LayerReport;
}

export interface LayerJob<O> {
  readonly source: ImageStore;
  readonly target: ImageStore;
  readonly format: Format<O>;
  readonly formatOptions: O;
  readonly workers: WorkerPool;
  /** Most bytes of plain tar that a layer may have. */
  readonly maxLayerSize: number;
  readonly dryRun: boolean;
  readonly signal: AbortSignal;
  progress(event: ConvertProgress): void;
}

/** Brings one layer into the target: converted, kept because it is in the format already, or left alone. */
export async function convertLayer<O>(layer: SourceLayer, job: LayerJob<O>): Promise<LayerOutcome> {
  const { descriptor, diffId } = layer;
  const started = performance.now();
  job.progress({ type: 'layer', digest: descriptor.digest, phase: 'start', size: descriptor.size });
  const outcome = await place(layer, job);
  const { action, converted, entries, chunks } = outcome;
  job.progress({ type: 'layer', digest: descriptor.digest, phase: action === 'converted' ? 'done' : 'reused', size: descriptor.size });
  return {
    descriptor: outcome.descriptor,
    diffId: converted?.diffId ?? diffId,
    ...(converted && { converted }),
    report: {
      source: { digest: descriptor.digest, size: descriptor.size },
      target: { digest: outcome.descriptor.digest, size: outcome.descriptor.size },
      diffId: converted?.diffId ?? diffId,
      action,
      entries,
      chunks,
      tarSize: converted?.tarSize ?? 0,
      ratio: descriptor.size === 0 ? 1 : Math.round((outcome.descriptor.size / descriptor.size) * 10_000) / 10_000,
      seconds: Math.round(performance.now() - started) / 1000,
      warnings: converted?.warnings ?? [],
    },
  };
}

interface Placed {
  readonly action: LayerReport['action'];
  readonly descriptor: Descriptor;
  readonly converted?: ConvertedLayer;
  readonly entries: number;
  readonly chunks: number;
}

async function place<O>(layer: SourceLayer, job: LayerJob<O>): Promise<Placed> {
  const { source, target, format, signal } = job;
  const descriptor = { ...layer.descriptor, mediaType: toOciType(layer.descriptor.mediaType) };
  if (isForeignLayer(descriptor.mediaType)) return { action: 'foreign', descriptor, entries: 0, chunks: 0 };
  const keep = async (action: Placed['action'], kept: Descriptor, entries = 0, chunks = 0): Promise<Placed> => {
    if (!job.dryRun) await transferBlob(source, target, layer.descriptor, { signal });
    job.progress({ type: 'bytes', packed: layer.descriptor.size, tar: 0 });
    return { action, descriptor: kept, entries, chunks };
  };
  if (!isTarLayer(descriptor.mediaType)) return keep('kept', descriptor);
  const stored: StoredLayer = { descriptor, source: source.open(layer.descriptor) };
  if (await format.detect(stored, signal)) {
    const adopted = await format.adopt(stored, signal);
    if (adopted) return keep('passed-through', adopted.descriptor, adopted.entries, adopted.chunks);
  }
  const ingest = (mediaType: string, produce: Parameters<ImageStore['ingest']>[1]): Promise<Descriptor> => target.ingest(mediaType, produce, signal);
  const input = layerInput(layer, job);
  const converted = await onceMore(() => format.convert(input, { ingest, workers: job.workers, signal }, job.formatOptions), signal);
  return { action: 'converted', descriptor: converted.descriptor, converted, entries: converted.entries, chunks: converted.chunks };
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

/** The layer as the format sees it: stored bytes verified on the way in, plain tar held against the config's diffID. */
function layerInput<O>({ descriptor, diffId }: SourceLayer, job: LayerJob<O>): LayerInput {
  const what = `layer ${descriptor.digest}`;
  // Later passes (a prefetch list) read the same bytes again: only the first one is progress.
  let passes = 0;
  const packed = (): ByteStream => {
    const first = passes++ === 0;
    return tap(job.source.fetch(descriptor, job.signal), (bytes) => {
      if (first) job.progress({ type: 'bytes', packed: bytes.length, tar: 0 });
    });
  };
  return {
    descriptor,
    diffId,
    packed,
    async *tar() {
      const digester = new Digester();
      try {
        yield* tap(decompress(packed(), { maxSize: job.maxLayerSize, what, signal: job.signal }), (bytes) => digester.update(bytes));
      } catch (error) {
        throw wrapError(error, 'CORRUPT', `${what} cannot be read`);
      }
      const got = digester.finish();
      if (got !== diffId) throw new LazypullError('DIGEST_MISMATCH', `${what} inflates to diffID ${got}, the image config says ${diffId}`);
    },
  };
}
