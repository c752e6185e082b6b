import type { Digest } from '../../core/digest.ts';
import type { LazypullError } from '../../core/errors.ts';
import type { Format } from '../../core/format.ts';
import type { Platform } from '../../core/types.ts';
import type { AnswerMiss, ServedDevice } from '../types.ts';

/** A device of a planned mount. */
export interface PlannedDevice {
  /** 64 hex digits: SHA-256 over everything that vouches for its bytes. Devices of one key are one file in the cache. */
  readonly key: string;
  /** Bytes, a multiple of 4096. */
  readonly size: number;
  /** Number of the image's layer, from 0. */
  readonly layer: number;
  /** Which of that layer's blobs (`OpenLayer.sources`); several devices of one layer differ in it. */
  readonly blob: number;
  /** Addresses are those of the layer's plain tar. */
  readonly tiles: boolean;
  /** The layer cannot be read without its tree: files have regions of their own, or something is to be proven about each. */
  readonly tree: boolean;
  /** What the layer says should be fetched first: address and length. Undefined when nobody has looked yet. */
  readonly ahead?: readonly (readonly [number, number])[] | undefined;
}

/** A layer of a planned mount. */
export interface PlannedLayer {
  readonly digest: Digest;
  /** What the image's config says its plain tar's digest is. */
  readonly diffId: Digest;
  /** Name of the format that it is read as. */
  readonly format: string;
}

/** What is mounted, without any content. */
export interface MountPlan {
  /** Digest of the image's manifest. */
  readonly digest: Digest;
  readonly platform: Platform | undefined;
  /** The image's config as JSON: every field of the stored document. */
  readonly config: Uint8Array;
  /** Lowest first. */
  readonly layers: readonly PlannedLayer[];
  readonly devices: readonly PlannedDevice[];
  /** EROFS image of the merged tree, without content: files are on devices 1..n in the order of `devices`. */
  readonly metadata: SharedArrayBuffer;
  /** The same as a file of the cache; undefined when the cache cannot keep anything. */
  readonly metadataFile: string | undefined;
  /** Bytes: 512 when any device has the addresses of a tar, else 4096. */
  readonly blockSize: number;
  /** What a user should know, one line each. */
  readonly warnings: readonly string[];
}

/** A plan before it is kept. */
export type MadePlan = Pick<MountPlan, 'layers' | 'devices' | 'blockSize' | 'metadata' | 'warnings'>;

/** What something is fetched for: a read that waits, a reader that will want it next, a prefetch, or just to have it. In the order in which they get their turn. */
export type FetchClass = 'demand' | 'ahead' | 'prefetch' | 'background';

/** What has been done for one layer since the content was opened. */
export interface LayerStats {
  /** From 0. */
  readonly layer: number;
  readonly digest: Digest;
  /** Name of the format that it is read as. */
  readonly format: string;
  /** Ranged requests for content, and their stored bytes; reading the layer's index is not counted here. */
  readonly requests: number;
  readonly fetchedBytes: number;
  /** Requests by what they were made for. */
  readonly requestsBy: Readonly<Record<FetchClass, number>>;
  /** Misses that were answered, and those that were not. */
  readonly misses: number;
  readonly errors: number;
  /** Chunks whose bytes were wrong and were fetched again. */
  readonly refetched: number;
  /** Bytes of content that files show and that are in the local file, and how many there are in all. */
  readonly localBytes: number;
  readonly bytes: number;
}

export interface ContentStats {
  readonly layers: readonly LayerStats[];
  /** What all of it needs on disk is there. */
  readonly complete: boolean;
  /** Answered misses by how: `local` were here by the time they were asked for, `shared` by somebody else's request, `fetched` by their own. */
  readonly answers: Readonly<Record<'local' | 'shared' | 'fetched', number>>;
  /** Milliseconds, of misses that had to be fetched. */
  readonly slowest: number;
}

export interface PrefetchOptions {
  /** What the layers themselves name; default true. */
  readonly landmarks?: boolean;
  /** Paths of the merged tree, or globs; a directory stands for everything below it. */
  readonly paths?: readonly string[];
  readonly signal?: AbortSignal;
}

/** What became of a prefetch. */
export interface PrefetchReport {
  /** Bytes of the devices that were asked for, and those of them that had to be fetched. */
  readonly bytes: number;
  readonly fetched: number;
  /** Lines of `paths` that nothing matched. */
  readonly unmatched: readonly string[];
}

/** Where a byte of a device is in the image. */
export interface ContentPlace {
  /** `layer 2 (sha256:...)`. */
  readonly layer: string;
  /** A path that shows it; undefined when no file of the merged tree does. */
  readonly path: string | undefined;
  /** Byte of that file. */
  readonly offset: number | undefined;
}

/** The content of a planned mount, from the cache and from wherever the image is. */
export interface MountContent {
  readonly devices: readonly ServedDevice[];
  /** On demand: goes before everything else. */
  readonly read: AnswerMiss;
  /** Fetches ahead; rejects with the first failure once all else has been tried. */
  prefetch(options?: PrefetchOptions): Promise<PrefetchReport>;
  /** Fetches whatever the mounted tree shows and is not here, in the background; LIMIT when the cache has no room for it. */
  fill(signal?: AbortSignal): Promise<void>;
  /** Whether every byte that the mounted tree shows is in the cache. */
  complete(): boolean;
  /** Resolves once `complete` holds; rejects when the content is closed before. */
  whenComplete(signal?: AbortSignal): Promise<void>;
  /** From now on the devices' files are never changed, only removed as wholes: for mounts that outlive this process. IO unless complete. */
  seal(): Promise<readonly string[]>;
  stats(): ContentStats;
  /** For messages about reads: reads the metadata, not the network. */
  locate(device: number, address: number): Promise<ContentPlace>;
  close(): Promise<void>;
}

export interface ContentOptions {
  /** Those that the image was planned with; asked for once something has to be fetched. */
  readonly loadFormats: () => Promise<readonly Format<unknown>[]>;
  /** What a user should hear of, at most once for each kind. Failed reads are not told: they reject. */
  readonly onProblem?: (error: LazypullError) => void;
  /** Milliseconds after which a read is given up; default 60 000. */
  readonly readTimeout?: number;
}
