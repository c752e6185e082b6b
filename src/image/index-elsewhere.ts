import type { Digest } from '../core/digest.ts';
import { LazypullError } from '../core/errors.ts';
import type { DescribedLayer, FormatChoice, IndexingFormat } from '../core/format.ts';
import { streamOf } from '../core/stream.ts';
import type { ByteStream, Descriptor, ImageStore } from '../core/types.ts';
import { ThreadPool, defaultJobs } from '../codec/pool.ts';
import { describe } from '../oci/documents.ts';
import { convertLayers, type LayerJob } from './convert-layers.ts';
import type { ConvertProgress } from './convert-report.ts';
import type { ImageDocument } from './documents-tree.ts';
import { DEFAULT_MAX_LAYER_SIZE } from './image-layer.ts';
import type { SourceLayer } from './follow-layer.ts';
import type { OpenImage } from './open.ts';
import { referrersOf } from './referrers-of.ts';
import { sourceLayers } from './source-layers.ts';

export interface IndexElsewhereOptions {
  /** Where the index goes. */
  readonly target: ImageStore;
  /** What is known about a layer, so that it need not be fetched. Its blob is in the target. */
  readonly known?: (layer: Descriptor) => Promise<DescribedLayer | undefined>;
  /** Formats that look at the layers on the same pass, and store nothing of what is kept. */
  readonly besides?: readonly FormatChoice<IndexingFormat>[];
  /** Threads, and layers side by side; default: all cores. */
  readonly jobs?: number;
  /** Most bytes of plain tar per layer; default 64 GiB. */
  readonly maxLayerSize?: number;
  readonly signal?: AbortSignal;
  readonly progress?: (event: ConvertProgress) => void;
}

/** What became of an index that is not stored with its image. */
export interface IndexedElsewhere {
  /** Manifest that refers to the image. */
  readonly artifact: Descriptor;
  /** Layers that were described, with the blobs about them. */
  readonly layers: readonly { readonly layer: Descriptor; readonly blob: Descriptor }[];
  readonly warnings: readonly string[];
}

/**
 * Describes the layers of an image, each fetched once, and stores the result in another store than the image's. UNSUPPORTED
 * where the format has nothing to say about the image.
 */
export async function indexElsewhere(image: OpenImage, choice: FormatChoice<IndexingFormat>, options: IndexElsewhereOptions): Promise<IndexedElsewhere> {
  const { target, besides = [] } = options;
  const signal = options.signal ?? new AbortController().signal;
  const { place, descriptor, manifest, manifestBytes, config } = image;
  const jobs = options.jobs ?? defaultJobs();
  const workers = new ThreadPool(jobs);
  try {
    const document: ImageDocument = { kind: 'image', descriptor, bytes: manifestBytes, manifest, config };
    const job: LayerJob = {
      source: place.store,
      target,
      rewriting: undefined,
      indexing: [choice, ...besides],
      workers,
      maxLayerSize: options.maxLayerSize ?? DEFAULT_MAX_LAYER_SIZE,
      // The layers stay where they are.
      dryRun: true,
      mayRepack: false,
      signal,
      progress: options.progress ?? (() => undefined),
    };
    const known = new Map<Digest, DescribedLayer>();
    for (const layer of options.known ? manifest.layers : []) {
      const described = await options.known?.(layer);
      if (described) known.set(layer.digest, described);
    }
    const layers = (await sourceLayers(place, document, { readers: [], plain: false, signal })).filter((layer) => !known.has(layer.descriptor.digest));
    const outcomes = (await convertLayers(new Map([[document, layers]]), job, jobs)).get(document) ?? [];
    for (const [i, { described }] of outcomes.entries()) {
      const found = described.get(choice.format);
      if (found) known.set((layers[i] as SourceLayer).descriptor.digest, found);
    }
    const described = manifest.layers.map((layer) => {
      const found = known.get(layer.digest);
      return found && { descriptor: layer, described: found };
    });
    const { mediaType, digest, size } = descriptor;
    const put = (type: string, bytes: Uint8Array): Promise<Descriptor> => store(target, describe(type, bytes), bytes, signal);
    const artifact = await choice.format.describeImage({ layers: described, put, subject: { mediaType, digest, size } }, choice.options);
    if (!artifact) throw new LazypullError('UNSUPPORTED', `${choice.format.name} has nothing to say about image ${digest}`);
    await store(target, artifact.descriptor, artifact.bytes, signal);
    return { artifact: artifact.descriptor, layers: described.flatMap((one) => (one ? [{ layer: one.descriptor, blob: one.described.blob }] : [])), warnings: artifact.warnings ?? [] };
  } finally {
    await workers.close();
  }
}

async function store(target: ImageStore, descriptor: Descriptor, bytes: Uint8Array, signal: AbortSignal): Promise<Descriptor> {
  await target.push(descriptor, (): ByteStream => streamOf(bytes), signal);
  return descriptor;
}

/**
 * A store that also has what another one has about its images: referrers are looked for there first. `others` is asked about every
 * blob that is read, so it has to know by heart. Everything is written to the first store.
 */
export function withReferrers(store: ImageStore, others: Pick<ImageStore, 'has' | 'open' | 'fetch'> & Required<Pick<ImageStore, 'referrers'>>): ImageStore {
  return {
    location: store.location,
    resolve: (reference, signal) => store.resolve(reference, signal),
    tag: (descriptor, tag, signal) => store.tag(descriptor, tag, signal),
    has: (descriptor, signal) => store.has(descriptor, signal),
    open(descriptor) {
      const here = store.open(descriptor);
      return {
        size: descriptor.size,
        ...(here.fresh !== undefined && { fresh: here.fresh }),
        async read(offset, length, signal) {
          if (!(await others.has(descriptor, signal))) return here.read(offset, length, signal);
          const source = others.open(descriptor);
          const bytes = await source.read(offset, length, signal);
          return source.fresh ? bytes : new Uint8Array(bytes);
        },
        expect: (offset, length) => here.expect?.(offset, length),
        expects: (offset, length) => here.expects?.(offset, length) ?? false,
        distrust: (offset, length) => here.distrust?.(offset, length) ?? false,
      };
    },
    async *fetch(descriptor, signal) {
      yield* (await others.has(descriptor, signal)) ? others.fetch(descriptor, signal) : store.fetch(descriptor, signal);
    },
    push: (descriptor, open, signal) => store.push(descriptor, open, signal),
    ingest: (mediaType, produce, signal) => store.ingest(mediaType, produce, signal),
    async referrers(subject, signal) {
      const here = await others.referrers(subject, signal);
      return here.length > 0 ? here : referrersOf(store, subject, signal);
    },
    ...(store.mount && { mount: (descriptor, from, signal) => store.mount?.(descriptor, from, signal) as Promise<boolean> }),
    ...(store.tags && { tags: (signal) => store.tags?.(signal) as Promise<readonly string[]> }),
    close: () => store.close(),
  };
}
