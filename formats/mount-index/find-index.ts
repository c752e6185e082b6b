import { LazypullError, type ErrorCode } from '../../src/core/errors.ts';
import type { StoredImage } from '../../src/core/format.ts';
import { OnceFor } from '../../src/core/once.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { MANIFEST_LIMIT } from '../../src/oci/documents.ts';
import { decodeMountIndex, type MountIndex } from './artifact.ts';
import { ARTIFACT_TYPE } from './layout.ts';

/** An image's mount index, or why it cannot be read. */
export type FoundIndex = { readonly descriptor: Descriptor; readonly index: MountIndex } | { readonly descriptor: Descriptor; readonly error: LazypullError };

/** Of many artifacts that call themselves mount indexes so many are looked at. */
const MAX_TRIES = 8;
/** What documents that can be reached may do wrong. */
const FINDINGS = new Set<ErrorCode>(['NOT_FOUND', 'CORRUPT', 'DIGEST_MISMATCH', 'SIZE_MISMATCH', 'UNSUPPORTED', 'LIMIT']);

/** All layers of an image ask for one index. */
const found = new OnceFor<StoredImage, FoundIndex | undefined>(find);

/**
 * The first mount index that refers to an image and can be read. Undefined when there is none. One that is there and wrong is
 * told, not thrown; not reaching the repository is thrown.
 */
export function findIndex(image: StoredImage, signal?: AbortSignal): Promise<FoundIndex | undefined> {
  return found.get(image, signal);
}

/** Whether an error is about the content that was read, and not about reaching it. */
export function isFinding(error: unknown): error is LazypullError {
  return error instanceof LazypullError && FINDINGS.has(error.code);
}

async function find(image: StoredImage, signal: AbortSignal | undefined): Promise<FoundIndex | undefined> {
  let first: FoundIndex | undefined;
  for (const descriptor of (await image.referrers(ARTIFACT_TYPE, signal)).slice(0, MAX_TRIES)) {
    const one = await read(image, descriptor, signal);
    if ('index' in one) return one;
    first ??= one;
  }
  return first;
}

async function read(image: StoredImage, descriptor: Descriptor, signal: AbortSignal | undefined): Promise<FoundIndex> {
  const what = `mount index ${descriptor.digest}`;
  try {
    const index = decodeMountIndex(await image.fetch(descriptor, MANIFEST_LIMIT, signal), what);
    if (index.subject.digest !== image.descriptor.digest) throw new LazypullError('CORRUPT', `${what} refers to ${index.subject.digest}, not to ${image.descriptor.digest}`);
    return { descriptor, index };
  } catch (error) {
    if (!isFinding(error)) throw error;
    return { descriptor, error };
  }
}
