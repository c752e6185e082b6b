import { spawn } from 'node:child_process';
import { LazypullError, printable, throwIfAborted } from '../../core/errors.ts';
import { placeInRoot } from './place-in-root.ts';

/** A list of users is no longer than this. */
const MAX_BYTES = 8 * 1024 * 1024;

/**
 * Text of a small file of the image, '' when there is none. Its bytes may have to be fetched first, so another process waits
 * for them: this one must be able to end at any time.
 */
export async function readInRoot(root: string, path: string, signal?: AbortSignal): Promise<string> {
  throwIfAborted(signal);
  const place = await placeInRoot(root, path);
  if (!place.stats?.isFile() || place.stats.size === 0n) return '';
  if (place.stats.size > MAX_BYTES) throw new LazypullError('LIMIT', `the image's ${printable(path)} has ${place.stats.size} bytes, ${MAX_BYTES} at most`);
  return new Promise((resolve, reject) => {
    const child = spawn('cat', ['--', place.path], { stdio: ['ignore', 'pipe', 'pipe'] });
    const parts: Buffer[] = [];
    let problem = '';
    const stop = (): void => void child.kill('SIGKILL');
    signal?.addEventListener('abort', stop, { once: true });
    child.stdout.on('data', (part: Buffer) => parts.push(part));
    child.stderr.on('data', (part: Buffer) => (problem += part.toString()));
    const settle = (finish: () => void): void => {
      signal?.removeEventListener('abort', stop);
      finish();
    };
    child.once('error', (cause) => settle(() => reject(new LazypullError('IO', `cannot run cat: ${cause.message}`, { cause }))));
    child.once('close', (code) => settle(() => {
      if (signal?.aborted) reject(new LazypullError('CANCELLED', 'cancelled'));
      else if (code === 0) resolve(Buffer.concat(parts).toString('utf8'));
      else reject(new LazypullError('IO', `cannot read the image's ${printable(path)}: ${printable(problem.trim().slice(0, 300))}`));
    }));
  });
}
