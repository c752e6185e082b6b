// LZ4 blocks. A block is a row of sequences: a token (literals << 4 | match length - 4), more length bytes when a half of the
// token is 15, the literals, the distance (16 bits), more match length bytes. The last sequence ends behind its literals.
import { DATA, LARGEST, MEMORY_END, MEMORY_LIMIT, SLACK } from './lz4-map';

export { DATA, LARGEST, MEMORY_END, MEMORY_LIMIT, SLACK };
export { compress } from './lz4-compress';
export { compressKnown } from './lz4-replay';
export { decompress, faultAt } from './lz4-decompress';

/** End of the static data, for the build to check. */
export function staticEnd(): usize {
  return __heap_base;
}
