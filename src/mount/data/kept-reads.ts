import type { Digest } from '../../core/digest.ts';
import type { ByteSource, ByteStream, Descriptor, ImageStore } from '../../core/types.ts';
import { collect } from '../../core/stream.ts';
import { isManifestEndpoint } from '../../oci/manifests.ts';
import { ExpectedReads } from './expected-reads.ts';

interface Kept {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** What is kept at most, bytes; and of one read. */
const MAX_BYTES = 8 << 20;
const MAX_READ = 4 << 20;
/** Milliseconds. */
const SOON = 60_000;

/**
 * Remembers what was read of blobs while a mount was planned: the indexes of layers. Who opens the layers again for their content, and
 * not for their trees, gets the same bytes once more without asking for them; then they are forgotten. What will be read of their content
 * first is on its way until then.
 */
export class KeptReads {
  readonly #ranges = new Map<Digest, Kept[]>();
  readonly #blobs = new Map<Digest, Uint8Array>();
  readonly #expected = new ExpectedReads();
  #bytes = 0;
  #keeping = true;

  /** Planned: whatever is read from now on is handed through, and what is kept is for who opens the layers soon. */
  stop(): void {
    this.#keeping = false;
    this.#expected.stop();
    setTimeout(() => this.#clear(), SOON).unref();
  }

  /** Nobody reads any more. */
  close(): void {
    this.#expected.close();
    this.#clear();
  }

  #clear(): void {
    this.#expected.forget();
    this.#ranges.clear();
    this.#blobs.clear();
  }

  /** The store, of which reads are kept. */
  over(store: ImageStore): ImageStore {
    return new Proxy(store, {
      get: (target, name) => {
        if (name === 'open') return (descriptor: Descriptor) => this.#source(descriptor, target.open(descriptor));
        if (name === 'fetch') return (descriptor: Descriptor, signal?: AbortSignal) => this.#fetch(descriptor, () => target.fetch(descriptor, signal));
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? (value as (...of: unknown[]) => unknown).bind(target) : value;
      },
    });
  }

  #source(descriptor: Descriptor, source: ByteSource): ByteSource {
    const { digest } = descriptor;
    return {
      size: source.size,
      ...(source.fresh === undefined ? {} : { fresh: source.fresh }),
      read: async (offset, length, signal) => {
        const known = this.#again(digest, offset, length);
        if (known) return known;
        const bytes = await (this.#expected.read(digest, source, offset, length, signal) ?? source.read(offset, length, signal));
        if (this.#takes(length)) this.#ranges.set(digest, [...(this.#ranges.get(digest) ?? []), { offset, bytes: new Uint8Array(bytes) }]);
        return bytes;
      },
      expect: (offset, length) => this.#expected.expect(digest, source, offset, length),
      expects: (offset, length) => this.#expected.has(digest, offset, length),
      distrust: (offset, length) => {
        this.#ranges.delete(digest);
        this.#expected.forget(digest);
        return source.distrust?.(offset, length) ?? false;
      },
    };
  }

  async *#fetch(descriptor: Descriptor, fetch: () => ByteStream): ByteStream {
    const { digest, size, mediaType } = descriptor;
    const known = this.#blobs.get(digest);
    if (known && !this.#keeping) this.#blobs.delete(digest);
    if (known) {
      yield new Uint8Array(known);
    } else if (isManifestEndpoint(mediaType) || !this.#takes(size)) {
      yield* fetch();
    } else {
      const bytes = await collect(fetch(), size, `blob ${digest}`);
      this.#blobs.set(digest, new Uint8Array(bytes));
      yield bytes;
    }
  }

  /** What was read in just the same way. While it goes on being kept it is a copy: whoever has read it may give its memory back. */
  #again(digest: Digest, offset: number, length: number): Uint8Array | undefined {
    const all = this.#ranges.get(digest);
    const known = all?.find((kept) => kept.offset === offset && kept.bytes.length === length);
    if (!all || !known) return undefined;
    if (this.#keeping) return new Uint8Array(known.bytes);
    this.#ranges.set(digest, all.filter((kept) => kept !== known));
    return known.bytes;
  }

  #takes(bytes: number): boolean {
    if (!this.#keeping || bytes > MAX_READ || this.#bytes + bytes > MAX_BYTES) return false;
    this.#bytes += bytes;
    return true;
  }
}
