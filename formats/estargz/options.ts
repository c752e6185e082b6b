import { LazypullError } from '../../src/core/errors.ts';
import { DEFAULT_LEVEL } from '../../src/codec/deflate.ts';
import { DEFAULT_CHUNK_SIZE } from './layout.ts';

/** How a layer is written; every field has a default. The output depends on these and on the input alone. */
export interface EstargzOptions {
  /** Bytes of a file per chunk, 1 KiB to 64 MiB; default 4 MiB. */
  readonly chunkSize?: number;
  /** Payloads share a gzip member until it holds this many uncompressed bytes, at most 64 MiB; default 0: each has its own. */
  readonly minChunkSize?: number;
  /** Compression level, 0 (stored) to 9. */
  readonly level?: number;
  /** Globs of files to put first, in order. Default: none, and the layer says so with a landmark. */
  readonly prefetch?: readonly string[];
  /** Keep the TOC out of the layer, in an image of its own tagged `<tag>-esgztoc`. */
  readonly externalToc?: boolean;
  /** Keep every byte of the source's tar, and so its diffID; implies `externalToc`. */
  readonly keepDiffId?: boolean;
}

/** As in the list of formats, which must not load this file. */
const MAX_CHUNK = 64 << 20;

/** Fills in defaults and refuses what makes no sense. */
export function resolveOptions(options: EstargzOptions): Required<EstargzOptions> {
  const keepDiffId = options.keepDiffId ?? false;
  const resolved = {
    chunkSize: options.chunkSize ?? DEFAULT_CHUNK_SIZE,
    minChunkSize: options.minChunkSize ?? 0,
    level: options.level ?? DEFAULT_LEVEL,
    prefetch: options.prefetch ?? [],
    externalToc: (options.externalToc ?? false) || keepDiffId,
    keepDiffId,
  };
  whole('chunk size', resolved.chunkSize, 1024, MAX_CHUNK);
  whole('minimal chunk size', resolved.minChunkSize, 0, MAX_CHUNK);
  whole('level', resolved.level, 0, 9);
  if (keepDiffId && resolved.prefetch.length > 0) {
    throw new LazypullError('USAGE', 'a prefetch list moves files to the front, which changes the diffID: it cannot be combined with keeping the diffID');
  }
  return resolved;
}

function whole(what: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) throw new LazypullError('USAGE', `${what} must be a whole number from ${least} to ${most}, not ${value}`);
}
