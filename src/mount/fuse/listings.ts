/** Listings in a row that come with attributes once somebody has wanted them; doubled each time that shows to be right. */
const FIRST_SPAN = 16;
const MAX_SPAN = 1024;
/** Files of one directory that somebody has to ask for before it counts. */
const EVIDENCE = 3;
/** Directories that are watched for it. */
const WATCHED = 64;
/** Bare listings in a row that nobody asks about, after which attributes are not expected any more. */
const QUIET = 8;
/** Bytes of a directory above which its listing has attributes always: to be wrong about them would cost most. */
const LARGE = 16_384;

/**
 * Decides whether a listing comes with the attributes of its files. For who looks at every file (`ls -l`, tar) that spares
 * a question for each; for who wants names only (find, globs, imports) it is the larger part of the work, because the
 * kernel makes an inode of each. So every now and then a listing comes without, and shows what the reader is after.
 */
export class Listings {
  #span = FIRST_SPAN;
  #left = FIRST_SPAN;
  #quiet = 0;
  /** Directories whose listing was bare: how many of their files are still to be asked for. */
  readonly #watched = new Map<number, number>();

  /** Whether to add attributes to the names from `offset` on of a directory of `size` bytes. */
  withAttributes(directory: number, offset: number, size: number): boolean {
    if (size > LARGE) return true;
    if (offset > 0) return !this.#watched.has(directory);
    if (this.#left > 0) {
      this.#left -= 1;
      this.#watched.delete(directory);
      return true;
    }
    this.#quiet += 1;
    if (this.#quiet > QUIET) this.#span = FIRST_SPAN;
    this.#watched.delete(directory);
    this.#watched.set(directory, EVIDENCE);
    if (this.#watched.size > WATCHED) this.#watched.delete(this.#watched.keys().next().value as number);
    return false;
  }

  /** Somebody asks for a file of a directory. */
  asked(directory: number): void {
    const missing = this.#watched.get(directory);
    if (missing === undefined) return;
    if (missing > 1) {
      this.#watched.set(directory, missing - 1);
      return;
    }
    this.#watched.delete(directory);
    this.#quiet = 0;
    this.#left = this.#span;
    this.#span = Math.min(this.#span * 2, MAX_SPAN);
  }
}
