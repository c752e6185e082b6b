import { stat } from 'node:fs/promises';
import { isDigest, parseDigest, verified, type Digest } from '../core/digest.ts';
import { LazypullError, printable, throwIfAborted } from '../core/errors.ts';
import { FileSource } from '../core/source.ts';
import { collect, streamOf } from '../core/stream.ts';
import type { ByteSource, ByteStream, Descriptor, ImageStore, Produce } from '../core/types.ts';
import { MANIFEST_LIMIT } from './documents.ts';
import { BlobFolder } from './layout-blobs.ts';
import { documentFacts, DocumentReader, referrerDescriptor, referrersTag } from './document-facts.ts';
import { LayoutIndex, type IndexEntry } from './layout-index.ts';
import { checkName, findByName, isAttachedName, isUnnamed, list, listed, listNames, point, withoutNames } from './layout-names.ts';
import { isIndexType, isManifestType } from './media-types.ts';

export interface LayoutOptions {
  /** The folder may be absent or empty: it becomes a layout with the first write. */
  readonly create?: boolean;
}

/**
 * Opens an OCI image layout (image-spec 1.1, image-layout.md) as a store. NOT_FOUND when there is none and `create` is
 * not given, USAGE when the folder holds something else, CORRUPT or UNSUPPORTED when `oci-layout` says so.
 */
export async function openLayout(folder: string, options: LayoutOptions = {}): Promise<LayoutStore> {
  const store = new LayoutStore(folder);
  if (!(await store.index.exists()) && !options.create) {
    const there = await stat(folder).catch(() => undefined);
    throw new LazypullError('NOT_FOUND', there ? 'folder is not an OCI layout: it has no oci-layout file' : 'no such layout', { path: folder });
  }
  return store;
}

/**
 * One layout folder. Names are `org.opencontainers.image.ref.name` values of `index.json`; containerd's
 * `io.containerd.image.name` is understood too. '' is the layout's only image.
 *
 * Writes are temp file, fsync, rename; `push` and `ingest` resolve when the bytes would survive a power cut. Several
 * processes may write at once. Content is shared: a blob that exists with the right size is not written again.
 */
export class LayoutStore implements ImageStore {
  readonly folder: string;
  /** For the registry server, which works on the same folder in its own terms. */
  readonly blobs: BlobFolder;
  readonly index: LayoutIndex;
  readonly documents: DocumentReader;
  readonly #sources = new Map<string, BlobSource>();

  constructor(folder: string) {
    this.folder = folder;
    this.blobs = new BlobFolder(folder);
    this.index = new LayoutIndex(folder);
    this.documents = new DocumentReader((digest, signal) => verified(this.blobs.stream(digest, signal), { digest }, `manifest ${digest}`));
  }

  get location(): string {
    return `oci:${this.folder}`;
  }

  async resolve(reference: string, signal?: AbortSignal): Promise<Descriptor> {
    throwIfAborted(signal);
    if (isDigest(reference)) return this.#resolveDigest(reference, signal);
    const entries = await this.index.read();
    const found = reference === '' ? await this.#only(entries, signal) : findByName(entries, reference)?.descriptor;
    if (found) return withoutNames(found);
    throw new LazypullError('NOT_FOUND', `no image named ${printable(reference)} in ${this.location}; ${offer(entries)}`);
  }

  /** '' names the layout's only image: it replaces the one unnamed image, if there is one. */
  async tag(descriptor: Descriptor, tag: string, signal?: AbortSignal): Promise<void> {
    if (!(await this.has(descriptor, signal))) {
      throw new LazypullError('NOT_FOUND', `cannot tag ${descriptor.digest} as ${printable(tag)}: it is not stored in ${this.location}`);
    }
    if (isDigest(tag)) {
      if (tag !== descriptor.digest) throw new LazypullError('USAGE', `${descriptor.digest} cannot be stored as ${tag}`);
      return this.index.update((entries) => list(entries, descriptor), signal);
    }
    if (tag !== '') checkName(tag);
    const unnamed = tag === '' ? await this.#images((await this.index.read()).filter(isUnnamed), signal) : [];
    const giveWay = unnamed.length === 1 ? unnamed[0]?.descriptor?.digest : undefined;
    const referrer = (await this.documents.facts(descriptor.digest, descriptor.mediaType, signal))?.subject !== undefined;
    await this.index.update((entries) => {
      const displaced = entries.filter((entry) => isUnnamed(entry) && giveWay !== undefined && entry.descriptor?.digest === giveWay);
      return point(entries, tag, descriptor, { displaced, referrer });
    }, signal);
  }

