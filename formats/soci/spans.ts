import type { Digest } from '../../src/core/digest.ts';
import type { ResumePoint } from '../../src/core/format.ts';
import type { SpanInfo } from './layout.ts';

/** Finds the spans of a layer as its bytes go by. */
export interface SpanFinder {
  point(point: ResumePoint): void;
  packed(bytes: Uint8Array): void;
  /** The plain tar is known to have bytes up to here, and to have come up to `seen`. */
  reaches(tar: number, seen: number): void;
  /** The plain tar ends here; what follows is padding. */
  ends(tar: number): void;
  /** All bytes have gone by. */
  finish(): FoundSpans;
  /** Why there are no spans to be had; nothing is kept from then on. */
  readonly refused: string | undefined;
}

export interface FoundSpans {
  readonly spans: SpanInfo;
  readonly digests: readonly Digest[];
  /** Stored bytes that went by. */
  readonly packedSize: number;
  readonly warnings: readonly string[];
}
