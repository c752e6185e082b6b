import { CommanderError } from 'commander';
import { isAbort, LazypullError } from '../core/errors.ts';
import type { FormatEntry } from '../core/format-entry.ts';
import type { App } from './app.ts';
import { EXIT } from './exit-codes.ts';
import type { Io } from './io.ts';
import { Output, type OutputFlags } from './output.ts';
import { buildProgram } from './program.ts';
import { reportError } from './report-error.ts';

export type { Io } from './io.ts';

/**
 * Runs one command line and resolves with the exit code, after everything printed was handed on. Never throws, never
 * ends the process: `argv` is what follows the program's name, and cancelling `io.signal` ends the command early.
 */
export async function main(argv: readonly string[], io: Io, formats: readonly FormatEntry[]): Promise<number> {
  const app: App = { io, formats, exitCode: 0 };
  const printed: Promise<void>[] = [];
  const out = new Output(io, {});
  const program = buildProgram(app, (text) => void printed.push(out.write(text)));
  const onAbort = (): void => {
    if (io.stderr.isTTY) out.say('lazypull: stopping and cleaning up; Ctrl-C again ends at once');
  };
  io.signal.addEventListener('abort', onAbort, { once: true });
  try {
    await program.parseAsync(argv, { from: 'user' });
    await Promise.all(printed);
    return app.exitCode;
  } catch (error) {
    await Promise.allSettled(printed);
    const debug = program.opts<OutputFlags>().debug ?? argv.includes('--debug');
    const code = error instanceof CommanderError ? reportUsage(error, out, debug) : reportError(cancelled(io.signal, error), out, debug);
    return code === 0 || code === EXIT.CANCELLED ? code : (app.failureCode ?? code);
  } finally {
    io.signal.removeEventListener('abort', onAbort);
    // An empty write is over when everything before it is.
    await new Promise<void>((resolve) => io.stderr.write('', () => resolve()));
  }
}

/** Whatever broke on the way down after Ctrl-C broke because of it. */
function cancelled(signal: AbortSignal, error: unknown): unknown {
  if (!signal.aborted && !isAbort(error)) return error;
  return error instanceof LazypullError && error.code === 'CANCELLED' ? error : new LazypullError('CANCELLED', 'cancelled', { cause: error });
}

function reportUsage(error: CommanderError, out: Output, debug: boolean): number {
  if (error.exitCode === 0) return 0;
  // A call without a command has been answered with the help text already.
  if (error.code === 'commander.help') return EXIT.USAGE;
  const message = error.message.replace(/^error: /, '').replaceAll('\n', ' ');
  return reportError(new LazypullError('USAGE', message, { cause: error }), out, debug);
}
