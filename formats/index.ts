import type { FormatEntry } from '../src/core/format-entry.ts';
import type { Format } from '../src/core/format.ts';
import { builtinFormats } from './builtin.ts';

export type { FormatEntry, FormatOption } from '../src/core/format-entry.ts';
export { builtinFormats };
export { estargz, type EstargzOptions } from './estargz/index.ts';
export { mountIndex, type MountIndexOptions } from './mount-index/index.ts';
export { nydus, nydusZran, type NydusOptions, type ZranOptions } from './nydus/index.ts';
export { oci, type OciOptions } from './oci/index.ts';
export { soci, type SociOptions } from './soci/index.ts';

/** The formats of a list, ready for use: `openImage(place, await loadFormats())` reads whatever lazypull can read. */
export function loadFormats(entries: readonly FormatEntry[] = builtinFormats): Promise<readonly Format[]> {
  return Promise.all(entries.filter(({ reads }) => reads !== false).map((entry) => entry.load()));
}
