import type { Digest } from '../core/digest.ts';
import type { Format } from '../core/format.ts';
import type { Descriptor, Platform } from '../core/types.ts';
import { isIndexType } from '../oci/media-types.ts';
import { formatPlatform, normalizePlatform } from '../oci/platform.ts';
import { examineImage, leftOut } from './examine.ts';
import { DEFAULT_MAX_LAYER_SIZE, type ImageLayer } from './image-layer.ts';
import { ImageSet, type ReadImage } from './image-set.ts';
import { mapLimited } from './limited.ts';
import { spellPlace, type Place } from './place.ts';
import type { ImageProgress } from './progress.ts';
import { compareImages } from './verify-against.ts';
import { drain, openForCheck, verifyLayer, type KnownLayer, type LayerCheck, type LayerCheckOptions } from './verify-layer.ts';
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
const DEFAULT_MAX_PROBLEMS = 100;

/**
 * Reads all of an image and checks it: documents, every blob's size and digest, diffIDs, and for lazy layers the index
 * against the tar and every chunk. What is wrong is listed in the report; what keeps it from finding out (no such image,
 * network, credentials) is thrown.
 */
export async function verifyImage(place: Place, formats: readonly Format<unknown>[], options: VerifyOptions = {}): Promise<VerifyReport> {
  const problems = new ProblemList(options.maxProblems ?? DEFAULT_MAX_PROBLEMS);
  const report = (error: unknown, manifest: Digest): void => problems.addError(error, { image: manifest });
  const image = await ImageSet.read(place, formats, report, options);
  const original = options.against && (await ImageSet.read(options.against, formats, report, options));
  const run = new Run(problems, options);
  const images: VerifiedImage[] = [];
  const examined = new Map<ReadImage, readonly Format<unknown>[]>();
  const pairs = original ? pair(image, original, problems) : new Map<ReadImage, ReadImage>();
  // Of the original only layers are read, and only those of images that have a partner.
  const compared = [...pairs.values()].flatMap(({ layers }) => layers.filter(({ foreign }) => !foreign).map(({ descriptor }) => descriptor));
  const blobs = new Map([...image.blobs.values(), ...compared].map((blob) => [blob.digest, blob]));
  options.progress?.({ type: 'total', blobs: blobs.size, bytes: [...blobs.values()].reduce((sum, { size }) => sum + size, 0) });
  run.expect([...image.images, ...pairs.values()]);
  for (const one of image.images) {
    const layers = await run.layers(image, one);
    images.push({ digest: one.descriptor.digest, platform: one.platform ?? null, layers: layers.map(({ verified }) => verified) });
    const other = pairs.get(one);
    if (original && other) {
      const before = await run.layers(original, other);
      try {
        compareImages({ digest: other.descriptor.digest, config: other.config, layers: before }, { digest: one.descriptor.digest, config: one.config, layers }, problems);
      } catch (error) {
        // Layers that cannot be put on top of each other.
        problems.addError(error, { image: one.descriptor.digest });
      }
      run.release(other);
    }
    run.release(one);
    examined.set(one, await examine(one, formats, image.images.length === 1, problems, options.signal));
  }
  for (const note of leftOut(examined)) problems.notes.add(note);
  await run.others(image);
  const layers = [...new Map(images.flatMap((one) => one.layers).map((layer) => [layer.digest, layer])).values()];
  const sum = (of: (layer: (typeof layers)[number]) => number): number => layers.reduce((total, layer) => total + of(layer), 0);
  return {
    ok: problems.found === 0,
    reference: spellPlace(place),
    digest: image.root.digest,
    against: options.against && original ? { reference: spellPlace(options.against), digest: original.root.digest } : null,
    images,
    problems: problems.problems,
    omitted: problems.omitted,
    notes: [...problems.notes],
    totals: {
      manifests: image.manifests.size,
      blobs: image.blobs.size,
      bytes: [...image.blobs.values()].reduce((total, { size }) => total + size, 0),
      tarBytes: sum(({ tarSize }) => tarSize),
      entries: sum(({ entries }) => entries),
      files: sum(({ files }) => files),
      chunks: sum(({ chunks }) => chunks),
    },
  };
}

