import type { ErrorCode } from '../core/errors.ts';

/** What the process tells its caller, by class of error. Documented in README.md and `lazypull --help`. */
export const EXIT: Readonly<Record<ErrorCode, number>> = {
  DIFFERENT: 1,
  USAGE: 2,
  NOT_FOUND: 3,
  UNAUTHORIZED: 4,
  NETWORK: 5,
  CORRUPT: 6,
  DIGEST_MISMATCH: 6,
  SIZE_MISMATCH: 6,
  UNSUPPORTED: 7,
  LIMIT: 8,
  IO: 9,
  INTERNAL: 70,
  CANCELLED: 130,
};

/** What `run` exits with when it fails itself, whatever by: every other code is the program's. */
export const RUN_FAILED = 125;

const MEANINGS: readonly (readonly [number, string])[] = [
  [0, 'done'],
  [EXIT.DIFFERENT, 'verify found differences'],
  [EXIT.USAGE, 'wrong usage'],
  [EXIT.NOT_FOUND, 'no such image, tag, blob or path'],
  [EXIT.UNAUTHORIZED, 'credentials missing or refused'],
  [EXIT.NETWORK, 'network or registry failure'],
  [EXIT.CORRUPT, 'corrupt data, wrong digest or wrong size'],
  [EXIT.UNSUPPORTED, 'not supported'],
  [EXIT.LIMIT, 'a limit was exceeded'],
  [EXIT.IO, 'local read or write failed'],
  [EXIT.INTERNAL, 'internal error'],
  [RUN_FAILED, 'run: lazypull failed; 126 and 127: the program cannot be executed, is not there'],
  [EXIT.CANCELLED, 'cancelled (130 by Ctrl-C, 143 by SIGTERM)'],
];

/** The table at the end of `lazypull --help`. */
export function exitCodeHelp(): string {
  return ['Exit codes:', ...MEANINGS.map(([code, meaning]) => `  ${String(code).padStart(3)}  ${meaning}`)].join('\n');
}
