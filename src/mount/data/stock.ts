import { readFile, stat } from 'node:fs/promises';
import { isMissing, TEMPORARY, type CacheFolder } from './folder.ts';
import { decodePresence, type Presence } from './presence.ts';

/** Something in the cache that can be removed as a whole. */
export interface StockItem {
  readonly part: 'devices' | 'trees' | 'plans';
  /** Key of a device, file name of a tree or plan. */
  readonly name: string;
  /** What it takes on disk, bytes. */
  readonly bytes: number;
  /** When it was last opened, ms. */
  readonly used: number;
}

export interface Stock {
  readonly items: readonly StockItem[];
  /** Bytes on disk of all items. */
  readonly bytes: number;
  /** Files that are no part of an item, by their paths. */
  readonly strays: readonly string[];
}

const PAGES = '.pages';
const KEY = /^[0-9a-f]{64}$/;
/** stat counts in these. */
const BLOCK = 512;

/** Looks at what is in a cache. */
export async function takeStock(folder: CacheFolder): Promise<Stock> {
  const items: StockItem[] = [];
  const strays: string[] = [];
  let total = 0;
  for (const part of ['devices', 'trees', 'plans'] as const) {
    const names = await folder.names(part);
    const known = new Set(names);
    for (const name of names) {
      const path = folder.path(part, name);
      const ofDevice = part === 'devices' && name.endsWith(PAGES);
      if (ofDevice && known.has(name.slice(0, -PAGES.length))) continue;
      if (name.endsWith(TEMPORARY) || ofDevice || (part === 'devices' && !KEY.test(name))) {
        strays.push(path);
        continue;
      }
      const found = [await look(path), part === 'devices' ? await look(`${path}${PAGES}`) : undefined];
      const bytes = found.reduce((sum, one) => sum + (one?.bytes ?? 0), 0);
      if (!found[0]) continue;
      total += bytes;
      items.push({ part, name, bytes, used: Math.max(...found.map((one) => one?.used ?? 0)) });
    }
  }
  return { items, bytes: total, strays };
}

async function look(path: string): Promise<{ readonly bytes: number; readonly used: number } | undefined> {
  try {
    const { blocks, mtimeMs, nlink } = await stat(path);
    // A file under two names is there once.
    return { bytes: Math.floor((blocks * BLOCK) / Math.max(1, nlink)), used: mtimeMs };
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** What is known to be in a device's file; undefined when that is not known. */
export async function readPresence(folder: CacheFolder, key: string): Promise<Presence | undefined> {
  try {
    return decodePresence(await readFile(folder.presence(key)));
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}
