import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { builtinFormats } from '../../formats/builtin.ts';
import { main, type Io } from '../../src/cli/main.ts';
import type { FormatEntry } from '../../src/core/format-entry.ts';
import { built } from '../support/root.ts';

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stdoutBytes: Buffer;
  readonly stderr: string;
}

export interface RunOptions {
  readonly stdin?: string;
  readonly env?: Record<string, string>;
  /** Which of the two streams are terminals. */
  readonly terminal?: 'stdout' | 'stderr' | 'both';
  readonly signal?: AbortSignal;
  readonly formats?: readonly FormatEntry[];
  /** Sees what is written to stdout as it is written. */
  readonly onStdout?: (text: string) => void;
}

/** A writable that keeps what it gets. */
class Capture extends Writable {
  readonly parts: Buffer[] = [];
  readonly isTTY: boolean;
  readonly columns = 100;
  onPart: (text: string) => void = () => undefined;

  constructor(isTTY: boolean) {
    super();
    this.isTTY = isTTY;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    // Streams lend their bytes: a slow reader must not see later content.
    this.parts.push(Buffer.from(chunk));
    this.onPart(chunk.toString());
    setImmediate(done);
  }

  // What terminals can do besides; the spinner needs it to redraw its line.
  cursorTo(column: number): boolean {
    return this.write(`\u001b[${column + 1}G`);
  }

  moveCursor(_columns: number, rows: number): boolean {
    return this.write(`\u001b[${Math.abs(rows)}${rows < 0 ? 'A' : 'B'}`);
  }

  clearLine(): boolean {
    return this.write('\u001b[2K');
  }

  get bytes(): Buffer {
    return Buffer.concat(this.parts);
  }
}

/** Runs the command line in this process. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const tty = (name: 'stdout' | 'stderr'): boolean => options.terminal === name || options.terminal === 'both';
  const stdout = new Capture(tty('stdout'));
  const stderr = new Capture(tty('stderr'));
  if (options.onStdout) stdout.onPart = options.onStdout;
  const stdin = new PassThrough();
  stdin.end(options.stdin ?? '');
  const io: Io = { stdin, stdout, stderr, env: options.env ?? {}, program: join(built, 'bin', 'lazypull.js'), signal: options.signal ?? new AbortController().signal };
  const code = await main(argv, io, options.formats ?? builtinFormats);
  return { code, stdout: stdout.bytes.toString(), stdoutBytes: stdout.bytes, stderr: stderr.bytes.toString() };
}
