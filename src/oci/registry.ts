import { digestOf, isDigest, verified, type Digest } from '../core/digest.ts';
import { LazypullError, throwIfAborted } from '../core/errors.ts';
import { collect } from '../core/stream.ts';
import type { ByteSource, ByteStream, Descriptor, ImageStore, Produce } from '../core/types.ts';
import { fetchBlob, openBlob } from './blob-read.ts';
import { makeTransport } from './connect.ts';
import { describe, MANIFEST_LIMIT, manifestMediaType } from './documents.ts';
import type { Transport } from './http-transport.ts';
import { fetchedSource, isManifestEndpoint } from './manifests.ts';
import type { HostSettings } from './hosts-file.ts';
import { checkRepository, isTag, registryHost, type Repository } from './reference.ts';
import type { RegistryOptions } from './registry-options.ts';
import { Sources, type Connected } from './sources.ts';
import { listTags } from './tag-list.ts';
import { pushBlob } from './upload-push.ts';
import { ingestBlob } from './upload-pieces.ts';
import { hasBlob, mountBlob, type UploadSession } from './upload.ts';

export type { RegistryOptions } from './registry-options.ts';

/** One repository of a registry (OCI distribution-spec 1.1). Nothing is requested before the store is used; close it when done. */
export function openRegistry(repository: Repository, options: RegistryOptions = {}): RegistryStore {
  return new RegistryStore(checkRepository(repository), options);
}

/**
 * What a descriptor's media type says decides where its content lives: manifests and indexes, or blobs. What is read may come from mirrors;
 * what is written, and what others write to, is asked of the registry itself.
 */
export class RegistryStore implements ImageStore {
  readonly location: string;
  readonly domain: string;
  readonly path: string;
  readonly #options: RegistryOptions;
  readonly #transport: Transport;
  readonly #warned = new Set<string>();
  /** Sessions that refused mounts left open, for the push that follows. */
  readonly #spare = new Map<Digest, UploadSession>();
  readonly #sources: Sources;

  constructor({ domain, path }: Repository, options: RegistryOptions) {
    this.domain = domain;
    this.path = path;
    this.location = `docker://${domain}/${path}`;
    this.#options = options;
    const hosts = new Map<string, HostSettings>();
    this.#transport = makeTransport(options, hosts);
    this.#sources = new Sources({ domain, path }, this.#transport, hosts, options, (text) => this.#warn(text));
  }

