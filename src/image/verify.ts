import { isDigest, type Digest } from '../core/digest.ts';
import { printable } from '../core/errors.ts';
import type { Descriptor, Format, Platform } from '../core/types.ts';
import { parseConfig, parseIndex, parseManifest, type ImageConfig, type ImageManifest } from '../oci/documents.ts';
import { isForeignLayer, isIndexType, isManifestType } from '../oci/media-types.ts';
import { formatPlatform, isAttestation, normalizePlatform } from '../oci/platform.ts';
import { imageLayers, ReadCounter, type ImageLayer } from './image-layer.ts';
import { mapLimited } from './limited.ts';
import { historyProblem, layerCountProblem } from './open.ts';
import type { Place } from './place.ts';
import type { ImageProgress } from './progress.ts';
import { checkDocumentType, fetchDocument, isImageConfigType, MAX_INDEX_DEPTH, platformOfConfig, selectImage } from './select.ts';
import { compareImages } from './verify-against.ts';
import { drain, verifyLayer, type LayerCheck } from './verify-layer.ts';
import { ProblemList, type VerifiedImage, type VerifyReport } from './verify-report.ts';

export interface VerifyOptions {
  /** Compare with this image: same trees, contents and configs. */
  readonly against?: Place;
  /** Only this platform of an index; default: all. */
  readonly platform?: Platform;
  /** Layers side by side; default 2. */
  readonly jobs?: number;
  /** Most bytes of plain tar per layer; default 64 GiB. */
  readonly maxLayerSize?: number;
  /** Problems that are listed, the rest is counted; default 100. */
  readonly maxProblems?: number;
  readonly signal?: AbortSignal;
  readonly progress?: (event: ImageProgress) => void;
}

const DEFAULT_JOBS = 2;
const DEFAULT_MAX_LAYER = 64 * 1024 ** 3;
const DEFAULT_MAX_PROBLEMS = 100;

/**
 * Reads all of an image and checks it: documents, every blob's size and digest, diffIDs, and for lazy layers the index
 * against the tar and every chunk. What is wrong is listed in the report; what keeps it from finding out (no such image,
 * network, credentials) is thrown.
 */
export async function verifyImage(place: Place, formats: readonly Format<unknown>[], options: VerifyOptions = {}): Promise<VerifyReport> {
  const problems = new ProblemList(options.maxProblems ?? DEFAULT_MAX_PROBLEMS);
  const image = await Side.read(place, formats, problems, options);
  const original = options.against && (await Side.read(options.against, formats, problems, options));
  const blobs = new Map([...image.blobs, ...(original?.blobs ?? [])]);
  options.progress?.({ type: 'total', blobs: blobs.size, bytes: [...blobs.values()].reduce((sum, { size }) => sum + size, 0) });
  const run = new Run(problems, options);
  const images: VerifiedImage[] = [];
  const pairs = original ? pair(image, original, problems) : new Map<ReadImage, ReadImage>();
  run.expect([...image.images, ...pairs.values()]);
  for (const one of image.images) {
    const layers = await run.layers(image, one);
    images.push({ digest: one.descriptor.digest, platform: one.platform ?? null, layers: layers.map(({ verified }) => verified) });
    const other = pairs.get(one);
    if (original && other) {
      const before = await run.layers(original, other);
      compareImages({ digest: other.descriptor.digest, config: other.config, layers: before }, { digest: one.descriptor.digest, config: one.config, layers }, problems);
      run.release(other);
    }
    run.release(one);
  }
  await run.others(image);
  const layers = [...new Map(images.flatMap((one) => one.layers).map((layer) => [layer.digest, layer])).values()];
  const sum = (of: (layer: (typeof layers)[number]) => number): number => layers.reduce((total, layer) => total + of(layer), 0);
  return {
    ok: problems.found === 0,
    reference: spell(place),
    digest: image.root.digest,
    against: options.against && original ? { reference: spell(options.against), digest: original.root.digest } : null,
    images,
    problems: problems.problems,
    omitted: problems.omitted,
    notes: [...problems.notes],
    totals: {
      manifests: image.manifests,
      blobs: image.blobs.size,
      bytes: [...image.blobs.values()].reduce((total, { size }) => total + size, 0),
      tarBytes: sum(({ tarSize }) => tarSize),
      entries: sum(({ entries }) => entries),
      files: sum(({ files }) => files),
      chunks: sum(({ chunks }) => chunks),
    },
  };
}

