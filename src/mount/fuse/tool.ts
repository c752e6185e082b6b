import { spawn } from 'node:child_process';
import { LazypullError, printable } from '../../core/errors.ts';

export interface ToolResult {
  readonly code: number | null;
  /** What it complained about, on one line. */
  readonly complaint: string;
}

export interface ToolOptions {
  /** Becomes descriptor 3 of the tool. */
  readonly fd?: number;
  readonly env?: Readonly<Record<string, string>>;
  /** Milliseconds. */
  readonly timeout?: number;
}

const MAX_COMPLAINT = 2000;

/**
 * Runs a small system tool to its end, without blocking: it may need an answer of a file system that this very process
 * serves. UNSUPPORTED when it is not installed, IO when it takes too long: one that hangs in the kernel cannot even be killed.
 */
export function runTool(command: string, args: readonly string[], { fd, env, timeout = 30_000 }: ToolOptions = {}): Promise<ToolResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: '/',
      env: { ...process.env, LC_ALL: 'C', ...env },
      stdio: ['ignore', 'ignore', 'pipe', ...(fd === undefined ? [] : [fd])],
    });
    let complaint = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (complaint.length < MAX_COMPLAINT) complaint += text;
    });
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      child.unref();
      reject(new LazypullError('IO', `${command} has not ended within ${timeout / 1000} s`));
    }, timeout);
    child.on('error', (error) => {
      clearTimeout(timer);
      const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
      reject(new LazypullError(absent ? 'UNSUPPORTED' : 'IO', absent ? `${command} is not installed` : `${command} cannot be started`, { cause: error }));
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code, complaint: printable(complaint.trim().replace(/\s*\n\s*/g, '; ')) });
    });
  });
}
