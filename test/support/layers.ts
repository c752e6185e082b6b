import { gzipSync } from 'node:zlib';
import { digestOf } from '../../src/core/digest.ts';
import { LazypullError } from '../../src/core/errors.ts';
import { MemorySource } from '../../src/core/source.ts';
import { collect } from '../../src/core/stream.ts';
import { choose, type ConvertedLayer, type Format, type IndexingFormat, type LayerInput, type RewritingFormat, type StoredImage, type StoredLayer } from '../../src/core/format.ts';
import type { ByteSource, ByteStream, Descriptor } from '../../src/core/types.ts';
import { gunzip } from '../../src/codec/gzip.ts';
import { ThreadPool } from '../../src/codec/pool.ts';
import { indexImage } from '../../src/image/index-image.ts';
import { openImage } from '../../src/image/open.ts';
import { openMemory, type MemoryStore } from '../../src/oci/memory.ts';
import { putImage } from '../image/fixture.ts';

export const LAYER_TAR = 'application/vnd.oci.image.layer.v1.tar';

/** A layer input over plain tar bytes that comes in pieces of the given size. */
export function tarInput(tar: Uint8Array, pieceSize = 65_536): LayerInput {
  const digest = digestOf(tar);
  const stream = async function* (): ByteStream {
    for (let at = 0; at < tar.length; at += pieceSize) yield tar.slice(at, at + pieceSize);
  };
  return { descriptor: { mediaType: LAYER_TAR, digest, size: tar.length }, diffId: digest, packed: stream, tar: stream };
}

/** The same from gzip, as most layers are stored: the tar then comes straight from the inflater. */
export function gzipInput(packed: Uint8Array, tar: Uint8Array, pieceSize = 65_536): LayerInput {
  const stream = tarInput(packed, pieceSize).tar;
  return { descriptor: { mediaType: `${LAYER_TAR}+gzip`, digest: digestOf(packed), size: packed.length }, diffId: digestOf(tar), packed: stream, tar: () => gunzip(stream()) };
}

type AnyLayer = Pick<ConvertedLayer, 'descriptor' | 'attachments'>;

export interface Converted<L extends AnyLayer = AnyLayer> {
  readonly layer: L;
  readonly blob: Uint8Array;
  readonly store: MemoryStore;
  /** The image that the layer is in, where a format looks at it. */
  readonly image?: StoredImage;
}

/** Brings a plain tar into a format and a memory store: as a new layer, or as a gzip layer with an index beside it. */
export async function convertTar<O>(format: RewritingFormat<O>, tar: Uint8Array | LayerInput, options: O, jobs?: number): Promise<Converted<ConvertedLayer>>;
export async function convertTar<O>(format: Format<O>, tar: Uint8Array | LayerInput, options: O, jobs?: number): Promise<Converted>;
export async function convertTar<O>(format: Format<O>, tar: Uint8Array | LayerInput, options: O, jobs = 2): Promise<Converted> {
  const store = openMemory();
  if (format.kind === 'indexing') {
    if (!(tar instanceof Uint8Array)) throw new Error('an indexing format is tested with whole tars');
    return indexTar(format, tar, options, store);
  }
  const workers = new ThreadPool(jobs);
  try {
    const input = tar instanceof Uint8Array ? tarInput(tar) : tar;
    const layer = await format.convert(input, { workers, ingest: (mediaType, produce) => store.ingest(mediaType, produce) }, options);
    return { layer, blob: await fetchAll(store, layer.descriptor), store };
  } finally {
    await workers.close();
  }
}

async function indexTar<O>(format: IndexingFormat<O>, tar: Uint8Array, options: O, store: MemoryStore): Promise<Converted> {
  // Small blocks, so that there are several in a small layer.
  const blob = gzipSync(tar, { memLevel: 2 });
  await putImage(store, { layers: [{ bytes: blob, diffId: digestOf(tar), mediaType: `${LAYER_TAR}+gzip` }] }, 'app');
  const place = { store, reference: 'app' };
  const report = await indexImage(place, choose(format, options as never), { jobs: 1 });
  const skipped = report.images[0]?.layers[0]?.indexes[0]?.skipped;
  if (skipped) throw new LazypullError('UNSUPPORTED', skipped);
  const { layers: [layer] } = await openImage(place, [format]);
  if (!layer?.stored.image) throw new Error('the image has no layer');
  return { layer, blob, store, image: layer.stored.image };
}

export function fetchAll(store: MemoryStore, descriptor: Descriptor): Promise<Uint8Array> {
  return collect(store.fetch(descriptor), 1 << 30);
}

/** The layer as a reader meets it; attachments (an external TOC) are found in an image beside its own. */
export function stored(converted: Converted, source?: ByteSource): StoredLayer {
  const { layer, store, image } = converted;
  return {
    descriptor: layer.descriptor,
    source: source ?? store.open(layer.descriptor),
    image: image ?? lonelyImage({ sibling: async () => (layer.attachments ?? []).map((descriptor) => ({ descriptor, source: store.open(descriptor) })) }),
  };
}

/** An image that nothing is known about but what is given. */
export function lonelyImage(known: Partial<StoredImage> = {}): StoredImage {
  return {
    descriptor: { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: digestOf(), size: 0 },
    annotations: {},
    layers: [],
    resolve: async () => undefined,
    fetch: () => Promise.reject(new LazypullError('NOT_FOUND', 'nothing is there')),
    open: () => {
      throw new LazypullError('NOT_FOUND', 'nothing is there');
    },
    referrers: async () => [],
    sibling: async () => undefined,
    ...known,
  };
}

/** A stored layer made of nothing but bytes, as a stranger hands it in. */
export function strangers(blob: Uint8Array, annotations?: Record<string, string>, mediaType = `${LAYER_TAR}+gzip`): StoredLayer {
  return { descriptor: { mediaType, digest: digestOf(blob), size: blob.length, ...(annotations && { annotations }) }, source: new MemorySource(blob) };
}
