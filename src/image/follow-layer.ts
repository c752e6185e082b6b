import type { Digest } from '../core/digest.ts';
import { LazypullError, wrapError } from '../core/errors.ts';
import type { DescribedLayer, FollowContext, IndexingFormat, LayerFollower, SkippedLayer } from '../core/format.ts';
import type { ByteStream, Descriptor, WorkerPool } from '../core/types.ts';
import type { Compression } from '../codec/compression.ts';
import { unpackLayer } from '../codec/unpack-layer.ts';

/** A layer of the source, with what its config says about it. */
export interface SourceLayer {
  readonly descriptor: Descriptor;
  /** Absent for a tar that is made on the way. */
  readonly diffId?: Digest;
  /** Makes the tar, for a layer that is not stored as one. */
  readonly tar?: () => ByteStream;
  /** It is in a lazy format that makes layers of its own. */
  readonly lazy?: boolean;
  /** Clean paths of entries that the format had added. */
  readonly reserved?: readonly string[];
}

/** An indexing format with its options. */
export interface Indexing {
  readonly format: IndexingFormat;
  readonly options: unknown;
}

/** What became of a layer in one indexing format. */
export type Indexed = DescribedLayer | SkippedLayer;

/** All formats that follow one layer on one pass, as one follower. */
export class Followers {
  /** Formats that leave the layer out, and why. */
  readonly skipped: ReadonlyMap<IndexingFormat, SkippedLayer>;
  /** Formats that would take the layer as gzip. */
  readonly repack: readonly IndexingFormat[];
  readonly #following: ReadonlyMap<IndexingFormat, LayerFollower>;

  constructor(
    indexing: readonly Indexing[],
    layer: { readonly mediaType: string; readonly size?: number },
    context: FollowContext,
    mayRepack: boolean,
  ) {
    const following = new Map<IndexingFormat, LayerFollower>();
    const skipped = new Map<IndexingFormat, SkippedLayer>();
    const repack: IndexingFormat[] = [];
    for (const { format, options } of indexing) {
      const answer = format.follow(layer, context, options);
      if (answer === 'repack' && mayRepack) repack.push(format);
      else if (answer === 'repack') skipped.set(format, { skipped: 'it would have to be packed anew as gzip, and the image is to stay as it is: convert it instead' });
      else if ('skipped' in answer) skipped.set(format, answer);
      else following.set(format, answer);
    }
    this.#following = following;
    this.skipped = skipped;
    this.repack = repack;
  }

  /** How many follow. */
  get size(): number {
    return this.#following.size;
  }

  point: LayerFollower['point'] = (point) => {
    for (const follower of this.#following.values()) follower.point(point);
  };

  packed: LayerFollower['packed'] = (bytes) => {
    for (const follower of this.#following.values()) follower.packed(bytes);
  };

  tar: LayerFollower['tar'] = async (bytes) => {
    for (const follower of this.#following.values()) await follower.tar(bytes);
  };

  async finish(descriptor: Descriptor, compression: Compression): Promise<ReadonlyMap<IndexingFormat, Indexed>> {
    const all = new Map<IndexingFormat, Indexed>(this.skipped);
    for (const [format, follower] of this.#following) all.set(format, await follower.finish({ descriptor, compression }));
    return all;
  }

  async abandon(): Promise<void> {
    await Promise.allSettled([...this.#following.values()].map((follower) => follower.abandon()));
  }
}

export interface FollowLimits {
  /** Most bytes of plain tar. */
  readonly maxLayerSize: number;
  readonly workers: Pick<WorkerPool, 'jobs'>;
  readonly signal: AbortSignal;
}

/** What one pass over a stored layer found. */
export interface Followed {
  readonly compression: Compression;
  /** Bytes of plain tar. */
  readonly tarSize: number;
}

/** Leads followers along a stored layer: one pass, one inflate, the tar held against the config's diffID. */
export async function followLayer(packed: ByteStream, followers: Pick<LayerFollower, 'point' | 'packed' | 'tar'>, layer: SourceLayer, limits: FollowLimits): Promise<Followed> {
  const what = `layer ${layer.descriptor.digest}`;
  let compression: Compression = 'none';
  let tarSize = 0;
  const tar = unpackLayer(packed, {
    maxSize: limits.maxLayerSize,
    what,
    size: layer.descriptor.size,
    workers: limits.workers,
    signal: limits.signal,
    onCompression: (found) => (compression = found),
    onBlock: ({ bit, out, first, window }) => followers.point({ bit, out, member: first, window }),
    onPacked: followers.packed,
    check: (digest, size) => {
      checkDiffId(digest, layer);
      tarSize = size;
    },
  });
  try {
    for await (const bytes of tar.stream) {
      // A plain tar is its own stored form; of zstd there is nothing to be told.
      if (compression === 'none') followers.packed(bytes);
      await followers.tar(bytes);
    }
  } catch (error) {
    throw wrapError(tar.fault() ?? error, 'CORRUPT', `${what} cannot be read`);
  }
  return { compression, tarSize };
}

/** DIGEST_MISMATCH unless the plain tar is what the image config says. */
export function checkDiffId(got: Digest, { descriptor, diffId }: SourceLayer): void {
  if (diffId !== undefined && got !== diffId) throw new LazypullError('DIGEST_MISMATCH', `layer ${descriptor.digest} inflates to diffID ${got}, the image config says ${diffId}`);
}
