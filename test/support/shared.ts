import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

/**
 * What several test files need and takes long to make is made once: LAZYPULL_SHARED names a folder that all processes of one run of
 * the tests have in common. A file that is run by itself has a folder of its own, for as long as it runs.
 */
const folder = process.env['LAZYPULL_SHARED'] ?? ownFolder();

function ownFolder(): string {
  const path = mkdtempSync(join(tmpdir(), 'lazypull-shared-'));
  process.on('exit', () => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** The path (a file or a folder) that `make` has filled, now or earlier, here or in another process; it must not be written to. */
export async function once(name: string, make: (draft: string) => Promise<void>): Promise<string> {
  const path = join(folder, name);
  mkdirSync(folder, { recursive: true });
  while (!existsSync(path)) {
    if (!take(`${path}.lock`)) {
      await wait(50);
      continue;
    }
    const draft = `${path}.draft`;
    try {
      if (!existsSync(path)) {
        await make(draft);
        renameSync(draft, path);
      }
    } finally {
      rmSync(draft, { recursive: true, force: true });
      rmSync(`${path}.lock`);
    }
  }
  return path;
}

/** A lock is a file with its owner's process id; one whose owner was killed is nobody's. */
function take(lock: string): boolean {
  try {
    writeFileSync(lock, `${process.pid}`, { flag: 'wx' });
    return true;
  } catch {
    const owner = ownerOf(lock);
    if (owner !== undefined && !existsSync(`/proc/${owner}`) && existsSync('/proc/self')) rmSync(lock, { force: true });
    return false;
  }
}

function ownerOf(lock: string): string | undefined {
  try {
    const text = readFileSync(lock, 'utf8');
    return text === '' ? undefined : text;
  } catch {
    return undefined;
  }
}
