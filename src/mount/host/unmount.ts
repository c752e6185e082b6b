import { LazypullError } from '../../core/errors.ts';
import type { Channel } from './channel.ts';
import { takeAwayRecord, type How } from './clear.ts';
import { isRefusal } from './kernel-calls.ts';
import { RemoteError, sendable, type SentError, type UnmountOrder } from './messages.ts';
import { spawnProcess } from './spawn.ts';
import type { MountRecord } from './state.ts';

/** From a process that unmounts. */
export type Unmounted = { readonly unmounted: true } | { readonly error: SentError };

/**
 * Takes mounts away from a process that serves them. Another process does it: unmounting waits for reads that are under way, be it of
 * readers that are long gone, and so for answers of this one; waiting here it would give none, and not even end when it is killed.
 * RemoteError with `errno` EBUSY when somebody uses them and `how` is `clean`.
 */
export async function unmountElsewhere(program: readonly string[], mounts: readonly MountRecord[], how: How): Promise<void> {
  const { channel } = spawnProcess<never, Unmounted>({ program, order: { role: 'unmount', unmount: { mounts, how } }, output: 'inherit' });
  const answer = await channel.receive();
  await channel.close();
  if (!answer) throw new LazypullError('INTERNAL', 'the process that unmounts ended early');
  if ('error' in answer) throw new RemoteError(answer.error);
}

/** What that process does. */
export async function unmountAll({ mounts, how }: UnmountOrder, pipe: Channel<Unmounted, never>): Promise<void> {
  try {
    for (const record of mounts.toReversed()) {
      await takeAwayRecord(record, how).catch((error: unknown) => {
        // Whoever unmounts by himself may be faster.
        if (!isRefusal(error, 'EINVAL', 'ENOENT')) throw error;
      });
    }
    pipe.send({ unmounted: true });
  } catch (error) {
    pipe.send({ error: sendable(error) });
  }
  await pipe.close();
}
