import { corrupt, LazypullError, printable } from '../core/errors.ts';
import { Once } from '../core/once.ts';
import type { Format, StoredImage } from '../core/format.ts';
import type { Descriptor, DirectoryNode, Platform, RegularNode } from '../core/types.ts';
import { ChunkCache } from '../layer/cache.ts';
import { lookup, type Found } from '../layer/lookup.ts';
import { mergeLayers } from '../layer/overlay.ts';
import { DEFAULT_CACHE_BYTES, LayerReader } from '../layer/reader.ts';
import { nodeAt } from '../layer/tree.ts';
import { parseManifest, type ImageConfig, type ImageManifest } from '../oci/documents.ts';
import { isIndexType } from '../oci/media-types.ts';
import { hostPlatform } from '../oci/platform.ts';
import { checkDocumentType, fetchConfig, fetchDocument, historyProblem, layerCountProblem, platformOfConfig } from './documents.ts';
import { ImageLayer, imageLayers, ReadCounter, storedImage, type ReadStats } from './image-layer.ts';
import { mapLimited } from './limited.ts';
import type { Place } from './place.ts';
import { referrersOf } from './referrers-of.ts';
import { otherPlatform, selectImage } from './select.ts';

export interface OpenOptions {
  /** Which image of an index; default: the host's. */
  readonly platform?: Platform;
  /** Ask for what refers to the image while its config is on its way: for who will look for an index of layers that do not say what they are. */
  readonly referrers?: boolean;
  /** What the reference leads to, where that has been asked already. */
  readonly root?: Descriptor;
  readonly signal?: AbortSignal;
}

/** Layer indexes that are fetched side by side. */
const PARALLEL_LAYERS = 4;

/**
 * Opens an image for reading: resolves the reference, picks the platform, reads manifest and config. Layers are looked
 * into when they are needed, and then only by ranged reads. `formats` may be on their way themselves.
 */
export async function openImage(place: Place, formats: readonly Format<unknown>[] | Promise<readonly Format<unknown>[]>, options: OpenOptions = {}): Promise<OpenImage> {
  const { store, reference } = place;
  const { platform, signal } = options;
  const root = options.root ?? (await store.resolve(reference, signal));
  checkDocumentType(store, root);
  const lone = !isIndexType(root.mediaType);
  const { descriptor, warnings, entries } = lone ? { descriptor: root, warnings: [], entries: undefined } : await selectImage(store, root, platform, signal);
  const what = `manifest ${descriptor.digest}`;
  const manifestBytes = await fetchDocument(store, descriptor, what, signal);
  const manifest = parseManifest(manifestBytes, what);
  const referrers = options.referrers && !manifest.layers.every(({ annotations }) => annotations) ? referrersOf(store, descriptor, signal) : undefined;
  // Who needs them asks again.
  referrers?.catch(() => undefined);
  const config = await fetchConfig(store, manifest, what, signal);
  if (!config) throw new LazypullError('UNSUPPORTED', `${what} is an artifact (${printable(manifest.config.mediaType)}), not a container image`);
  const mismatch = layerCountProblem(manifest, config);
  if (mismatch) throw corrupt(`${what}: ${mismatch}`);
  const history = historyProblem(manifest, config);
  const other = lone && otherPlatform(root, root.platform ?? platformOfConfig(config), platform ?? hostPlatform());
  const heard = [...warnings, ...(other ? [other] : []), ...(history ? [`${what}: ${history}`] : [])];
  return new OpenImage(place, await formats, descriptor, { manifest, manifestBytes, config, entries, referrers }, heard);
}

/** One image as formats look at it: for an option that names an image (`FormatOption` of kind `image`). */
export async function openStoredImage(place: Place, signal?: AbortSignal): Promise<StoredImage> {
  const image = await openImage(place, [], signal ? { signal } : {});
  return storedImage({ place, descriptor: image.descriptor, manifest: image.manifest, config: image.config }, new ReadCounter());
}

interface Documents {
  readonly manifest: ImageManifest;
  readonly manifestBytes: Uint8Array;
  readonly config: ImageConfig;
  /** Of the index that the manifest was found in. */
  readonly entries?: readonly Descriptor[] | undefined;
  readonly referrers?: Promise<readonly Descriptor[]> | undefined;
}

export interface FindOptions {
  /** Follow a symlink at the end of the path as well; those on the way always are. Default true. */
  readonly followSymlinks?: boolean;
  readonly signal?: AbortSignal;
}

/** What a path of the merged tree leads to, and the topmost layer that has it; none for directories nobody describes. */
export interface FoundInImage extends Found {
  readonly layer: ImageLayer | undefined;
}

