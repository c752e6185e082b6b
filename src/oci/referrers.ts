import { isDigest, type Digest } from '../core/digest.ts';
import { corrupt, LazypullError } from '../core/errors.ts';
import type { Descriptor } from '../core/types.ts';
import { documentFacts, referrerDescriptor, referrersTag } from './document-facts.ts';
import { describe, encodeDocument, MANIFEST_LIMIT, parseDescriptor, parseIndex, parseObject, type ImageIndex } from './documents.ts';
import { isStatus } from './http-error.ts';
import { nextLink } from './http-headers.ts';
import type { HttpAnswer } from './http.ts';
import type { Manifests } from './manifests.ts';
import { isIndexType, OCI } from './media-types.ts';
import type { RepositoryClient } from './repository.ts';

const MAX_PAGES = 1000;
const MAX_ENTRIES = 100_000;
/** Rounds of reading and writing a referrers tag until our entries stay in it. */
const TAG_ROUNDS = 8;

/** Statuses by which registries say that they do not know the API. */
const NO_API = [400, 404, 405, 406, 501];

interface Batch {
  readonly waiting: Map<Digest, Descriptor>;
  done: Promise<void>;
}

/** One update of a referrers tag at a time in this process, whichever store it goes through; latecomers join the next. */
const batches = new Map<string, Batch>();

/** Manifests with a `subject` (registry.md §10). */
export class Referrers {
  readonly #repository: RepositoryClient;
  readonly #manifests: Manifests;
  /** Whether the registry answers the API for this repository; undefined until it has been asked. */
  #api: boolean | undefined;

  constructor(repository: RepositoryClient, manifests: Manifests) {
    this.#repository = repository;
    this.#manifests = manifests;
  }

