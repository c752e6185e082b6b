import { digestAlgorithm, digestLike, digestOf, isDigest, verified, type Digest } from '../core/digest.ts';
import { LazypullError } from '../core/errors.ts';
import { Once } from '../core/once.ts';
import { MemorySource } from '../core/source.ts';
import { collect, streamOf } from '../core/stream.ts';
import type { ByteSource, Descriptor } from '../core/types.ts';
import { MANIFEST_LIMIT, manifestMediaType } from './documents.ts';
import { explain, isStatus, safeUrl } from './http-error.ts';
import type { HttpAnswer, HttpRequest } from './http.ts';
import { inlineContent } from './inline-content.ts';
import { DOCKER_SCHEMA1, isIndexType, isManifestType, MANIFEST_ACCEPT } from './media-types.ts';
import { isTag } from './reference.ts';
import type { RegistryOptions } from './registry-options.ts';
import type { RepositoryClient } from './repository.ts';

/** Whether content of this type lives under `manifests/` and not under `blobs/`. */
export function isManifestEndpoint(mediaType: string): boolean {
  return isIndexType(mediaType) || isManifestType(mediaType) || mediaType === 'application/vnd.oci.artifact.manifest.v1+json';
}

export interface ManifestContent {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
}

/** Most bytes of manifests that are kept to save requests. */
const KEPT_BYTES = 8 * 1024 * 1024;
/** After a large upload a registry may look at every blob before it answers. */
const PUT_ANSWER_MS = 120_000;

/** Recent manifests, a bounded number of bytes. */
export class KeptManifests {
  readonly #kept = new Map<Digest, Uint8Array>();
  #bytes = 0;

  get(digest: Digest): Uint8Array | undefined {
    return this.#kept.get(digest);
  }

  keep(digest: Digest, bytes: Uint8Array): void {
    this.#bytes += bytes.length - (this.#kept.get(digest)?.length ?? 0);
    this.#kept.delete(digest);
    this.#kept.set(digest, bytes);
    for (const [oldest, { length }] of this.#kept) {
      if (this.#bytes <= KEPT_BYTES) break;
      this.#kept.delete(oldest);
      this.#bytes -= length;
    }
  }
}

/** The manifests of one repository (registry.md §6 and §9). Recent ones are kept: a tag needs the same bytes again. */
export class Manifests {
  readonly #repository: RepositoryClient;
  readonly #kept: KeptManifests;
  readonly #readsNamed: boolean;

  /** Whoever has the same content may keep it together. */
  constructor(repository: RepositoryClient, kept = new KeptManifests(), { readsNamed = false }: Pick<RegistryOptions, 'readsNamed'> = {}) {
    this.#repository = repository;
    this.#kept = kept;
    this.#readsNamed = readsNamed;
  }

