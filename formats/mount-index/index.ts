import type { IndexingFormat } from '../../src/core/format.ts';
import { describeImage } from './describe.ts';
import { examine } from './examine.ts';
import { ANNOTATION, ARTIFACT_TYPE, LOCAL_SPAN_SIZE, type MountIndexOptions } from './layout.ts';
import { resolveOptions } from './options.ts';
import { detect, open, openContent, premade } from './read.ts';
import { recall } from './recall.ts';
import { followLayer } from './write.ts';

export type { MountIndexOptions } from './layout.ts';

/** The mount index: layers stay as they are; an artifact that refers to the image makes it readable from anywhere, and quick to mount. */
export const mountIndex: IndexingFormat<MountIndexOptions> = {
  kind: 'indexing',
  name: 'erofs',
  binding: { artifactType: ARTIFACT_TYPE, artifactKey: ANNOTATION.artifact, imageKey: ANNOTATION.image },
  referrerType: ARTIFACT_TYPE,
  localOptions: { spanSize: LOCAL_SPAN_SIZE },
  detect,
  open,
  openContent,
  premade,
  examine,
  follow: (layer, context, options) => followLayer(layer, context, resolveOptions(options)),
  recall,
  describeImage,
};
