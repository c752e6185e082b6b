import type { Digest } from '../core/digest.ts';
import { formatLocation, type Location } from '../oci/location.ts';

/**
 * What a command prints last, for the next command to take: the image by digest, which nobody can move.
 * `keepTag` is for images that are found by their tag only (an external TOC has a tag made from the image's).
 */
export function finalReference(location: Location, digest: Digest, keepTag = false): string {
  if (keepTag) return formatLocation(location);
  if (location.transport === 'oci') return formatLocation({ transport: 'oci', folder: location.folder, digest });
  const { domain, path } = location.reference;
  return formatLocation({ transport: 'docker', reference: { domain, path, digest } });
}
