import type { RewritingFormat } from '../../src/core/format.ts';
import { resolveOptions, type EstargzOptions } from './options.ts';
import { ANNOTATION, EXTERNAL_TOC_SUFFIX } from './layout.ts';
import { adoptEstargz, detectEstargz, openEstargz } from './read.ts';
import { writeEstargz } from './write.ts';

export type { EstargzOptions } from './options.ts';

/** eStargz: a gzipped tar cut into one member per file chunk, with a table of contents at its end. */
export const estargz: RewritingFormat<EstargzOptions> = {
  kind: 'rewriting',
  name: 'estargz',
  claims: ({ descriptor }) => descriptor.annotations?.[ANNOTATION.tocDigest] !== undefined,
  detect: detectEstargz,
  open: openEstargz,
  adopt: adoptEstargz,
  convert: (input, context, options) => writeEstargz(input, context, resolveOptions(options)),
  async finish(layers, options) {
    if (!resolveOptions(options).externalToc) return [];
    // One image for the layers of all platforms, sorted by digest, each once (§9).
    const tocs = new Map(layers.flatMap((layer) => layer.attachments ?? []).map((toc) => [toc.annotations?.[ANNOTATION.layerDigest], toc]));
    return [{ tagSuffix: EXTERNAL_TOC_SUFFIX, layers: [...tocs.values()].sort((a, b) => (a.digest < b.digest ? -1 : 1)) }];
  },
};
