import { LazypullError, printable } from '../core/errors.ts';
import type { Io, OutputStream } from './io.ts';

/** The flags that every command has. */
export interface OutputFlags {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly debug?: boolean;
  /** False with `--no-progress`. */
  readonly progress?: boolean;
}

export type Style = 'bold' | 'dim' | 'red' | 'yellow' | 'green' | 'cyan';

/**
 * Where a command prints. Results go to stdout and are awaited, so that a slow reader slows the command down;
 * messages go to stderr. A reader that has gone away is no error: what is left to print is dropped.
 */
export class Output {
  readonly json: boolean;
  readonly quiet: boolean;
  /** Whether a progress line may be shown. */
  readonly progress: boolean;
  readonly #io: Io;
  #readerGone = false;

  constructor(io: Io, flags: OutputFlags) {
    this.#io = io;
    this.json = flags.json ?? false;
    this.quiet = flags.quiet ?? false;
    // A terminal of no width, as some container runtimes allocate them, has no line to show it on.
    this.progress = flags.progress !== false && !this.quiet && io.stderr.isTTY === true && io.stderr.columns !== 0 && io.env['TERM'] !== 'dumb';
    // The write callback reports failures; without a listener Node would end the process with a stack trace.
    for (const stream of [io.stdout, io.stderr]) if (stream.listenerCount('error') === 0) stream.on('error', () => {});
  }

  /** Whether stdout is a terminal, where names from strangers must not reach control sequences. */
  get toTerminal(): boolean {
    return this.#io.stdout.isTTY === true;
  }

  get stderr(): OutputStream {
    return this.#io.stderr;
  }

  /** True once stdout was closed by its reader (`lazypull ls ... | head`): there is no point in going on. */
  get readerGone(): boolean {
    return this.#readerGone;
  }

  /** Result bytes. Resolves when they are handed on and the array may be used again. */
  async write(bytes: Uint8Array | string): Promise<void> {
    if (this.#readerGone || bytes.length === 0) return;
    await new Promise<void>((resolve, reject) => {
      this.#io.stdout.write(bytes, (error?: Error | null) => {
        if (!error) return resolve();
        this.#readerGone = true;
        const code = (error as NodeJS.ErrnoException).code;
        if (code === 'EPIPE' || code === 'ERR_STREAM_DESTROYED') return resolve();
        reject(new LazypullError('IO', `cannot write to standard output: ${error.message}`, { cause: error }));
      });
    });
  }

  line(text: string): Promise<void> {
    return this.write(`${text}\n`);
  }

  /** The one object that `--json` prints. */
  object(value: object): Promise<void> {
    return this.line(JSON.stringify(value, undefined, 2));
  }

  /** A summary for people, on stderr; left out with `--quiet` and `--json`. */
  note(text: string): void {
    if (!this.quiet && !this.json) this.#io.stderr.write(`${text}\n`);
  }

  /** Something that may need attention, on stderr; left out with `--quiet`. */
  warn(text: string): void {
    if (!this.quiet) this.#io.stderr.write(`${this.styled('yellow', 'lazypull: warning:')} ${printable(text)}\n`);
  }

  /** A message that no flag silences: an error, or what `--stats` was asked for. */
  say(text: string): void {
    this.#io.stderr.write(`${text}\n`);
  }

  /** Whether stderr shows colours. */
  get colour(): boolean {
    return wantsColour(this.#io.stderr, this.#io.env);
  }

  /** Text for stderr, coloured when that is a terminal that wants it. */
  styled(style: Style, text: string): string {
    return paint(style, text, this.#io.stderr, this.#io.env);
  }

  /** The same for stdout. */
  styledResult(style: Style, text: string): string {
    return paint(style, text, this.#io.stdout, this.#io.env);
  }
}

/** https://no-color.org: any non-empty value turns colour off, whatever the terminal can do. */
function wantsColour(stream: OutputStream, env: Io['env']): boolean {
  return stream.isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb';
}

const CODES: Readonly<Record<Style, readonly [number, number]>> = { bold: [1, 22], dim: [2, 22], red: [31, 39], yellow: [33, 39], green: [32, 39], cyan: [36, 39] };

function paint(style: Style, text: string, stream: OutputStream, env: Io['env']): string {
  const [on, off] = CODES[style];
  return wantsColour(stream, env) ? `\u001b[${on}m${text}\u001b[${off}m` : text;
}
