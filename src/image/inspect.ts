import type { Digest } from '../core/digest.ts';
import type { Format } from '../core/format.ts';
import type { OpenLayer, Platform } from '../core/types.ts';
import { walk } from '../layer/walk.ts';
import { examineImage } from './examine.ts';
import type { ImageLayer } from './image-layer.ts';
import { ImageSet } from './image-set.ts';
import { mapLimited } from './limited.ts';
import { spellPlace, type Place } from './place.ts';
import { isFinding, ProblemList } from './verify-report.ts';

export interface InspectOptions {
  /** Only this platform of an index; default: all. */
  readonly platform?: Platform;
  readonly signal?: AbortSignal;
}

/** What a lazy layer's index tells. Sizes in bytes. */
export interface LazyFacts {
  /** Names in the tree that the layer describes; what the format added to the tar is not counted. */
  readonly entries: number;
  /** Regular files, hard links not counted again. */
  readonly files: number;
  readonly chunks: number;
  /** All files once unpacked. */
  readonly contentBytes: number;
  /** Stored bytes that are index: what laziness costs. */
  readonly indexBytes: number;
  /** `indexBytes` of the layer's size, percent, two decimals. */
  readonly overheadPercent: number;
  /** Stored bytes that a reader is asked to fetch ahead. */
  readonly prefetchBytes: number;
  /** What a reader fetches before anything runs: index and prefetch. */
  readonly firstReadBytes: number;
  /** In the format's own words. */
  readonly details: Readonly<Record<string, string | number | boolean>>;
}

export interface InspectedLayer {
  readonly digest: Digest;
  readonly mediaType: string;
  /** Stored bytes. */
  readonly size: number;
  readonly diffId: Digest;
  /** Name of the lazy format that the layer is read as, null for a layer in none. */
  readonly format: string | null;
  /** All lazy formats that the layer is in, that one first. */
  readonly formats: readonly string[];
  readonly annotations: Readonly<Record<string, string>>;
  /** Null for a layer in no lazy format, that is read whole, or whose index cannot be read. */
  readonly lazy: LazyFacts | null;
  /** Why the layer is read whole although its format is a lazy one. */
  readonly eager: string | null;
  /** Why the index cannot be read. */
  readonly problem: string | null;
}

export interface InspectTotals {
  readonly layers: number;
  readonly lazyLayers: number;
  readonly size: number;
  readonly entries: number;
  readonly files: number;
  readonly chunks: number;
  readonly indexBytes: number;
  /** Lazy layers: index and prefetch. Others: all of them, because nothing runs before they are pulled. */
  readonly firstReadBytes: number;
}

export interface InspectedImage {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly platform: Platform | null;
  readonly annotations: Readonly<Record<string, string>>;
  readonly layers: readonly InspectedLayer[];
  readonly totals: InspectTotals;
}

/** What an image is made of. Stable: it is what `--json` prints. */
export interface InspectReport {
  readonly reference: string;
  readonly digest: Digest;
  readonly mediaType: string;
  readonly images: readonly InspectedImage[];
  /** Attestations and artifacts in the index. */
  readonly others: readonly { readonly digest: Digest; readonly mediaType: string; readonly size: number }[];
  /** Layers that several images share are counted once. */
  readonly totals: InspectTotals;
  /** What is wrong with manifests, configs and the documents of lazy formats, one line each. */
  readonly problems: readonly string[];
  /** What else lazy formats say about the images, one line each. */
  readonly notes: readonly string[];
  /** Ranged reads that the answer took. */
  readonly read: { readonly requests: number; readonly bytes: number };
}

/** Layer indexes that are fetched side by side. */
const PARALLEL_LAYERS = 4;
const MAX_PROBLEMS = 100;

