import { createHash, type Hash } from 'node:crypto';
import { LazypullError, printable } from './errors.ts';

/** Text form of a content digest, `algorithm:hex`. Only `sha256` (64 hex) and `sha512` (128 hex) are accepted. */
export type Digest = `sha256:${string}` | `sha512:${string}`;

const GRAMMAR = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

export function isDigest(text: unknown): text is Digest {
  return typeof text === 'string' && GRAMMAR.test(text);
}

/** Checks a stranger's digest text. Nothing may become a file path or a URL before it has passed here. */
export function parseDigest(text: unknown, what = 'digest'): Digest {
  if (isDigest(text)) return text;
  throw new LazypullError('CORRUPT', `${what} is not a sha256 or sha512 digest: ${printable(String(text).slice(0, 140))}`);
}

export function digestAlgorithm(digest: Digest): 'sha256' | 'sha512' {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256';
}

export function digestHex(digest: Digest): string {
  return digest.slice(7);
}

/** sha256 of bytes that are all at hand. */
export function digestOf(...parts: readonly Uint8Array[]): Digest {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return `sha256:${hash.digest('hex')}`;
}

/** Digest of bytes that are all at hand, by the algorithm of another digest: to be compared with it. */
export function digestLike(wanted: Digest, bytes: Uint8Array): Digest {
  const digester = new Digester(digestAlgorithm(wanted));
  digester.update(bytes);
  return digester.finish();
}

/** Hashes and counts a stream as it flows. */
export class Digester {
  #hash: Hash;
  #algorithm: 'sha256' | 'sha512';
  #size = 0;

  constructor(algorithm: 'sha256' | 'sha512' = 'sha256') {
    this.#algorithm = algorithm;
    this.#hash = createHash(algorithm);
  }

  /** Bytes seen so far. */
  get size(): number {
    return this.#size;
  }

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.#size += bytes.length;
  }

  /** Another digester that has seen the same bytes. */
  copy(): Digester {
    const copy = new Digester(this.#algorithm);
    copy.#hash = this.#hash.copy();
    copy.#size = this.#size;
    return copy;
  }

  /** The digest of everything so far; more may follow. */
  soFar(): Digest {
    return this.copy().finish();
  }

  /** The digest of everything so far; the digester cannot be used afterwards. */
  finish(): Digest {
    return `${this.#algorithm}:${this.#hash.digest('hex')}`;
  }
}

/**
 * Passes a stream through and holds it against the size and digest it was promised to have.
 * Too short, too long and wrong content are three different errors; too long is reported before the surplus is yielded.
 */
export async function* verified(
  stream: AsyncIterable<Uint8Array>,
  expected: { readonly digest: Digest; readonly size?: number },
  what: string,
): AsyncGenerator<Uint8Array> {
  const digester = new Digester(digestAlgorithm(expected.digest));
  for await (const bytes of stream) {
    digester.update(bytes);
    if (expected.size !== undefined && digester.size > expected.size) {
      throw new LazypullError('SIZE_MISMATCH', `${what} is longer than the ${expected.size} bytes of its descriptor`, { offset: expected.size });
    }
    yield bytes;
  }
  if (expected.size !== undefined && digester.size < expected.size) {
    throw new LazypullError('SIZE_MISMATCH', `${what} ends early: ${expected.size} bytes promised, ${digester.size} received`, { offset: digester.size });
  }
  const size = digester.size;
  const got = digester.finish();
  if (got !== expected.digest) throw new LazypullError('DIGEST_MISMATCH', `${what} (${size} bytes) has digest ${got}, not ${expected.digest}`);
}
