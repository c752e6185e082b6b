import { isDigest, type Digest } from '../core/digest.ts';
import { LazypullError } from '../core/errors.ts';
import { CountingSource } from '../core/source.ts';
import type { ByteSource, Descriptor, Format, OpenLayer, StoredLayer } from '../core/types.ts';
import { parseIndex, parseManifest, type ImageConfig, type ImageManifest } from '../oci/documents.ts';
import { isForeignLayer, isIndexType, isManifestType } from '../oci/media-types.ts';
import { fetchDocument } from './documents.ts';
import { Once } from './once.ts';
import { resolveIfThere, type Place } from './place.ts';

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

  count(source: ByteSource): ByteSource {
    const counting = new CountingSource(source);
    this.#sources.push(counting);
    return counting;
  }

  stats(): ReadStats {
    let requests = 0;
    let bytes = 0;
    for (const source of this.#sources) {
      requests += source.requests;
      bytes += source.bytes;
    }
    return { requests, bytes };
  }
}

/** A layer of an image, opened when asked. What succeeded once is kept. */
export class ImageLayer {
  /** Place in the manifest, from 0. */
  readonly number: number;
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly stored: StoredLayer;
  readonly #formats: readonly Format<unknown>[];
  readonly #format = new Once((signal) => this.#detect(signal));
  readonly #opened = new Once((signal) => this.#open(signal));

  constructor(number: number, stored: StoredLayer, diffId: Digest, formats: readonly Format<unknown>[]) {
    this.number = number;
    this.descriptor = stored.descriptor;
    this.diffId = diffId;
    this.stored = stored;
    this.#formats = formats;
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
  format(signal?: AbortSignal): Promise<Format<unknown> | undefined> {
    return this.#format.get(signal);
  }

  /** The layer's index and how to read its chunks; UNSUPPORTED when it is in none of the formats. */
  open(signal?: AbortSignal): Promise<OpenLayer> {
    return this.#opened.get(signal);
  }

  async #detect(signal: AbortSignal | undefined): Promise<Format<unknown> | undefined> {
    if (this.foreign) return undefined;
    for (const format of this.#formats) if (await format.detect(this.stored, signal)) return format;
    return undefined;
  }

  async #open(signal: AbortSignal | undefined): Promise<OpenLayer> {
    const format = await this.format(signal);
    if (format) return format.open(this.stored, signal);
    if (this.foreign) throw new LazypullError('UNSUPPORTED', `${this.name} is a foreign layer, which no registry holds`);
    const names = this.#formats.map(({ name }) => name).join(', ') || 'none';
    throw new LazypullError('UNSUPPORTED', `${this.name} is in no format that can be read lazily (looked for: ${names}); convert the image first`);
  }
}

/** The layers of a manifest, in order. Everything read through them is counted. */
export function imageLayers(place: Place, manifest: ImageManifest, config: ImageConfig, formats: readonly Format<unknown>[], counter: ReadCounter): ImageLayer[] {
  return manifest.layers.map((descriptor, number) => {
    const stored: StoredLayer = {
      descriptor,
      source: counter.count(place.store.open(descriptor)),
      sibling: (suffix, signal) => siblingLayers(place, suffix, counter, signal),
    };
    return new ImageLayer(number, stored, config.rootfs.diff_ids[number] as Digest, formats);
  });
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