interface ReadImage {
  readonly descriptor: Descriptor;
  readonly platform: Platform | undefined;
  readonly manifest: ImageManifest;
  readonly config: ImageConfig;
  readonly layers: readonly ImageLayer[];
}

/** An image, or an index with all its images, whose documents have been read and checked. */
class Side {
  readonly place: Place;
  readonly root: Descriptor;
  readonly images: ReadImage[] = [];
  /** Blobs by digest, layers included, foreign ones not. */
  readonly blobs = new Map<Digest, Descriptor>();
  manifests = 0;
  readonly #formats: readonly Format<unknown>[];
  readonly #problems: ProblemList;
  readonly #counter = new ReadCounter();

  private constructor(place: Place, root: Descriptor, formats: readonly Format<unknown>[], problems: ProblemList) {
    this.place = place;
    this.root = root;
    this.#formats = formats;
    this.#problems = problems;
  }

  static async read(place: Place, formats: readonly Format<unknown>[], problems: ProblemList, { platform, signal }: VerifyOptions): Promise<Side> {
    const root = await place.store.resolve(place.reference, signal);
    checkDocumentType(place.store, root);
    const side = new Side(place, root, formats, problems);
    const chosen = platform ? (await selectImage(place.store, root, platform, signal)).descriptor : root;
    await side.#document(chosen, signal, 0);
    return side;
  }

  async #document(descriptor: Descriptor, signal: AbortSignal | undefined, depth: number): Promise<void> {
    const what = `manifest ${descriptor.digest}`;
    this.manifests += 1;
    try {
      const bytes = await fetchDocument(this.place.store, descriptor, what, signal);
      if (!isIndexType(descriptor.mediaType)) return await this.#manifest(descriptor, bytes, signal);
      if (depth >= MAX_INDEX_DEPTH) {
        this.#problems.add({ code: 'LIMIT', message: `${what}: more than ${MAX_INDEX_DEPTH} indexes inside each other` });
        return;
      }
      for (const entry of parseIndex(bytes, what).manifests) {
        if (isIndexType(entry.mediaType) || isManifestType(entry.mediaType)) await this.#document(entry, signal, depth + 1);
        else this.blobs.set(entry.digest, entry);
      }
    } catch (error) {
      this.#problems.addError(error, { image: descriptor.digest });
    }
  }

  async #manifest(descriptor: Descriptor, bytes: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const what = `manifest ${descriptor.digest}`;
    const manifest = parseManifest(bytes, what);
    for (const blob of [manifest.config, ...manifest.layers]) if (!isForeignLayer(blob.mediaType)) this.blobs.set(blob.digest, blob);
    if (!isImageConfigType(manifest.config.mediaType) || isAttestation(descriptor)) return;
    const config = parseConfig(await fetchDocument(this.place.store, manifest.config, `config of ${what}`, signal), `config of ${what}`);
    const image = descriptor.digest;
    const history = historyProblem(manifest, config);
    if (history) this.#problems.add({ code: 'CORRUPT', message: `${what}: ${history}`, image });
    const count = layerCountProblem(manifest, config);
    if (count) {
      // Without diffIDs there is nothing to hold the layers against but their own digests.
      this.#problems.add({ code: 'CORRUPT', message: `${what}: ${count}`, image });
      return;
    }
    const own = platformOfConfig(config);
    const said = descriptor.platform;
    if (own && said && (own.os !== said.os || own.architecture !== said.architecture)) {
      this.#problems.add({ code: 'CORRUPT', message: `${what}: the index says ${formatPlatform(said)}, the config ${formatPlatform(own)}`, image });
    }
    const layers = imageLayers(this.place, manifest, config, this.#formats, this.#counter);
    this.images.push({ descriptor, platform: said ?? own, manifest, config, layers });
  }
}

