import { corrupt, LazypullError } from '../../src/core/errors.ts';
import type { PremadeTree, StoredImage, StoredLayer } from '../../src/core/format.ts';
import type { Descriptor, DirectoryNode, OpenLayer } from '../../src/core/types.ts';
import { zstdDecompress } from '../../src/codec/zstd.ts';
import { decodeSuperblock, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE } from '../../src/erofs/layout.ts';
import { impliedDirectory } from '../../src/layer/tree.ts';
import { isTarLayer } from '../../src/oci/media-types.ts';
import type { LayerBlob, MountIndex } from './artifact.ts';
import { LayerContent } from './content.ts';
import { findIndex } from './find-index.ts';
import { LayerIndexBlob } from './layer-index.ts';
import { BLOCK_SIZE } from './layout.ts';
import { decodeTree } from './tree-decode.ts';

/** Largest merged tree that is read, packed and not; 20 and 130 bytes per file are usual. */
const MAX_PACKED_TREE = 128 << 20;
const MAX_TREE = 512 << 20;

/** Whether a layer is in an image that has a mount index with something to say about it. */
export async function detect({ descriptor, image }: StoredLayer, signal?: AbortSignal): Promise<boolean> {
  const found = image && isTarLayer(descriptor.mediaType) ? await findIndex(image, signal) : undefined;
  return found !== undefined && ('error' in found || blobOf(found.index, descriptor) !== undefined);
}

/** The layer's head and tree, by one request. */
export async function open(layer: StoredLayer, signal?: AbortSignal): Promise<OpenLayer> {
  const { image, blob } = await locate(layer, signal);
  const index = LayerIndexBlob.of(image, blob);
  const [plain, head] = await Promise.all([index.tree(signal), index.head(signal)]);
  return opened(layer, index, new LayerContent(index, head, layer.source), (content) => decodeTree(plain, content, head.tarSize, `${index.what}: tree`));
}

/** The head alone. */
export async function openContent(layer: StoredLayer, signal?: AbortSignal): Promise<OpenLayer> {
  const { image, blob } = await locate(layer, signal);
  const index = LayerIndexBlob.of(image, blob);
  return opened(layer, index, new LayerContent(index, await index.head(signal), layer.source), impliedDirectory);
}

/** The merged tree; undefined where the index has none, or the image has layers that the index does not know. */
export async function premade(image: StoredImage, signal?: AbortSignal): Promise<PremadeTree | undefined> {
  const found = await findIndex(image, signal);
  if (!found) return undefined;
  if ('error' in found) throw found.error;
  const { tree, layers } = found.index;
  if (!tree || !image.layers.every((layer) => blobOf(found.index, layer))) return undefined;
  const metadata = await readTree(image, found.index, tree, signal);
  return { metadata, layers: layers.map(({ layer }) => image.layers.findIndex(({ digest }) => digest === layer)), vouches: layers.map(({ head }) => head.digest) };
}

/** The EROFS image of the merged tree. Only its superblock is looked at: who uses it has to be prepared for anything else. */
export async function readTree(image: StoredImage, { layers }: MountIndex, tree: Descriptor, signal?: AbortSignal): Promise<Uint8Array> {
  const what = `merged tree ${tree.digest}`;
  const metadata = await zstdDecompress(await image.fetch(tree, MAX_PACKED_TREE, signal), MAX_TREE, what);
  if (metadata.length < SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE) throw corrupt(`${what} has ${metadata.length} bytes`);
  const { blockSize, blocks, extraDevices } = decodeSuperblock(metadata.subarray(SUPERBLOCK_OFFSET));
  if (blockSize !== BLOCK_SIZE || blocks * blockSize !== metadata.length) throw corrupt(`${what} has ${metadata.length} bytes, and ${blocks} blocks of ${blockSize}`);
  if (extraDevices !== layers.length) throw corrupt(`${what} is over ${extraDevices} devices, and the index describes ${layers.length} layers`);
  if (layers.some(({ layer }) => !image.layers.some(({ digest }) => digest === layer))) throw corrupt(`${what} is over layers that the image has not`);
  return metadata;
}

export function blobOf({ layers }: MountIndex, { digest }: Descriptor): LayerBlob | undefined {
  return layers.find(({ layer }) => layer === digest);
}

async function locate({ descriptor, image }: StoredLayer, signal: AbortSignal | undefined): Promise<{ image: StoredImage; blob: LayerBlob }> {
  const found = image && (await findIndex(image, signal));
  if (!image || !found) throw new LazypullError('NOT_FOUND', `layer ${descriptor.digest} is in no image that has a mount index`);
  if ('error' in found) throw found.error;
  const blob = blobOf(found.index, descriptor);
  if (!blob) throw new LazypullError('NOT_FOUND', `mount index ${found.descriptor.digest} says nothing about layer ${descriptor.digest}`);
  return { image, blob };
}

function opened({ descriptor }: StoredLayer, { blob, what }: LayerIndexBlob, content: LayerContent, rootOf: (content: LayerContent) => DirectoryNode): OpenLayer {
  const { compression, packedSize, tarSize, pieces } = content.head;
  if (packedSize !== descriptor.size) throw corrupt(`${what} is about a layer of ${packedSize} bytes; layer ${descriptor.digest} has ${descriptor.size}`);
  return {
    format: 'erofs',
    index: { root: rootOf(content), chunks: content.chunks },
    sources: content.sources,
    ...content.reading(),
    vouch: blob.head.digest,
    tiles: true,
    tarSize,
    indexBytes: blob.head.size + blob.tree.size,
    facts: {
      compression,
      access: content.sequential ? 'sequential' : 'random',
      pieces: pieces.count,
      tarSize,
      windowBytes: pieces.windowsSize,
      indexDigest: blob.descriptor.digest,
    },
  };
}
