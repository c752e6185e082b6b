import { digestAlgorithm, digestHex, isDigest, type Digest } from '../core/digest.ts';
import { corrupt, LazypullError } from '../core/errors.ts';
import { collect } from '../core/stream.ts';
import type { ByteStream, Descriptor } from '../core/types.ts';
import { manifestMediaType, MANIFEST_LIMIT, parseObject } from './documents.ts';
import { isIndexType, isManifestType } from './media-types.ts';

/** Documents whose facts are remembered (they never change, being named by digest), and the largest of them, bytes. */
const REMEMBERED = 1000;
const REMEMBERED_SIZE = 32 * 1024;

/** What a store has to know about a manifest or index that it keeps. */
export interface DocumentFacts {
  /** As the document says, or by its shape. */
  readonly mediaType: string;
  readonly size: number;
  readonly subject: Digest | undefined;
  /** distribution-spec 1.1, listing referrers: the manifest's own, or else the media type of its config. */
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>> | undefined;
  /** `manifests` of an index. */
  readonly children: readonly Reference[];
  /** Config and layers of a manifest. */
  readonly blobs: readonly Reference[];
}

/** What a document points at. */
export interface Reference {
  readonly digest: Digest;
  readonly mediaType: string;
  /** Whether the content may live elsewhere (`urls`). */
  readonly elsewhere: boolean;
}

/**
 * Facts of a document's bytes; CORRUPT when they are not a manifest or an index. Lenient otherwise: what is stored is
 * judged by those who use it.
 */
export function documentFacts(bytes: Uint8Array, declared: string | undefined, what: string): DocumentFacts {
  const mediaType = manifestMediaType(bytes, declared, what);
  const document = parseObject(bytes, what);
  const config = reference(document['config']);
  if (isIndexType(mediaType) ? !isList(document['manifests']) : isManifestType(mediaType) && (!config || !isList(document['layers']))) {
    throw corrupt(`${what} is not what its media type says: ${isIndexType(mediaType) ? 'it has no manifests' : 'it has no config or no layers'}`);
  }
  const subject = reference(document['subject'])?.digest;
  const artifactType = textOf(document['artifactType']) || config?.mediaType;
  return {
    mediaType,
    size: bytes.length,
    subject,
    artifactType: artifactType || undefined,
    // Only a referrer's annotations are ever shown.
    annotations: subject === undefined ? undefined : textMap(document['annotations']),
    children: references(document['manifests']),
    blobs: [...(config ? [config] : []), ...references(document['layers'])],
  };
}

/** The tag under which referrers are listed where no API does it: distribution-spec 1.1, "Referrers Tag Schema". */
export function referrersTag(subject: Digest): string {
  return `${digestAlgorithm(subject)}-${digestHex(subject).slice(0, 64)}`;
}

/** The descriptor of a referrer as the referrers API lists it. */
export function referrerDescriptor(digest: Digest, facts: DocumentFacts): Descriptor {
  return {
    mediaType: facts.mediaType,
    digest,
    size: facts.size,
    ...(facts.artifactType !== undefined && { artifactType: facts.artifactType }),
    ...(facts.annotations && Object.keys(facts.annotations).length > 0 && { annotations: facts.annotations }),
  };
}

/** Reads documents and remembers their facts. */
export class DocumentReader {
  readonly #read: (digest: Digest, signal: AbortSignal | undefined) => ByteStream;
  readonly #facts = new Map<Digest, DocumentFacts>();

  /** `read` gives a document's bytes, digest-checked. */
  constructor(read: (digest: Digest, signal: AbortSignal | undefined) => ByteStream) {
    this.#read = read;
  }

  /** Undefined when the content is absent or is no document. */
  async facts(digest: Digest, declared?: string, signal?: AbortSignal): Promise<DocumentFacts | undefined> {
    let facts = this.#facts.get(digest);
    if (!facts) {
      try {
        facts = documentFacts(await collect(this.#read(digest, signal), MANIFEST_LIMIT, `manifest ${digest}`), declared, `manifest ${digest}`);
      } catch (error) {
        if (error instanceof LazypullError && ['NOT_FOUND', 'CORRUPT', 'LIMIT', 'UNSUPPORTED'].includes(error.code)) return undefined;
        throw error;
      }
      this.remember(digest, facts);
    }
    return facts;
  }

  remember(digest: Digest, facts: DocumentFacts): void {
    if (facts.size > REMEMBERED_SIZE) return;
    const [oldest] = this.#facts.keys();
    if (this.#facts.size >= REMEMBERED && oldest !== undefined) this.#facts.delete(oldest);
    this.#facts.set(digest, facts);
  }

  forget(digest: Digest): void {
    this.#facts.delete(digest);
  }
}

/** Go writes an empty list as null. */
function isList(value: unknown): boolean {
  return Array.isArray(value) || value === null;
}

function references(value: unknown): Reference[] {
  return Array.isArray(value) ? value.map(reference).filter((one) => one !== undefined) : [];
}

function reference(value: unknown): Reference | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { digest, mediaType, urls } = value as Record<string, unknown>;
  if (!isDigest(digest)) return undefined;
  return { digest, mediaType: textOf(mediaType) ?? '', elsewhere: Array.isArray(urls) && urls.length > 0 };
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function textMap(value: unknown): Record<string, string> | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  return Object.fromEntries(Object.entries(value).filter((pair): pair is [string, string] => typeof pair[1] === 'string'));
}
