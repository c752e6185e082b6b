import { resolve } from 'node:path';
import { LazypullError, throwIfAborted } from '../../core/errors.ts';
import type { Platform } from '../../core/types.ts';
import { openImage } from '../../image/open.ts';
import { formatLocation, openLocation, parseLocation } from '../../oci/location.ts';
import { formatPlatform, hostPlatform } from '../../oci/platform.ts';
import { MountCache } from '../data/cache.ts';
import { openContent } from '../data/content.ts';
import { defaultCacheDir } from '../data/folder.ts';
import { LocalIndexes } from '../data/local-index.ts';
import { planMount } from '../data/plan.ts';
import type { PrefetchReport } from '../data/types.ts';
import { fetchAhead } from './fetch-ahead.ts';
import type { LoadFormats } from './context.ts';
import { askControl } from './control.ts';
import { DEFAULT_CACHE_BYTES, type PlainRegistryOptions } from './options.ts';
import { isAlive } from './processes.ts';
import { knownMounts } from './state.ts';

export interface PrefetchImageOptions {
  /** As a user writes it. */
  readonly image: string;
  /** Paths and globs of the merged tree; without any, what the image itself names. */
  readonly paths: readonly string[];
  /** Everything, in place of paths. */
  readonly all?: boolean;
  readonly loadFormats: LoadFormats;
  /** Default: this machine's. */
  readonly platform?: Platform;
  readonly registry?: PlainRegistryOptions;
  readonly cacheDir?: string;
  readonly cacheBytes?: number;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly onWarning?: (text: string) => void;
  readonly signal?: AbortSignal;
}

export interface PrefetchImageReport extends PrefetchReport {
  /** Where the image is mounted, when the process that serves it has done the work. */
  readonly mount?: string;
}

/** A day: whoever has asked for it waits for it. */
const PATIENCE_MS = 86_400_000;

/**
 * Fetches parts of an image into the cache. A mount of the same image with the same cache is asked to do it, so that its readers profit at
 * once; otherwise it is done here. Fails with the first thing that could not be fetched.
 */
export async function prefetchImage(options: PrefetchImageOptions): Promise<PrefetchImageReport> {
  const { paths, all = false, env = process.env, platform } = options;
  const location = parseLocation(options.image);
  const image = formatLocation(location.transport === 'oci' ? { ...location, folder: resolve(location.folder) } : location);
  const cacheDir = resolve(options.cacheDir ?? defaultCacheDir(env));
  const wanted = formatPlatform(platform ?? hostPlatform());
  const standing = knownMounts(env).find(({ state }) => state.image === image && state.cacheDir === cacheDir && state.platform === wanted && state.phase === 'ready' && isAlive(state.daemon));
  if (standing) {
    const report = (await askControl(standing.folder.control, { verb: 'prefetch', paths: [...paths], all }, PATIENCE_MS)) as PrefetchReport;
    return { ...report, mount: standing.state.dir };
  }
  return prefetchHere(options, image, cacheDir);
}

async function prefetchHere({ paths, all = false, loadFormats, platform, registry, cacheBytes, env = process.env, onWarning, signal }: PrefetchImageOptions, image: string, cacheDir: string): Promise<PrefetchReport> {
  throwIfAborted(signal);
  const warn = onWarning ?? ((): void => undefined);
  const problems = (error: LazypullError): void => warn(error.message);
  const location = await openLocation(image, { ...registry, env, onWarning: warn });
  const cache = await MountCache.open(cacheDir, { maxBytes: cacheBytes ?? DEFAULT_CACHE_BYTES, onProblem: problems });
  try {
    const formats = await loadFormats();
    const options = { ...(platform ? { platform } : {}), ...(signal ? { signal } : {}) };
    const indexes = new LocalIndexes(cache);
    const named = await openImage({ ...location, store: indexes.over(location.store) }, formats, options);
    const opened = await indexes.complete(named, { formats, onWarning: warn, ...(signal ? { signal } : {}) });
    const plan = await planMount(opened, cache, { formats, ...options });
    for (const warning of plan.warnings) warn(warning);
    if (!cache.keeps) throw new LazypullError('IO', 'the cache cannot keep anything', { path: cacheDir });
    const content = await openContent(plan, async () => opened, cache, { loadFormats, onProblem: problems });
    try {
      return await fetchAhead(content, paths, all, signal);
    } finally {
      await content.close();
    }
  } finally {
    await cache.close();
    await location.store.close();
  }
}
