import type { Format } from '../core/format.ts';
import { Pipe } from '../core/pipe.ts';
import type { ByteStream } from '../core/types.ts';
import { isForeignLayer, isTarLayer, OCI } from '../oci/media-types.ts';
import type { ImageDocument } from './documents-tree.ts';
import { planExtract } from './extract-plan.ts';
import { extractToTar } from './extract-tar.ts';
import type { SourceLayer } from './follow-layer.ts';
import { imageLayers, ReadCounter, type ImageLayer } from './image-layer.ts';
import { openImage } from './open.ts';
import type { Place } from './place.ts';

export interface SourceOptions {
  /** Formats that the source may be in. */
  readonly readers: readonly Format[];
  /** Ordinary layers are to be made: it has to be known which are lazy, and what was added to them. */
  readonly plain: boolean;
  readonly signal: AbortSignal;
}

/** Formats by which the layers of an image say that they are something else than tar archives. */
export function needsReaders({ manifest }: ImageDocument): boolean {
  return manifest.layers.some(({ mediaType }) => !isTarLayer(mediaType) && !isForeignLayer(mediaType));
}

/**
 * The layers of an image as a conversion takes them. Those of an image that is one file system in blobs (Nydus) are put
 * together to a single one, a tar that is made on the way: which layer a file came from is not known any more.
 */
export async function sourceLayers(place: Place, image: ImageDocument, { readers, plain, signal }: SourceOptions): Promise<readonly SourceLayer[]> {
  const { descriptor, manifest, config } = image;
  const odd = needsReaders(image);
  if (!odd && !plain) return manifest.layers.map((layer, i) => ({ descriptor: layer, diffId: config.rootfs.diff_ids[i] as `sha256:${string}` }));
  const layers = imageLayers({ place, descriptor, manifest, config }, readers, new ReadCounter());
  if (odd) {
    for (const layer of layers.toReversed()) {
      if (!(await layer.format(signal)) || (await layer.open(signal)).describes !== 'image') continue;
      const size = manifest.layers.reduce((sum, one) => sum + one.size, 0);
      return [{ descriptor: { mediaType: OCI.layer, digest: descriptor.digest, size }, tar: () => tarOf({ store: place.store, reference: descriptor.digest }, readers, signal), lazy: true }];
    }
  }
  return Promise.all(layers.map(async (layer) => ({ descriptor: layer.descriptor, diffId: layer.diffId, ...(plain && (await additions(layer, signal))) })));
}

/** What a lazy format had added to a layer's tar. */
async function additions(layer: ImageLayer, signal: AbortSignal): Promise<Pick<SourceLayer, 'lazy' | 'reserved'>> {
  const format = isTarLayer(layer.descriptor.mediaType) ? await layer.format(signal) : undefined;
  if (format?.kind !== 'rewriting') return {};
  return { lazy: true, reserved: (await layer.open(signal)).reserved ?? [] };
}

/** All of an image as one tar, read chunk by chunk. */
async function* tarOf(place: Place, readers: readonly Format[], signal: AbortSignal): ByteStream {
  const image = await openImage(place, readers, { signal });
  const stop = new AbortController();
  const pipe = new Pipe();
  const plan = planExtract(await image.tree(signal), ['/']);
  const writing = extractToTar(image, plan, (bytes) => pipe.write(bytes), { signal: AbortSignal.any([signal, stop.signal]), progress: () => undefined }).then(
    () => pipe.end(),
    (error: unknown) => pipe.fail(error),
  );
  try {
    yield* pipe;
  } finally {
    stop.abort();
    await writing;
  }
}
