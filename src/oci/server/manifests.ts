import { digestLike, digestOf, isDigest, type Digest } from '../../core/digest.ts';
import { LazypullError } from '../../core/errors.ts';
import { collect, streamOf } from '../../core/stream.ts';
import type { Descriptor } from '../../core/types.ts';
import { MANIFEST_LIMIT, parseIndex, parseManifest, parseObject } from '../documents.ts';
import { documentFacts, type DocumentFacts } from '../document-facts.ts';
import type { LayoutStore } from '../layout.ts';
import { DOCKER, isForeignLayer, isIndexType, isManifestType, OCI } from '../media-types.ts';
import { isTag } from '../reference.ts';
import { ApiError, matchesTag, readBody, send, sendEmpty, sendJson, type Exchange } from './http.ts';
import type { Repositories } from './repositories.ts';

/** Largest manifest that is taken, bytes: the limit that clients can rely on (distribution-spec 1.1). */
const PUSH_LIMIT = 4 * 1024 * 1024;
/** Descriptors in one answer of the referrers API. */
const REFERRERS_PAGE = 1000;

/** `/v2/<name>/manifests/<reference>` and `/v2/<name>/referrers/<digest>`. */
export class Manifests {
  readonly #layout: LayoutStore;
  readonly #repositories: Repositories;

  constructor(layout: LayoutStore, repositories: Repositories) {
    this.#layout = layout;
    this.#repositories = repositories;
  }

