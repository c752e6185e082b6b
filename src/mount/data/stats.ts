import type { FileMap } from './file-map.ts';
import type { Filler } from './filler.ts';
import type { LayerContent } from './layer-content.ts';
import type { LayerDevice } from './opened-layer.ts';
import type { ContentStats, LayerStats, MountPlan } from './types.ts';

export interface StatsOf {
  readonly plan: MountPlan;
  readonly devices: readonly LayerDevice[];
  readonly layers: readonly (LayerContent | undefined)[];
  /** What files show, once that is known. */
  readonly map: FileMap | undefined;
  readonly filler: Filler;
  readonly slowest: number;
}

/** What there is to say about the content of a mount. */
export function statsOf({ plan, devices, layers, map, filler, slowest }: StatsOf): ContentStats {
  const shown = devices.map(() => ({ bytes: 0, lacking: 0 }));
  if (map) {
    for (const run of map.runs()) {
      const sums = shown[run.device];
      if (!sums) continue;
      sums.bytes += run.length;
      sums.lacking += filler.lacking([run]);
    }
  }
  const answers = { local: 0, shared: 0, fetched: 0 };
  const all = plan.layers.map(({ digest, format }, layer): LayerStats => {
    const content = layers[layer];
    const asked = content?.opened?.asked();
    const own = devices.filter(({ planned }) => planned.layer === layer);
    const bytes = own.reduce((sum, { number, planned }) => sum + (map ? (shown[number]?.bytes ?? 0) : planned.size), 0);
    const here = own.reduce((sum, { number, device }) => sum + (map ? Math.max(0, (shown[number]?.bytes ?? 0) - (shown[number]?.lacking ?? 0)) : device.localBytes), 0);
    for (const how of ['local', 'shared', 'fetched'] as const) answers[how] += content?.counts.answers[how] ?? 0;
    return {
      layer,
      digest,
      format,
      requests: asked?.requests ?? 0,
      fetchedBytes: asked?.bytes ?? 0,
      requestsBy: { ...(content?.counts.requestsBy ?? { demand: 0, ahead: 0, prefetch: 0, background: 0 }) },
      misses: content?.counts.misses ?? 0,
      errors: content?.counts.errors ?? 0,
      refetched: content?.counts.refetched ?? 0,
      localBytes: here,
      bytes,
    };
  });
  return { layers: all, complete: map !== undefined && filler.complete(map), answers, slowest };
}
