import { readFile, stat } from 'node:fs/promises';
import { freeItems, removeItem } from './evict.ts';
import { isMissing, removeFile, TEMPORARY, type CacheFolder } from './folder.ts';
import { indexFiles } from './index-files.ts';
import { PAGE_SIZE } from './pages.ts';
import { parseTar } from './proven-tars.ts';
import { readPresence, takeStock, type StockItem } from './stock.ts';
import { parsePlan, parsePlanName, treeName, type StoredPlan } from './stored-plan.ts';
import { liveUsers } from './users.ts';

/** Something that the cache keeps. */
export interface CacheEntry {
  /** Content of a layer's blob, the tree of an image, or something of an index that was made here. */
  readonly kind: 'content' | 'tree' | 'index';
  /** Key of the content; name of the file otherwise. */
  readonly name: string;
  /** Digest of the layer, where one is known that has this content. */
  readonly layer: string | undefined;
  /** Images that need it, as they were named when they were mounted, those with a tag first. */
  readonly images: readonly string[];
  /** Digests of those images' manifests. */
  readonly manifests: readonly string[];
  /** Bytes of all of it, and how many of them are here. */
  readonly size: number;
  readonly localBytes: number;
  readonly diskBytes: number;
  /** When it was last opened. */
  readonly used: Date;
  /** Processes that have it open. */
  readonly users: number;
  /** Not changed any more, because mounts may go on without a process. */
  readonly sealed: boolean;
}

export interface CacheReport {
  readonly removed: number;
  readonly freedBytes: number;
  /** Entries that were wanted away and are in use. */
  readonly kept: number;
}

/** A file that was being written this long ago (ms) has nobody any more who would finish it. */
const STALE = 3_600_000;

/** With the cache locked, like everything here. */
export async function listCache(folder: CacheFolder): Promise<readonly CacheEntry[]> {
  const [{ items }, users, plans] = [await takeStock(folder), await liveUsers(folder), await readPlans(folder)];
  const indexes = await indexFiles(folder, items.filter(({ part }) => part === 'trees').map(({ name }) => name));
  const entries: CacheEntry[] = [];
  for (const item of items) {
    if (item.part === 'plans') continue;
    const device = item.part === 'devices';
    const presence = device ? await readPresence(folder, item.name) : undefined;
    const index = device ? undefined : indexes.get(item.name);
    const needs = (plan: StoredPlan): boolean => (device ? plan.devices.some(({ key }) => key === item.name) : index ? index.images.has(plan.digest) : treeName(plan.tree.sha256) === item.name);
    const of = plans.map(({ plan }) => plan).filter(needs);
    const [first] = of;
    const planned = device ? first?.devices.find(({ key }) => key === item.name) : undefined;
    const size = index ? item.bytes : (presence?.size ?? planned?.size ?? first?.tree.size ?? item.bytes);
    entries.push({
      kind: device ? 'content' : index ? 'index' : 'tree',
      name: item.name,
      layer: index ? index.layer : planned && first?.layers[planned.layer]?.digest,
      images: namesFirst(of.flatMap(({ places }) => places)),
      manifests: [...new Set([...of.map(({ digest }) => digest), ...(index?.images ?? [])])],
      size,
      localBytes: device ? (presence?.runs ?? []).reduce((sum, [from, to]) => sum + (to - from) * PAGE_SIZE, 0) : size,
      diskBytes: item.bytes,
      used: new Date(item.used),
      users: users.filter(({ devices, trees }) => (device ? devices : trees).includes(item.name)).length,
      sealed: presence?.sealed ?? false,
    });
  }
  return entries.sort((a, b) => b.used.getTime() - a.used.getTime());
}

/** What somebody has written before what is only a digest. */
function namesFirst(places: readonly string[]): readonly string[] {
  const bare = (place: string): number => (/ sha\d+:[0-9a-f]+$/.test(place) ? 1 : 0);
  return [...new Set(places)].sort((a, b) => bare(a) - bare(b));
}

/** Removes what is wanted away and not in use. */
export async function removeFromCache(folder: CacheFolder, wanted: (entry: CacheEntry) => boolean): Promise<CacheReport> {
  let [removed, freedBytes, kept] = [0, 0, 0];
  for (const entry of await listCache(folder)) {
    if (!wanted(entry)) continue;
    if (entry.users > 0) {
      kept += 1;
      continue;
    }
    await removeItem(folder, { part: entry.kind === 'content' ? 'devices' : 'trees', name: entry.name });
    removed += 1;
    freedBytes += entry.diskBytes;
  }
  await dropUselessPlans(folder);
  return { removed, freedBytes, kept };
}

/** Removes what is of no use to anybody: rests of interrupted work, content of which nothing is known to be there, plans without their tree. */
export async function collectGarbage(folder: CacheFolder): Promise<CacheReport> {
  let [removed, freedBytes] = [0, 0];
  const { items, strays } = await takeStock(folder);
  for (const path of strays) {
    if (path.endsWith(TEMPORARY) && !(await isOld(path))) continue;
    if (await removeFile(path)) removed += 1;
  }
  for (const item of freeItems(items, await liveUsers(folder), new Map())) {
    if (!(await isUseless(folder, item))) continue;
    await removeItem(folder, item);
    removed += 1;
    freedBytes += item.bytes;
  }
  removed += await dropUselessPlans(folder);
  return { removed, freedBytes, kept: 0 };
}

async function isUseless(folder: CacheFolder, { part, name }: StockItem): Promise<boolean> {
  if (part !== 'devices') return false;
  const presence = await readPresence(folder, name);
  return !presence || (presence.runs.length === 0 && presence.parts.length === 0);
}

async function isOld(path: string): Promise<boolean> {
  try {
    return Date.now() - (await stat(path)).mtimeMs > STALE;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** A plan without its tree is made anew, and a name of something that is gone leads nowhere. */
async function dropUselessPlans(folder: CacheFolder): Promise<number> {
  const trees = new Set(await folder.names('trees'));
  const devices = new Set(await folder.names('devices'));
  const plans = await readPlans(folder);
  const useful = new Set(plans.filter(({ plan }) => trees.has(treeName(plan.tree.sha256))).map(({ name }) => name));
  let removed = 0;
  for (const name of await folder.names('plans')) {
    if (useful.has(name)) continue;
    const bytes = await readFile(folder.path('plans', name)).catch(() => new Uint8Array(0));
    const [target, tar] = [parsePlanName(bytes), parseTar(bytes)];
    if ((target !== undefined && useful.has(target)) || (tar !== undefined && devices.has(tar.key))) continue;
    if (await removeFile(folder.path('plans', name))) removed += 1;
  }
  return removed;
}

async function readPlans(folder: CacheFolder): Promise<readonly { readonly name: string; readonly plan: StoredPlan }[]> {
  const plans: { readonly name: string; readonly plan: StoredPlan }[] = [];
  for (const name of await folder.names('plans')) {
    const plan = parsePlan(await readFile(folder.path('plans', name)).catch(() => new Uint8Array(0)));
    if (plan) plans.push({ name, plan });
  }
  return plans;
}
