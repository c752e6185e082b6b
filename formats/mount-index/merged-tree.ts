import { concat } from '../../src/core/bytes.ts';
import { digestHex } from '../../src/core/digest.ts';
import { LazypullError } from '../../src/core/errors.ts';
import type { Descriptor, DirectoryNode, RegularNode } from '../../src/core/types.ts';
import { mapRuns, type DeviceRun, type Placement } from '../../src/erofs/place.ts';
import { planErofs } from '../../src/erofs/plan.ts';
import { writeErofs } from '../../src/erofs/write.ts';
import { mergeLayers } from '../../src/layer/overlay.ts';
import { BLOCK_SIZE } from './layout.ts';
import { TarFile, type TarContent } from './tar-file.ts';

/** A layer of an image, as its merged tree is made of it. */
export interface MergedLayer {
  readonly descriptor: Descriptor;
  readonly root: DirectoryNode;
  /** What its files are in. */
  readonly tar: TarContent;
  readonly tarSize: number;
}

/**
 * The merged tree of an image as an EROFS image without content: device n is the plain tar of the n-th layer, of those that
 * are in the image twice the first. `layers` are all of them, lowest first. UNSUPPORTED or LIMIT for trees that EROFS has no room for;
 * a warning for attributes that it has none for.
 */
export async function mergeTree(layers: readonly MergedLayer[]): Promise<{ readonly metadata: Uint8Array; readonly warnings: readonly string[] }> {
  const devices = distinct(layers);
  const numbers = new Map(devices.map(({ tar }, i) => [tar, i + 1]));
  const plan = planErofs(mergeLayers(layers.map(({ root }) => root)), {
    blockSize: BLOCK_SIZE,
    devices: devices.map(({ descriptor, tarSize }) => ({ tag: digestHex(descriptor.digest).slice(0, 64), size: tarSize })),
    place: (node) => placeOf(node, numbers),
  });
  const parts: Uint8Array[] = [];
  await writeErofs(plan, async (bytes) => void parts.push(new Uint8Array(bytes)));
  return { metadata: concat(parts), warnings: plan.warnings };
}

/** Each layer once, however often an image has it. */
export function distinct<L extends { readonly descriptor: Descriptor }>(layers: readonly L[]): readonly L[] {
  const first = new Map<string, L>();
  for (const layer of layers) if (!first.has(layer.descriptor.digest)) first.set(layer.descriptor.digest, layer);
  return [...first.values()];
}

function placeOf(node: RegularNode, numbers: ReadonlyMap<TarContent, number>): Placement | undefined {
  if (!(node instanceof TarFile)) throw new LazypullError('INTERNAL', 'a file of the merged tree is in no tar');
  return node.size === 0 ? undefined : mapRuns(runsOf(node, numbers.get(node.tar)), BLOCK_SIZE);
}

/** Where a file's bytes are, its tar being a device; holes of sparse files are nowhere. */
export function runsOf({ runs, payload, size }: TarFile, device: number | undefined): readonly DeviceRun[] {
  if (!runs) return [{ length: size, device, offset: payload }];
  const all: DeviceRun[] = [];
  let at = 0;
  let from = payload;
  for (const { offset, length } of runs) {
    all.push({ length: offset - at, device: undefined, offset: 0 }, { length, device, offset: from });
    from += length;
    at = offset + length;
  }
  return [...all, { length: size - at, device: undefined, offset: 0 }];
}
