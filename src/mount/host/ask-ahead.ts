import { LazypullError, wrapError } from '../../core/errors.ts';
import type { Descriptor } from '../../core/types.ts';
import { collect } from '../../core/stream.ts';
import { MANIFEST_LIMIT } from '../../oci/documents.ts';
import { openLocation, type OpenedLocation } from '../../oci/location.ts';
import type { ServeOptions } from './messages.ts';

/** Requests at a time: readers wait for each of them, and most are small. */
const CONCURRENCY = 12;

/** Where an image is, and what its name leads to there; or why that cannot be said. */
export interface Asked {
  readonly location: OpenedLocation;
  readonly root: Descriptor | LazypullError;
}

type Place = Pick<ServeOptions, 'image' | 'registry'>;

/** Nothing is asked yet. */
export function locate({ image, registry }: Place, env: Readonly<Record<string, string | undefined>>, onWarning: (text: string) => void): Promise<OpenedLocation> {
  return openLocation(image, { concurrency: CONCURRENCY, readsNamed: true, ...registry, env, onWarning });
}

/**
 * Asks where a name leads, and for the manifest, which the store keeps: while that is on its way this process has the rest to load.
 * `warnings` are whoever's who has a use for them. Rejects when the location cannot be one.
 */
export async function askAhead(place: Place, env: Readonly<Record<string, string | undefined>>, warn: (text: string) => void, signal: AbortSignal): Promise<Asked> {
  const location = await locate(place, env, warn);
  try {
    const root = await location.store.resolve(location.reference, signal);
    // A failure is the next one's, too.
    if (root.size <= MANIFEST_LIMIT) await collect(location.store.fetch(root, signal), MANIFEST_LIMIT).catch(() => undefined);
    return { location, root };
  } catch (error) {
    return { location, root: wrapError(error, 'INTERNAL', 'cannot resolve the image') };
  }
}
