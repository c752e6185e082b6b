import { encodeName, roundUp } from '../core/bytes.ts';
import { LazypullError } from '../core/errors.ts';
import type { FileNode, Sink } from '../core/types.ts';
import { blockEnd, shapeOf, writeBlock } from './directory.ts';
import { encodeInode } from './inode.ts';
import {
  CHUNK_FORMAT, CHUNK_INDEX, CHUNK_INDEX_SIZE, checksumSpan, COMPAT, encodeDevice, encodeDeviceSlot, encodeSuperblock, EXTENDED_INODE_SIZE, LAYOUT, modeOfType, NULL_BLOCK, sealSuperblock,
  SLOT_SIZE, SUPERBLOCK_OFFSET, type Superblock,
} from './layout.ts';
import { Output } from './output.ts';
import type { ErofsPlan } from './plan.ts';

export interface WriteErofsOptions {
  /** Fields that are to differ from the plan's. */
  readonly superblock?: Partial<Superblock>;
  /** Bytes of the caller's, ascending, between the superblock and the metadata of a plan with a frame. */
  readonly tables?: readonly { readonly offset: number; readonly bytes: Uint8Array }[];
  readonly signal?: AbortSignal;
}

/** Writes a planned image from its first byte to its last: `plan.size` bytes. */
export async function writeErofs(plan: ErofsPlan, sink: Sink, options: WriteErofsOptions = {}): Promise<void> {
  const superblock = { ...plan.superblock, ...options.superblock };
  const sealed = (superblock.featureCompat & COMPAT.checksum) !== 0;
  const seal = (first: Uint8Array): void => {
    if (sealed) sealSuperblock(first.subarray(SUPERBLOCK_OFFSET, SUPERBLOCK_OFFSET + checksumSpan(plan.blockSize)));
  };
  const out = new Output(sink, seal, options.signal);
  await writeHead(plan, out, superblock, options.tables ?? []);
  await out.pad(plan.sharedAt);
  for (const entry of plan.xattrs.shared()) await out.write(entry);
  await writeInodes(plan, out);
  await writeBlocks(plan, out);
  await out.pad(plan.size);
  await out.flush();
}

async function writeHead(plan: ErofsPlan, out: Output, superblock: Superblock, tables: NonNullable<WriteErofsOptions['tables']>): Promise<void> {
  const slots = Buffer.concat(plan.devices.map(encodeDeviceSlot));
  const parts = [{ offset: SUPERBLOCK_OFFSET, bytes: encodeSuperblock(superblock) }, ...(slots.length > 0 ? [{ offset: superblock.deviceTable, bytes: slots }] : []), ...tables];
  parts.sort((a, b) => a.offset - b.offset);
  for (const { offset, bytes } of parts) {
    if (offset < out.position || offset + bytes.length > plan.sharedAt) throw new LazypullError('INTERNAL', `table of ${bytes.length} bytes has no room`, { offset });
    await out.pad(offset);
    await out.write(bytes);
  }
}

async function writeInodes(plan: ErofsPlan, out: Output): Promise<void> {
  const { order, nids, base, xattrs, layouts, inventory } = plan;
  // Ids count from the shared area's base block.
  const sharedBase = (plan.sharedAt % plan.blockSize) / 4;
  for (const inode of order) {
    const place = base + (nids[inode] as number) * SLOT_SIZE;
    const xattrSize = xattrs.sizeOf(inode);
    const header = EXTENDED_INODE_SIZE + xattrSize;
    const layout = layouts[inode] as number;
    const chunked = layout === LAYOUT.chunkBased;
    const wanted = place - out.position + (chunked ? roundUp(header, CHUNK_INDEX_SIZE) : header) + (layout === LAYOUT.flatInline ? plan.blockSize : 0);
    if (out.has(wanted)) {
      out.take(place - out.position);
    } else {
      await out.pad(place);
      await out.flush();
    }
    const node = inventory.nodes[inode] as FileNode;
    const { size, tail } = sizesOf(plan, inode, node);
    const at = out.take(header);
    encodeInode(out.view, at, {
      layout,
      xattrSize,
      mode: modeOfType(plan.types[inode] as number) | node.mode,
      nlink: inventory.links[inode] as number,
      size,
      union: unionOf(plan, inode, node),
      startHigh: 0,
      ino: inode + 1,
      uid: node.uid,
      gid: node.gid,
      mtime: node.mtime,
    });
    if (xattrSize > 0) xattrs.write(inode, out.bytes, at + EXTENDED_INODE_SIZE, sharedBase);
    if (layout === LAYOUT.flatInline) {
      writeTail(plan, out, inode, node, tail);
    } else if (chunked) {
      out.take(roundUp(header, CHUNK_INDEX_SIZE) - header);
      await writeChunks(plan, out, inode);
    }
  }
}

