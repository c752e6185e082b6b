import { LazypullError, printable } from '../core/errors.ts';
import { EXIT } from './exit-codes.ts';
import type { Output } from './output.ts';

/** Prints one line for an error (with `--debug` also its stack and causes) and returns the exit code it stands for. */
export function reportError(error: unknown, out: Output, debug: boolean): number {
  const code = error instanceof LazypullError ? error.code : 'INTERNAL';
  out.say(`${out.styled('red', 'lazypull:')} ${describe(error)}`);
  if (debug) out.say(out.styled('dim', trace(error)));
  else if (code === 'INTERNAL') out.say('lazypull: this should not happen; --debug shows where it did');
  return EXIT[code];
}

function describe(error: unknown): string {
  // Messages quote what strangers wrote: one line, whatever that was.
  if (error instanceof LazypullError) return printable(error.message);
  return `internal error: ${printable(error instanceof Error ? `${error.name}: ${error.message}` : String(error))}`;
}

/** Stacks of an error and of what caused it, outermost first. */
function trace(error: unknown): string {
  const lines: string[] = [];
  const seen = new Set<unknown>();
  for (let at = error, depth = 0; at !== undefined && !seen.has(at); depth++) {
    seen.add(at);
    const stack = at instanceof Error ? (at.stack ?? at.message) : String(at);
    lines.push(...stack.split('\n').map((line, i) => `${depth > 0 && i === 0 ? 'caused by: ' : ''}${printable(line)}`));
    at = at instanceof Error ? at.cause : undefined;
  }
  return lines.join('\n');
}
