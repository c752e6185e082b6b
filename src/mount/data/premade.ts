import { roundUp } from '../../core/bytes.ts';
import { corrupt } from '../../core/errors.ts';
import type { PremadeTree } from '../../core/format.ts';
import { ErofsView } from '../../erofs/view.ts';
import type { OpenImage } from '../../image/open.ts';
import { tarKey } from './keys.ts';
import { PAGE_SIZE } from './pages.ts';
import type { MadePlan, PlannedDevice } from './types.ts';

/** A plan of a tree that its format has published: no layer is looked at. */
export async function planPremade({ layers }: OpenImage, format: string, { metadata, layers: tars, vouches }: PremadeTree): Promise<MadePlan> {
  const shared = new SharedArrayBuffer(metadata.length);
  const bytes = new Uint8Array(shared);
  bytes.set(metadata);
  const { head, blockSize } = await ErofsView.open(bytes);
  if (head.devices.length !== tars.length || vouches.length !== tars.length) throw corrupt(`tree of the image has ${head.devices.length} devices, its index ${tars.length}`);
  const devices = tars.map((number, i): PlannedDevice => {
    const layer = layers[number];
    const vouch = vouches[i];
    if (!layer || !vouch) throw corrupt(`tree of the image is about layer ${number}, which it does not have`);
    const size = roundUp((head.devices[i]?.blocks ?? 0) * blockSize, PAGE_SIZE);
    const { digest } = layer.descriptor;
    return { key: tarKey({ layer: digest, format }, vouch, size), size, layer: number, blob: 0, tiles: true, tree: false };
  });
  return {
    layers: layers.map(({ descriptor, diffId }) => ({ digest: descriptor.digest, diffId, format })),
    devices,
    blockSize,
    metadata: shared,
    warnings: [],
  };
}
