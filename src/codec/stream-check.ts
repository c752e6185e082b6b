import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';

/** Where a gzip member's content ends in some bytes, and the CRC-32 that it has by its trailer. */
export interface MemberEnd {
  /** Bytes in front. */
  readonly at: number;
  readonly crc: number;
  /** Bytes of the gzip stream in front of the trailer. */
  readonly offset: number;
}

/** sha256 of a stream, and the CRCs of the gzip members that it was in. Imports next to nothing: a thread loads it. */
export class StreamCheck {
  readonly #hash = createHash('sha256');
  readonly #gzip: boolean;
  #crc = 0;
  /** Where the first trailer stands that is not right. */
  bad: number | undefined;

  /** Without `gzip` there are no members. */
  constructor(gzip: boolean) {
    this.#gzip = gzip;
  }

  /** `ends`: those of members in these bytes, in order. */
  update(bytes: Uint8Array, ends: readonly MemberEnd[]): void {
    this.#hash.update(bytes);
    if (!this.#gzip) return;
    let from = 0;
    for (const { at, crc, offset } of ends) {
      this.#crc = crc32(bytes.subarray(from, at), this.#crc);
      if (this.#crc !== crc) this.bad ??= offset;
      this.#crc = 0;
      from = at;
    }
    this.#crc = crc32(bytes.subarray(from), this.#crc);
  }

  /** In hex; once only. */
  finish(): string {
    return this.#hash.digest('hex');
  }
}
