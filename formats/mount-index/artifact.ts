import { isDigest, type Digest } from '../../src/core/digest.ts';
import { corrupt, printable } from '../../src/core/errors.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { encodeDocument, parseManifest } from '../../src/oci/documents.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { ANNOTATION, ARTIFACT_TYPE, decodePart, encodePart, LAYER_MEDIA_TYPE, TREE_MEDIA_TYPE, type Part } from './layout.ts';

/** Blob of every artifact's config (image-spec 1.1, guidelines for artifact usage). */
export const EMPTY: Uint8Array = Buffer.from('{}');

/** The blob about one layer. */
export interface LayerBlob {
  readonly descriptor: Descriptor;
  /** The image's layer. */
  readonly layer: Digest;
  readonly head: Part;
  readonly tree: Part;
}

/** The artifact manifest about one image. */
export interface MountIndex {
  /** The image's manifest. */
  readonly subject: Descriptor;
  /** Absent when the image has something that the merged tree has no room for. */
  readonly tree?: Descriptor;
  /** Devices of the tree, in order: layers of the image, each once. */
  readonly layers: readonly LayerBlob[];
}

/** The bytes of the manifest. */
export function encodeMountIndex({ subject, tree, layers }: MountIndex, config: Descriptor): Uint8Array {
  const plain = ({ mediaType, digest, size }: Descriptor): Descriptor => ({ mediaType, digest, size });
  return encodeDocument({
    schemaVersion: 2,
    mediaType: OCI.manifest,
    artifactType: ARTIFACT_TYPE,
    config: plain(config),
    layers: [
      ...(tree ? [plain(tree)] : []),
      ...layers.map(({ descriptor, layer, head, tree: own }) => ({
        ...plain(descriptor),
        annotations: { [ANNOTATION.layer]: layer, [ANNOTATION.head]: encodePart(head), [ANNOTATION.tree]: encodePart(own) },
      })),
    ],
    subject: plain(subject),
  });
}

/** Reads a manifest; `what` names it in messages. CORRUPT for anything that is no mount index. Blobs of other types are passed over. */
export function decodeMountIndex(bytes: Uint8Array, what: string): MountIndex {
  const { artifactType, config, layers: blobs, subject } = parseManifest(bytes, what);
  if ((artifactType ?? config.mediaType) !== ARTIFACT_TYPE || !subject) throw corrupt(`${what} is no mount index`);
  const trees = blobs.filter(({ mediaType }) => mediaType === TREE_MEDIA_TYPE);
  if (trees.length > 1) throw corrupt(`${what} has ${trees.length} merged trees`);
  const layers = blobs.filter(({ mediaType }) => mediaType === LAYER_MEDIA_TYPE).map((descriptor) => layerBlob(descriptor, what));
  const seen = new Set<string>();
  for (const { layer } of layers) {
    if (seen.has(layer)) throw corrupt(`${what} speaks of layer ${layer} twice`);
    seen.add(layer);
  }
  const [tree] = trees;
  return { subject, layers, ...(tree && { tree }) };
}

function layerBlob(descriptor: Descriptor, what: string): LayerBlob {
  const { annotations = {}, digest, size } = descriptor;
  const place = `${what}: blob ${digest}`;
  const layer = annotations[ANNOTATION.layer];
  if (!isDigest(layer)) throw corrupt(`${place} does not say which layer it is about: ${printable(String(layer).slice(0, 140))}`);
  const head = decodePart(annotations[ANNOTATION.head], ANNOTATION.head, place);
  const tree = decodePart(annotations[ANNOTATION.tree], ANNOTATION.tree, place);
  if (head.size + tree.size > size) throw corrupt(`${place} has ${size} bytes, and head and tree of ${head.size + tree.size}`);
  return { descriptor, layer, head, tree };
}
