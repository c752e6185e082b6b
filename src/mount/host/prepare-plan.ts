import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { LazypullError, throwIfAborted } from '../../core/errors.ts';
import type { ConvertProgress } from '../../image/convert-report.ts';
import type { MountCache } from '../data/cache.ts';
import { loadPlan, planName, rememberPlace } from '../data/plan-file.ts';
import { knownPlan, planMount } from '../data/plan.ts';
import type { MountPlan } from '../data/types.ts';
import type { ProcessContext } from './context.ts';
import type { ImageSource } from './image-source.ts';
import type { Planned, ServeOptions } from './messages.ts';

export interface PrepareOptions {
  readonly signal: AbortSignal;
  /** What a user should know. */
  readonly warn: (text: string) => void;
  /** Of indexing an image that nobody has indexed. */
  readonly progress: (event: ConvertProgress) => void;
}

/**
 * The plan of a mount. Of one that stands, exactly the one it was made with: from the cache, or made again from the image.
 * Of a new one, that of the image as it is now; when its registry cannot be reached, as it was the last time, with a warning.
 */
export async function preparePlan(
  { image: name, planned, platform, imagePrefetch }: Pick<ServeOptions, 'image' | 'planned' | 'platform' | 'imagePrefetch'>,
  cache: MountCache,
  image: ImageSource,
  { formatNames, loadFormats }: Pick<ProcessContext, 'formatNames' | 'loadFormats'>,
  { signal, warn }: PrepareOptions,
): Promise<MountPlan> {
  const options = async (): Promise<Parameters<typeof planMount>[2]> => ({ formats: await loadFormats(), signal, ahead: imagePrefetch, ...(platform ? { platform } : {}) });
  if (planned) {
    const stored = await loadPlan(cache, planName(planned.digest, planned.platform), new Set(formatNames));
    const plan = stored && plannedAs(stored).tree === planned.tree ? stored : await planMount(await image.open(), cache, await options());
    if (plannedAs(plan).tree !== planned.tree) throw new LazypullError('DIFFERENT', `the tree of ${planned.digest} is no longer what was mounted`);
    return plan;
  }
  let plan: MountPlan;
  try {
    const opened = await image.open();
    throwIfAborted(signal);
    plan = await planMount(opened, cache, await options());
    // An image that had to be indexed first is known by its digest only.
    const { store, reference } = await image.place();
    await rememberPlace(cache, { location: store.location, reference }, platform, planName(plan.digest, plan.platform));
  } catch (error) {
    if (!(error instanceof LazypullError) || error.code !== 'NETWORK') throw error;
    const { store, reference } = await image.place();
    const known = await knownPlan(cache, { location: store.location, reference }, await options());
    if (!known) throw error;
    image.pin(known.digest);
    warn(`${name} cannot be reached, and is mounted as it was the last time (${known.digest}); only what is on this machine can be read: ${error.message}`);
    return known;
  }
  for (const warning of plan.warnings) warn(warning);
  return plan;
}

/** How a plan is found again. */
export function plannedAs({ digest, platform, metadata, metadataFile }: MountPlan): Planned {
  const named = /^([0-9a-f]{64})\.erofs$/.exec(metadataFile === undefined ? '' : basename(metadataFile))?.[1];
  return { digest, ...(platform ? { platform } : {}), tree: named ?? createHash('sha256').update(new Uint8Array(metadata)).digest('hex') };
}
