import { LazypullError, type ErrorCode } from '../../src/core/errors.ts';

/** What documents that can be reached may do wrong. */
const FINDINGS = new Set<ErrorCode>(['NOT_FOUND', 'CORRUPT', 'DIGEST_MISMATCH', 'SIZE_MISMATCH', 'UNSUPPORTED', 'LIMIT']);

/** Whether an error is about the content that was read, and not about reaching it. */
export function isFinding(error: unknown): error is LazypullError {
  return error instanceof LazypullError && FINDINGS.has(error.code);
}

/** What a finding says; other errors are thrown on. */
export function finding(error: unknown): string {
  if (isFinding(error)) return error.message;
  throw error;
}
