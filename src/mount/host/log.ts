import { appendFileSync, fstatSync, openSync, closeSync, renameSync, writeSync } from 'node:fs';
import { LazypullError, printable } from '../../core/errors.ts';

export type LogLevel = 'info' | 'warning' | 'error';

export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

/** A log of more bytes than this is put aside (`.1`) and begun anew. */
const MAX_BYTES = 16 * 1024 * 1024;

/** One JSON object per line: `time`, `level`, `event`, and what there is to say. A log that cannot be written is no reason to stop. */
export class Log {
  /** A file, or a descriptor that is open already. */
  readonly #target: string | number;
  readonly #role: string;
  #fd: number | undefined;
  #size = 0;

  constructor(target: string | number, role: string) {
    this.#target = target;
    this.#role = role;
  }

  info(event: string, fields: LogFields = {}): void {
    this.#write('info', event, fields);
  }

  warning(event: string, fields: LogFields = {}): void {
    this.#write('warning', event, fields);
  }

  error(event: string, fields: LogFields = {}): void {
    this.#write('error', event, fields);
  }

  close(): void {
    if (this.#fd !== undefined && this.#fd !== this.#target) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #write(level: LogLevel, event: string, fields: LogFields): void {
    const line = `${JSON.stringify({ time: new Date().toISOString(), level, role: this.#role, event, ...fields })}\n`;
    try {
      if (typeof this.#target === 'number') {
        writeSync(this.#target, line);
        return;
      }
      if (this.#fd === undefined) {
        this.#fd = openSync(this.#target, 'a', 0o600);
        this.#size = fstatSync(this.#fd).size;
      }
      if (this.#size > MAX_BYTES) this.#rotate(this.#target);
      this.#size += line.length;
      appendFileSync(this.#fd ?? this.#target, line);
    } catch {
      // A full disk, or a reader of standard error that has gone.
    }
  }

  #rotate(path: string): void {
    this.close();
    renameSync(path, `${path}.1`);
    this.#fd = openSync(path, 'a', 0o600);
    this.#size = 0;
  }
}

/** What an error adds to a line. */
export function errorFields(error: unknown): LogFields {
  if (error instanceof LazypullError) return { code: error.code, error: printable(error.message) };
  return { code: 'INTERNAL', error: printable(error instanceof Error ? (error.stack ?? error.message) : String(error)) };
}