/** Bytes of an inode's content, and of those the ones that are stored beside it. */
function sizesOf(plan: ErofsPlan, inode: number, node: FileNode): { readonly size: number; readonly tail: number } {
  const inline = plan.layouts[inode] === LAYOUT.flatInline;
  if (node.type === 'file') return { size: node.size, tail: inline ? node.size : 0 };
  if (node.type === 'symlink') {
    const size = encodeName(node.target).length;
    return { size, tail: inline ? size : 0 };
  }
  if (node.type !== 'directory') return { size: 0, tail: 0 };
  const blocks = (plan.blockCounts[inode] as number) * plan.blockSize;
  // A directory without inline tail has its last block filled up with zeros, and they count.
  if (!inline) return { size: blocks, tail: 0 };
  const { tail } = shapeOf(plan.inventory, plan.inventory.directoryOf[inode] as number, plan.blockSize);
  return { size: blocks + tail, tail };
}

function unionOf(plan: ErofsPlan, inode: number, node: FileNode): number {
  if (node.type === 'char' || node.type === 'block') return encodeDevice(node.major, node.minor);
  if (plan.layouts[inode] === LAYOUT.chunkBased) return CHUNK_FORMAT.indexes | (plan.chunkBits[inode] as number);
  if (node.type === 'fifo') return 0;
  return plan.blockCounts[inode] === 0 ? NULL_BLOCK : (plan.startBlocks[inode] as number);
}

function writeTail(plan: ErofsPlan, out: Output, inode: number, node: FileNode, size: number): void {
  const at = out.take(size);
  if (node.type === 'directory') {
    const directory = plan.inventory.directoryOf[inode] as number;
    const { tailEntry } = shapeOf(plan.inventory, directory, plan.blockSize);
    writeBlock(plan.inventory, tailEntry, plan.inventory.endEntry(directory), plan.nids, plan.types, { bytes: out.bytes, view: out.view, at });
  } else if (node.type === 'symlink') {
    out.bytes.set(encodeName(node.target), at);
  } else {
    const stored = plan.stored.get(inode);
    if (stored?.kind === 'bytes') out.bytes.set(stored.bytes, at);
  }
}

async function writeChunks(plan: ErofsPlan, out: Output, inode: number): Promise<void> {
  const end = plan.firstChunks[inode + 1] as number;
  for (let word = plan.firstChunks[inode] as number; word < end; word += 2) {
    if (!out.has(CHUNK_INDEX_SIZE)) await out.flush();
    const at = out.take(CHUNK_INDEX_SIZE);
    // One word holds the high block bits below the device.
    out.view.setUint32(at + CHUNK_INDEX.startHigh, plan.chunks.at(word), true);
    out.view.setUint32(at + CHUNK_INDEX.startLow, plan.chunks.at(word + 1), true);
  }
}

/** Content that is not beside its inode: blocks of directories, long link targets, files. */
async function writeBlocks(plan: ErofsPlan, out: Output): Promise<void> {
  const { inventory, blockSize } = plan;
  for (const inode of plan.order) {
    const count = plan.blockCounts[inode] as number;
    if (count === 0) continue;
    const start = (plan.startBlocks[inode] as number) * blockSize;
    await out.pad(start);
    const node = inventory.nodes[inode] as FileNode;
    if (node.type === 'directory') {
      const directory = inventory.directoryOf[inode] as number;
      const end = inventory.endEntry(directory);
      let entry = inventory.firstEntry(directory);
      for (let block = 0; block < count; block += 1) {
        if (!out.has(blockSize)) await out.flush();
        const next = blockEnd(inventory, entry, end, blockSize);
        writeBlock(inventory, entry, next, plan.nids, plan.types, { bytes: out.bytes, view: out.view, at: out.take(blockSize) });
        entry = next;
      }
    } else if (node.type === 'symlink') {
      await out.write(encodeName(node.target));
    } else {
      await writeContent(plan, out, inode, node);
      if (node.type === 'file' && out.position !== start + node.size) {
        throw new LazypullError('SIZE_MISMATCH', `content has ${out.position - start} bytes, not ${node.size}`, { path: inventory.pathOf(inode) });
      }
    }
    await out.pad(start + count * blockSize);
  }
}

async function writeContent(plan: ErofsPlan, out: Output, inode: number, node: FileNode): Promise<void> {
  const stored = plan.stored.get(inode);
  if (stored?.kind === 'bytes') return out.write(stored.bytes);
  if (stored?.kind !== 'stream' || node.type !== 'file') return;
  let left = node.size;
  for await (const bytes of stored.open()) {
    left -= bytes.length;
    if (left < 0) throw new LazypullError('SIZE_MISMATCH', `content is longer than ${node.size} bytes`, { path: plan.inventory.pathOf(inode) });
    await out.write(bytes);
  }
}
