import type { Digest } from '../core/digest.ts';
import { LazypullError, wrapError, type ErrorCode } from '../core/errors.ts';
import type { Platform } from '../core/types.ts';

/** One thing that is wrong. */
export interface VerifyProblem {
  readonly code: ErrorCode;
  readonly message: string;
  /** Manifest of the image it was found in. */
  readonly image?: Digest;
  /** Layer or other blob it was found in. */
  readonly layer?: Digest;
  /** Path in the layer or in the merged tree. */
  readonly path?: string;
  /** Offset in the blob or the tar, as the message says. */
  readonly offset?: number;
}

/** What was looked at in one layer. */
export interface VerifiedLayer {
  readonly digest: Digest;
  readonly mediaType: string;
  /** Stored bytes. */
  readonly size: number;
  readonly diffId: Digest;
  /** Lazy format, or null for a layer in none (or a foreign one). */
  readonly format: string | null;
  /** All lazy formats whose index was checked, that one first. */
  readonly formats: readonly string[];
  /** Entries of the tar; 0 for a layer that is not read as one. */
  readonly entries: number;
  readonly files: number;
  /** Chunks fetched, inflated and held against their digests. */
  readonly chunks: number;
  /** Bytes of the plain tar. */
  readonly tarSize: number;
}

export interface VerifiedImage {
  readonly digest: Digest;
  readonly platform: Platform | null;
  readonly layers: readonly VerifiedLayer[];
}

/** Result of a verification. Stable: it is what `--json` prints. */
export interface VerifyReport {
  readonly ok: boolean;
  readonly reference: string;
  /** Of the root. */
  readonly digest: Digest;
  /** What it was compared with. */
  readonly against: { readonly reference: string; readonly digest: Digest } | null;
  readonly images: readonly VerifiedImage[];
  /** The first ones found; `omitted` counts the rest. */
  readonly problems: readonly VerifyProblem[];
  readonly omitted: number;
  /** Worth knowing, but nothing is wrong. */
  readonly notes: readonly string[];
  /** Each content counted once. */
  readonly totals: {
    readonly manifests: number;
    readonly blobs: number;
    readonly bytes: number;
    readonly tarBytes: number;
    readonly entries: number;
    readonly files: number;
    readonly chunks: number;
  };
}

/** What a blob or tree can do wrong. Everything else (network, credentials, cancelling) ends the verification itself. */
const FINDINGS = new Set<ErrorCode>(['CORRUPT', 'DIGEST_MISMATCH', 'SIZE_MISMATCH', 'NOT_FOUND', 'UNSUPPORTED', 'LIMIT', 'DIFFERENT']);

/** Whether an error is about the content that was read, and not about reaching it. */
export function isFinding(error: unknown): error is LazypullError {
  return error instanceof LazypullError && FINDINGS.has(error.code);
}

/** Collects problems up to a limit and counts the rest. */
export class ProblemList {
  readonly problems: VerifyProblem[] = [];
  readonly notes = new Set<string>();
  omitted = 0;
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get found(): number {
    return this.problems.length + this.omitted;
  }

  add(problem: VerifyProblem): void {
    if (this.problems.length < this.#limit) this.problems.push(problem);
    else this.omitted += 1;
  }

  /** Notes an error as a problem if it is about the content; anything else is thrown. */
  addError(error: unknown, place: Pick<VerifyProblem, 'image' | 'layer' | 'path'> = {}): void {
    const known = wrapError(error, 'INTERNAL', 'verification failed');
    if (!isFinding(known)) throw known;
    this.add({ code: known.code, message: known.message, ...placeOf(known), ...place });
  }
}

function placeOf(error: LazypullError): Pick<VerifyProblem, 'path' | 'offset'> {
  return { ...(error.path !== undefined && { path: error.path }), ...(error.offset !== undefined && { offset: error.offset }) };
}