/** The documents that formats keep about an image, and which of them have some. */
async function examine(image: ReadImage, formats: readonly Format<unknown>[], alone: boolean, problems: ProblemList, signal: AbortSignal | undefined): Promise<readonly Format<unknown>[]> {
  const place = { image: image.descriptor.digest };
  try {
    const said = await examineImage(image, formats, alone, signal);
    for (const message of said.problems) problems.add({ code: 'CORRUPT', message, ...place });
    for (const note of said.notes) problems.notes.add(note);
    return said.formats;
  } catch (error) {
    problems.addError(error, place);
    return formats;
  }
}

/** The image of the original for each image, by platform; what has no partner is a problem. */
function pair(image: ImageSet, original: ImageSet, problems: ProblemList): Map<ReadImage, ReadImage> {
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
  for (const other of left) {
    const message = `the original has an image for ${platformKey(other)}, which is missing here`;
    // A single image may be one of many on purpose; an index is expected to be whole unless a platform was asked for.
    if (isIndexType(image.root.mediaType)) problems.add({ code: 'DIFFERENT', message, image: other.descriptor.digest });
    else problems.notes.add(message);
  }
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

  async layers(side: ImageSet, image: ReadImage): Promise<LayerCheck[]> {
    const signal = this.#options.signal ?? new AbortController().signal;
    const last = image.layers.at(-1);
    // An index about the whole image is in the last layer; opened first, its chunks are checked while the other layers go by.
    const readings = last?.claimed && !this.#checks.has(keyOf(last)) ? await openForCheck(last, image.layers.slice(0, -1).filter((layer) => !this.#checks.has(keyOf(layer))), this.#problems, this.#checkOptions(signal)) : undefined;
    const whole = readings?.filter(({ open }) => open.describes === 'image') ?? [];
    const beside = ({ descriptor }: ImageLayer): KnownLayer['beside'] =>
      whole.flatMap(({ open, chunks }) => (open.blobDigests ?? []).flatMap((digest, blob) => (digest === descriptor.digest ? [{ chunks, blob }] : [])));
    const check = (layer: ImageLayer, either: AbortSignal): Promise<LayerCheck> => {
      const key = keyOf(layer);
      let begun = this.#checks.get(key);
      if (!begun) {
        begun = this.#layer(side, layer, either, layer === last ? { ...(readings && { readings }) } : { beside: beside(layer) ?? [] });
        this.#checks.set(key, begun);
      }
      return begun;
    };
    const others = whole.length > 0 ? image.layers.slice(0, -1) : image.layers;
    const checks = await mapLimited(others, this.#options.jobs ?? DEFAULT_JOBS, check, signal);
    return whole.length > 0 && last ? [...checks, await check(last, signal)] : checks;
  }

  /** Configs, attestations, artifacts: only size and digest. */
  async others(side: ImageSet): Promise<void> {
    const left = [...side.blobs.values()].filter(({ digest }) => !this.#seen.has(digest));
    await mapLimited(left, this.#options.jobs ?? DEFAULT_JOBS, async (blob, signal) => {
      await drain(side.place.store, blob, this.#problems, this.#checkOptions(signal));
      this.#done(blob);
    }, this.#options.signal);
  }

  async #layer(side: ImageSet, layer: ImageLayer, signal: AbortSignal, known: KnownLayer): Promise<LayerCheck> {
    const check = await verifyLayer(side.place.store, layer, this.#problems, this.#checkOptions(signal), known);
    this.#done(layer.descriptor);
    if (this.#options.against) return check;
    const { tree: _unused, ...rest } = check;
    return rest;
  }

  #checkOptions(signal: AbortSignal): LayerCheckOptions {
    const { maxLayerSize = DEFAULT_MAX_LAYER_SIZE, progress } = this.#options;
    return { maxLayerSize, signal, contents: this.#options.against !== undefined, moved: (bytes) => progress?.({ type: 'bytes', bytes }) };
  }

  #done({ digest, size }: Descriptor): void {
    if (this.#seen.has(digest)) return;
    this.#seen.add(digest);
    this.#options.progress?.({ type: 'blob', digest, size, moved: true });
  }
}

/** The same blob under another diffID or with other annotations is another thing to check. */
function keyOf({ descriptor, diffId }: ImageLayer): string {
  return JSON.stringify([descriptor.digest, diffId, descriptor.mediaType, descriptor.annotations ?? {}]);
}

function keysOf({ layers }: ReadImage): string[] {
  return [...new Set(layers.map(keyOf))];
}
