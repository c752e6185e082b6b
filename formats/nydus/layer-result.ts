import { LazypullError } from '../../src/core/errors.ts';
import type { ConvertContext, ConvertedLayer } from '../../src/core/format.ts';
import type { DirectoryNode } from '../../src/core/types.ts';
import type { NydusBlob } from './layer-blobs.ts';
import type { NydusSettings } from './options.ts';

/** What the image's bootstrap is made of, and what layers above refer to. */
export class NydusLayer {
  /** Whiteouts are still in it. */
  readonly root: DirectoryNode;
  /** By number: those of the layers below, then what this layer added. */
  readonly blobs: readonly NydusBlob[];
  readonly settings: NydusSettings;

  /** The chunks are in gzip layers. */
  readonly zran: boolean;

  constructor(root: DirectoryNode, blobs: readonly NydusBlob[], settings: NydusSettings, zran = false) {
    this.root = root;
    this.blobs = blobs;
    this.settings = settings;
    this.zran = zran;
  }
}

export function nydusLayer({ details }: ConvertedLayer): NydusLayer | undefined {
  return details instanceof NydusLayer ? details : undefined;
}

/** The blobs that a layer can refer to because of those below it. USAGE when somebody wants to describe the new layer as a tar. */
export function blobsBelow({ below, follower }: ConvertContext): readonly NydusBlob[] {
  if (follower) throw new LazypullError('USAGE', 'a Nydus image has no layers that another format could describe: convert it to one of them at a time');
  return below?.map(nydusLayer).findLast((layer) => layer !== undefined)?.blobs ?? [];
}
