import type { Format } from '../../core/format.ts';
import type { Log } from './log.ts';

export type LoadFormats = () => Promise<readonly Format[]>;

/** What the process of a mount has from whoever runs it. */
export interface ProcessContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Only called when the image has to be opened. */
  readonly loadFormats: LoadFormats;
  /** Their names. */
  readonly formatNames: readonly string[];
  /** SIGTERM: unmount, out of sight at once, and end when the last user has left. */
  readonly signal: AbortSignal;
}

export interface DaemonContext extends ProcessContext {
  readonly log: Log;
}
