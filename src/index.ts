/**
 * lazypull as a library. A place is a store and a tag or digest in it (`openLocation`); each verb of the command line is
 * one function on places. Formats are handed in: `lazypull/formats` and `lazypull/formats/<name>` have them.
 */

// Places
export { formatLocation, openLocation, parseLocation, type LayoutLocation, type Location, type OpenedLocation, type RegistryLocation } from './oci/location.ts';
export { openLayout, type LayoutOptions } from './oci/layout.ts';
export { openMemory } from './oci/memory.ts';
export { openRegistry, type RegistryOptions } from './oci/registry.ts';
export { formatReference, parseReference, type Reference, type Repository } from './oci/reference.ts';
export { formatPlatform, hostPlatform, parsePlatform } from './oci/platform.ts';
export type { Place } from './image/place.ts';

// Verbs
export { convertImage, type ConvertOptions, type ConvertProgress, type ConvertReport, type LayerIndexReport, type LayerReport, type PlatformReport } from './image/convert.ts';
export { indexImage, type IndexAction, type IndexedImage, type IndexImageOptions, type IndexReport } from './image/index-image.ts';
export { copyImage, type CopyOptions, type CopyReport } from './image/copy.ts';
export { verifyImage, type VerifyOptions } from './image/verify.ts';
export type { VerifiedImage, VerifiedLayer, VerifyProblem, VerifyReport } from './image/verify-report.ts';
export { inspectImage, type InspectedImage, type InspectedLayer, type InspectOptions, type InspectReport, type InspectTotals, type LazyFacts } from './image/inspect.ts';
export { openImage, openStoredImage, type FindOptions, type FoundInImage, type OpenImage, type OpenOptions, type ReadRange } from './image/open.ts';
export { extractImage, type ExtractOptions, type ExtractProgress, type ExtractReport, type ExtractTarget } from './image/extract.ts';
export type { ImageLayer, ReadStats } from './image/image-layer.ts';
export type { ImageProgress } from './image/progress.ts';
export { createRegistryHandler, serveLayout, type RegistryHandler, type RegistryHandlerOptions, type RequestRecord, type ServedLayout, type ServeOptions } from './oci/server.ts';

// Mounting (Linux). The processes that serve a mount run a program of the caller's: `lazypull mount-daemon`, or what does the same with `runMountProcess`
export { startMount } from './mount/host/start.ts';
export { runMountProcess } from './mount/host/process.ts';
export { stopMount, type StopOptions } from './mount/host/stop.ts';
export { listMountsOf, type ListedMount } from './mount/host/list.ts';
export { prefetchImage, type PrefetchImageOptions, type PrefetchImageReport } from './mount/host/prefetch.ts';
export type { Mounted, MountOptions } from './mount/host/options.ts';
export { runImage, type LowerMount, type RunOptions } from './mount/run/run-image.ts';
export { MountCache, type CacheEntry, type CacheReport, type MountCacheOptions } from './mount/data/cache.ts';

// Trees
export { walk, type Walked } from './layer/walk.ts';
export { decodeName, encodeName } from './core/bytes.ts';

// What everything is made of, for who writes a format or a store
export { LazypullError, type ErrorCode, type ErrorPlace } from './core/errors.ts';
export { isDigest, parseDigest, type Digest } from './core/digest.ts';
export { choose } from './core/format.ts';
export type * from './core/format.ts';
export type { FormatEntry, FormatOption } from './core/format-entry.ts';
export type * from './core/types.ts';
export { version } from './core/version.ts';
