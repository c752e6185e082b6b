import { LazypullError } from '../../src/core/errors.ts';

export interface OciOptions {
  /** Compression level, 0 to 9; default 6. */
  readonly level?: number;
}

export function resolveOptions(options: OciOptions): Required<OciOptions> {
  const { level = 6 } = options;
  if (!Number.isInteger(level) || level < 0 || level > 9) throw new LazypullError('USAGE', `compression level ${level} is not one of 0 to 9`);
  return { level };
}
