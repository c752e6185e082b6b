import { LazypullError } from '../../src/core/errors.ts';
import type { StoredImage } from '../../src/core/format.ts';
import { DEFAULT_CHUNK_SIZE, MAX_CHUNK_SIZE, MIN_CHUNK_SIZE } from './layout.ts';

/** How new chunks are compressed; gzip occurs only in layers that zran refers to. */
export type ChunkCompressor = 'zstd' | 'lz4' | 'none';
export type ChunkDigestName = 'blake3' | 'sha256';

/** How an image is written; every field has a default. The output depends on these and on the input alone. */
export interface NydusOptions {
  /** Bytes of a file per chunk, a power of two from 4 KiB to 16 MiB; default 1 MiB. */
  readonly chunkSize?: number;
  /** Default zstd. */
  readonly compressor?: ChunkCompressor;
  /** Of zstd, 1 to 22; default 3. */
  readonly level?: number;
  /** Of chunks; default blake3. */
  readonly digester?: ChunkDigestName;
  /** Chunks begin at multiples of 4096 in the blob as well. With compressor none it then is its own address space. */
  readonly aligned?: boolean;
  /** Small files are compressed together up to so many bytes, a power of two from 4 KiB to 16 MiB; default 0: each by itself. */
  readonly batchSize?: number;
  /** Globs of files to put first in the blobs and into the prefetch table, in order. */
  readonly prefetch?: readonly string[];
  /**
   * Another Nydus image, whose chunks need not be stored again: its blobs are listed among the image's layers as far as they
   * are of use. Chunk size, compressor and digester are then those of the dictionary unless told, and must be the same.
   */
  readonly chunkDict?: StoredImage;
}

/** Options with nothing left open. */
export interface NydusSettings extends Required<Omit<NydusOptions, 'chunkDict'>> {
  readonly chunkDict: StoredImage | undefined;
}

const DEFAULT_LEVEL = 3;
const MAX_LEVEL = 22;

/** What a dictionary has decided already. */
export type Decided = Pick<NydusSettings, 'chunkSize' | 'compressor' | 'digester'>;

/** Fills in defaults and refuses (USAGE) what makes no sense. */
export function resolveOptions(options: NydusOptions, decided?: Decided): NydusSettings {
  const resolved: NydusSettings = {
    chunkSize: options.chunkSize ?? decided?.chunkSize ?? DEFAULT_CHUNK_SIZE,
    compressor: options.compressor ?? decided?.compressor ?? 'zstd',
    level: options.level ?? DEFAULT_LEVEL,
    digester: options.digester ?? decided?.digester ?? 'blake3',
    aligned: options.aligned ?? false,
    batchSize: options.batchSize ?? 0,
    prefetch: options.prefetch ?? [],
    chunkDict: options.chunkDict,
  };
  powerOfTwo('chunk size', resolved.chunkSize);
  if (resolved.batchSize !== 0) powerOfTwo('batch size', resolved.batchSize);
  oneOf('compressor', resolved.compressor, ['zstd', 'lz4', 'none']);
  oneOf('digester', resolved.digester, ['blake3', 'sha256']);
  if (!Number.isInteger(resolved.level) || resolved.level < 1 || resolved.level > MAX_LEVEL) throw usage(`level must be a whole number from 1 to ${MAX_LEVEL}, not ${resolved.level}`);
  // An entry that can tell of batches has 24 bits for a chunk's stored size.
  if (resolved.batchSize > 0 && resolved.chunkSize === MAX_CHUNK_SIZE) throw usage(`a blob with batches has chunks below ${MAX_CHUNK_SIZE} bytes: choose a smaller chunk size`);
  for (const key of ['chunkSize', 'compressor', 'digester'] as const) {
    if (decided && resolved[key] !== decided[key]) throw usage(`the chunk dictionary has ${NAMES[key]} ${decided[key]}, which an image that uses it must have too, not ${resolved[key]}`);
  }
  return resolved;
}

const NAMES = { chunkSize: 'chunk size', compressor: 'compressor', digester: 'digester' } as const;

function powerOfTwo(what: string, value: number): void {
  if (!Number.isInteger(value) || value < MIN_CHUNK_SIZE || value > MAX_CHUNK_SIZE || !Number.isInteger(Math.log2(value))) {
    throw usage(`${what} must be a power of two from ${MIN_CHUNK_SIZE} to ${MAX_CHUNK_SIZE}, not ${value}`);
  }
}

function oneOf(what: string, value: string, known: readonly string[]): void {
  if (!known.includes(value)) throw usage(`${what} must be one of ${known.join(', ')}, not ${value}`);
}

function usage(message: string): LazypullError {
  return new LazypullError('USAGE', message);
}
