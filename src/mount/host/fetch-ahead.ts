import type { MountContent, PrefetchReport } from '../data/types.ts';

/** Fetches what somebody has asked for: paths, everything, or, when neither is named, what the image itself names. */
export async function fetchAhead(content: Pick<MountContent, 'prefetch' | 'fill' | 'stats'>, paths: readonly string[], all: boolean, signal?: AbortSignal): Promise<PrefetchReport> {
  if (!all) return content.prefetch({ landmarks: paths.length === 0, paths, ...(signal ? { signal } : {}) });
  const sum = (of: 'localBytes' | 'bytes'): number => content.stats().layers.reduce((total, layer) => total + layer[of], 0);
  const before = sum('localBytes');
  await content.fill(signal);
  return { bytes: sum('bytes'), fetched: sum('localBytes') - before, unmatched: [] };
}
