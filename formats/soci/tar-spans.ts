import { Digester, type Digest } from '../../src/core/digest.ts';
import type { FoundSpans, SpanFinder } from './spans.ts';

/** Digests are kept until the end. */
const SPAN_LIMIT = 1 << 20;

/** The spans of a plain tar: slices of a fixed size (notes §4). */
export class TarSpans implements SpanFinder {
  readonly #spanSize: number;
  readonly #digests: Digest[] = [];
  #digester = new Digester();
  #size = 0;
  refused: string | undefined;

  constructor(spanSize: number) {
    this.#spanSize = spanSize;
  }

  point(): void {}

  packed(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && this.refused === undefined; ) {
      if (this.#digester.size === this.#spanSize) this.#close();
      const part = bytes.subarray(at, at + this.#spanSize - this.#digester.size);
      this.#digester.update(part);
      at += part.length;
    }
    this.#size += bytes.length;
  }

  reaches(): void {}

  ends(): void {}

  finish(): FoundSpans {
    if (this.#digester.size > 0) this.#close();
    return {
      spans: { algorithm: 'uncompressed', spanSize: this.#spanSize, size: this.#size },
      digests: this.#digests,
      packedSize: this.#size,
      warnings: [],
    };
  }

  #close(): void {
    this.#digests.push(this.#digester.finish());
    this.#digester = new Digester();
    if (this.#digests.length < SPAN_LIMIT) return;
    this.refused = `it has more than ${SPAN_LIMIT} spans; a larger --span-size makes fewer`;
    this.#digests.length = 0;
  }
}
