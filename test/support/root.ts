import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's top folder, from wherever the compiled test runs. */
export const root = (() => {
  let at = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(at, 'package.json'))) at = dirname(at);
  return at;
})();

/** The folder that holds the compiled tree this test belongs to (`dist`). */
export const built = (() => {
  let at = dirname(fileURLToPath(import.meta.url));
  while (!at.endsWith('/test')) at = dirname(at);
  return dirname(at);
})();
