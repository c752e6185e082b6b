import { parseDigest, isDigest, verified, Digester, type Digest } from '../core/digest.ts';
import { LazypullError, printable, throwIfAborted } from '../core/errors.ts';
import { concat } from '../core/bytes.ts';
import { checkRange } from '../core/source.ts';
import { collect, streamOf } from '../core/stream.ts';
import type { ByteSource, ByteStream, Descriptor, ImageStore, Produce } from '../core/types.ts';
import { documentFacts, DocumentReader, referrerDescriptor } from './document-facts.ts';
import { isIndexType, isManifestType } from './media-types.ts';

/** An empty store that lives in memory: for tests, and for building small images without touching a disk. */
export function openMemory(name = 'memory'): MemoryStore {
  return new MemoryStore(name);
}

/** The same promises as the other stores, except that nothing outlives the process. */
export class MemoryStore implements ImageStore {
  readonly location: string;
  readonly #content = new Map<Digest, Uint8Array>();
  readonly #tags = new Map<string, Descriptor>();
  readonly #manifests = new Set<Digest>();
  readonly #documents: DocumentReader;

  constructor(name: string) {
    this.location = `memory:${name}`;
    this.#documents = new DocumentReader((digest) => streamOf(this.#bytes(digest)));
  }

  async resolve(reference: string, signal?: AbortSignal): Promise<Descriptor> {
    throwIfAborted(signal);
    if (isDigest(reference)) {
      const facts = this.#manifests.has(reference) ? await this.#documents.facts(reference) : undefined;
      if (facts) return { mediaType: facts.mediaType, digest: reference, size: facts.size };
      throw new LazypullError('NOT_FOUND', `manifest ${reference} is not in ${this.location}`);
    }
    const [only, another] = this.#tags.values();
    const found = this.#tags.get(reference) ?? (reference === '' && !another ? only : undefined);
    if (found) return found;
    const names = [...this.#tags.keys()].slice(0, 20).map(printable).join(', ');
    throw new LazypullError('NOT_FOUND', `no image named ${printable(reference)} in ${this.location}; it has ${names || 'none'}`);
  }

  async tag(descriptor: Descriptor, tag: string, signal?: AbortSignal): Promise<void> {
    if (!(await this.has(descriptor, signal))) {
      throw new LazypullError('NOT_FOUND', `cannot tag ${descriptor.digest} as ${printable(tag)}: it is not stored in ${this.location}`);
    }
    if (!isDigest(tag)) this.#tags.set(tag, descriptor);
    else if (tag !== descriptor.digest) throw new LazypullError('USAGE', `${descriptor.digest} cannot be stored as ${tag}`);
  }

  async has(descriptor: Descriptor, signal?: AbortSignal): Promise<boolean> {
    throwIfAborted(signal);
    return this.#content.get(parseDigest(descriptor.digest))?.length === descriptor.size;
  }

  open(descriptor: Descriptor): ByteSource {
    const digest = parseDigest(descriptor.digest);
    const { size } = descriptor;
    return {
      size,
      read: async (offset, length, signal) => {
        throwIfAborted(signal);
        checkRange({ size }, offset, length);
        const bytes = this.#bytes(digest);
        if (bytes.length !== size) throw new LazypullError('SIZE_MISMATCH', `blob ${digest} has ${bytes.length} bytes, its descriptor says ${size}`);
        return bytes.subarray(offset, offset + length);
      },
    };
  }

  fetch(descriptor: Descriptor, signal?: AbortSignal): ByteStream {
    const digest = parseDigest(descriptor.digest);
    return verified(this.#stream(digest, signal), descriptor, `blob ${digest} of ${this.location}`);
  }

  async push(descriptor: Descriptor, open: () => ByteStream, signal?: AbortSignal): Promise<void> {
    if (await this.has(descriptor, signal)) return;
    const { digest, mediaType, size } = descriptor;
    const what = `content for ${this.location}`;
    const bytes = await collect(interruptible(verified(open(), descriptor, what), signal), size, what);
    if (isIndexType(mediaType) || isManifestType(mediaType)) {
      this.#documents.remember(digest, documentFacts(bytes, mediaType, `manifest ${digest}`));
      this.#manifests.add(digest);
    }
    this.#content.set(digest, bytes);
  }

  async ingest(mediaType: string, produce: Produce, signal?: AbortSignal): Promise<Descriptor> {
    throwIfAborted(signal);
    const digester = new Digester();
    const parts: Uint8Array[] = [];
    await produce(async (bytes) => {
      throwIfAborted(signal);
      digester.update(bytes);
      parts.push(new Uint8Array(bytes));
    }, () => digester.soFar());
    throwIfAborted(signal);
    const { size } = digester;
    const digest = digester.finish();
    this.#content.set(digest, concat(parts));
    return { mediaType, digest, size };
  }

  async referrers(subject: Descriptor, signal?: AbortSignal): Promise<readonly Descriptor[]> {
    const found: Descriptor[] = [];
    for (const digest of this.#manifests) {
      throwIfAborted(signal);
      const facts = await this.#documents.facts(digest);
      if (facts?.subject === subject.digest) found.push(referrerDescriptor(digest, facts));
    }
    return found;
  }

  async mount(descriptor: Descriptor, from: ImageStore, signal?: AbortSignal): Promise<boolean> {
    if (!(from instanceof MemoryStore) || isIndexType(descriptor.mediaType) || isManifestType(descriptor.mediaType)) return false;
    if (!(await from.has(descriptor, signal))) return false;
    this.#content.set(descriptor.digest, from.#bytes(descriptor.digest));
    return true;
  }

  async tags(signal?: AbortSignal): Promise<readonly string[]> {
    throwIfAborted(signal);
    return [...this.#tags.keys()].sort();
  }

  async close(): Promise<void> {
    // Nothing is held open.
  }

  #bytes(digest: Digest): Uint8Array {
    const bytes = this.#content.get(digest);
    if (!bytes) throw new LazypullError('NOT_FOUND', `blob ${digest} is not in ${this.location}`);
    return bytes;
  }

  /** In pieces and lent, like the streams of the other stores. */
  async *#stream(digest: Digest, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
    const bytes = this.#bytes(digest);
    for (let at = 0; at < bytes.length; at += 1 << 20) {
      throwIfAborted(signal);
      yield bytes.subarray(at, at + (1 << 20));
    }
  }
}

async function* interruptible(stream: ByteStream, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  for await (const bytes of stream) {
    throwIfAborted(signal);
    yield bytes;
  }
}
