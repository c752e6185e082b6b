import { isDigest } from '../core/digest.ts';
import { LazypullError, printable } from '../core/errors.ts';
import type { Descriptor, ImageStore } from '../core/types.ts';

/** An image's place: a store and a tag or digest in it. */
export interface Place {
  readonly store: ImageStore;
  /** Tag or digest; '' is the only image of a layout. */
  readonly reference: string;
}

/** What a tag or digest leads to; undefined when there is none. */
export async function resolveIfThere(store: ImageStore, reference: string, signal?: AbortSignal): Promise<Descriptor | undefined> {
  try {
    return await store.resolve(reference, signal);
  } catch (error) {
    if (error instanceof LazypullError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}

/** For messages and reports: `docker://host/repo:tag`, `oci:dir@sha256:...`. */
export function spellPlace({ store, reference }: Place): string {
  const separator = reference === '' ? '' : isDigest(reference) ? '@' : ':';
  return printable(`${store.location}${separator}${reference}`);
}
