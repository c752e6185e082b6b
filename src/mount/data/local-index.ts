import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestHex, type Digest } from '../../core/digest.ts';
import { LazypullError } from '../../core/errors.ts';
import type { DescribedLayer, Format, FormatChoice, IndexingFormat } from '../../core/format.ts';
import { Once } from '../../core/once.ts';
import { collect, streamOf } from '../../core/stream.ts';
import type { Descriptor, ImageStore } from '../../core/types.ts';
import type { ConvertProgress } from '../../image/convert-report.ts';
import { indexElsewhere, withReferrers } from '../../image/index-elsewhere.ts';
import { mapLimited } from '../../image/limited.ts';
import { openImage, type OpenImage } from '../../image/open.ts';
import { describe, encodeDocument, MANIFEST_LIMIT, parseDescriptor, parseManifest } from '../../oci/documents.ts';
import { withLock } from '../../oci/layout-lock.ts';
import { OCI } from '../../oci/media-types.ts';
import { openMemory } from '../../oci/memory.ts';
import type { MountCache } from './cache.ts';
import { CacheFolder } from './folder.ts';
import { artifactName, blobName, layerName } from './index-files.ts';
import { planPremade } from './premade.ts';
import { TarFiles } from './tar-files.ts';

export interface LocalIndexOptions {
  /** Formats that images may be in. An image that is in none gets what the first of those makes that publish merged trees. */
  readonly formats: readonly Format<unknown>[];
  /** Whether the content that goes by is put into the cache, as far as there is room; default true. */
  readonly keepContent?: boolean;
  /** Threads, and layers side by side; default: all cores. */
  readonly jobs?: number;
  readonly signal?: AbortSignal;
  readonly progress?: (event: ConvertProgress) => void;
  readonly onWarning?: (text: string) => void;
}

/** For another process that indexes the same image, ms. */
const LONGEST = 24 * 3_600_000;
/** A wait of this long (ms) is told. */
const SOON = 500;
/** Largest blob of an index. */
const MAX_BLOB = 1 << 30;
/** Layers that are looked at side by side. */
const PARALLEL = 8;

/**
 * Indexes of images that nobody has published one of: made when an image is mounted for the first time, and kept in the cache with
 * its trees. To readers they are what a registry would have.
 */
export class LocalIndexes {
  readonly #cache: MountCache;
  readonly #folder: CacheFolder;
  /** What has been made or loaded. */
  readonly #memory = openMemory('local indexes');
  readonly #loaded = new Map<Digest, Once<void>>();

  constructor(cache: MountCache) {
    this.#cache = cache;
    this.#folder = new CacheFolder(cache.dir);
  }

  /** A store in which images have the indexes that are kept here, too. */
  over(store: ImageStore): ImageStore {
    const memory = this.#memory;
    return withReferrers(store, {
      has: (descriptor, signal) => memory.has(descriptor, signal),
      open: (descriptor) => memory.open(descriptor),
      fetch: (descriptor, signal) => memory.fetch(descriptor, signal),
      referrers: async (subject, signal) => {
        await this.#load(subject.digest);
        return memory.referrers(subject, signal);
      },
    });
  }

  /**
   * The image as it can be mounted. One with layers in no format is indexed first: all of it is fetched once, and its content put
   * into the cache on the way. `image` may be of any store; the result is of one that knows what is kept here.
   */
  async complete(image: OpenImage, options: LocalIndexOptions): Promise<OpenImage> {
    const { formats, signal } = options;
    const choice = choiceOf(formats);
    if (!choice || (await isReadable(image, signal))) return image;
    const place = { store: this.over(image.place.store), reference: image.descriptor.digest };
    const reopen = (): Promise<OpenImage> => openImage(place, formats, { ...(image.platform && { platform: image.platform }), ...(signal && { signal }) });
    const known = await reopen();
    if (await isReadable(known, signal)) return known;
    const make = (): Promise<OpenImage> => this.#make(image, choice, reopen, options);
    if (!this.#cache.keeps) return make();
    // Of several processes one does it, and the others have what it makes.
    const lock = join(this.#cache.dir, `index-${digestHex(image.descriptor.digest)}.lock`);
    const waiting = setTimeout(() => options.onWarning?.('another process indexes this image: it is waited for'), SOON);
    let turn = false;
    try {
      return await withLock(lock, async () => {
        clearTimeout(waiting);
        turn = true;
        this.#loaded.delete(image.descriptor.digest);
        const made = await reopen();
        return (await isReadable(made, signal)) ? made : make();
      }, { signal, wait: LONGEST });
    } catch (error) {
      // A full disk has no room for a lock either.
      if (turn || !(error instanceof LazypullError) || error.code !== 'IO') throw error;
      return make();
    } finally {
      clearTimeout(waiting);
    }
  }

  async #make(image: OpenImage, choice: FormatChoice<IndexingFormat>, reopen: () => Promise<OpenImage>, options: LocalIndexOptions): Promise<OpenImage> {
    const { signal, keepContent = true } = options;
    const tars = keepContent && this.#cache.keeps ? new TarFiles(this.#cache) : undefined;
    try {
      const { artifact, layers, warnings } = await indexElsewhere(image, choice, {
        target: this.#memory,
        known: (layer) => this.#recall(layer, choice.format),
        ...(tars && { besides: [tars.follower] }),
        ...(options.jobs !== undefined && { jobs: options.jobs }),
        ...(signal && { signal }),
        ...(options.progress && { progress: options.progress }),
      });
      for (const warning of warnings) options.onWarning?.(warning);
      await this.#keep(image.descriptor.digest, artifact);
      for (const { layer, blob } of layers) await this.#cache.putTree(layerName(layer), encodeDocument(blob));
      const opened = await reopen();
      if (tars) await this.#adopt(opened, choice.format, tars, signal);
      return opened;
    } finally {
      await tars?.close();
    }
  }

  /** Takes over what the cache keeps about an image, if it does. */
  #load(image: Digest): Promise<void> {
    const once = this.#loaded.get(image) ?? new Once(() => this.#read(image));
    this.#loaded.set(image, once);
    return once.get();
  }

