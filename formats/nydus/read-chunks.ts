import { equalBytes } from '../../src/core/bytes.ts';
import type { Digest } from '../../src/core/digest.ts';
import type { Chunk } from '../../src/core/types.ts';
import type { DigestBytes } from '../../src/codec/blake3.ts';
import { crc32c } from '../../src/erofs/crc32c.ts';
import type { Compressor, NydusDigester } from './layout.ts';

/** Chunks of all blobs of an image. Each is an object that lives as long as the image is open. */
export const MAX_CHUNKS = 1 << 22;

/**
 * How a chunk is stored: as it is, compressed for itself, in a batch, in a piece of a gzip layer, or not at all. Where a `lost`
 * one is cannot be found out, because its blob's tables cannot be read.
 */
export type Packing = 'plain' | 'packed' | 'batch' | 'zran' | 'hole' | 'lost';

/** What the chunks of a blob have in common. */
export interface ChunkHome {
  /** In the blob table. */
  readonly blob: number;
  readonly compressor: Compressor;
  readonly digester: NydusDigester;
}

/** What there is to say about one chunk; the rest is as in `Chunk`. */
export interface ChunkPlace {
  readonly offset: number;
  readonly length: number;
  readonly size: number;
  readonly skip?: number;
  readonly packing: Packing;
  /** In the uncompressed address space of its blob. */
  readonly address: number;
  /** Batch and zran: number of the context. */
  readonly context?: number;
  /** CRC-32C of the inflated bytes. */
  readonly crc?: number;
}

/** A chunk of a Nydus blob. There may be millions, so their digests stay in the tables that they were read from. */
export class RafsChunk implements Chunk {
  readonly home: ChunkHome;
  readonly offset: number;
  readonly length: number;
  readonly size: number;
  readonly skip: number;
  readonly packing: Packing;
  readonly address: number;
  readonly context: number;
  readonly crc: number | undefined;
  #digests: Uint8Array | undefined;
  #digestAt = 0;

  constructor(home: ChunkHome, place: ChunkPlace) {
    this.home = home;
    this.offset = place.offset;
    this.length = place.length;
    this.size = place.size;
    this.skip = place.skip ?? 0;
    this.packing = place.packing;
    this.address = place.address;
    this.context = place.context ?? -1;
    this.crc = place.crc;
  }

  get blob(): number {
    return this.home.blob;
  }

  /** Its digest in the form that everybody knows; undefined for BLAKE3, which `isRight` looks at. */
  get digest(): Digest | undefined {
    return this.#digests && this.home.digester === 'sha256' ? `sha256:${Buffer.from(this.digestBytes ?? []).toString('hex')}` : undefined;
  }

  /** 32 bytes by the blob's algorithm: a view. */
  get digestBytes(): Uint8Array | undefined {
    return this.#digests?.subarray(this.#digestAt, this.#digestAt + 32);
  }

  /** The digest is in `table` from a byte on; the table must not change. */
  setDigest(table: Uint8Array, at: number): void {
    this.#digests = table;
    this.#digestAt = at;
  }
}

/** Whether inflated bytes are what a chunk's BLAKE3 digest or, without any digest, its CRC says; undefined where neither is known. */
export function isRight(chunk: RafsChunk, bytes: Uint8Array, blake3: DigestBytes | undefined): boolean | undefined {
  const { digestBytes, crc } = chunk;
  if (digestBytes && chunk.home.digester === 'blake3') return blake3 && equalBytes(blake3(bytes), digestBytes);
  return crc === undefined || digestBytes ? undefined : crc32c(bytes) === crc;
}
