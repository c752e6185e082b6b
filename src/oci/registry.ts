import { digestOf, verified, type Digest } from '../core/digest.ts';
import { LazypullError, throwIfAborted } from '../core/errors.ts';
import { collect } from '../core/stream.ts';
import type { ByteSource, ByteStream, Descriptor, ImageStore, Produce } from '../core/types.ts';
import { fetchBlob, openBlob } from './blob-read.ts';
import { connectRegistry, makeTransport } from './connect.ts';
import { describe, MANIFEST_LIMIT, manifestMediaType } from './documents.ts';
import { abortable } from './http.ts';
import type { Transport } from './http-transport.ts';
import { isManifestEndpoint, Manifests } from './manifests.ts';
import { checkRepository, isTag, registryHost, type Repository } from './reference.ts';
import { Referrers } from './referrers.ts';
import type { RegistryOptions } from './registry-options.ts';
import { RepositoryClient } from './repository.ts';
import { listTags } from './tag-list.ts';
import { pushBlob } from './upload-push.ts';
import { ingestBlob } from './upload-pieces.ts';
import { hasBlob, mountBlob, type UploadSession } from './upload.ts';

export type { RegistryOptions } from './registry-options.ts';

/** One repository of a registry (OCI distribution-spec 1.1). Nothing is requested before the store is used; close it when done. */
export function openRegistry(repository: Repository, options: RegistryOptions = {}): RegistryStore {
  return new RegistryStore(checkRepository(repository), options);
}

interface Connected {
  readonly repository: RepositoryClient;
  readonly manifests: Manifests;
  readonly referrers: Referrers;
}

/** What a descriptor's media type says decides where its content lives: manifests and indexes, or blobs. */
export class RegistryStore implements ImageStore {
  readonly location: string;
  readonly domain: string;
  readonly path: string;
  readonly #options: RegistryOptions;
  readonly #transport: Transport;
  readonly #warned = new Set<string>();
  /** Sessions that refused mounts left open, for the push that follows. */
  readonly #spare = new Map<Digest, UploadSession>();
  #connected: Promise<Connected> | undefined;

  constructor({ domain, path }: Repository, options: RegistryOptions) {
    this.domain = domain;
    this.path = path;
    this.location = `docker://${domain}/${path}`;
    this.#options = options;
    this.#transport = makeTransport(options);
  }

  async resolve(reference: string, signal?: AbortSignal): Promise<Descriptor> {
    return (await this.#connect(signal)).manifests.resolve(reference, signal);
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
    if (!isManifestEndpoint(descriptor.mediaType)) return openBlob(async (signal) => (await this.#connect(signal)).repository, descriptor);
    let source: ByteSource | undefined;
    return {
      size: descriptor.size,
      read: async (offset, length, signal) => {
        source ??= (await this.#connect(signal)).manifests.open(descriptor);
        return source.read(offset, length, signal);
      },
    };
  }

  async *fetch(descriptor: Descriptor, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    const { manifests, repository } = await this.#connect(signal);
    if (isManifestEndpoint(descriptor.mediaType)) yield await manifests.fetch(descriptor, signal);
    else yield* fetchBlob(repository, descriptor, signal);
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
    return (await this.#connect(signal)).referrers.list(subject.digest, { artifactType, signal });
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
    return listTags((await this.#connect(signal)).repository, signal);
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

  /** Everybody shares one connection; a failed one is tried again by the next request. */
  #connect(signal?: AbortSignal): Promise<Connected> {
    if (!this.#connected) {
      const connecting = this.#makeConnection();
      this.#connected = connecting;
      connecting.catch(() => {
        if (this.#connected === connecting) this.#connected = undefined;
      });
    }
    return abortable(this.#connected, signal);
  }

  async #makeConnection(): Promise<Connected> {
    const warn = (text: string): void => this.#warn(text);
    const http = await connectRegistry(this, this.#transport, this.#options, warn);
    const repository = new RepositoryClient(http, this, warn);
    const manifests = new Manifests(repository);
    return { repository, manifests, referrers: new Referrers(repository, manifests) };
  }

  /** Each text once, and a bounded number of them. */
  #warn(text: string): void {
    if (this.#warned.has(text) || this.#warned.size >= 100) return;
    this.#warned.add(text);
    this.#options.onWarning?.(text);
  }
}
