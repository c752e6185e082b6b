import { LazypullError, type ErrorCode } from '../core/errors.ts';

/** The longest path that is repeated in a message, characters. */
const SHOWN = 200;

/** Where a reader is, for messages: which archive, which entry. One per reader, kept up to date as it goes. */
export class Place {
  /** The archive, in the caller's words. */
  readonly what: string;
  /** The entry's path as far as it is known, raw. */
  path = '';
  /** Stream offset of the header block that is being read. */
  offset = 0;

  constructor(what: string) {
    this.what = what;
  }

  error(code: ErrorCode, message: string, cause?: unknown): LazypullError {
    const path = this.path.length > SHOWN ? `${this.path.slice(0, SHOWN)}…` : this.path;
    return new LazypullError(code, `${this.what}: ${message}`, {
      ...(path === '' ? {} : { path }),
      offset: this.offset,
      ...(cause === undefined ? {} : { cause }),
    });
  }

  /** The bytes break the rules of their format. */
  corrupt(message: string): LazypullError {
    return this.error('CORRUPT', message);
  }
}
