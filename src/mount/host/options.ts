import type { Platform } from '../../core/types.ts';
import type { ConvertProgress } from '../../image/convert-report.ts';
import type { RegistryOptions } from '../../oci/registry-options.ts';

/** Registry options that can be handed to another process; credentials among them travel through a pipe only. */
export type PlainRegistryOptions = Omit<RegistryOptions, 'onWarning' | 'env'>;

export type Backend = 'erofs' | 'fuse';

/** What to mount, where and how. Relative paths are taken from the current folder. */
export interface MountOptions {
  /** As a user writes it: `docker://host/repo:tag`, `oci:dir:tag`. */
  readonly image: string;
  /** An empty folder, as a rule; what it has is hidden while the image is mounted. */
  readonly dir: string;
  /**
   * The command, with its first arguments, that runs `runMountProcess` with the formats that images are read by: normally
   * `[process.execPath, <bin>, 'mount-daemon']`.
   */
  readonly program: readonly string[];
  /** Default `auto`: the kernel's EROFS where it can be had, otherwise FUSE. */
  readonly backend?: Backend | 'auto';
  /** Default: this machine's. */
  readonly platform?: Platform;
  readonly registry?: PlainRegistryOptions;
  /** Default: `defaultCacheDir()`. */
  readonly cacheDir?: string;
  /** What the cache may hold, bytes; default 10 GiB. */
  readonly cacheBytes?: number;
  /** An overlay with a writable layer on top. */
  readonly rw?: boolean;
  /** Where the writable layer is kept (`rw` is then implied); otherwise it goes with the mount. */
  readonly upper?: string;
  /** Patterns of paths to fetch ahead, besides what the image itself names. */
  readonly prefetch?: readonly string[];
  /** File to write what is read to, as a prefetch list, when the mount ends. Only for the `fuse` backend, which is then the default. */
  readonly record?: string;
  /** Whether what the image names as worth fetching ahead is fetched ahead; default true. */
  readonly imagePrefetch?: boolean;
  /** Fetches everything in the end, when nobody asks for anything else. */
  readonly fill?: boolean;
  /** Fetches everything, then lets the kernel read local files and ends the server. Only for the `erofs` backend, and not with `rw`. */
  readonly detachWhenComplete?: boolean;
  /** `host:port` to serve metrics on. */
  readonly metricsListen?: string;
  /** Milliseconds after which a read fails with EIO; default 60 000. */
  readonly readTimeout?: number;
  /** File that the log is appended to; by default one that goes with the mount. */
  readonly log?: string;
  /** The log goes to this process' standard error. */
  readonly logToStderr?: boolean;
  /** Unmounts when the calling process ends, however it does. */
  readonly leash?: boolean;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly onWarning?: (text: string) => void;
  /** An image without any index is read once, as a whole, before it can be mounted: how far that is. */
  readonly onProgress?: (event: ConvertProgress) => void;
  /** Aborted before the mount is usable: nothing stays mounted or running. */
  readonly signal?: AbortSignal;
}

/** Milliseconds. */
export const DEFAULT_READ_TIMEOUT = 60_000;
export const DEFAULT_CACHE_BYTES = 10 * 1024 ** 3;

/** A mount that can be used. */
export interface Mounted {
  readonly id: string;
  /** Absolute. */
  readonly dir: string;
  readonly backend: Backend;
  /** Why this backend: one clause. */
  readonly why: string;
  /** Of the image's manifest. */
  readonly digest: string;
  /** The image's config document, as stored. */
  readonly config: Uint8Array;
  /** The process that serves reads. */
  readonly pid: number;
  readonly cacheDir: string;
  readonly log: string | undefined;
  /** URL of the metrics. */
  readonly metrics: string | undefined;
  /** Folder of the mount's own files (state, control socket). */
  readonly folder: string;
}
