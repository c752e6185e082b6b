import picomatch from 'picomatch';
import { printable, wrapError } from '../core/errors.ts';

/** One line of a list of files, such as a prefetch list. */
export interface Matcher {
  /** As the list has it. */
  readonly pattern: string;
  /** The pattern taken as a clean path. */
  readonly literal: string;
  /** Whether the pattern, taken as a glob, matches a clean path. */
  readonly glob: (path: string) => boolean;
}

/**
 * A line of a list, and the same line as a clean path: a path if there is a file of that name (names may hold glob
 * characters), a glob otherwise. `*` and `?` also match a leading dot, `**` any number of directories. USAGE for what is
 * no glob.
 */
export function matcherOf(pattern: string, literal: string): Matcher {
  // The root has a name that is no glob.
  if (literal === '') return { pattern, literal, glob: () => false };
  try {
    return { pattern, literal, glob: picomatch(literal, { dot: true, noextglob: true, nonegate: true, nobrace: true }) };
  } catch (error) {
    throw wrapError(error, 'USAGE', `not a glob: ${printable(pattern.slice(0, 140))}`);
  }
}
