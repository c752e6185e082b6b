import { createHash } from 'node:crypto';
import type { Digest } from '../../core/digest.ts';
import type { Platform } from '../../core/types.ts';
import { encodeDocument } from '../../oci/documents.ts';
import type { MountCache } from './cache.ts';
import { parsePlan, parsePlanName, PLAN_VERSION, treeName, type StoredPlan } from './stored-plan.ts';
import type { MountPlan } from './types.ts';

/** Names for people that are remembered of one plan. */
const MAX_PLACES = 16;

/** File of the plan of an image: its manifest, and for which platform it was chosen. */
export function planName(image: Digest, of: Platform | undefined): string {
  return `${hashOf('plan', image, of)}.json`;
}

/** File that says which plan a name in a store led to the last time. */
function referenceName(location: string, reference: string, of: Platform | undefined): string {
  return `${hashOf('reference', location, reference, of)}.json`;
}

function hashOf(...parts: readonly unknown[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

/** A stored plan with its tree; undefined when it, or what belongs to it, is not there or not whole. */
export async function loadPlan(cache: MountCache, name: string, formats: ReadonlySet<string>): Promise<MountPlan | undefined> {
  const bytes = await cache.getDocument(name);
  const stored = bytes && parsePlan(bytes);
  if (!stored || stored.layers.some(({ format }) => !formats.has(format))) return undefined;
  const tree = await cache.openTree(treeName(stored.tree.sha256), stored.tree.size, stored.tree.sha256);
  if (!tree) return undefined;
  const { layers, devices, blockSize, warnings } = stored;
  return { digest: stored.digest, platform: stored.platform, config: Buffer.from(stored.config, 'base64'), layers, devices, blockSize, warnings, metadata: tree.memory, metadataFile: tree.path };
}

/** Keeps a plan whose tree is kept already. */
export async function storePlan(cache: MountCache, plan: MountPlan, sha256: string): Promise<void> {
  const { layers, devices, blockSize, warnings } = plan;
  const stored: StoredPlan = {
    version: PLAN_VERSION, digest: plan.digest, config: Buffer.from(plan.config).toString('base64'), layers: [...layers], blockSize, warnings: [...warnings], places: [],
    devices: devices.map(({ ahead, ...device }) => ({ ...device, ...(ahead && { ahead: ahead.map(([address, length]): [number, number] => [address, length]) }) })),
    tree: { size: plan.metadata.byteLength, sha256 },
    ...(plan.platform && { platform: plan.platform }),
  };
  await cache.putDocument(planName(plan.digest, plan.platform), encodeDocument(stored));
}

/** Remembers what a name led to, for when the store cannot be asked. */
export async function rememberPlace(cache: MountCache, place: { readonly location: string; readonly reference: string }, wanted: Platform | undefined, plan: string): Promise<void> {
  await cache.putDocument(referenceName(place.location, place.reference, wanted), encodeDocument({ version: PLAN_VERSION, plan }));
  const bytes = await cache.getDocument(plan);
  const stored = bytes && parsePlan(bytes);
  const spelled = `${place.location} ${place.reference}`.trim();
  if (!stored || stored.places.includes(spelled)) return;
  await cache.putDocument(plan, encodeDocument({ ...stored, places: [...stored.places, spelled].slice(-MAX_PLACES) }));
}

/** Name of the plan that a name in a store led to the last time. */
export async function placeName(cache: MountCache, place: { readonly location: string; readonly reference: string }, wanted: Platform | undefined): Promise<string | undefined> {
  const bytes = await cache.getDocument(referenceName(place.location, place.reference, wanted));
  return bytes && parsePlanName(bytes);
}
