/** An output stream as the process has them, or any writable in a test. */
export type OutputStream = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };

/** Everything of the outside world that the command line touches besides files and sockets. */
export interface Io {
  readonly stdin: AsyncIterable<Uint8Array | string>;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Path of the script that is the command, for processes of its own: one that has the command line inside must not start itself. */
  readonly program: string;
  /** Aborted by Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
  /** From now on signals go to the listener and `signal` is left alone, until the function it returns is called. */
  readonly takeSignals?: (listener: (signal: NodeJS.Signals) => void) => () => void;
}
