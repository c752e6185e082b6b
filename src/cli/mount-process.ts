import type { FormatEntry } from '../core/format-entry.ts';
import type { ExpectedRole } from '../mount/host/process.ts';
import type { Io } from './io.ts';

/** The command by which the processes of a mount are started. */
export const MOUNT_PROCESS = 'mount-daemon';

/** A process of a mount. Readers wait for it, and so it loads no command and reads no flags. */
export async function mountProcess({ env, signal }: Io, formats: readonly FormatEntry[], role: ExpectedRole | undefined): Promise<void> {
  const { runMountProcess } = await import('../mount/host/process.ts');
  const readable = formats.filter(({ reads }) => reads !== false);
  await runMountProcess({ env, loadFormats: () => Promise.all(readable.map((entry) => entry.load())), formatNames: readable.map(({ name }) => name), signal }, role);
}

/** Whether these arguments are those by which the processes of a mount start each other. */
export function isMountProcess([command, role, ...more]: readonly string[]): boolean {
  return command === MOUNT_PROCESS && (role === undefined || role === 'serve' || role === 'serve-remote') && more.length === 0;
}

/** The same as a command line: resolves with the exit code. */
export async function mountProcessMain([, role]: readonly string[], io: Io, formats: readonly FormatEntry[]): Promise<number> {
  try {
    await mountProcess(io, formats, role as ExpectedRole | undefined);
    return 0;
  } catch (error) {
    const [{ Output }, { reportError }] = await Promise.all([import('./output.ts'), import('./report-error.ts')]);
    return reportError(error, new Output(io, {}), false);
  }
}