  async has(descriptor: Descriptor, signal?: AbortSignal): Promise<boolean> {
    throwIfAborted(signal);
    return (await this.blobs.size(parseDigest(descriptor.digest))) === descriptor.size;
  }

  /** The file is looked at when it is first read: NOT_FOUND when absent, SIZE_MISMATCH when it has another size. */
  open(descriptor: Descriptor): ByteSource {
    const path = this.blobs.path(parseDigest(descriptor.digest));
    const key = `${descriptor.digest} ${descriptor.size}`;
    let source = this.#sources.get(key);
    if (!source) {
      source = new BlobSource(this.blobs, descriptor, path);
      this.#sources.set(key, source);
    }
    return source;
  }

  fetch(descriptor: Descriptor, signal?: AbortSignal): ByteStream {
    const digest = parseDigest(descriptor.digest);
    return verified(this.blobs.stream(digest, signal), descriptor, `blob ${digest} of ${this.location}`);
  }

  async push(descriptor: Descriptor, open: () => ByteStream, signal?: AbortSignal): Promise<void> {
    const { digest, mediaType } = descriptor;
    parseDigest(digest);
    const what = `content for ${this.location}`;
    if (!isIndexType(mediaType) && !isManifestType(mediaType)) {
      if (await this.has(descriptor, signal)) return;
      await this.index.create();
      return this.blobs.write(digest, verified(open(), descriptor, what), signal);
    }
    // Manifests are small, and it has to be known what they refer to: a referrer is listed so that it can be found.
    const bytes = await collect(verified(open(), descriptor, what), MANIFEST_LIMIT, what);
    const facts = documentFacts(bytes, mediaType, `manifest ${digest}`);
    await this.index.create();
    if (!(await this.has(descriptor, signal))) await this.blobs.write(digest, streamOf(bytes), signal);
    this.documents.remember(digest, facts);
    if (facts.subject !== undefined) {
      const { annotations: _shown, ...entry } = referrerDescriptor(digest, facts);
      await this.index.update((entries) => list(entries, entry), signal);
    }
  }

  async ingest(mediaType: string, produce: Produce, signal?: AbortSignal): Promise<Descriptor> {
    throwIfAborted(signal);
    await this.index.create();
    const temp = await this.blobs.create();
    try {
      await produce(async (bytes) => {
        throwIfAborted(signal);
        await temp.write(bytes);
      }, () => temp.soFar());
      throwIfAborted(signal);
      const digest = await temp.commit();
      return { mediaType, digest, size: temp.size };
    } finally {
      await temp.discard();
    }
  }

  /** Listed manifests and those of the fallback index (`sha256-<hex>`, distribution-spec 1.1) whose subject this is. */
  async referrers(subject: Descriptor, signal?: AbortSignal): Promise<readonly Descriptor[]> {
    const entries = await this.index.read();
    const fallback = referrersTag(parseDigest(subject.digest));
    const found = new Map<Digest, Descriptor>();
    const consider = async (digest: Digest, mediaType: string): Promise<readonly { digest: Digest; mediaType: string }[]> => {
      throwIfAborted(signal);
      const facts = await this.documents.facts(digest, mediaType, signal);
      if (facts?.subject === subject.digest) found.set(digest, referrerDescriptor(digest, facts));
      return facts?.children ?? [];
    };
    for (const { descriptor, name } of entries) {
      if (!descriptor) continue;
      const children = await consider(descriptor.digest, descriptor.mediaType);
      if (name === fallback || name?.endsWith(`:${fallback}`)) for (const child of children) await consider(child.digest, child.mediaType);
    }
    return [...found.values()];
  }

