import { digestLike, type Digest } from '../core/digest.ts';
import { corrupt, LazypullError } from '../core/errors.ts';
import type { Format } from '../core/format.ts';
import type { Descriptor, Platform } from '../core/types.ts';
import { parseIndex, parseManifest, type ImageConfig, type ImageManifest } from '../oci/documents.ts';
import { isForeignLayer, isIndexType, isManifestType } from '../oci/media-types.ts';
import { formatPlatform, isAttestation } from '../oci/platform.ts';
import { checkDocumentType, checkIndexDepth, DocumentBudget, fetchConfig, fetchDocument, historyProblem, layerCountProblem, platformOfConfig } from './documents.ts';
import { imageLayers, ReadCounter, type ImageLayer, type ReadStats } from './image-layer.ts';
import type { Place } from './place.ts';
import { selectImage } from './select.ts';

/** One container image whose documents have been read. */
export interface ReadImage {
  readonly descriptor: Descriptor;
  readonly platform: Platform | undefined;
  readonly manifest: ImageManifest;
  readonly config: ImageConfig;
  /** Lowest first. */
  readonly layers: readonly ImageLayer[];
}

export interface ReadSetOptions {
  /** Only the image of this platform; default: all that the root leads to. */
  readonly platform?: Platform | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Takes what is wrong with a document; may throw to end the reading. */
export type ReportProblem = (error: unknown, image: Digest) => void;

/** A manifest, or an index with all its images. Documents that are wrong are reported and left out. */
export class ImageSet {
  readonly place: Place;
  readonly root: Descriptor;
  readonly images: ReadImage[] = [];
  /** Manifests that are not images: attestations, artifacts. */
  readonly others: Descriptor[] = [];
  /** Blobs by digest, layers included, foreign ones not. */
  readonly blobs = new Map<Digest, Descriptor>();
  /** Manifests and indexes. */
  readonly manifests = new Set<Digest>();
  readonly #formats: readonly Format<unknown>[];
  readonly #report: ReportProblem;
  readonly #counter = new ReadCounter();
  readonly #budget = new DocumentBudget();

  private constructor(place: Place, root: Descriptor, formats: readonly Format<unknown>[], report: ReportProblem) {
    this.place = place;
    this.root = root;
    this.#formats = formats;
    this.#report = report;
  }

  static async read(place: Place, formats: readonly Format<unknown>[], report: ReportProblem, { platform, signal }: ReadSetOptions): Promise<ImageSet> {
    const root = await place.store.resolve(place.reference, signal);
    checkDocumentType(place.store, root);
    const set = new ImageSet(place, root, formats, report);
    const chosen = platform && isIndexType(root.mediaType) ? await selectImage(place.store, root, platform, signal) : { descriptor: root, entries: undefined };
    await set.#document(chosen.descriptor, signal, 0, chosen.entries);
    return set;
  }

  /** What has been read of layers by ranges. */
  stats(): ReadStats {
    return this.#counter.stats();
  }

  async #document(descriptor: Descriptor, signal: AbortSignal | undefined, depth: number, entries?: readonly Descriptor[]): Promise<void> {
    if (this.manifests.has(descriptor.digest)) return;
    this.manifests.add(descriptor.digest);
    const what = `manifest ${descriptor.digest}`;
    try {
      this.#budget.spend(1, what);
      const bytes = await fetchDocument(this.place.store, descriptor, what, signal);
      if (!isIndexType(descriptor.mediaType)) return await this.#manifest(descriptor, bytes, signal, entries);
      checkIndexDepth(depth, what);
      const { manifests } = parseIndex(bytes, what);
      for (const entry of manifests) {
        this.#checkInline(entry, descriptor.digest);
        if (isIndexType(entry.mediaType) || isManifestType(entry.mediaType)) await this.#document(entry, signal, depth + 1, manifests);
        else this.blobs.set(entry.digest, entry);
      }
    } catch (error) {
      this.#report(error, descriptor.digest);
    }
  }

  /** image-spec 1.1 descriptor.md: `data` is the content itself, and clients may take it in place of the blob. */
  #checkInline({ digest, size, data }: Descriptor, image: Digest): void {
    if (data === undefined) return;
    const bytes = Buffer.from(data, 'base64');
    if (bytes.length === size && digestLike(digest, bytes) === digest && bytes.toString('base64') === data) return;
    this.#report(new LazypullError('DIGEST_MISMATCH', `the descriptor of ${digest} has other content in its data field`), image);
  }

  async #manifest(descriptor: Descriptor, bytes: Uint8Array, signal: AbortSignal | undefined, entries: readonly Descriptor[] | undefined): Promise<void> {
    const what = `manifest ${descriptor.digest}`;
    const manifest = parseManifest(bytes, what);
    for (const blob of [manifest.config, ...manifest.layers]) {
      this.#checkInline(blob, descriptor.digest);
      if (!isForeignLayer(blob.mediaType)) this.blobs.set(blob.digest, blob);
    }
    const config = isAttestation(descriptor) ? undefined : await fetchConfig(this.place.store, manifest, what, signal);
    if (!config) {
      this.others.push(descriptor);
      return;
    }
    const count = layerCountProblem(manifest, config);
    // Without diffIDs there is nothing to hold the layers against but their own digests.
    if (count) throw corrupt(`${what}: ${count}`);
    const history = historyProblem(manifest, config);
    if (history) this.#report(corrupt(`${what}: ${history}`), descriptor.digest);
    const own = platformOfConfig(config);
    const said = descriptor.platform;
    if (own && said && (own.os !== said.os || own.architecture !== said.architecture)) {
      this.#report(corrupt(`${what}: the index says ${formatPlatform(said)}, the config ${formatPlatform(own)}`), descriptor.digest);
    }
    const layers = imageLayers({ place: this.place, descriptor, manifest, config, entries }, this.#formats, this.#counter);
    this.images.push({ descriptor, platform: said ?? own, manifest, config, layers });
  }
}
