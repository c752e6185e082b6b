import { share, type SharedStream } from '../core/share.ts';
import { tap } from '../core/stream.ts';
import type { ByteStream, Descriptor, ImageStore } from '../core/types.ts';
import type { ConvertProgress } from './convert-report.ts';

export interface CarryJob {
  readonly source: ImageStore;
  readonly target: ImageStore;
  readonly dryRun: boolean;
  readonly signal: AbortSignal;
  progress(event: ConvertProgress): void;
}

/**
 * Brings a blob into the target, and has `work` read it on the way: what flows is fetched once. When the push has to be
 * begun anew, so is the work; `drop` takes back what an earlier attempt came to.
 */
export async function carryAlong<T>(descriptor: Descriptor, job: CarryJob, work: (packed: ByteStream) => Promise<T>, drop: (result: T) => Promise<void>): Promise<T> {
  const { source, target, signal } = job;
  const fetch = (): ByteStream => tap(source.fetch(descriptor, signal), ({ length }) => job.progress({ type: 'bytes', packed: length, tar: 0 }));
  const there = job.dryRun || source === target || (await target.has(descriptor, signal)) || (await target.mount?.(descriptor, source, signal));
  if (there) return work(fetch());
  let pass: { readonly own: SharedStream; readonly pushed: SharedStream; readonly result: Promise<T> } | undefined;
  const stop = async (): Promise<void> => {
    const begun = pass;
    await Promise.all([begun?.own.return(), begun?.pushed.return()]);
    // It may have come to its end all the same.
    await begun?.result.then(drop, () => undefined);
  };
  try {
    await target.push(descriptor, () => {
      // Asked again, for a retry: the pass begins again as well. What the old one ends with is nobody's business.
      stop().catch(() => undefined);
      const [own, pushed] = share(fetch());
      const result = work(own);
      // Whoever awaits it gets the error; a push that fails first must not leave it unhandled.
      result.catch(() => undefined);
      pass = { own, pushed, result };
      return pushed;
    }, signal);
  } catch (error) {
    await stop();
    throw error;
  }
  // What the push did not read, because somebody else stored the blob meanwhile, is not waited for.
  await pass?.pushed.return();
  return pass?.result ?? work(fetch());
}
