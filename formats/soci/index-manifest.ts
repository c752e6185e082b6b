import { digestOf } from '../../src/core/digest.ts';
import { corrupt, LazypullError, printable } from '../../src/core/errors.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { parseManifest } from '../../src/oci/documents.ts';
import { encodeGoManifest } from './go-json.ts';
import { ANNOTATION, BUILD_TOOL, INDEX_TYPE, PREFETCH_MEDIA_TYPE, ZTOC_MEDIA_TYPE } from './layout.ts';

/** A SOCI index manifest (notes §7.1). */
export interface SociIndex {
  readonly version: 1 | 2;
  /** The image manifest that a v1 index is about. */
  readonly subject?: Descriptor;
  /** In the manifest's order, and with its annotations. */
  readonly ztocs: readonly Descriptor[];
  readonly prefetch: readonly Descriptor[];
}

export interface SociIndexContent {
  /** zTOCs in the order of the image's layers, then prefetch lists in the same order. */
  readonly layers: readonly Descriptor[];
  /** The image manifest, for a v1 index. */
  readonly subject?: Descriptor;
}

/** Blob of every index's config: registries want one. */
export const CONFIG_BLOB: Uint8Array = Buffer.from('{}');
/** What the descriptor of every index's config says besides the media type. */
export const CONFIG = { digest: digestOf(CONFIG_BLOB), size: CONFIG_BLOB.length } as const;

const VERSIONS = new Map<string, 1 | 2>([[INDEX_TYPE.v1, 1], [INDEX_TYPE.v2, 2]]);
/** What index versions that are still to come would begin with. */
const INDEX_FAMILY = 'application/vnd.amazon.soci.index.';

/** The bytes of an index manifest: v1 with a subject, v2 without. The config's blob is `{}` and has to be stored as well. */
export function encodeSociIndex({ layers, subject }: SociIndexContent): Uint8Array {
  return encodeGoManifest({
    config: { mediaType: subject ? INDEX_TYPE.v1 : INDEX_TYPE.v2, ...CONFIG },
    layers,
    ...(subject && { subject: { mediaType: subject.mediaType, digest: subject.digest, size: subject.size } }),
    annotations: { [ANNOTATION.buildTool]: BUILD_TOOL },
  });
}

/**
 * Reads an index manifest; `what` names it in messages. UNSUPPORTED for an index of another version, CORRUPT for what is
 * no SOCI index. Layers of other media types are passed over, as the snapshotter does.
 */
export function decodeSociIndex(bytes: Uint8Array, what: string): SociIndex {
  const { config, layers, subject } = parseManifest(bytes, what);
  const version = VERSIONS.get(config.mediaType);
  if (!version) {
    const found = `its config has media type ${printable(config.mediaType.slice(0, 140))}`;
    if (config.mediaType.startsWith(INDEX_FAMILY)) throw new LazypullError('UNSUPPORTED', `${what} is a SOCI index of an unknown version: ${found}`);
    throw corrupt(`${what} is not a SOCI index: ${found}`);
  }
  return {
    version,
    ...(subject && { subject }),
    ztocs: layers.filter(({ mediaType }) => mediaType === ZTOC_MEDIA_TYPE),
    prefetch: layers.filter(({ mediaType }) => mediaType === PREFETCH_MEDIA_TYPE),
  };
}

/** The zTOC of each layer that has one. Of several about one layer the last counts, as for the snapshotter. */
export function joinLayers({ ztocs }: SociIndex): ReadonlyMap<string, Descriptor> {
  return new Map(ztocs.flatMap((ztoc) => {
    const layer = ztoc.annotations?.[ANNOTATION.layerDigest];
    return layer === undefined ? [] : [[layer, ztoc]];
  }));
}