  async resolve(reference: string, signal?: AbortSignal): Promise<Descriptor> {
    const digest = isDigest(reference) ? reference : undefined;
    return this.#sources.ask(digest ? 'content' : 'tag', digest, async ({ manifests }, { place }) =>
      // A mirror's word about a digest is worth nothing, its content is.
      (digest && !place.own ? (await manifests.read(digest, signal)).descriptor : manifests.resolve(reference, signal)), signal);
  }

  async tag(descriptor: Descriptor, tag: string, signal?: AbortSignal): Promise<void> {
    if (!isTag(tag)) throw new LazypullError('USAGE', `"${tag.slice(0, 140)}" is not a tag: 1 to 128 of A-Z a-z 0-9 _ . - and not . or - first`);
    const { manifests } = await this.#connect(signal);
    await manifests.put(descriptor, await manifests.fetch(descriptor, signal), tag, { signal });
  }

  async has(descriptor: Descriptor, signal?: AbortSignal): Promise<boolean> {
    const { manifests, repository } = await this.#connect(signal);
    if (isManifestEndpoint(descriptor.mediaType)) return manifests.has(descriptor.digest, signal);
    return hasBlob(repository, descriptor.digest, repository.pull, signal);
  }

  open(descriptor: Descriptor): ByteSource {
    if (!isManifestEndpoint(descriptor.mediaType)) return openBlob(this.#sources, descriptor);
    return fetchedSource(descriptor.size, (signal) => this.#manifest(descriptor, signal));
  }

  async *fetch(descriptor: Descriptor, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    if (isManifestEndpoint(descriptor.mediaType)) yield await this.#manifest(descriptor, signal);
    else yield* fetchBlob(this.#sources, descriptor, signal);
  }

  async push(descriptor: Descriptor, open: () => ByteStream, signal?: AbortSignal): Promise<void> {
    const connected = await this.#connect(signal);
    if (!isManifestEndpoint(descriptor.mediaType)) {
      const spare = this.#spare.get(descriptor.digest);
      this.#spare.delete(descriptor.digest);
      await pushBlob(connected.repository, descriptor, open, { signal, spare });
      return;
    }
    const what = `manifest ${descriptor.digest} for ${this.location}`;
    await this.#putManifest(connected, descriptor, await collect(verified(open(), descriptor, what), MANIFEST_LIMIT, what), signal);
  }

  async ingest(mediaType: string, produce: Produce, signal?: AbortSignal): Promise<Descriptor> {
    const connected = await this.#connect(signal);
    if (!isManifestEndpoint(mediaType)) return ingestBlob(connected.repository, mediaType, produce, signal);
    const parts: Uint8Array[] = [];
    let size = 0;
    await produce(async (bytes) => {
      size += bytes.length;
      if (size > MANIFEST_LIMIT) throw new LazypullError('LIMIT', `a manifest of more than ${MANIFEST_LIMIT} bytes cannot be stored`);
      parts.push(new Uint8Array(bytes));
    }, () => digestOf(...parts));
    throwIfAborted(signal);
    const bytes = Buffer.concat(parts);
    const descriptor = describe(mediaType, bytes);
    await this.#putManifest(connected, descriptor, bytes, signal);
    return descriptor;
  }

  /** With `artifactType` only those of that type. */
  async referrers(subject: Descriptor, signal?: AbortSignal, artifactType?: string): Promise<readonly Descriptor[]> {
    return this.#sources.ask('list', undefined, ({ referrers }) => referrers.list(subject.digest, { artifactType, signal }), signal);
  }

  async mount(descriptor: Descriptor, from: ImageStore, signal?: AbortSignal): Promise<boolean> {
    if (!(from instanceof RegistryStore) || registryHost(from.domain) !== registryHost(this.domain)) return false;
    if (isManifestEndpoint(descriptor.mediaType)) return false;
    if (from.path === this.path) return this.has(descriptor, signal);
    const { repository } = await this.#connect(signal);
    const result = await mountBlob(repository, descriptor.digest, from.path, signal);
    if (typeof result === 'boolean') return result;
    const older = this.#spare.get(descriptor.digest);
    this.#spare.set(descriptor.digest, result);
    await older?.cancel();
    return false;
  }

  async tags(signal?: AbortSignal): Promise<readonly string[]> {
    return this.#sources.ask('list', undefined, ({ repository }) => listTags(repository, signal), signal);
  }

  async close(): Promise<void> {
    const spare = [...this.#spare.values()];
    this.#spare.clear();
    await Promise.all(spare.map((session) => session.cancel()));
    await this.#transport.close();
  }

  async #putManifest({ manifests, referrers }: Connected, descriptor: Descriptor, bytes: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    // A type that the document itself denies would be refused, or worse, believed.
    manifestMediaType(bytes, descriptor.mediaType, `manifest ${descriptor.digest}`);
    const answer = await manifests.put(descriptor, bytes, descriptor.digest, { signal });
    await referrers.register(descriptor, bytes, answer, signal);
  }

  #manifest(descriptor: Descriptor, signal: AbortSignal | undefined): Promise<Uint8Array> {
    return this.#sources.ask('content', descriptor.digest, ({ manifests }) => manifests.fetch(descriptor, signal), signal);
  }

  /** Where things are written, and looked for that were. */
  #connect(signal?: AbortSignal): Promise<Connected> {
    return this.#sources.own(signal);
  }

  /** Each text once, and a bounded number of them. */
  #warn(text: string): void {
    if (this.#warned.has(text) || this.#warned.size >= 100) return;
    this.#warned.add(text);
    this.#options.onWarning?.(text);
  }
}
