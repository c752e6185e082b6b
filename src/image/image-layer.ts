import { isDigest, type Digest } from '../core/digest.ts';
import { LazypullError, type ErrorCode } from '../core/errors.ts';
import { Once } from '../core/once.ts';
import { CountingSource } from '../core/source.ts';
import { collect } from '../core/stream.ts';
import type { Format, StoredImage, StoredLayer } from '../core/format.ts';
import type { ByteSource, Descriptor, ImageStore, OpenLayer } from '../core/types.ts';
import { parseIndex, parseManifest, type ImageConfig, type ImageManifest } from '../oci/documents.ts';
import { isForeignLayer, isIndexType, isManifestType } from '../oci/media-types.ts';
import { fetchDocument } from './documents.ts';
import { referrersOf } from './referrers-of.ts';
import { resolveIfThere, type Place } from './place.ts';

/** What other bytes might put right. */
const WRONG_BYTES: ReadonlySet<ErrorCode> = new Set(['CORRUPT', 'DIGEST_MISMATCH', 'SIZE_MISMATCH']);
/** Places that are asked for one index. */
const MAX_TRIES = 4;
/** Most bytes of plain tar that a layer may have unless the caller says otherwise, against decompression bombs: 64 GiB. */
export const DEFAULT_MAX_LAYER_SIZE = 64 * 1024 ** 3;
/** What a tag may be at most (distribution-spec 1.1). */
const MAX_TAG = 128;

/** Requests and bytes of layer content, index reads included; manifests and configs are not counted. */
export interface ReadStats {
  readonly requests: number;
  readonly bytes: number;
}

/** Sums up what is read through the sources it hands out. */
export class ReadCounter {
  readonly #sources: CountingSource[] = [];
  /** Whole blobs that were fetched. */
  #blobs = 0;
  #blobBytes = 0;

  count(source: ByteSource): ByteSource {
    const counting = new CountingSource(source);
    this.#sources.push(counting);
    return counting;
  }

  /** Counts a blob that was fetched whole. */
  add(bytes: number): void {
    this.#blobs += 1;
    this.#blobBytes += bytes;
  }

  stats(): ReadStats {
    let requests = this.#blobs;
    let bytes = this.#blobBytes;
    for (const source of this.#sources) {
      requests += source.requests;
      bytes += source.bytes;
    }
    return { requests, bytes };
  }
}

/** What is known of a layer as one of the formats. */
interface Way {
  readonly format: Format<unknown>;
  readonly detected: Once<boolean>;
  readonly opened: Once<OpenLayer>;
  /** The same without the tree, where that is less. */
  readonly content: Once<OpenLayer>;
}

/** A layer of an image, opened when asked. What succeeded once is kept. */
export class ImageLayer {
  /** Place in the manifest, from 0. */
  readonly number: number;
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly stored: StoredLayer;
  /** Its annotations alone say that it is in one of the formats. */
  readonly claimed: boolean;
  readonly #ways: readonly Way[];