  async #read(image: Digest): Promise<void> {
    const name = artifactName(image);
    const bytes = await readFile(this.#folder.path('trees', name)).catch(() => undefined);
    if (!bytes || bytes.length > MANIFEST_LIMIT) return;
    // Held from here on, like everything that it names.
    if (!(await this.#cache.openTree(name, bytes.length, sha256(bytes)))) return;
    try {
      const what = `index of ${image} in the cache`;
      const { config, layers } = parseManifest(bytes, what);
      for (const blob of [config, ...layers]) {
        const found = blob.size <= MAX_BLOB ? await this.#cache.openTree(blobName(blob), blob.size, digestHex(blob.digest)) : undefined;
        if (!found) return;
        await this.#push(blob, new Uint8Array(found.memory));
      }
      await this.#push(describe(OCI.manifest, bytes), bytes);
    } catch (error) {
      // It is made anew.
      if (!(error instanceof LazypullError)) throw error;
    }
  }

  /** A layer that another image has, too. */
  async #recall(layer: Descriptor, format: IndexingFormat): Promise<DescribedLayer | undefined> {
    try {
      const name = layerName(layer);
      const document = await readFile(this.#folder.path('trees', name)).catch(() => undefined);
      const blob = document && document.length <= MANIFEST_LIMIT ? parseDescriptor(JSON.parse(document.toString())) : undefined;
      const found = blob && blob.size <= MAX_BLOB ? await this.#cache.openTree(blobName(blob), blob.size, digestHex(blob.digest)) : undefined;
      if (!blob || !found || !format.recall) return undefined;
      const bytes = new Uint8Array(new Uint8Array(found.memory));
      await this.#push(blob, bytes);
      return await format.recall(layer, blob, bytes);
    } catch {
      // It is described anew.
      return undefined;
    }
  }

  /** The artifact last: what it names is there then. */
  async #keep(image: Digest, artifact: Descriptor): Promise<void> {
    const bytes = await collect(this.#memory.fetch(artifact), MANIFEST_LIMIT);
    const { config, layers } = parseManifest(bytes, 'artifact');
    for (const blob of [config, ...layers]) await this.#cache.putTree(blobName(blob), await collect(this.#memory.fetch(blob), MAX_BLOB));
    await this.#cache.putTree(artifactName(image), bytes);
  }

  /** The plain tars that went by become devices, as the plan of a mount will name them. */
  async #adopt(image: OpenImage, format: Format<unknown>, tars: TarFiles, signal: AbortSignal | undefined): Promise<void> {
    const stored = image.layers[0]?.stored.image;
    const premade = stored && (await format.premade?.(stored, signal));
    if (!premade) return;
    const { devices, layers } = await planPremade(image, format.name, premade);
    for (const device of devices) await tars.adopt((layers[device.layer] as (typeof layers)[number]).digest, device);
    // What has been put beside the cache's own writing counts as well.
    if (this.#cache.maxBytes !== Infinity) await this.#cache.gc();
  }

  #push(descriptor: Descriptor, bytes: Uint8Array): Promise<void> {
    return this.#memory.push(descriptor, () => streamOf(bytes));
  }
}

function choiceOf(formats: readonly Format<unknown>[]): FormatChoice<IndexingFormat> | undefined {
  for (const format of formats) if (format.kind === 'indexing' && format.premade) return { format, options: format.localOptions ?? {} };
  return undefined;
}

/** Whether every layer is in a format, as far as layers can be: bytes that no registry holds cannot. */
async function isReadable(image: OpenImage, signal: AbortSignal | undefined): Promise<boolean> {
  const found = await mapLimited(image.layers, PARALLEL, async (layer, either) => layer.foreign || (await layer.format(either)) !== undefined, signal);
  return !found.includes(false);
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
