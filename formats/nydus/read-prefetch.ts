import type { FileNode } from '../../src/core/types.ts';
import { storedOrder } from '../../src/layer/plan.ts';
import { RafsChunk } from './read-chunks.ts';

/** Stored bytes of a blob. */
export interface PrefetchRange {
  readonly blob: number;
  readonly offset: number;
  end: number;
}

/** Stored ranges of what the prefetch table names, by inode: a directory stands for everything below it (§4.3). */
export function prefetchOf(nids: readonly number[], nodes: ReadonlyMap<number, FileNode>, problems: string[]): PrefetchRange[] {
  const chunks = new Set<RafsChunk>();
  // Each directory once, however often it is named.
  const seen = new Set<FileNode>();
  let unknown = 0;
  for (const nid of nids) {
    const node = nodes.get(nid);
    if (!node) unknown += 1;
    else addChunks(node, seen, chunks);
  }
  if (unknown > 0) problems.push(`${unknown} entries of the prefetch table name no inode`);
  return rangesOf(chunks);
}

function addChunks(top: FileNode, seen: Set<FileNode>, chunks: Set<RafsChunk>): void {
  const todo: FileNode[] = [top];
  for (let node = todo.pop(); node; node = todo.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    if (node.type === 'directory') for (const child of node.children.values()) todo.push(child);
    else if (node.type === 'file') for (const { chunk } of node.extents) if (chunk instanceof RafsChunk) chunks.add(chunk);
  }
}

function rangesOf(chunks: Iterable<RafsChunk>): PrefetchRange[] {
  const ranges: PrefetchRange[] = [];
  for (const { blob, offset, length } of [...chunks].sort(storedOrder)) {
    const last = ranges.at(-1);
    if (last && last.blob === blob && offset <= last.end) last.end = Math.max(last.end, offset + length);
    else ranges.push({ blob, offset, end: offset + length });
  }
  return ranges;
}
