import { printable } from '../core/errors.ts';
import { stopMount } from '../mount/host/stop.ts';
import { reapRuns } from '../mount/run/reap.ts';
import type { App } from './app.ts';
import type { Output } from './output.ts';

/** Removes what runs have left that were killed. What cannot be removed is told, and is the next command's. */
export async function reapAbandoned({ io: { env } }: App, out: Output): Promise<void> {
  const reaped = await reapRuns({ env, unmount: (dir) => stopMount(dir, { how: 'force', env }).then(() => undefined) });
  for (const { id, image, problem } of reaped) if (problem !== undefined) out.warn(`what is left of run ${id}${image && ` of ${printable(image)}`}, which was killed, cannot be removed: ${problem}`);
}
