import type { IndexingFormat } from '../../src/core/format.ts';
import { describeSoci } from './describe.ts';
import { examineSoci } from './examine.ts';
import { followSoci } from './write.ts';
import { ANNOTATION, INDEX_TYPE, type SociOptions } from './layout.ts';
import { resolveOptions } from './options.ts';
import { detectSoci, eagerSoci, openSoci } from './read.ts';

export type { SociOptions } from './layout.ts';

/** SOCI: layers stay as they are; an index beside the image says where in them inflating can begin. */
export const soci: IndexingFormat<SociOptions> = {
  kind: 'indexing',
  name: 'soci',
  binding: { artifactType: INDEX_TYPE.v2, artifactKey: ANNOTATION.indexDigest, imageKey: ANNOTATION.imageDigest },
  referrerType: INDEX_TYPE.v1,
  claims: ({ image }) => image?.annotations[ANNOTATION.indexDigest] !== undefined,
  detect: detectSoci,
  eager: eagerSoci,
  open: openSoci,
  examine: examineSoci,
  follow: (layer, context, options) => followSoci(layer, context, resolveOptions(options)),
  describeImage: (image, options) => describeSoci(image, resolveOptions(options)),
};