/** Describes an image and how it would be read lazily; only indexes of layers are fetched. */
export async function inspectImage(place: Place, formats: readonly Format<unknown>[], options: InspectOptions = {}): Promise<InspectReport> {
  const problems = new ProblemList(MAX_PROBLEMS);
  const set = await ImageSet.read(place, formats, (error, image) => problems.addError(error, { image }), options);
  const seen = new Map<string, InspectedLayer>();
  const images: InspectedImage[] = [];
  for (const image of set.images) {
    const { descriptor, platform, manifest, layers } = image;
    const inspected = await mapLimited(layers, PARALLEL_LAYERS, async (layer, signal) => {
      const key = JSON.stringify([layer.diffId, layer.descriptor]);
      const known = seen.get(key) ?? (await inspectLayer(layer, signal));
      seen.set(key, known);
      return known;
    }, options.signal);
    images.push({
      digest: descriptor.digest,
      mediaType: descriptor.mediaType,
      platform: platform ?? null,
      annotations: manifest.annotations ?? {},
      layers: inspected,
      totals: totalsOf(inspected),
    });
    try {
      const said = await examineImage(image, formats, set.images.length === 1, options.signal);
      for (const message of said.problems) problems.add({ code: 'CORRUPT', message });
      for (const note of said.notes) problems.notes.add(note);
    } catch (error) {
      problems.addError(error);
    }
  }
  return {
    reference: spellPlace(place),
    digest: set.root.digest,
    mediaType: set.root.mediaType,
    images,
    others: set.others.map(({ digest, mediaType, size }) => ({ digest, mediaType, size })),
    totals: totalsOf([...new Map(images.flatMap(({ layers }) => layers).map((layer) => [layer.digest, layer])).values()]),
    problems: problems.problems.map(({ message }) => message),
    notes: [...problems.notes],
    read: set.stats(),
  };
}

async function inspectLayer(layer: ImageLayer, signal: AbortSignal): Promise<InspectedLayer> {
  const { digest, mediaType, size, annotations = {} } = layer.descriptor;
  const names = (await layer.formats(signal)).map(({ name }) => name);
  const base = { digest, mediaType, size, diffId: layer.diffId, format: names[0] ?? null, formats: names, annotations, lazy: null, eager: null, problem: null };
  const format = await layer.format(signal);
  if (!format) return base;
  try {
    const eager = await format.eager?.(layer.stored, signal);
    return eager === undefined ? { ...base, lazy: factsOf(await layer.open(signal), size) } : { ...base, eager };
  } catch (error) {
    // A layer that lies about itself is a fact about the image; a network that fails is not.
    if (!isFinding(error)) throw error;
    return { ...base, problem: error.message };
  }
}

function factsOf(open: OpenLayer, size: number): LazyFacts {
  const { root, chunks, prefetch = [] } = open.index;
  const files = new Set<object>();
  let entries = 0;
  let contentBytes = 0;
  for (const { node } of walk(root)) {
    if (!(node.type === 'directory' && node.implied)) entries += 1;
    if (node.type !== 'file' || files.has(node)) continue;
    files.add(node);
    contentBytes += node.size;
  }
  const prefetchBytes = prefetch.reduce((sum, { offset, end }) => sum + (end - offset), 0);
  return {
    entries,
    files: files.size,
    chunks: chunks.length,
    contentBytes,
    indexBytes: open.indexBytes,
    overheadPercent: size === 0 ? 0 : Math.round((open.indexBytes / size) * 10_000) / 100,
    prefetchBytes,
    firstReadBytes: open.indexBytes + prefetchBytes,
    details: open.facts ?? {},
  };
}

function totalsOf(layers: readonly InspectedLayer[]): InspectTotals {
  const sum = (of: (lazy: LazyFacts) => number): number => layers.reduce((total, { lazy }) => total + (lazy ? of(lazy) : 0), 0);
  return {
    layers: layers.length,
    lazyLayers: layers.filter(({ lazy }) => lazy !== null).length,
    size: layers.reduce((total, { size }) => total + size, 0),
    entries: sum(({ entries }) => entries),
    files: sum(({ files }) => files),
    chunks: sum(({ chunks }) => chunks),
    indexBytes: sum(({ indexBytes }) => indexBytes),
    firstReadBytes: layers.reduce((total, { lazy, size }) => total + (lazy ? lazy.firstReadBytes : size), 0),
  };
}
