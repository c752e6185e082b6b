import { LazypullError } from '../../src/core/errors.ts';
import { matcherOf } from '../../src/layer/glob.ts';
import { cleanPath } from '../../src/tar/path.ts';
import { DEFAULT_MIN_LAYER_SIZE, DEFAULT_SPAN_SIZE, type SociOptions } from './layout.ts';

/** As in the list of formats, which must not load this file. */
const MAX_SPAN = 1 << 30;

/** Fills in defaults and refuses what makes no sense. */
export function resolveOptions(options: SociOptions): Required<SociOptions> {
  const resolved = {
    spanSize: options.spanSize ?? DEFAULT_SPAN_SIZE,
    minLayerSize: options.minLayerSize ?? DEFAULT_MIN_LAYER_SIZE,
    transcodeZstd: options.transcodeZstd ?? false,
    upstreamCheckpoints: options.upstreamCheckpoints ?? false,
    optimizeXattr: options.optimizeXattr ?? false,
    prefetch: options.prefetch ?? [],
  };
  whole('span size', resolved.spanSize, 1, MAX_SPAN);
  whole('minimal layer size', resolved.minLayerSize, 0, Number.MAX_SAFE_INTEGER);
  // A line that is no glob is told before any layer is fetched.
  for (const pattern of resolved.prefetch) matcherOf(pattern, cleanPath(pattern));
  return resolved;
}

function whole(what: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) throw new LazypullError('USAGE', `${what} must be a whole number from ${least} to ${most}, not ${value}`);
}
