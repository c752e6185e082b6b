import { builtinFormats } from '../formats/builtin.ts';
import type { Io } from '../src/cli/io.ts';
import { mountProcessMain } from '../src/cli/mount-process.ts';

/** A process of a mount, which `bin/bundle.mjs` puts into a file of its own; resolves with the exit code. */
export function main(argv: readonly string[], io: Io): Promise<number> {
  return mountProcessMain(argv, io, builtinFormats);
}
