import type { Digest } from '../core/digest.ts';
import type { Platform } from '../core/types.ts';

/**
 * Converted; packed anew as gzip because an index wants that; in the format already and kept; described from outside and
 * kept; held by no registry; left as it is.
 */
export type LayerAction = 'converted' | 'repacked' | 'passed-through' | 'indexed' | 'foreign' | 'kept';

export interface BlobFacts {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
}

/** What an indexing format made of a layer. */
export interface LayerIndexReport {
  readonly format: string;
  /** The index; null for a layer that was left out. */
  readonly blob: BlobFacts | null;
  /** Why it was left out; null when it was not. */
  readonly skipped: string | null;
  readonly entries: number;
  readonly chunks: number;
}

export interface LayerReport {
  readonly source: BlobFacts;
  readonly target: BlobFacts;
  readonly diffId: Digest;
  readonly action: LayerAction;
  /** Files, directories, links; 0 for a layer that was not looked into. */
  readonly entries: number;
  readonly chunks: number;
  /** Bytes of the plain tar; 0 for a layer that was not looked into. */
  readonly tarSize: number;
  /** Target size over source size. */
  readonly ratio: number;
  readonly seconds: number;
  readonly warnings: readonly string[];
  /** One for each indexing format. */
  readonly indexes: readonly LayerIndexReport[];
}

export interface PlatformReport {
  readonly platform: Platform | undefined;
  readonly source: Digest;
  /** Digest of the new manifest. */
  readonly digest: Digest;
  readonly layers: readonly LayerReport[];
  /** Manifests that describe it from outside. */
  readonly artifacts: readonly { readonly format: string; readonly digest: Digest }[];
}

/** What a conversion did. Stable: it is what `--json` prints. */
export interface ConvertReport {
  /** Tag or digest in the target. */
  readonly reference: string;
  /** Root of the new image. */
  readonly digest: Digest;
  readonly source: { readonly digest: Digest };
  readonly platforms: readonly PlatformReport[];
  /** Each layer counted once, however many platforms share it. */
  readonly totals: { readonly sourceBytes: number; readonly targetBytes: number; readonly indexBytes: number; readonly tarBytes: number; readonly seconds: number };
  /** Further tags that were written (external TOC). */
  readonly extraTags: readonly string[];
  readonly warnings: readonly string[];
  /** What went well and is worth knowing (chunks that did not have to be stored), one line each. */
  readonly notes: readonly string[];
  readonly dryRun: boolean;
}

export type ConvertProgress =
  | { readonly type: 'total'; readonly layers: number; readonly bytes: number }
  | { readonly type: 'layer'; readonly digest: Digest; readonly phase: 'start' | 'done' | 'reused'; readonly size: number }
  | { readonly type: 'bytes'; readonly packed: number; readonly tar: number };
