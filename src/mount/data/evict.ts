import { removeFile, replaceFile, type CacheFolder } from './folder.ts';
import { loadNative } from '../native.ts';
import type { CachedDevice } from './cached-device.ts';
import { PAGE_SIZE } from './pages.ts';
import { askToHold, type DeviceRange } from './peers.ts';
import { encodePresence, type Presence } from './presence.ts';
import { punchByCommand } from './punch.ts';
import { readPresence, takeStock, type StockItem } from './stock.ts';
import { liveUsers, socketOf, type CacheUser } from './users.ts';

/** Pages of a device that go together. */
export interface Region {
  readonly device: CachedDevice;
  readonly from: number;
  readonly to: number;
  /** On disk. */
  readonly bytes: number;
  /** ms. */
  readonly used: number;
}

/** What goes, so that `excess` bytes are freed: whatever was used least recently, and whole things before parts of what is mounted. */
export function chooseVictims(excess: number, items: readonly StockItem[], regions: readonly Region[]): { readonly items: readonly StockItem[]; readonly regions: readonly Region[] } {
  let left = excess;
  const oldest = <T extends { readonly used: number; readonly bytes: number }>(all: readonly T[]): readonly T[] =>
    [...all].sort((a, b) => a.used - b.used).filter(({ bytes }) => {
      if (left <= 0 || bytes === 0) return false;
      left -= bytes;
      return true;
    });
  return { items: oldest(items), regions: oldest(regions) };
}

export interface EvictOptions {
  readonly folder: CacheFolder;
  /** Path of this process' own user file. */
  readonly self: string;
  /** Devices that this process has open. */
  readonly open: ReadonlyMap<string, CachedDevice>;
  /** Bytes on disk to come down to, of those that there are. */
  target(bytes: number): number;
  /** Whether parts of mounted devices may go as well. */
  readonly parts: boolean;
}

/** Removes what was used least recently. To be called with the cache locked. Returns the bytes on disk then. */
export async function evict(options: EvictOptions): Promise<number> {
  const { folder, self, open, parts } = options;
  const stock = await takeStock(folder);
  const excess = stock.bytes - options.target(stock.bytes);
  if (excess <= 0) return stock.bytes;
  const users = await liveUsers(folder);
  const free = freeItems(stock.items, users, open);
  const regions: Region[] = [];
  if (parts) for (const device of open.values()) if (!device.sealed) for (const region of device.regions()) regions.push({ device, ...region });
  const victims = chooseVictims(excess, free, regions);
  for (const item of victims.items) await removeItem(folder, item);
  await punch(folder, users.filter(({ path }) => path !== self), victims.regions);
  return (await takeStock(folder)).bytes;
}

/** What nobody uses. Plans are small, and what a mount is made again by when there is no network. */
export function freeItems(items: readonly StockItem[], users: readonly CacheUser[], open: ReadonlyMap<string, unknown>): readonly StockItem[] {
  const devices = new Set([...users.flatMap((user) => user.devices), ...open.keys()]);
  const trees = new Set(users.flatMap((user) => user.trees));
  return items.filter(({ part, name }) => (part === 'devices' && !devices.has(name)) || (part === 'trees' && !trees.has(name)));
}

/** Removes a device or tree. What is mounted from the file goes on: it is gone with the mount. */
export async function removeItem(folder: CacheFolder, { part, name }: Pick<StockItem, 'part' | 'name'>): Promise<void> {
  // Never a list of pages without their file: it would be taken for one of the next file.
  if (part === 'devices') await removeFile(folder.presence(name));
  await removeFile(folder.path(part, name));
}

async function punch(folder: CacheFolder, others: readonly CacheUser[], regions: readonly Region[]): Promise<void> {
  const devices = new Map<CachedDevice, Region[]>();
  for (const region of regions) {
    const own = devices.get(region.device);
    if (own) own.push(region);
    else devices.set(region.device, [region]);
  }
  for (const [device, own] of devices) await punchDevice(folder, others.filter((user) => user.devices.includes(device.key)), device, joined(own));
}

/**
 * Gives pages of a mounted device back. In this order: others let go of them, the list on disk no longer has them, we let go of
 * them, and only then the bytes vanish; whoever is interrupted leaves nothing that would be taken for content.
 */
async function punchDevice(folder: CacheFolder, users: readonly CacheUser[], device: CachedDevice, runs: readonly (readonly [number, number])[]): Promise<void> {
  const presence = await readPresence(folder, device.key);
  if (presence?.sealed) {
    device.restore(presence);
    return;
  }
  const ranges = runs.map(([from, to]): DeviceRange => ({ key: device.key, from, to }));
  const held: { close(): void }[] = [];
  const release: (() => void)[] = [];
  try {
    for (const user of users) {
      const hold = await askToHold(socketOf(user), ranges);
      // Who does not answer goes on using them.
      if (!hold) return;
      held.push(hold);
    }
    if (presence) {
      await replaceFile(folder.presence(device.key), encodePresence(without(presence, runs)), 'yes');
    }
    for (const [from, to] of runs) release.push(await device.hold(from, to));
    const native = loadNative();
    for (const [from, to] of runs) {
      const [offset, length] = [from * PAGE_SIZE, (to - from) * PAGE_SIZE];
      if (native) native.fallocatePunch(device.fd, offset, length);
      else await punchByCommand(folder.device(device.key), offset, length);
    }
  } finally {
    for (const done of release) done();
    for (const hold of held) hold.close();
  }
}

function without(presence: Presence, gone: readonly (readonly [number, number])[]): Presence {
  let runs = presence.runs;
  for (const [from, to] of gone) {
    runs = runs.flatMap(([start, end]): (readonly [number, number])[] => {
      if (end <= from || start >= to) return [[start, end]];
      return [[start, Math.min(end, from)] as const, [Math.max(start, to), end] as const].filter(([a, b]) => a < b);
    });
  }
  return { ...presence, runs, parts: presence.parts.filter(({ page }) => !gone.some(([from, to]) => page >= from && page < to)) };
}

/** Regions of one device as runs of pages, neighbours together. */
function joined(regions: readonly Region[]): readonly (readonly [number, number])[] {
  const runs: [number, number][] = [];
  for (const { from, to } of [...regions].sort((a, b) => a.from - b.from)) {
    const last = runs.at(-1);
    if (last?.[1] === from) last[1] = to;
    else runs.push([from, to]);
  }
  return runs;
}
