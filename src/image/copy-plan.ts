import { isDigest, type Digest } from '../core/digest.ts';
import { corrupt } from '../core/errors.ts';
import type { Descriptor, ImageStore } from '../core/types.ts';
import { parseIndex, parseManifest } from '../oci/documents.ts';
import { isForeignLayer, isIndexType, isManifestType } from '../oci/media-types.ts';
import { checkIndexDepth, DocumentBudget, fetchDocument } from './documents.ts';
import { resolveIfThere } from './place.ts';

/** Document bytes that are kept between planning and storing; what is beyond is fetched a second time. */
const KEEP_BYTES = 64 * 1024 * 1024;

/** A manifest or index to be copied. */
export interface PlannedDocument {
  readonly descriptor: Descriptor;
  /** 0 for manifests; an index is one above the highest of its entries. Lower ones are stored first. */
  readonly height: number;
  /** Referrers are stored even if they are there: storing is what makes a registry without the API list them. */
  readonly subject: boolean;
}

/** Everything below one or more roots, each content once. */
export class CopyPlan {
  readonly documents = new Map<Digest, PlannedDocument>();
  readonly blobs = new Map<Digest, Descriptor>();
  /** Layers that no registry holds: their descriptors are copied, they are not. */
  readonly foreign = new Map<Digest, Descriptor>();
  readonly #store: ImageStore;
  readonly #written: ReadonlyMap<Digest, Uint8Array>;
  readonly #artifactKeys: readonly string[];
  readonly #budget = new DocumentBudget();
  readonly #kept = new Map<Digest, Uint8Array>();
  #keptBytes = 0;

  /**
   * `written` holds documents that are not in the source as they are to be copied. `artifactKeys` are annotations of
   * manifests that name an artifact beside them.
   */
  constructor(store: ImageStore, written: ReadonlyMap<Digest, Uint8Array> = new Map(), artifactKeys: readonly string[] = []) {
    this.#store = store;
    this.#written = written;
    this.#artifactKeys = artifactKeys;
  }

  /** Adds a root with all that it refers to; returns its height. */
  async add(root: Descriptor, signal?: AbortSignal): Promise<number> {
    return this.#add(root, signal, 0);
  }

  /** Bytes of a planned document, as they are to be stored. */
  async bytes(descriptor: Descriptor, signal?: AbortSignal): Promise<Uint8Array> {
    const known = this.#written.get(descriptor.digest) ?? this.#kept.get(descriptor.digest);
    if (known) return known;
    const bytes = await fetchDocument(this.#store, descriptor, `manifest ${descriptor.digest}`, signal);
    if (this.#keptBytes + bytes.length <= KEEP_BYTES) {
      this.#kept.set(descriptor.digest, bytes);
      this.#keptBytes += bytes.length;
    }
    return bytes;
  }

  async #add(descriptor: Descriptor, signal: AbortSignal | undefined, depth: number): Promise<number> {
    const known = this.documents.get(descriptor.digest);
    if (known) return known.height;
    const what = `manifest ${descriptor.digest}`;
    this.#budget.spend(1, what);
    const bytes = await this.bytes(descriptor, signal);
    let height = 0;
    let subject: boolean;
    if (isIndexType(descriptor.mediaType)) {
      checkIndexDepth(depth, what);
      const index = parseIndex(bytes, what);
      subject = index.subject !== undefined;
      for (const entry of index.manifests) {
        if (isIndexType(entry.mediaType) || isManifestType(entry.mediaType)) height = Math.max(height, (await this.#add(entry, signal, depth + 1)) + 1);
        // Legal, and in use: an index as a list of blobs (BuildKit's cache).
        else this.#blob(entry);
      }
    } else {
      const manifest = parseManifest(bytes, what);
      subject = manifest.subject !== undefined;
      for (const blob of [manifest.config, ...manifest.layers]) this.#blob(blob);
      for (const key of this.#artifactKeys) {
        const digest = manifest.annotations?.[key];
        // One that is missing already is not this copy's to mend.
        const artifact = isDigest(digest) && digest !== descriptor.digest ? await resolveIfThere(this.#store, digest, signal) : undefined;
        if (artifact && isManifestType(artifact.mediaType)) height = Math.max(height, (await this.#add(artifact, signal, depth + 1)) + 1);
      }
    }
    this.documents.set(descriptor.digest, { descriptor, height, subject });
    return height;
  }

  #blob(descriptor: Descriptor): void {
    const { digest, size, mediaType } = descriptor;
    if (isForeignLayer(mediaType)) {
      this.foreign.set(digest, descriptor);
      return;
    }
    const known = this.blobs.get(digest);
    if (known && known.size !== size) throw corrupt(`blob ${digest} is said to have ${known.size} and ${size} bytes`);
    if (!known) this.blobs.set(digest, descriptor);
  }
}
