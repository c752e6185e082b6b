import { gzipSync } from 'node:zlib';
import { digestOf, type Digest } from '../../../src/core/digest.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import type { StoredImage, StoredLayer } from '../../../src/core/format.ts';
import { MemorySource } from '../../../src/core/source.ts';
import { collect } from '../../../src/core/stream.ts';
import type { Descriptor } from '../../../src/core/types.ts';
import { zstdCompress, zstdDecompress } from '../../../src/codec/zstd.ts';
import { OCI } from '../../../src/oci/media-types.ts';
import { decodeMountIndex, encodeMountIndex, type MountIndex } from '../../../formats/mount-index/artifact.ts';
import { ARTIFACT_TYPE, decodeHead, partOf, type LayerHead } from '../../../formats/mount-index/layout.ts';
import { sampleTar } from '../soci/sample-image.ts';
import { indexed, layerOf } from './indexed.ts';

/** A layer with links, devices, attributes and files over several pieces. */
export const TAR: Buffer = Buffer.from(sampleTar([700, 61_500, 0, 40_000, 12, 33_000]));
export const PACKED: Buffer = gzipSync(TAR, { memLevel: 3 });

/** The parts that a mount index of one layer is made of. */
export interface Parts {
  readonly head: Uint8Array;
  /** Rows, not packed. */
  readonly tree: Uint8Array;
  readonly windows: Uint8Array;
  /** Not packed. */
  readonly merged: Uint8Array;
}

const { store, stored, layers } = await indexed([layerOf(PACKED, TAR)], { spanSize: 32 << 10 });
const [descriptor] = await stored.referrers(ARTIFACT_TYPE);
const manifest = await stored.fetch(descriptor as Descriptor, 1 << 20);

export const INDEX: MountIndex = decodeMountIndex(manifest, 'sample');
const [layer] = INDEX.layers;
if (!layer || !INDEX.tree) throw new Error('the sample has a layer and a tree');
const blob = await collect(store.fetch(layer.descriptor), 1 << 24);
export const LAYER: StoredLayer = layers[0] as StoredLayer;
export const HEAD: LayerHead = decodeHead(blob.subarray(0, layer.head.size), 'sample');
export const PARTS: Parts = {
  head: blob.subarray(0, layer.head.size),
  tree: await zstdDecompress(blob.subarray(layer.head.size, layer.head.size + layer.tree.size), 1 << 24),
  windows: blob.subarray(layer.head.size + layer.tree.size),
  merged: await zstdDecompress(await stored.fetch(INDEX.tree, 1 << 24), 1 << 24),
};

/** The image with an index of other parts, each of which has the digest that the manifest says. */
export async function withParts(changed: Partial<Parts>, change: (text: string) => string = (text) => text): Promise<{ readonly image: StoredImage; readonly layer: StoredLayer }> {
  const parts = { ...PARTS, ...changed };
  const blobs = new Map<Digest, Uint8Array>([[LAYER.descriptor.digest, PACKED]]);
  const put = (mediaType: string, bytes: Uint8Array): Descriptor => {
    blobs.set(digestOf(bytes), bytes);
    return { mediaType, digest: digestOf(bytes), size: bytes.length };
  };
  const tree = await zstdCompress(parts.tree, 1);
  const head = Buffer.from(parts.head);
  if (head.length >= 56) {
    head.writeUInt32LE(tree.length, 40);
    if (changed.tree) head.writeUInt32LE(parts.tree.length, 44);
  }
  const own = put('application/vnd.lazypull.mount-index.layer.v1', Buffer.concat([head, tree, parts.windows]));
  const subject = { mediaType: OCI.manifest, digest: digestOf(Buffer.from('manifest')), size: 8 };
  const index: MountIndex = {
    subject,
    tree: put('application/vnd.lazypull.mount-index.tree.v1+zstd', await zstdCompress(parts.merged, 1)),
    layers: [{ descriptor: own, layer: LAYER.descriptor.digest, head: partOf(head), tree: partOf(tree) }],
  };
  const bytes = Buffer.from(change(Buffer.from(encodeMountIndex(index, put(ARTIFACT_TYPE, Buffer.from('{}')))).toString()));
  const artifact = put(OCI.manifest, bytes);
  const bytesOf = ({ digest }: Descriptor): Uint8Array => {
    const found = blobs.get(digest);
    if (!found) throw new LazypullError('NOT_FOUND', `${digest} is not there`);
    return found;
  };
  const image: StoredImage = {
    descriptor: subject,
    annotations: {},
    layers: [LAYER.descriptor],
    resolve: async () => undefined,
    async fetch(wanted, limit) {
      if (wanted.size > limit) throw new LazypullError('LIMIT', `${wanted.digest} is too large`);
      return bytesOf(wanted);
    },
    open: (wanted) => new MemorySource(bytesOf(wanted)),
    referrers: async () => [artifact],
    sibling: async () => undefined,
  };
  return { image, layer: { descriptor: LAYER.descriptor, source: new MemorySource(PACKED), image } };
}
