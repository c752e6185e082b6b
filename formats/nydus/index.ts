import type { RewritingFormat } from '../../src/core/format.ts';
import { assembleNydus } from './assemble.ts';
import { examineNydus } from './examine.ts';
import { OS_FEATURE } from './layout.ts';
import type { NydusOptions } from './options.ts';
import { claimsNydus, detectNydus, openNydus } from './read.ts';
import { writeNydus } from './write.ts';
import { writeZran, type ZranOptions } from './zran-write.ts';

export type { NydusOptions } from './options.ts';
export type { ZranOptions } from './zran-write.ts';

/** Nydus: one file system for the whole image (RAFS v6, a kind of EROFS), its content in chunks that images can share. */
export const nydus: RewritingFormat<NydusOptions> = {
  kind: 'rewriting',
  name: 'nydus',
  inOrder: true,
  osFeature: OS_FEATURE,
  claims: claimsNydus,
  detect: detectNydus,
  open: openNydus,
  examine: examineNydus,
  // A blob is of use to the bootstrap that names its chunks only: images are made anew as a whole.
  adopt: async () => undefined,
  convert: writeNydus,
  assemble: assembleNydus,
};

/**
 * Nydus about layers that stay as they are: what is stored anew is where their chunks are. Images are read like others of
 * Nydus, as long as the layers are in the repository.
 */
export const nydusZran: RewritingFormat<ZranOptions> = { ...nydus, name: 'nydus-zran', keepsLayers: true, convert: writeZran };