  /** Tag or digest -> descriptor. HEAD, which costs nothing on Docker Hub; GET when its headers do not say enough, or the rest is wanted anyway. */
  async resolve(reference: string, signal?: AbortSignal): Promise<Descriptor> {
    checkReference(reference);
    if (this.#readsNamed) return (await this.read(reference, signal)).descriptor;
    try {
      const head = await this.#repository.http.ask({ ...this.#request('HEAD', reference, signal), expect: [200] });
      const descriptor = describeHead(head, reference);
      if (descriptor) return descriptor;
    } catch (error) {
      if (!isStatus(error, 400, 405, 406, 501)) throw this.#notFound(error, reference);
    }
    return (await this.read(reference, signal)).descriptor;
  }

  /** Whether the manifest exists. */
  async has(digest: Digest, signal?: AbortSignal): Promise<boolean> {
    const { http } = this.#repository;
    const { status } = await http.ask({ ...this.#request('HEAD', digest, signal), expect: [200, 404, 405, 501] });
    if (status !== 405 && status !== 501) return status === 200;
    return (await http.ask({ ...this.#request('GET', digest, signal), expect: [200, 404] }, MANIFEST_LIMIT)).status === 200;
  }

  /** Bytes as they are, never written anew, with the digest of exactly those bytes. */
  async read(reference: string, signal?: AbortSignal): Promise<ManifestContent> {
    checkReference(reference);
    let answer: HttpAnswer;
    try {
      answer = await this.#repository.http.ask({ ...this.#request('GET', reference, signal), expect: [200] }, MANIFEST_LIMIT);
    } catch (error) {
      throw this.#notFound(error, reference);
    }
    const { body: bytes, headers, url } = answer;
    const mediaType = manifestMediaType(bytes, headers.get('content-type'), `manifest ${reference} of ${this.#repository.location}`);
    const stated = isDigest(reference) ? reference : headers.get('docker-content-digest');
    const digest = isDigest(stated) ? stated : digestOf(bytes);
    const own = digestLike(digest, bytes);
    if (own !== digest) {
      throw new LazypullError('DIGEST_MISMATCH', `manifest ${reference} (${bytes.length} bytes) has digest ${own}, not ${digest}`, { path: safeUrl(url) });
    }
    this.#kept.keep(digest, bytes);
    return { descriptor: { mediaType, digest, size: bytes.length }, bytes };
  }

  /** A manifest's bytes, checked against its descriptor. */
  async fetch(descriptor: Descriptor, signal?: AbortSignal): Promise<Uint8Array> {
    const { digest, size } = descriptor;
    if (size > MANIFEST_LIMIT) throw new LazypullError('LIMIT', `manifest ${digest} of ${size} bytes is larger than the ${MANIFEST_LIMIT} that are read`);
    const bytes = inlineContent(descriptor) ?? this.#kept.get(digest) ?? (await this.read(digest, signal)).bytes;
    const what = `manifest ${digest} of ${this.#repository.location}`;
    return collect(verified(streamOf(bytes), descriptor, what), MANIFEST_LIMIT, what);
  }

  /** Stores the bytes under their digest or under a tag. Gives the answer, whose headers say what became of a `subject`. */
  async put(descriptor: Descriptor, bytes: Uint8Array, reference: string, options: PutOptions = {}): Promise<HttpAnswer | undefined> {
    const { http, push } = this.#repository;
    const { ifMatch, signal } = options;
    let answer: HttpAnswer;
    try {
      answer = await http.ask({
        method: 'PUT', url: this.#repository.url(`manifests/${reference}`), scopes: push, signal, body: bytes, answerMs: PUT_ANSWER_MS,
        headers: { 'content-type': descriptor.mediaType, ...(ifMatch === undefined ? {} : { 'if-match': `"${ifMatch}"` }) },
        expect: [200, 201, 202, 204],
      });
    } catch (error) {
      // Registries with immutable tags refuse even what is there already.
      if (isStatus(error, 400, 403, 409, 412) && ifMatch === undefined && await this.#isThere(descriptor, reference, signal)) return undefined;
      throw explain(error, `cannot store manifest ${reference} in ${this.#repository.location}`);
    }
    const stated = answer.headers.get('docker-content-digest');
    // A registry may call it by the digest of its own favourite algorithm.
    if (isDigest(stated) && digestAlgorithm(stated) === digestAlgorithm(descriptor.digest) && stated !== descriptor.digest) {
      throw new LazypullError('DIGEST_MISMATCH', `manifest ${descriptor.digest} was stored as ${stated}`, { path: safeUrl(answer.url) });
    }
    this.#kept.keep(descriptor.digest, bytes);
    return answer;
  }

  async #isThere(descriptor: Descriptor, reference: string, signal: AbortSignal | undefined): Promise<boolean> {
    try {
      return (await this.resolve(reference, signal)).digest === descriptor.digest;
    } catch {
      // Then the refusal itself is what counts.
      return false;
    }
  }

  #request(method: 'GET' | 'HEAD', reference: string, signal: AbortSignal | undefined): Omit<HttpRequest, 'expect'> {
    const { pull } = this.#repository;
    return { method, url: this.#repository.url(`manifests/${reference}`), scopes: pull, signal, headers: { accept: MANIFEST_ACCEPT } };
  }

  #notFound(error: unknown, reference: string): unknown {
    return isStatus(error, 404) ? explain(error, `${reference} of ${this.#repository.location} is not there, or there is no access to it`) : error;
  }
}

export interface PutOptions {
  /** Only if the tag points at this digest; few registries look at it. */
  readonly ifMatch?: Digest | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Content that is small enough to be fetched as a whole when some of it is read. */
export function fetchedSource(size: number, load: (signal: AbortSignal | undefined) => Promise<Uint8Array>): ByteSource {
  const loaded = new Once(async (signal) => new MemorySource(await load(signal)));
  return { size, read: async (offset, length, signal) => (await loaded.get(signal)).read(offset, length, signal) };
}

function describeHead({ headers, url }: HttpAnswer, reference: string): Descriptor | undefined {
  const digest = headers.get('docker-content-digest');
  const { mediaType, contentLength: size } = headers;
  if (mediaType !== undefined && DOCKER_SCHEMA1.test(mediaType)) {
    throw new LazypullError('UNSUPPORTED', 'this is a Docker schema 1 manifest; push the image again with a current client', { path: safeUrl(url) });
  }
  if (!isDigest(digest) || size === undefined || size === 0 || mediaType === undefined || !isManifestEndpoint(mediaType)) return undefined;
  if (isDigest(reference) && reference !== digest) {
    if (digestAlgorithm(reference) !== digestAlgorithm(digest)) return undefined;
    throw new LazypullError('DIGEST_MISMATCH', `manifest ${reference} was asked for, the answer is about ${digest}`, { path: safeUrl(url) });
  }
  return { mediaType, digest, size };
}

function checkReference(reference: string): void {
  if (!isDigest(reference) && !isTag(reference)) throw new LazypullError('USAGE', `"${reference.slice(0, 140)}" is neither a tag nor a digest`);
}
