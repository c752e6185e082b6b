import type { RewritingFormat } from '../../src/core/format.ts';
import { LazypullError } from '../../src/core/errors.ts';
import { resolveOptions, type OciOptions } from './options.ts';
import { writePlain } from './write.ts';

export type { OciOptions } from './options.ts';

/** Ordinary layers, tar and gzip, for whatever cannot read anything else. Only written: every reader has its own way with them. */
export const oci: RewritingFormat<OciOptions> = {
  kind: 'rewriting',
  name: 'oci',
  plain: true,
  detect: async () => false,
  open: () => Promise.reject(new LazypullError('UNSUPPORTED', 'an ordinary layer has no index to open it by')),
  adopt: async () => undefined,
  convert: (input, context, options) => writePlain(input, context, resolveOptions(options)),
};
