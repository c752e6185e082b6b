/** The matches that begin in some bytes. */
export interface Matches {
  /** One word for each, or for a long row of literals: see `MATCHES` in kernels/assembly/inflate-map.ts. Lent like the bytes. */
  readonly entries: Uint32Array;
  /** Bytes from the first of the bytes to where the first entry's literals begin; below 0 when that is in front of them. */
  readonly lead: number;
}

type LookUp = (bytes: Uint8Array) => Matches | undefined;

/** Memory that holds what inflaters gave out -> who knows the matches in it. */
const known = new WeakMap<ArrayBufferLike, LookUp>();

/**
 * What an inflater met in bytes that it has lent out, whoever handed them on: the matches that their compressor had found,
 * so that nobody has to find them again. Undefined for other bytes, and where they are not worth it. The last match may reach
 * beyond the bytes. Asking in stream order is fast.
 */
export function matchesIn(bytes: Uint8Array): Matches | undefined {
  return known.get(bytes.buffer)?.(bytes);
}

/** Has `matchesIn` ask `lookUp` about views of this memory, or nobody. */
export function tellMatches(memory: ArrayBufferLike, lookUp: LookUp | undefined): void {
  if (lookUp) known.set(memory, lookUp);
  else known.delete(memory);
}
