import { statSync } from 'node:fs';
import { posix, resolve } from 'node:path';
import { LazypullError, printable, wrapError } from '../../core/errors.ts';

/** A folder or file of this machine that the container sees. */
export interface Volume {
  /** Absolute. */
  readonly host: string;
  /** Absolute and clean. */
  readonly container: string;
  readonly readOnly: boolean;
}

/** `HOST:CONTAINER[:ro|rw]`. HOST is a path, absolute or beginning with a dot: volumes have no names here. */
export function parseVolume(text: string, cwd: string): Volume {
  const [host = '', container, options = 'rw', ...more] = text.split(':');
  const wrong = (why: string): LazypullError => new LazypullError('USAGE', `-v ${printable(text.slice(0, 200))}: ${why}; write HOST:CONTAINER or HOST:CONTAINER:ro`);
  if (container === undefined || more.length > 0) throw wrong(more.length > 0 ? 'too many colons' : 'where in the container?');
  if (text.includes('\0')) throw wrong('a NUL byte');
  if (!/^(?:\/|\.\.?(?:\/|$))/.test(host)) throw wrong('volumes have no names, HOST is a path such as /data or ./data');
  if (!container.startsWith('/')) throw wrong('the path in the container must begin with /');
  const words = options.split(',');
  if (words.some((word) => word !== 'ro' && word !== 'rw') || words.length > 1) throw wrong(`unknown option ${printable(options.slice(0, 40))}`);
  const clean = cleanPath(container);
  if (clean === '/') throw wrong('the root of the container is the image');
  return { host: resolve(cwd, host), container: clean, readOnly: options === 'ro' };
}

/** Two volumes at one place are a mistake; what HOST names has to be there. */
export function checkVolumes(volumes: readonly Volume[]): void {
  const seen = new Set<string>();
  for (const { host, container } of volumes) {
    if (seen.has(container)) throw new LazypullError('USAGE', `-v: two volumes at ${printable(container)}`);
    seen.add(container);
    try {
      statSync(host);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw new LazypullError('USAGE', '-v: no such file or folder on this machine', { path: host, cause: error });
      throw wrapError(error, 'IO', '-v: cannot look at what is to be mounted', { path: host });
    }
  }
}

/** Absolute path without `.`, `..`, empty components and a slash at the end. */
export function cleanPath(path: string): string {
  const clean = posix.normalize(`/${path}`);
  return clean.length > 1 && clean.endsWith('/') ? clean.slice(0, -1) : clean;
}
