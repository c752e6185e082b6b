import type { Inventory } from './inventory.ts';
import { DIRENT_SIZE, encodeDirent } from './layout.ts';
import { putName } from './names.ts';

/** How a directory's entries fall into blocks (§10). */
export interface DirectoryShape {
  /** Blocks that are full: nothing fits behind them. */
  readonly fullBlocks: number;
  /** Bytes in use of the last block, at least 1. */
  readonly tail: number;
  /** First entry of the last block. */
  readonly tailEntry: number;
}

export function shapeOf(inventory: Inventory, directory: number, blockSize: number): DirectoryShape {
  const end = inventory.endEntry(directory);
  let fullBlocks = 0;
  let tailEntry = inventory.firstEntry(directory);
  let used = 0;
  for (let entry = tailEntry; entry < end; entry += 1) {
    const size = DIRENT_SIZE + (inventory.nameSizes[entry] as number);
    if (used + size > blockSize) {
      fullBlocks += 1;
      tailEntry = entry;
      used = 0;
    }
    used += size;
  }
  return { fullBlocks, tail: used, tailEntry };
}

/** The entry behind the last one of the block that begins with `entry`. */
export function blockEnd(inventory: Inventory, entry: number, end: number, blockSize: number): number {
  let used = 0;
  let next = entry;
  for (; next < end; next += 1) {
    used += DIRENT_SIZE + (inventory.nameSizes[next] as number);
    if (used > blockSize) break;
  }
  return next;
}

/** Writes the block that holds entries `[first, end)`; what is behind its names stays as it is. */
export function writeBlock(inventory: Inventory, first: number, end: number, nids: Uint32Array, types: Uint8Array, target: { readonly bytes: Uint8Array; readonly view: DataView; readonly at: number }): void {
  const { bytes, view, at } = target;
  let nameoff = (end - first) * DIRENT_SIZE;
  for (let entry = first; entry < end; entry += 1) {
    const inode = inventory.targets[entry] as number;
    const size = inventory.nameSizes[entry] as number;
    encodeDirent(view, at + (entry - first) * DIRENT_SIZE, nids[inode] as number, nameoff, types[inode] as number);
    putName(bytes, at + nameoff, inventory.names[entry] as string, size);
    nameoff += size;
  }
}
