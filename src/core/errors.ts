/** Every failure class that lazypull tells apart. The list is closed: the command line maps each one to an exit code. */
export type ErrorCode =
  | 'USAGE'
  | 'NOT_FOUND'
  | 'UNAUTHORIZED'
  | 'NETWORK'
  | 'CORRUPT'
  | 'DIGEST_MISMATCH'
  | 'SIZE_MISMATCH'
  | 'UNSUPPORTED'
  | 'LIMIT'
  | 'DIFFERENT'
  | 'IO'
  | 'CANCELLED'
  | 'INTERNAL';

/** Where in the data an error was found. Everything is optional: name what is known. */
export interface ErrorPlace {
  /** Path inside the layer, file on disk, or URL without secrets. */
  readonly path?: string;
  /** Byte offset in the stream or blob that was being read. */
  readonly offset?: number;
}

/**
 * The one error class of lazypull. The message names what failed, where, what was wanted and what was found,
 * on one line and without secrets; library errors are kept as `cause`.
 */
export class LazypullError extends Error {
  readonly code: ErrorCode;
  readonly path: string | undefined;
  readonly offset: number | undefined;

  constructor(code: ErrorCode, message: string, options: ErrorPlace & { cause?: unknown } = {}) {
    const at = options.offset === undefined ? '' : ` at offset ${options.offset}`;
    const where = !options.path ? '' : ` (${printable(options.path)}${at})`;
    super(`${message}${where || (at && ` (${at.trim()})`)}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'LazypullError';
    this.code = code;
    this.path = options.path;
    this.offset = options.offset;
  }
}

/** Strangers choose the names in messages: control characters must not reach a terminal. */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are exactly what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

/** Bytes that break their format's rules. */
export function corrupt(message: string, place: ErrorPlace & { cause?: unknown } = {}): LazypullError {
  return new LazypullError('CORRUPT', message, place);
}

/** Keeps a `LazypullError` as it is and wraps anything else under the given code and message. */
export function wrapError(error: unknown, code: ErrorCode, message: string, place: ErrorPlace = {}): LazypullError {
  if (error instanceof LazypullError) return error;
  if (isAbort(error)) return new LazypullError('CANCELLED', 'cancelled', { cause: error });
  const detail = error instanceof Error ? error.message : String(error);
  return new LazypullError(code, `${message}: ${printable(detail)}`, { ...place, cause: error });
}

/** Whether an error is the consequence of an aborted signal. */
export function isAbort(error: unknown): boolean {
  return (error instanceof Error && error.name === 'AbortError') || (error instanceof LazypullError && error.code === 'CANCELLED');
}

/** Throws CANCELLED once the signal is aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new LazypullError('CANCELLED', 'cancelled', { cause: signal.reason });
}
