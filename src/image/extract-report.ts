import type { Digest } from '../core/digest.ts';
import type { ReadStats } from './image-layer.ts';

export type ExtractProgress =
  /** Once, before anything is written: files (hard links counted once) and their bytes. */
  | { readonly type: 'total'; readonly files: number; readonly bytes: number }
  | { readonly type: 'bytes'; readonly bytes: number }
  /** A file is in its place, and so are its further names. */
  | { readonly type: 'file'; readonly path: string };

/** What was extracted. Stable: it is what `--json` prints. */
export interface ExtractReport {
  /** Of the image's manifest. */
  readonly digest: Digest;
  /** What was selected: absolute real paths in the image. */
  readonly paths: readonly string[];
  readonly directories: number;
  readonly files: number;
  /** Further names of files. */
  readonly hardLinks: number;
  readonly symlinks: number;
  /** Devices and FIFOs in the tar; a directory never gets any. */
  readonly specials: number;
  /** Of files, hard links counted once. */
  readonly bytes: number;
  /** Devices and FIFOs that were left out. */
  readonly skipped: number;
  readonly warnings: readonly string[];
  /** Ranged reads of layers that opening the image and extracting took. */
  readonly read: ReadStats;
}
