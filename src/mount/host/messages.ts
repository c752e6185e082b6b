import type { Digest } from '../../core/digest.ts';
import type { ErrorCode } from '../../core/errors.ts';
import { LazypullError } from '../../core/errors.ts';
import type { Platform } from '../../core/types.ts';
import type { ConvertProgress } from '../../image/convert-report.ts';
import type { Backend, PlainRegistryOptions } from './options.ts';
import type { ProcessMark } from './processes.ts';
import type { How } from './clear.ts';
import type { MountRecord } from './state.ts';

/**
 * What the processes of one mount tell each other, one JSON value per line over the pipe that a process was started with.
 * Credentials go no other way than this.
 */

/** Descriptors that a process is started with: the FUSE connection, if there is one already, and the pipe to who started it. */
export const FUSE_FD = 3;
export const PIPE_FD = 4;

/** Everything a daemon has to know; all paths are absolute. */
export interface ServeOptions {
  /** Path of the mount's own folder. */
  readonly folder: string;
  readonly program: readonly string[];
  readonly image: string;
  /** As it was asked for. */
  readonly platform?: Platform;
  /** What is mounted, once it is: a daemon that is started again needs no network to begin. */
  readonly planned?: Planned;
  readonly registry: PlainRegistryOptions;
  readonly dir: string;
  readonly backend: Backend;
  readonly why: string;
  /** Where the kernel reads the metadata: from the cache's file, through FUSE, or from loop devices. */
  readonly metadata: 'file' | 'fuse' | 'loop';
  readonly writable: boolean;
  readonly upper?: string;
  readonly cacheDir: string;
  readonly cacheBytes: number;
  readonly prefetch: readonly string[];
  readonly imagePrefetch: boolean;
  /** A path. */
  readonly record?: string;
  readonly fill: boolean;
  readonly detachWhenComplete: boolean;
  readonly metricsListen?: string;
  readonly readTimeout: number;
  /** A path, or a descriptor's number. */
  readonly log: string | number;
  /** When it ends, so does the mount. */
  readonly leash?: ProcessMark;
  readonly mountedAt: number;
}

/** Names a plan in the cache. */
export interface Planned {
  readonly digest: Digest;
  /** The image's own. */
  readonly platform?: Platform;
  /** SHA-256 of the tree, hex: whoever takes over must show this one and no other, as the kernel remembers numbers of files. */
  readonly tree: string;
}

/** The first line to a new process. */
export type Order =
  | { readonly role: 'serve'; readonly options: ServeOptions; readonly owner: ProcessMark }
  /** Takes over a mount that stands. `standBy`: gets ready, and waits for `go`. */
  | { readonly role: 'resume'; readonly options: ServeOptions; readonly restarts: number; readonly standBy: boolean; readonly supervisor: ProcessMark }
  | { readonly role: 'supervise'; readonly options: ServeOptions; readonly daemon: ProcessMark; readonly restarts: number }
  | { readonly role: 'move'; readonly move: MoveOrder }
  | { readonly role: 'unmount'; readonly unmount: UnmountOrder };

/** Takes mounts away, the last one first. */
export interface UnmountOrder {
  readonly mounts: readonly MountRecord[];
  readonly how: How;
}

/** Puts a mount of local files in the place of one that is served. */
export interface MoveOrder {
  readonly metadata: string;
  readonly devices: readonly string[];
  readonly dir: string;
  readonly staging: string;
}

/** An error on its way to another process. */
export interface SentError {
  readonly code: ErrorCode;
  /** With its place, as `LazypullError` has put it together. */
  readonly message: string;
  /** Such as `EBUSY`, when it was a system call that failed. */
  readonly errno?: string;
}

/** From a daemon that serves a new mount to who wants it. */
export type ToStarter =
  | { readonly type: 'warning'; readonly text: string }
  | { readonly type: 'progress'; readonly event: ConvertProgress }
  /** Served: whatever is not yet mounted can be mounted now. `metadata` is its file in the cache, where there is one. */
  | { readonly type: 'served'; readonly digest: string; readonly metadata?: string; readonly devices: number; readonly fuse: MountRecord; readonly readAheadKib: number }
  | { readonly type: 'ready'; readonly metrics?: string; readonly config: string }
  | { readonly type: 'failed'; readonly error: SentError };

/** The answer to `served`. */
export type ToDaemon =
  /** All mounts in the order in which they were made. */
  | { readonly type: 'mounted'; readonly mounts: readonly MountRecord[] }
  /** It can be used: from now on the daemon goes on by itself. Without this word it takes everything back. */
  | { readonly type: 'taken' };

/** From a daemon to its supervisor, whoever of them has started the other. */
export type ToSupervisor =
  /** What a daemon that takes over has to know from now on. */
  | { readonly type: 'options'; readonly options: ServeOptions }
  /** Reads are being answered. */
  | { readonly type: 'serving' }
  | { readonly type: 'standing-by' }
  | { readonly type: 'failed'; readonly error: SentError }
  /** A new daemon is to take over. */
  | { readonly type: 'replace' }
  /** The mount comes to its end: nobody is to take over. */
  | { readonly type: 'bye' };

/** From a supervisor to its daemon. */
export type FromSupervisor =
  | { readonly type: 'watching'; readonly supervisor: ProcessMark }
  /** To one that stands by: the old one is gone. */
  | { readonly type: 'go' }
  /** To one that is replaced: end without unmounting anything. */
  | { readonly type: 'leave' }
  /** No new daemon could be had. */
  | { readonly type: 'not-replaced'; readonly error: SentError }
  /** End, and unmount. */
  | { readonly type: 'stop' };

export function sendable(error: unknown): SentError {
  if (!(error instanceof LazypullError)) return { code: 'INTERNAL', message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  const errno = 'errnoName' in error ? String(error.errnoName) : error instanceof RemoteError ? error.errno : undefined;
  return { code: error.code, message: error.message, ...(errno === undefined ? {} : { errno }) };
}

/** What went wrong in another process. */
export class RemoteError extends LazypullError {
  readonly errno: string | undefined;

  constructor({ code, message, errno }: SentError) {
    super(code, message);
    this.errno = errno;
  }
}
