import { createHash, type Hash } from 'node:crypto';
import type { Digest } from '../../core/digest.ts';
import type { Chunk, OpenLayer } from '../../core/types.ts';
import type { DeviceAddresses, LayerAddresses } from './addresses.ts';

/** Where a layer comes from. */
export interface KeyContext {
  /** Digest of the stored layer. */
  readonly layer: Digest;
  /** Name of the format that it is read as: one document can be read as several. */
  readonly format: string;
  /** The repository and the image in it: stands in where nothing in the layer itself vouches for its bytes. */
  readonly scope: string;
}

/** Changes with everything that changes what is at which address. */
const VERSION = 1;

/**
 * Name of a device in the cache: a digest of all that vouches for its bytes and their places. Two images share a device exactly
 * when the same bytes are provably at the same addresses, whoever published them: what is not proven by a digest of the
 * plain bytes is tied to the layer and its index, and what nothing proves to the image and where it is from.
 */
export function deviceKey(layer: OpenLayer, addresses: LayerAddresses, device: number, context: KeyContext): string {
  const own = addresses.devices[device] as DeviceAddresses;
  const regions = own.size > own.regions;
  if (addresses.tiles && layer.vouch !== undefined && !regions) return tarKey(context, layer.vouch, own.size);
  const hash = begin(`chunks ${own.size}`);
  const used = new Set(Array.from({ length: own.end - own.first }, (_, i) => own.first + i));
  for (const { chunk } of addresses.segments.ofDevice(device)) used.add(chunk);
  const strong = (chunk: Chunk): string | undefined => chunk.digest ?? layer.strongDigest?.(chunk);
  const all = addresses.chunks;
  // A proof is about the index as well as the bytes.
  const proven = layer.proof === undefined && [...used].every((chunk) => strong(all[chunk] as Chunk) !== undefined);
  if (!proven) hash.update(`layer ${context.layer} ${context.format} blob ${own.blob} ${layer.vouch ?? context.scope}\n`);
  for (const number of used) {
    const chunk = all[number] as Chunk;
    // Of another blob, and here only for a file's region.
    const address = number >= own.first && number < own.end ? addresses.startOf(number) : 'elsewhere';
    hash.update(`${number - own.first} ${address} ${chunk.size} ${strong(chunk) ?? '-'}`);
    if (!proven) hash.update(` ${chunk.blob} ${chunk.offset} ${chunk.length} ${chunk.skip ?? 0} ${chunk.packedDigest ?? '-'}`);
    hash.update('\n');
  }
  for (const { chunk, address, chunkOffset, length } of addresses.segments.ofDevice(device)) hash.update(`segment ${chunk - own.first} ${address} ${chunkOffset} ${length}\n`);
  return hash.digest('hex');
}

/** The same for the plain tar of a layer that `vouch` says all about. */
export function tarKey({ layer, format }: Pick<KeyContext, 'layer' | 'format'>, vouch: Digest, size: number): string {
  return begin(`tar ${size} ${layer} ${format} ${vouch}`).digest('hex');
}

function begin(what: string): Hash {
  return createHash('sha256').update(`lazypull device ${VERSION} ${what}\n`);
}