  /** Manifests whose subject has this digest; an empty list when nothing is known about it. */
  async list(subject: Digest, options: { readonly artifactType?: string | undefined; readonly signal?: AbortSignal | undefined } = {}): Promise<Descriptor[]> {
    const { artifactType, signal } = options;
    const ofType = (found: readonly Descriptor[]): Descriptor[] =>
      artifactType === undefined ? [...found] : found.filter((descriptor) => descriptor.artifactType === artifactType);
    const found = await this.#askApi(subject, artifactType, signal);
    if (!found) return ofType((await this.#readTag(subject, signal))?.index.manifests ?? []);
    const matching = ofType(found.manifests);
    if (matching.length > 0 || !found.filtered) return matching;
    // Filters have been seen to drop what they should keep.
    return ofType((await this.#askApi(subject, undefined, signal))?.manifests ?? []);
  }

  /** After a manifest was stored: makes sure that it is found by its subject, if it has one. */
  async register(stored: Descriptor, bytes: Uint8Array, answer: HttpAnswer | undefined, signal?: AbortSignal): Promise<void> {
    const what = `manifest ${stored.digest}`;
    const { subject } = parseObject(bytes, what);
    if (subject === undefined || subject === null) return;
    const { digest } = parseDescriptor(subject, `subject of ${what}`);
    if (isDigest(answer?.headers.get('oci-subject'))) return;
    // The API may be there although the header was forgotten.
    if (await this.#askApi(digest, undefined, signal)) return;
    await this.#addToTag(digest, referrerDescriptor(stored.digest, documentFacts(bytes, stored.mediaType, what)), signal);
  }

  async #askApi(subject: Digest, artifactType: string | undefined, signal: AbortSignal | undefined): Promise<{ manifests: Descriptor[]; filtered: boolean } | undefined> {
    if (this.#api === false) return undefined;
    const { http, pull } = this.#repository;
    const manifests: Descriptor[] = [];
    let filtered = false;
    let url: URL | undefined = this.#repository.url(`referrers/${subject}`);
    if (artifactType !== undefined) url.searchParams.set('artifactType', artifactType);
    for (let page = 0; url; page++) {
      if (page >= MAX_PAGES || manifests.length > MAX_ENTRIES) throw new LazypullError('LIMIT', `the list of referrers of ${subject} does not end`);
      const answer: HttpAnswer = await http.ask({ method: 'GET', url, scopes: pull, signal, headers: { accept: OCI.index }, expect: page === 0 ? [200, ...NO_API] : [200] }, MANIFEST_LIMIT);
      const index = answer.status === 200 ? readPage(answer) : undefined;
      if (!index) {
        if (page > 0) throw corrupt(`page ${page + 1} of the referrers of ${subject} is not an index`);
        this.#api = false;
        return undefined;
      }
      for (const manifest of index.manifests) manifests.push(manifest);
      filtered ||= /(?:^|,)\s*artifactType\s*(?:,|$)/.test(answer.headers.all('oci-filters-applied').join(','));
      url = nextLink(answer.headers, answer.url);
    }
    this.#api = true;
    return { manifests, filtered };
  }

  async #readTag(subject: Digest, signal: AbortSignal | undefined): Promise<{ index: ImageIndex; digest: Digest } | undefined> {
    const tag = referrersTag(subject);
    try {
      const { descriptor, bytes } = await this.#manifests.read(tag, signal);
      if (!isIndexType(descriptor.mediaType)) throw corrupt(`the referrers tag ${tag} of ${this.#repository.location} is not an index`);
      return { index: parseIndex(bytes, `referrers tag ${tag}`), digest: descriptor.digest };
    } catch (error) {
      if (isStatus(error, 404)) return undefined;
      throw error;
    }
  }

  /** Adds an entry together with all others that wait for the same tag. */
  async #addToTag(subject: Digest, entry: Descriptor, signal: AbortSignal | undefined): Promise<void> {
    const key = `${this.#repository.http.registry.origin}/${this.#repository.path}@${subject}`;
    const running = batches.get(key);
    if (running) {
      running.waiting.set(entry.digest, entry);
      return running.done;
    }
    const batch: Batch = { waiting: new Map([[entry.digest, entry]]), done: Promise.resolve() };
    batches.set(key, batch);
    batch.done = this.#updateTag(subject, batch.waiting, signal).finally(() => batches.delete(key));
    return batch.done;
  }

  /**
   * Read, append, write, read again, until everything that waits is there: the tag has no lock, and another writer may
   * replace ours. Entries that are added meanwhile are part of the next round.
   */
  async #updateTag(subject: Digest, waiting: ReadonlyMap<Digest, Descriptor>, signal: AbortSignal | undefined): Promise<void> {
    const tag = referrersTag(subject);
    let seen = waiting.size;
    for (let round = 0; round < TAG_ROUNDS; round++) {
      const current = await this.#readTag(subject, signal);
      const listed = new Set(current?.index.manifests.map(({ digest }) => digest));
      const missing = [...waiting.values()].filter(({ digest }) => !listed.has(digest));
      if (missing.length === 0) return;
      if (waiting.size > seen) {
        // Growth is progress, not a lost race.
        seen = waiting.size;
        round = 0;
      }
      const index = { ...(current?.index ?? { schemaVersion: 2, mediaType: OCI.index }), manifests: [...(current?.index.manifests ?? []), ...missing] };
      const bytes = encodeDocument(index);
      try {
        await this.#manifests.put(describe(index.mediaType ?? OCI.index, bytes), bytes, tag, { ifMatch: current?.digest, signal });
      } catch (error) {
        if (!isStatus(error, 412)) throw error;
      }
      if (round > 0) await new Promise((resolve) => setTimeout(resolve, Math.random() * 50 * round));
    }
    throw new LazypullError('NETWORK', `other writers keep replacing the referrers tag ${tag} of ${this.#repository.location}`);
  }
}

/** A 200 may come from a proxy's log-in page or a registry that has never heard of referrers: only an index counts. */
function readPage({ body, headers }: HttpAnswer): ImageIndex | undefined {
  if (headers.mediaType !== undefined && !/json/.test(headers.mediaType)) return undefined;
  try {
    return parseIndex(body, 'list of referrers');
  } catch (error) {
    if (headers.mediaType !== undefined && isIndexType(headers.mediaType)) throw error;
    return undefined;
  }
}
