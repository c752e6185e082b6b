import { corrupt, LazypullError } from '../../core/errors.ts';
import type { Format } from '../../core/format.ts';
import { CountingSource } from '../../core/source.ts';
import type { ByteStream, Chunk, OpenLayer } from '../../core/types.ts';
import { trusting, type ImageLayer } from '../../image/image-layer.ts';
import type { ChunkCache } from '../../layer/cache.ts';
import { ChunkLoader, MAX_SHARED_UNIT } from '../../layer/chunks.ts';
import { impliedDirectory } from '../../layer/tree.ts';
import { LayerAddresses } from './addresses.ts';
import type { CachedDevice } from './cached-device.ts';
import { deviceKey, tarKey } from './keys.ts';
import { Proofs } from './proofs.ts';
import type { PlannedDevice, PlannedLayer } from './types.ts';

/** A device of a mount that holds bytes of one layer. */
export interface LayerDevice {
  /** Number in the mount, from 0. */
  readonly number: number;
  readonly planned: PlannedDevice;
  readonly device: CachedDevice;
}

/** A layer whose chunks can be fetched. */
export interface OpenedLayer extends Pick<OpenLayer, 'sequential'> {
  readonly addresses: LayerAddresses;
  readonly loader: ChunkLoader;
  readonly proofs: Proofs | undefined;
  /** By device of `addresses`; undefined for one that no file of the mount is on. */
  readonly devices: readonly (LayerDevice | undefined)[];
  /** Number among `addresses.devices`. */
  ownNumber(device: LayerDevice): number;
  /** Its bytes, as they came, are wrong. Tells whether they come from somewhere else the next time. */
  distrust(chunk: Chunk): boolean;
  /** What has been asked of the layer's sources. */
  asked(): { readonly requests: number; readonly bytes: number };
}

/** Requests are planned by who asks for chunks: what is asked for at once is one request. */
const AS_PLANNED = { gap: Number.MAX_SAFE_INTEGER, maxRequest: Number.MAX_SAFE_INTEGER };

/**
 * Opens a layer for its content and makes sure that its bytes are the ones that the mount was planned with. CORRUPT when they are not:
 * an index that can be exchanged (a referrer) has been.
 */
export async function openLayer(
  layer: ImageLayer,
  planned: PlannedLayer,
  devices: readonly LayerDevice[],
  { formats, scope, cache }: { readonly formats: readonly Format<unknown>[]; readonly scope: string; readonly cache: ChunkCache },
  signal?: AbortSignal,
): Promise<OpenedLayer> {
  const format = formats.find(({ name }) => name === planned.format);
  if (!format) throw new LazypullError('UNSUPPORTED', `${layer.name} was planned as ${planned.format}, which is not among the formats`);
  const whole = devices.some(({ planned: { tree } }) => tree);
  // Where the plan has just been made, the layer is open. Otherwise not by way of the image, which would keep the tree for as long as it is open.
  const open = (await layer.openedAs(planned.format)) ?? await trusting(layer.stored, () => (whole || !format.openContent ? format.open(layer.stored, signal) : format.openContent(layer.stored, signal)));
  const addresses = new LayerAddresses(open, { regions: whole });
  const own = addresses.devices.map(({ blob }) => devices.find((device) => device.planned.blob === blob));
  for (const device of devices) {
    const number = own.indexOf(device);
    const { key, size, tiles } = device.planned;
    const context = { layer: planned.digest, format: planned.format, scope };
    const found = number < 0 ? undefined : tiles && !device.planned.tree && open.vouch !== undefined ? tarKey(context, open.vouch, size) : deviceKey(open, addresses, number, context);
    if (found !== key) throw corrupt(`${layer.name}: its index is no longer the one that it was mounted with; mount it anew`);
  }
  const sources = open.sources.map((source) => new CountingSource(source));
  // The tree is not needed any more, and is most of what an index takes.
  const bare: OpenLayer = {
    format: open.format,
    index: { root: impliedDirectory(), chunks: open.index.chunks },
    sources,
    inflate: (chunk, packed) => open.inflate(chunk, packed),
    ...(open.prepare && { prepare: (some, either) => open.prepare?.(some, either) }),
    ...(open.check && { check: (chunk, bytes) => open.check?.(chunk, bytes) }),
    indexBytes: open.indexBytes,
  };
  return {
    addresses,
    loader: new ChunkLoader(bare, AS_PLANNED, cache, MAX_SHARED_UNIT),
    proofs: open.proof ? new Proofs(open, addresses) : undefined,
    devices: own,
    ownNumber: (device) => own.indexOf(device),
    distrust: ({ blob, offset, length }) => sources[blob]?.distrust(offset, length) ?? false,
    asked: () => ({ requests: sources.reduce((sum, { requests }) => sum + requests, 0), bytes: sources.reduce((sum, { bytes }) => sum + bytes, 0) }),
    ...(open.sequential && { sequential: (either) => open.sequential?.(either) as ByteStream }),
  };
}