  /**
   * From another layout in the same file system: the blob is read once to check its digest, then hard-linked. Blob files
   * are replaced, never written to, so that sharing one is safe.
   */
  async mount(descriptor: Descriptor, from: ImageStore, signal?: AbortSignal): Promise<boolean> {
    if (!(from instanceof LayoutStore) || isIndexType(descriptor.mediaType) || isManifestType(descriptor.mediaType)) return false;
    if (await this.has(descriptor, signal)) return true;
    if (!(await from.has(descriptor, signal))) return false;
    // A file of the wrong size has our name: a push replaces it.
    if ((await this.blobs.size(descriptor.digest)) !== undefined) return false;
    for await (const bytes of from.fetch(descriptor, signal)) void bytes;
    await this.index.create();
    return this.blobs.linkFrom(from.blobs, descriptor.digest);
  }

  async tags(signal?: AbortSignal): Promise<readonly string[]> {
    throwIfAborted(signal);
    return listNames(await this.index.read());
  }

  async close(): Promise<void> {
    const sources = [...this.#sources.values()];
    this.#sources.clear();
    await Promise.all(sources.map((source) => source.close()));
  }

  async #resolveDigest(digest: Digest, signal: AbortSignal | undefined): Promise<Descriptor> {
    const entry = listed(await this.index.read(), digest);
    if (entry) return withoutNames(entry);
    const facts = await this.documents.facts(digest, undefined, signal);
    if (facts) return { mediaType: facts.mediaType, digest, size: facts.size };
    const there = (await this.blobs.size(digest)) !== undefined;
    throw new LazypullError('NOT_FOUND', there ? `${digest} in ${this.location} is not a manifest` : `${digest} is not in ${this.location}`);
  }

  async #only(entries: readonly IndexEntry[], signal: AbortSignal | undefined): Promise<Descriptor> {
    const images = await this.#images(entries, signal);
    const [first, ...others] = images;
    if (first?.descriptor && others.every((other) => other.descriptor?.digest === first.descriptor?.digest)) return first.descriptor;
    if (!first) throw new LazypullError('NOT_FOUND', `${this.location} holds no image`);
    throw new LazypullError('NOT_FOUND', `${this.location} holds ${images.length} images, name one; ${offer(images)}`);
  }

  /** Entries that stand for themselves: not referrers, nor lists of them. */
  async #images(entries: readonly IndexEntry[], signal: AbortSignal | undefined): Promise<IndexEntry[]> {
    const images: IndexEntry[] = [];
    for (const entry of entries) {
      if (!entry.descriptor || isAttachedName(entry.name)) continue;
      const { digest, mediaType } = entry.descriptor;
      if (entry.name === undefined && (await this.documents.facts(digest, mediaType, signal))?.subject !== undefined) continue;
      images.push(entry);
    }
    return images;
  }
}

/** A blob file whose size is held against its descriptor before the first read. */
class BlobSource implements ByteSource {
  readonly fresh = true;
  readonly #blobs: BlobFolder;
  readonly #descriptor: Descriptor;
  readonly #file: FileSource;
  #checked: Promise<void> | undefined;

  constructor(blobs: BlobFolder, descriptor: Descriptor, path: string) {
    this.#blobs = blobs;
    this.#descriptor = descriptor;
    this.#file = new FileSource(path, descriptor.size);
  }

  get size(): number {
    return this.#descriptor.size;
  }

  async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    this.#checked ??= this.#check();
    await this.#checked;
    return this.#file.read(offset, length, signal);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #check(): Promise<void> {
    const { digest, size } = this.#descriptor;
    const got = await this.#blobs.size(digest);
    if (got === size) return;
    this.#checked = undefined;
    const path = this.#file.path;
    if (got === undefined) throw new LazypullError('NOT_FOUND', `blob ${digest} is not in the layout`, { path });
    throw new LazypullError('SIZE_MISMATCH', `blob has ${got} bytes, its descriptor says ${size}`, { path });
  }
}

function offer(entries: readonly IndexEntry[]): string {
  const names = listNames(entries);
  const shown = names.slice(0, 20).map(printable).join(', ');
  return names.length === 0 ? 'no entry of it has a name' : `it has ${shown}${names.length > 20 ? ` and ${names.length - 20} more` : ''}`;
}
