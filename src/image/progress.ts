import type { Digest } from '../core/digest.ts';

/** What `copyImage` and `verifyImage` tell while they work. */
export type ImageProgress =
  /** Once, when the work is known: blobs and their stored bytes. */
  | { readonly type: 'total'; readonly blobs: number; readonly bytes: number }
  /** Stored bytes that moved since the last event; negative when a transfer had to begin anew. */
  | { readonly type: 'bytes'; readonly bytes: number }
  /** A blob is done: its bytes flowed, or they did not have to. */
  | { readonly type: 'blob'; readonly digest: Digest; readonly size: number; readonly moved: boolean };
