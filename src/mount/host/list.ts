import { askControl } from './control.ts';
import type { Status } from './serving.ts';
import { knownMounts, type Health, type MountState } from './state.ts';
import type { AheadState } from './ahead.ts';

/** A mount as `ps` shows it. */
export interface ListedMount {
  readonly state: MountState;
  readonly health: Health;
  /** Undefined when nobody serves it, or nobody answers. */
  readonly status: (Status & { readonly ahead?: AheadState }) | undefined;
}

/** For a daemon that is busy, or being started again. */
const PATIENCE_MS = 2000;

/** The mounts of this user, the oldest first. Asks their daemons, and never the mounts. */
export async function listMountsOf(env: Readonly<Record<string, string | undefined>> = process.env): Promise<readonly ListedMount[]> {
  return Promise.all(
    knownMounts(env).map(async ({ folder, state, health }) => {
      const asked = state.phase === 'ready' || state.phase === 'stopping' || state.daemon !== undefined;
      const status = asked ? ((await askControl(folder.control, { verb: 'status' }, PATIENCE_MS).catch(() => undefined)) as ListedMount['status']) : undefined;
      return { state, health, status };
    }),
  );
}
