import { LazypullError } from '../../src/core/errors.ts';
import { DEFAULT_SPAN_SIZE, MAX_SPAN_SIZE, MIN_SPAN_SIZE, type MountIndexOptions } from './layout.ts';

/** Fills in the defaults; USAGE for a value outside its limits. */
export function resolveOptions(options: MountIndexOptions): Required<MountIndexOptions> {
  const { spanSize = DEFAULT_SPAN_SIZE } = options;
  if (!Number.isInteger(spanSize) || spanSize < MIN_SPAN_SIZE || spanSize > MAX_SPAN_SIZE) {
    throw new LazypullError('USAGE', `the span size of a mount index must be a whole number of bytes from ${MIN_SPAN_SIZE} to ${MAX_SPAN_SIZE}, not ${spanSize}`);
  }
  return { spanSize };
}
