import { corrupt, LazypullError } from '../core/errors.ts';
import { gunzipMember } from './gzip.ts';
import { lz4Decompress } from './lz4.ts';
import { zstdDecompress } from './zstd.ts';

/** How a stored chunk may be packed. lz4 is a block without a frame. */
export type ChunkCompressor = 'none' | 'zstd' | 'lz4' | 'gzip';

/**
 * Content of a stored chunk, or of several packed as one, that must hold exactly `size` bytes: anything else is CORRUPT, zstd
 * content beyond it LIMIT. Of gzip only the first member is looked at, up to that size, because what is referred to in
 * other files may have more behind it. The result belongs to the caller, but for 'none', which gives `bytes` themselves.
 */
export async function unpackChunk(compressor: ChunkCompressor, bytes: Uint8Array, size: number, what: string): Promise<Uint8Array> {
  switch (compressor) {
    case 'none':
      return exact(bytes, size, what);
    case 'zstd':
      return exact(await zstdDecompress(bytes, size, what), size, what);
    case 'lz4':
      return lz4Decompress(bytes, size, what);
    case 'gzip':
      return gunzipMember(bytes, { size }, what);
    default:
      throw new LazypullError('UNSUPPORTED', `${what}: no decoder for ${String(compressor satisfies never)}`);
  }
}

function exact(bytes: Uint8Array, size: number, what: string): Uint8Array {
  if (bytes.length !== size) throw corrupt(`${what}: ${bytes.length} bytes where there should be ${size}`);
  return bytes;
}