  constructor(number: number, stored: StoredLayer, diffId: Digest, formats: readonly Format<unknown>[]) {
    this.number = number;
    this.descriptor = stored.descriptor;
    this.diffId = diffId;
    this.stored = stored;
    const claiming = formats.filter((format) => format.claims?.(stored));
    this.claimed = claiming.length > 0;
    this.#ways = [...new Set([...claiming, ...formats])].map((format) => ({
      format,
      detected: new Once((signal) => format.detect(stored, signal)),
      opened: new Once((signal) => trusting(stored, () => format.open(stored, signal))),
      content: new Once((signal) => trusting(stored, () => (format.openContent ?? format.open).call(format, stored, signal))),
    }));
  }

  /** `layer 2 (sha256:...)`, counted from 1 as people do. */
  get name(): string {
    return `layer ${this.number + 1} (${this.descriptor.digest})`;
  }

  /** Whether no registry holds the layer: its bytes are elsewhere. */
  get foreign(): boolean {
    return isForeignLayer(this.descriptor.mediaType);
  }

  /** The first of the given formats that the layer is in. */
  async format(signal?: AbortSignal): Promise<Format<unknown> | undefined> {
    return (await this.#detected(signal).next()).value?.format;
  }

  /** All of the given formats that the layer is in: an eStargz layer may have a zTOC as well. */
  async formats(signal?: AbortSignal): Promise<readonly Format<unknown>[]> {
    const formats: Format<unknown>[] = [];
    for await (const { format } of this.#detected(signal)) formats.push(format);
    return formats;
  }

  /** The layer's index and how to read its chunks, as the first format that it is in; UNSUPPORTED when it is in none. */
  async open(signal?: AbortSignal): Promise<OpenLayer> {
    const way = (await this.#detected(signal).next()).value;
    if (way) return way.opened.get(signal);
    if (this.foreign) throw new LazypullError('UNSUPPORTED', `${this.name} is a foreign layer, which no registry holds`);
    const names = this.#ways.map(({ format }) => format.name).join(', ') || 'none';
    throw new LazypullError('UNSUPPORTED', `${this.name} is in no format that can be read lazily (looked for: ${names}); convert the image first`);
  }

  /** The same for who has the merged tree: `index.root` may be empty then. */
  async openContent(signal?: AbortSignal): Promise<OpenLayer> {
    const way = (await this.#detected(signal).next()).value;
    return way?.format.openContent ? way.content.get(signal) : this.open(signal);
  }

  /** The same as one of `formats()`. */
  async openAs(format: Format<unknown>, signal?: AbortSignal): Promise<OpenLayer> {
    const way = this.#ways.find((one) => one.format === format);
    if (!way) throw new LazypullError('INTERNAL', `${this.name} was not looked at as ${format.name}`);
    return way.opened.get(signal);
  }

  /** What has been opened as a format already, the tree included; undefined when nothing has, or did not work. */
  async openedAs(name: string): Promise<OpenLayer | undefined> {
    return this.#ways.find(({ format }) => format.name === name)?.opened.made();
  }

  async *#detected(signal: AbortSignal | undefined): AsyncGenerator<Way, undefined> {
    if (this.foreign) return undefined;
    for (const way of this.#ways) if (await way.detected.get(signal)) yield way;
    return undefined;
  }
}

/** Opens an index, and once more wherever else its bytes can be had, where they are wrong. */
export async function trusting<T>({ descriptor, source, image }: StoredLayer, open: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await open();
    } catch (error) {
      if (!(error instanceof LazypullError) || !WRONG_BYTES.has(error.code) || tries >= MAX_TRIES) throw error;
      // Parts of an index may be in other blobs of the image.
      const others = (image?.layers ?? []).filter(({ digest }) => digest !== descriptor.digest).map((blob) => image?.open(blob));
      const turns = [source, ...others].map((one) => one?.distrust?.(0, one.size) ?? false);
      if (!turns.includes(true)) throw error;
    }
  }
}

/** What formats may look at, and everything read through it is counted. */
export interface LayersOf {
  readonly place: Place;
  /** Of the manifest. */
  readonly descriptor: Descriptor;
  readonly manifest: ImageManifest;
  readonly config: ImageConfig;
  /** Entries of the index that the manifest was found in. */
  readonly entries?: readonly Descriptor[] | undefined;
  /** What refers to it, when that has been asked for already. */
  readonly referrers?: Promise<readonly Descriptor[]> | undefined;
}

/** The layers of a manifest, in order. Everything read through them is counted. */
export function imageLayers(of: LayersOf, formats: readonly Format<unknown>[], counter: ReadCounter): ImageLayer[] {
  const { place, manifest, config } = of;
  const image = storedImage(of, counter);
  return manifest.layers.map((descriptor, number) => {
    const stored: StoredLayer = { descriptor, source: counter.count(place.store.open(descriptor)), image };
    return new ImageLayer(number, stored, config.rootfs.diff_ids[number] as Digest, formats);
  });
}

/** The image as formats see it. Documents are kept: several formats, and several layers, ask for the same ones. */
export function storedImage({ place, descriptor, manifest, config, entries, referrers: asked }: LayersOf, counter: ReadCounter): StoredImage {
  const { store } = place;
  // Every format asks for its own.
  const referrers = new Once(async (signal) => (await asked?.catch(() => undefined)) ?? referrersOf(store, descriptor, signal));
  const image: StoredImage = {
    descriptor,
    annotations: manifest.annotations ?? {},
    layers: manifest.layers,
    diffIds: config.rootfs.diff_ids,
    ...(entries && { entries }),
    resolve: (digest, signal) => resolveIfThere(store, digest, signal),
    async fetch(blob, limit, signal) {
      const what = `${blob.mediaType} ${blob.digest}`;
      if (blob.size > limit) throw new LazypullError('LIMIT', `${what} has ${blob.size} bytes, more than the ${limit} allowed`);
      const bytes = await collect(store.fetch(blob, signal), limit, what);
      // Manifests are no layer content, here as everywhere.
      if (!isManifestType(blob.mediaType)) counter.add(bytes.length);
      return bytes;
    },
    open: (blob) => counter.count(store.open(blob)),
    referrers: async (artifactType, signal) => (await referrers.get(signal)).filter((found) => found.artifactType === artifactType),
    sibling: (suffix, signal) => siblingLayers(place, suffix, counter, signal),
  };
  stores.set(image, store);
  return image;
}

/** Formats see no stores; those who carry blobs from one image to another do. */
const stores = new WeakMap<StoredImage, ImageStore>();

/** Where an image's blobs are; undefined for one that was not made here. */
export function storeOf(image: StoredImage): ImageStore | undefined {
  return stores.get(image);
}

/** Layers of the image tagged `<tag><suffix>` in the same repository; undefined when there is none. */
async function siblingLayers(place: Place, suffix: string, counter: ReadCounter, signal: AbortSignal | undefined): Promise<readonly StoredLayer[] | undefined> {
  const { store, reference } = place;
  // A digest or a layout's only image has no tag to which a suffix could be added.
  if (reference === '' || isDigest(reference) || reference.length + suffix.length > MAX_TAG) return undefined;
  const root = await resolveIfThere(store, `${reference}${suffix}`, signal);
  if (!root) return undefined;
  const what = `manifest ${root.digest} of ${reference}${suffix}`;
  let bytes = await fetchDocument(store, root, what, signal);
  if (isIndexType(root.mediaType)) {
    const first = parseIndex(bytes, what).manifests.find((entry) => isManifestType(entry.mediaType));
    if (!first) return undefined;
    bytes = await fetchDocument(store, first, what, signal);
  }
  return parseManifest(bytes, what).layers.map((descriptor) => ({ descriptor, source: counter.count(store.open(descriptor)) }));
}
