import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { wrapError } from '../../core/errors.ts';

/** Gives a file's bytes back to the file system by the `fallocate` command: for systems on which system calls cannot be made. */
export async function punchByCommand(path: string, offset: number, length: number): Promise<void> {
  try {
    await promisify(execFile)('fallocate', ['--punch-hole', '--offset', String(offset), '--length', String(length), '--', path], { timeout: 60_000 });
  } catch (error) {
    throw wrapError(error, 'IO', 'cannot make room in the cache', { path, offset });
  }
}