  async get(exchange: Exchange, repository: string, reference: string): Promise<void> {
    const descriptor = await this.#find(repository, reference, exchange.signal);
    const { digest, mediaType } = descriptor;
    const headers = { 'Docker-Content-Digest': digest, ETag: `"${digest}"` };
    if (matchesTag(exchange.request.headers['if-none-match'], digest)) return sendEmpty(exchange, 304, headers);
    const body = await collect(this.#layout.fetch(descriptor, exchange.signal), MANIFEST_LIMIT, 'manifest');
    send(exchange, 200, body, { ...headers, 'Content-Type': mediaType });
  }

  async put(exchange: Exchange, repository: string, reference: string): Promise<void> {
    const body = await readBody(exchange, PUSH_LIMIT, 'MANIFEST_INVALID');
    const byDigest = isDigest(reference);
    if (!byDigest && !isTag(reference)) throw new ApiError(400, reference.includes(':') ? 'DIGEST_INVALID' : 'TAG_INVALID', 'neither a tag nor a sha256 or sha512 digest');
    const digest = byDigest ? digestLike(reference, body) : digestOf(body);
    if (byDigest && digest !== reference) throw new ApiError(400, 'DIGEST_INVALID', `content has digest ${digest}`);
    const tags = byDigest ? exchange.query.getAll('tag') : [reference];
    if (!tags.every(isTag)) throw new ApiError(400, 'TAG_INVALID', 'not a tag');

    const facts = readFacts(body, exchange.request.headers['content-type'], digest);
    await this.#requireReferences(facts, exchange.signal);
    const descriptor: Descriptor = { mediaType: facts.mediaType, digest, size: body.length };
    await this.#layout.push(descriptor, () => streamOf(body));
    for (const tag of tags) await this.#repositories.point(repository, tag, { ...descriptor, ...artifactType(facts) }, facts.subject !== undefined);
    exchange.response.writeHead(201, {
      Location: `/v2/${repository}/manifests/${digest}`,
      'Docker-Content-Digest': digest,
      'Content-Length': 0,
      ...(facts.subject !== undefined && { 'OCI-Subject': facts.subject }),
      ...(byDigest && tags.length > 0 && { 'OCI-Tag': tags }),
    });
    exchange.response.end();
  }

  async remove(exchange: Exchange, repository: string, reference: string): Promise<void> {
    if (!isDigest(reference)) {
      if (!(await this.#repositories.removeTag(repository, reference))) throw unknown(reference);
      return sendEmpty(exchange, 202);
    }
    const listed = await this.#repositories.removeDigest(repository, reference);
    const facts = await this.#layout.documents.facts(reference, undefined, exchange.signal);
    const stillListed = (await this.#layout.index.read()).some((entry) => entry.descriptor?.digest === reference);
    if (!listed && (!facts || stillListed)) throw unknown(reference);
    // Other repositories, and indexes that hold it, keep the content; it can then still be read by digest.
    if (facts && !stillListed && (await this.userOf(reference, exchange.signal)) === undefined) {
      await this.#layout.blobs.remove(reference);
      this.#layout.documents.forget(reference);
    }
    sendEmpty(exchange, 202);
  }

  async referrers(exchange: Exchange, repository: string, subject: string): Promise<void> {
    if (!isDigest(subject)) throw new ApiError(400, 'DIGEST_INVALID', 'not a sha256 or sha512 digest');
    const type = exchange.query.get('artifactType');
    const all = await this.#layout.referrers({ mediaType: OCI.manifest, digest: subject, size: 0 }, exchange.signal);
    const wanted = all.filter((one) => type === null || one.artifactType === type).sort((a, b) => (a.digest < b.digest ? -1 : 1));
    const last = exchange.query.get('last') ?? '';
    const rest = wanted.filter(({ digest }) => digest > last);
    const manifests = rest.slice(0, REFERRERS_PAGE);
    const next = new URLSearchParams({ ...(type !== null && { artifactType: type }), last: manifests.at(-1)?.digest ?? '' });
    sendJson(exchange, 200, { schemaVersion: 2, mediaType: OCI.index, manifests }, {
      'Content-Type': OCI.index,
      ...(type !== null && { 'OCI-Filters-Applied': 'artifactType' }),
      ...(manifests.length < rest.length && { Link: `</v2/${repository}/referrers/${subject}?${next}>; rel="next"` }),
    });
  }

  /** A listed manifest or index, at any depth, that needs the content; undefined when it can go. */
  async userOf(digest: Digest, signal: AbortSignal): Promise<Digest | undefined> {
    const seen = new Set<Digest>();
    const queue = (await this.#layout.index.read()).flatMap((entry) => (entry.descriptor ? [entry.descriptor.digest] : []));
    for (let one = queue.pop(); one !== undefined; one = queue.pop()) {
      if (seen.has(one)) continue;
      seen.add(one);
      const facts = await this.#layout.documents.facts(one, undefined, signal);
      if (!facts) continue;
      if ([...facts.children, ...facts.blobs].some((reference) => reference.digest === digest)) return one;
      for (const child of facts.children) queue.push(child.digest);
    }
    return undefined;
  }

  async #find(repository: string, reference: string, signal: AbortSignal): Promise<Descriptor> {
    if (!isDigest(reference)) {
      const found = await this.#repositories.find(repository, reference);
      if (!found) throw unknown(reference);
      return found;
    }
    try {
      return await this.#layout.resolve(reference, signal);
    } catch (error) {
      throw error instanceof LazypullError && error.code === 'NOT_FOUND' ? unknown(reference) : error;
    }
  }

  /** Everything that a manifest needs has to be there before it: a tag never leads to a half image. */
  async #requireReferences(facts: DocumentFacts, signal: AbortSignal): Promise<void> {
    const missing: Digest[] = [];
    for (const { digest, mediaType, elsewhere } of [...facts.children, ...facts.blobs]) {
      if (signal.aborted) return;
      if ((elsewhere && isForeignLayer(mediaType)) || missing.includes(digest)) continue;
      if ((await this.#layout.blobs.size(digest)) === undefined) missing.push(digest);
    }
    if (missing.length > 0) {
      throw new ApiError(400, 'MANIFEST_BLOB_UNKNOWN', `manifest refers to content that is not here: ${missing.slice(0, 5).join(', ')}`, { detail: missing.slice(0, 100).map((digest) => ({ digest })) });
    }
  }
}

function unknown(reference: string): ApiError {
  return new ApiError(404, 'MANIFEST_UNKNOWN', 'manifest is not stored here', { detail: { reference: reference.slice(0, 140) } });
}

function artifactType(facts: DocumentFacts): { artifactType?: string } {
  return facts.subject !== undefined && facts.artifactType !== undefined ? { artifactType: facts.artifactType } : {};
}

function readFacts(body: Uint8Array, contentType: string | undefined, digest: Digest): DocumentFacts {
  let facts: DocumentFacts;
  try {
    facts = documentFacts(body, contentType, `manifest ${digest}`);
    if (isIndexType(facts.mediaType)) parseIndex(body);
    else if (isManifestType(facts.mediaType)) parseManifest(body);
  } catch (error) {
    if (error instanceof LazypullError) throw new ApiError(400, 'MANIFEST_INVALID', error.message);
    throw error;
  }
  const type = contentType?.split(';')[0]?.trim();
  if (!isIndexType(facts.mediaType) && !isManifestType(facts.mediaType)) throw new ApiError(400, 'MANIFEST_INVALID', 'not a type of image manifest or index');
  // Read back by digest, a document is what it says it is: one served as a Docker type has to say so.
  if ((type === DOCKER.manifest || type === DOCKER.index) && parseObject(body, 'manifest')['mediaType'] === undefined) throw new ApiError(400, 'MANIFEST_INVALID', 'mediaType is missing');
  return facts;
}
