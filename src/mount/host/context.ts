import type { Format } from '../../core/format.ts';
import type { Asked } from './ask-ahead.ts';
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
  /** What has been asked about the image already. `hear` is told what a user should know of it, once for each warning. */
  readonly asked?: { readonly answer: Promise<Asked>; hear(warn: (text: string) => void): void };
}
