import { digestOf } from '../../src/core/digest.ts';
import { MemorySource } from '../../src/core/source.ts';
import { collect } from '../../src/core/stream.ts';
import type { ByteSource, ByteStream, ConvertedLayer, Descriptor, Format, LayerInput, StoredLayer } from '../../src/core/types.ts';
import { gunzip } from '../../src/codec/gzip.ts';
import { ThreadPool } from '../../src/codec/pool.ts';
import { openMemory, type MemoryStore } from '../../src/oci/memory.ts';

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

export interface Converted {
  readonly layer: ConvertedLayer;
  readonly blob: Uint8Array;
  readonly store: MemoryStore;
}

/** Converts a plain tar with a format into a memory store. */
export async function convertTar<O>(format: Format<O>, tar: Uint8Array | LayerInput, options: O, jobs = 2): Promise<Converted> {
  const workers = new ThreadPool(jobs);
  const store = openMemory();
  try {
    const input = tar instanceof Uint8Array ? tarInput(tar) : tar;
    const layer = await format.convert(input, { workers, ingest: (mediaType, produce) => store.ingest(mediaType, produce) }, options);
    return { layer, blob: await fetchAll(store, layer.descriptor), store };
  } finally {
    await workers.close();
  }
}

export function fetchAll(store: MemoryStore, descriptor: Descriptor): Promise<Uint8Array> {
  return collect(store.fetch(descriptor), 1 << 30);
}

/** The layer as a reader meets it; attachments (an external TOC) are found as its sibling. */
export function stored(converted: Converted, source?: ByteSource): StoredLayer {
  const { layer, store } = converted;
  return {
    descriptor: layer.descriptor,
    source: source ?? store.open(layer.descriptor),
    sibling: async () => (layer.attachments ?? []).map((descriptor) => ({ descriptor, source: store.open(descriptor) })),
  };
}

/** A stored layer made of nothing but bytes, as a stranger hands it in. */
export function strangers(blob: Uint8Array, annotations?: Record<string, string>, mediaType = `${LAYER_TAR}+gzip`): StoredLayer {
  return { descriptor: { mediaType, digest: digestOf(blob), size: blob.length, ...(annotations && { annotations }) }, source: new MemorySource(blob) };
}

