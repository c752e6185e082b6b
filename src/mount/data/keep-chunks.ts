import type { Chunk } from '../../core/types.ts';
import type { LayerDevice, OpenedLayer } from './opened-layer.ts';
import type { StoredPart } from './write-parts.ts';

const NOTHING = new Uint8Array(0);

/** Puts chunks into the local files of their devices, everywhere they belong, as far as they are proven. False when that could not be done. */
export async function keepChunks(layer: OpenedLayer, chunks: readonly (readonly [number, Uint8Array])[]): Promise<boolean> {
  const { addresses, proofs, devices } = layer;
  const parts = new Map<LayerDevice, StoredPart[]>();
  for (const [chunk, bytes] of chunks) {
    const hole = (addresses.chunks[chunk] as Chunk).length === 0 && isZero(bytes);
    for (const place of addresses.places(chunk)) {
      const device = devices[place.device];
      if (!device) continue;
      const { address, chunkOffset } = place;
      // A tree that was made beforehand may know of less than the layer has.
      const end = Math.min(address + place.length, device.device.size);
      for (const [from, to] of proofs?.proven(place.device, address, end) ?? [[address, end]]) {
        const cover = to === address + place.length ? address + place.cover : to;
        if (device.device.has(from, cover - from)) continue;
        const skip = chunkOffset + from - address;
        // The file has zeros where it has nothing.
        const part = { address: from, bytes: hole ? NOTHING : bytes.subarray(skip, skip + to - from), cover: cover - from };
        const own = parts.get(device);
        if (own) own.push(part);
        else parts.set(device, [part]);
      }
    }
  }
  const kept = await Promise.all([...parts].map(([{ device }, own]) => device.write(own.sort((a, b) => a.address - b.address))));
  return kept.every(Boolean);
}

const ZEROS = Buffer.alloc(1 << 16);

function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += ZEROS.length) {
    const part = bytes.subarray(at, at + ZEROS.length);
    if (Buffer.compare(part, ZEROS.subarray(0, part.length)) !== 0) return false;
  }
  return true;
}
