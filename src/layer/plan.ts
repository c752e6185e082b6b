import type { Chunk } from '../core/types.ts';

/** One ranged request and the chunks whose stored bytes it brings. */
export interface RangeRequest {
  readonly blob: number;
  readonly offset: number;
  readonly length: number;
  /** By offset, then by `skip`. */
  readonly chunks: readonly Chunk[];
}

export interface PlanOptions {
  /** Unwanted stored bytes worth fetching to save a request. Default 64 KiB: about one round trip's worth. */
  readonly gap?: number;
  /** Most bytes of one request, unless one chunk alone is longer. Default 8 MiB. */
  readonly maxRequest?: number;
}

const DEFAULT_GAP = 64 * 1024;
export const DEFAULT_MAX_REQUEST = 8 * 1024 * 1024;

/**
 * Decides which ranges to ask for: each wanted chunk lies whole in exactly one request, neighbours share one, requests
 * are in stored order. Pure; a chunk given twice is fetched once.
 */
export function planRequests(wanted: Iterable<Chunk>, options: PlanOptions = {}): RangeRequest[] {
  const { gap = DEFAULT_GAP, maxRequest = DEFAULT_MAX_REQUEST } = options;
  const chunks = [...new Set(wanted)].sort(storedOrder);
  const requests: RangeRequest[] = [];
  let open: { blob: number; offset: number; end: number; chunks: Chunk[] } | undefined;
  const finish = (): void => {
    if (open) requests.push({ blob: open.blob, offset: open.offset, length: open.end - open.offset, chunks: open.chunks });
  };
  for (const chunk of chunks) {
    const end = chunk.offset + chunk.length;
    if (open && chunk.blob === open.blob && chunk.offset <= open.end + gap && (end <= open.end || end - open.offset <= maxRequest)) {
      open.end = Math.max(open.end, end);
      open.chunks.push(chunk);
    } else {
      finish();
      open = { blob: chunk.blob, offset: chunk.offset, end, chunks: [chunk] };
    }
  }
  finish();
  return requests;
}

/** Blob, offset, then place inside the stored unit. */
export function storedOrder(a: Chunk, b: Chunk): number {
  return a.blob - b.blob || a.offset - b.offset || (a.skip ?? 0) - (b.skip ?? 0);
}
