import { Digester, type Digest } from '../core/digest.ts';
import type { DirectoryNode, FileNode, OpenLayer, RegularNode } from '../core/types.ts';
import { NodeMaker, withChildren } from '../layer/nodes.ts';
import { LayerReader } from '../layer/reader.ts';
import { joinPath } from '../layer/walk.ts';
import type { ChunkVerifier } from './verify-chunks.ts';

/**
 * The tree of an index that stands for itself, with the digests of all contents: of what came by in the order of the files,
 * and else by reading them. What cannot be read goes to `report` and has no digest, unless its chunks were told already.
 */
export async function treeWithDigests(open: OpenLayer, chunks: ChunkVerifier, report: (error: unknown) => void, signal: AbortSignal): Promise<DirectoryNode> {
  const reader = new LayerReader(open.recheck ? { ...open, inflate: open.recheck } : open);
  // Hard links stay hard links.
  const copies = new Map<FileNode, FileNode>();
  const make = new NodeMaker();
  const root = withChildren(open.index.root, new Map());
  const todo = [{ path: '', from: open.index.root, to: root }];
  for (let job = todo.pop(); job; job = todo.pop()) {
    for (const [name, node] of job.from.children) {
      const path = joinPath(job.path, name);
      if (node.type === 'directory') {
        const copy = withChildren(node, new Map());
        job.to.children.set(name, copy);
        todo.push({ path, from: node, to: copy });
        continue;
      }
      let copy = copies.get(node);
      if (!copy) {
        copy = node.type === 'file' ? await withDigest(node, path) : node;
        copies.set(node, copy);
      }
      job.to.children.set(name, copy);
    }
  }
  return root;

  async function withDigest(node: RegularNode, path: string): Promise<RegularNode> {
    if (chunks.isHit(node)) return node;
    try {
      return make.file(node, node.size, node.extents, chunks.files.contentOf(node) ?? (await digestByRanges(reader, node, path, signal)));
    } catch (error) {
      report(error);
      return node;
    }
  }
}

/** Digest of a file's content, read the way a reader does. */
export async function digestByRanges(reader: LayerReader, node: RegularNode, path: string, signal: AbortSignal): Promise<Digest> {
  const digester = new Digester();
  for await (const bytes of reader.stream(node, { path, signal })) digester.update(bytes);
  return digester.finish();
}
