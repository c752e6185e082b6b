import type { Chunk, OpenLayer } from '../../core/types.ts';
import type { DeviceAddresses, LayerAddresses } from './addresses.ts';

/** Where on a device is what the layer says a reader should fetch first: address and length, ascending. */
export function landmarks({ index }: Pick<OpenLayer, 'index'>, addresses: LayerAddresses, device: number): readonly (readonly [number, number])[] {
  const { first, end, blob } = addresses.devices[device] as DeviceAddresses;
  const ranges = (index.prefetch ?? []).filter((range) => (range.blob ?? 0) === blob);
  const found: [number, number][] = [];
  if (ranges.length === 0) return found;
  for (let number = first; number < end; number += 1) {
    const chunk = addresses.chunks[number] as Chunk;
    if (chunk.size === 0 || !ranges.some((range) => chunk.offset >= range.offset && chunk.offset < range.end)) continue;
    const address = addresses.startOf(number);
    const last = found.at(-1);
    // What is between two chunks is nothing.
    if (last && addresses.startOf(number - 1) + (addresses.chunks[number - 1] as Chunk).size === last[0] + last[1]) last[1] = address + chunk.size - last[0];
    else found.push([address, chunk.size]);
  }
  return found;
}