/** The image of the original for each image, by platform; what has no partner is a problem. */
function pair(image: Side, original: Side, problems: ProblemList): Map<ReadImage, ReadImage> {
  const pairs = new Map<ReadImage, ReadImage>();
  const [single, another] = original.images;
  const left = new Set(original.images);
  for (const one of image.images) {
    const lone = image.images.length === 1 && single && !another ? single : undefined;
    const other = lone ?? [...left].find((candidate) => platformKey(candidate) === platformKey(one));
    if (other) {
      pairs.set(one, other);
      left.delete(other);
    } else {
      problems.add({ code: 'DIFFERENT', message: `the original has no image for ${platformKey(one)}`, image: one.descriptor.digest });
    }
  }
  for (const other of left) problems.add({ code: 'DIFFERENT', message: `the original has an image for ${platformKey(other)}, which is missing here`, image: other.descriptor.digest });
  return pairs;
}

function platformKey({ platform }: ReadImage): string {
  return platform ? formatPlatform(normalizePlatform(platform)) : 'no platform';
}

/** Layers and other blobs, each looked at once however many images share it. */
class Run {
  readonly #problems: ProblemList;
  readonly #options: VerifyOptions;
  readonly #checks = new Map<string, Promise<LayerCheck>>();
  /** How many images still want a layer: its tree is let go with the last one. */
  readonly #uses = new Map<string, number>();
  readonly #seen = new Set<Digest>();

  constructor(problems: ProblemList, options: VerifyOptions) {
    this.#problems = problems;
    this.#options = options;
  }

  expect(images: readonly ReadImage[]): void {
    for (const key of images.flatMap(keysOf)) this.#uses.set(key, (this.#uses.get(key) ?? 0) + 1);
  }

  release(image: ReadImage): void {
    for (const key of keysOf(image)) {
      const left = (this.#uses.get(key) ?? 1) - 1;
      this.#uses.set(key, left);
      if (left > 0) continue;
      this.#checks.delete(key);
    }
  }

  async layers(side: Side, image: ReadImage): Promise<LayerCheck[]> {
    const stop = new AbortController();
    const signal = this.#signal(stop);
    return mapLimited(image.layers, this.#options.jobs ?? DEFAULT_JOBS, (layer) => {
      const key = keyOf(layer);
      let check = this.#checks.get(key);
      if (!check) {
        check = this.#layer(side, layer, signal);
        this.#checks.set(key, check);
      }
      return check;
    }, stop);
  }

  /** Configs, attestations, artifacts: only size and digest. */
  async others(side: Side): Promise<void> {
    const stop = new AbortController();
    const signal = this.#signal(stop);
    const left = [...side.blobs.values()].filter(({ digest }) => !this.#seen.has(digest));
    await mapLimited(left, this.#options.jobs ?? DEFAULT_JOBS, async (blob) => {
      await drain(side.place.store, blob, this.#problems, this.#checkOptions(signal));
      this.#done(blob);
    }, stop);
  }

  async #layer(side: Side, layer: ImageLayer, signal: AbortSignal): Promise<LayerCheck> {
    const check = await verifyLayer(side.place.store, layer, this.#problems, this.#checkOptions(signal));
    this.#done(layer.descriptor);
    if (this.#options.against) return check;
    const { tree: _unused, ...rest } = check;
    return rest;
  }

  #checkOptions(signal: AbortSignal): { maxLayerSize: number; signal: AbortSignal; moved: (bytes: number) => void } {
    const { maxLayerSize = DEFAULT_MAX_LAYER, progress } = this.#options;
    return { maxLayerSize, signal, moved: (bytes) => progress?.({ type: 'bytes', bytes }) };
  }

  #done({ digest, size }: Descriptor): void {
    if (this.#seen.has(digest)) return;
    this.#seen.add(digest);
    this.#options.progress?.({ type: 'blob', digest, size, moved: true });
  }

  #signal(stop: AbortController): AbortSignal {
    return this.#options.signal ? AbortSignal.any([this.#options.signal, stop.signal]) : stop.signal;
  }
}

/** The same blob under another diffID or with other annotations is another thing to check. */
function keyOf({ descriptor, diffId }: ImageLayer): string {
  return JSON.stringify([descriptor.digest, diffId, descriptor.mediaType, descriptor.annotations ?? {}]);
}

function keysOf({ layers }: ReadImage): string[] {
  return [...new Set(layers.map(keyOf))];
}

function spell({ store, reference }: Place): string {
  const separator = reference === '' ? '' : isDigest(reference) ? '@' : ':';
  return printable(`${store.location}${separator}${reference}`);
}
