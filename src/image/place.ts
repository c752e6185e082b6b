import { isDigest } from '../core/digest.ts';
import { printable } from '../core/errors.ts';
import type { ImageStore } from '../core/types.ts';

/** An image's place: a store and a tag or digest in it. */
export interface Place {
  readonly store: ImageStore;
  /** Tag or digest; '' is the only image of a layout. */
  readonly reference: string;
}

/** For messages and reports: `docker://host/repo:tag`, `oci:dir@sha256:...`. */
export function spellPlace({ store, reference }: Place): string {
  const separator = reference === '' ? '' : isDigest(reference) ? '@' : ':';
  return printable(`${store.location}${separator}${reference}`);
}
