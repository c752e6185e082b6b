import { builtinFormats } from '../formats/builtin.ts';
import type { Io } from '../src/cli/io.ts';
import { main as runCommand } from '../src/cli/main.ts';

/** What a user asks for; resolves with the exit code. */
export function main(argv: readonly string[], io: Io): Promise<number> {
  return runCommand(argv, io, builtinFormats);
}
