import { corrupt } from '../../src/core/errors.ts';
import type { DescribedLayer } from '../../src/core/format.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { zstdDecompress } from '../../src/codec/zstd.ts';
import { decodeHead, headSize, MAX_PLAIN_TREE, partOf } from './layout.ts';
import { NOWHERE } from './tar-file.ts';
import { decodeTree } from './tree-decode.ts';
import type { IndexedLayer } from './write.ts';

/** What following a layer came to when its blob was made. */
export async function recall(layer: Descriptor, blob: Descriptor, bytes: Uint8Array): Promise<DescribedLayer> {
  const what = `mount index ${blob.digest} of layer ${layer.digest}`;
  const head = bytes.subarray(0, headSize(bytes, what));
  const { packedSize, tarSize, treeSize, plainTreeSize, entries, pieces } = decodeHead(head, what);
  if (packedSize !== layer.size) throw corrupt(`${what} is about a layer of ${packedSize} bytes, not ${layer.size}`);
  const tree = bytes.subarray(head.length, head.length + treeSize);
  const rows = await zstdDecompress(tree, Math.min(MAX_PLAIN_TREE, plainTreeSize), `${what}: tree`);
  // An object of its own: files are told apart by what they are in.
  const tar = { ...NOWHERE };
  const details: IndexedLayer = { head: partOf(head), tree: partOf(tree), root: decodeTree(rows, tar, tarSize, `${what}: tree`), tar, tarSize };
  return { blob, entries, chunks: pieces.count, details };
}