export interface ReadRange {
  /** First byte; default 0. */
  readonly offset?: number;
  /** Bytes; default up to the end. More than 1 GiB is refused: stream instead. */
  readonly length?: number;
  readonly signal?: AbortSignal;
}

/** An image whose files are read from where they are, without pulling it. */
export class OpenImage {
  readonly place: Place;
  /** Of the manifest. */
  readonly descriptor: Descriptor;
  readonly platform: Platform | undefined;
  readonly manifest: ImageManifest;
  /** The manifest as stored. */
  readonly manifestBytes: Uint8Array;
  readonly config: ImageConfig;
  /** Lowest first. */
  readonly layers: readonly ImageLayer[];
  /** One line each, for instance that the image is for another platform. */
  readonly warnings: readonly string[];
  readonly #counter = new ReadCounter();
  readonly #cache = new ChunkCache(DEFAULT_CACHE_BYTES);
  readonly #readers = new Map<ImageLayer, LayerReader>();
  readonly #tree = new Once((signal) => this.#merge(signal));

  constructor(place: Place, formats: readonly Format<unknown>[], descriptor: Descriptor, documents: Documents, warnings: readonly string[]) {
    this.place = place;
    this.descriptor = descriptor;
    this.manifest = documents.manifest;
    this.manifestBytes = documents.manifestBytes;
    this.config = documents.config;
    this.platform = descriptor.platform ?? platformOfConfig(documents.config);
    this.layers = imageLayers({ place, descriptor, manifest: this.manifest, config: this.config, entries: documents.entries, referrers: documents.referrers }, formats, this.#counter);
    this.warnings = warnings;
  }

  /** What has been read of the layers so far. */
  stats(): ReadStats {
    return this.#counter.stats();
  }

  /** The tree that a container would see: all layers over each other. */
  tree(signal?: AbortSignal): Promise<DirectoryNode> {
    return this.#tree.get(signal);
  }

  /** Finds a path as a process in the container would; undefined when it is not there. */
  async find(path: string, options: FindOptions = {}): Promise<FoundInImage | undefined> {
    const { followSymlinks = true, signal } = options;
    const found = lookup(await this.tree(signal), path, { followSymlinks });
    return found && { ...found, layer: await this.#owner(found, signal) };
  }

  /** Bytes of a file, read by ranges from the layer that has it. Symlinks are followed. NOT_FOUND, or USAGE for what is no file. */
  async readFile(path: string, range: ReadRange = {}): Promise<Uint8Array> {
    const { node, reader, found } = await this.#file(path, range.signal);
    const { offset = 0, length = Math.max(0, node.size - offset) } = range;
    return reader.readFile(node, offset, length, loadOptions(found, range.signal));
  }

  /** A whole file, in bounded memory. Fails as `readFile` does. */
  async *streamFile(path: string, options: { readonly signal?: AbortSignal } = {}): AsyncGenerator<Uint8Array> {
    const { node, reader, found } = await this.#file(path, options.signal);
    yield* reader.stream(node, loadOptions(found, options.signal));
  }

  async #merge(signal: AbortSignal | undefined): Promise<DirectoryNode> {
    const opened = await mapLimited(this.layers, PARALLEL_LAYERS, (layer, either) => layer.open(either), signal);
    return mergeLayers(opened.map(({ index }) => index.root));
  }

  async #file(path: string, signal: AbortSignal | undefined): Promise<{ node: RegularNode; reader: LayerReader; found: Found }> {
    const found = await this.find(path, signal ? { signal } : {});
    if (!found) throw new LazypullError('NOT_FOUND', 'no such file in the image', { path });
    const { node, layer } = found;
    if (node.type !== 'file' || !layer) throw new LazypullError('USAGE', `is a ${node.type}, not a file`, { path });
    let reader = this.#readers.get(layer);
    if (!reader) {
      reader = new LayerReader(await layer.open(signal), { cache: this.#cache });
      this.#readers.set(layer, reader);
    }
    return { node, reader, found };
  }

  /** Files are shared with the layer's own tree; merged directories are not, so theirs is the topmost that describes one. */
  async #owner({ path, node }: Found, signal: AbortSignal | undefined): Promise<ImageLayer | undefined> {
    for (const layer of this.layers.toReversed()) {
      const own = nodeAt((await layer.open(signal)).index.root, path);
      if (node.type === 'directory' ? own?.type === 'directory' && !own.implied : own === node) return layer;
    }
    return undefined;
  }
}

function loadOptions({ path }: Found, signal: AbortSignal | undefined): { path: string; signal?: AbortSignal } {
  return signal ? { path, signal } : { path };
}
