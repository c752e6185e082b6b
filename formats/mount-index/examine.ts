import { printable } from '../../src/core/errors.ts';
import type { BrokenLayer, Examination, StoredImage } from '../../src/core/format.ts';
import { MemorySource } from '../../src/core/source.ts';
import type { Descriptor, DirectoryNode, RegularNode } from '../../src/core/types.ts';
import { openErofs } from '../../src/erofs/read.ts';
import type { DeviceRun } from '../../src/erofs/place.ts';
import { compareTrees } from '../../src/layer/compare.ts';
import { mergeLayers } from '../../src/layer/overlay.ts';
import { walk } from '../../src/layer/walk.ts';
import type { MountIndex } from './artifact.ts';
import { LayerContent } from './content.ts';
import { findIndex, isFinding } from './find-index.ts';
import { LayerIndexBlob } from './layer-index.ts';
import { runsOf } from './merged-tree.ts';
import { blobOf, readTree } from './read.ts';
import { TarFile, type TarContent } from './tar-file.ts';
import { decodeTree } from './tree-decode.ts';

/** Differences that are told one by one. */
const MAX_TOLD = 20;

/**
 * Whether the merged tree shows what the layers' own trees show together, and has every file where it is. Whether those are
 * right is found out where their layers are read.
 */
export async function examine(image: StoredImage, signal?: AbortSignal, broken: readonly BrokenLayer[] = []): Promise<Examination | undefined> {
  const found = await findIndex(image, signal);
  if (!found) return undefined;
  if ('error' in found) return { problems: [found.error.message], notes: [] };
  const { index, descriptor } = found;
  const what = `mount index ${descriptor.digest}`;
  const missing = image.layers.filter((layer) => !blobOf(index, layer));
  if (missing.length > 0) return { problems: [], notes: [`${what} says nothing about ${missing.length} of ${image.layers.length} layers: this image cannot be mounted by it`] };
  if (!index.tree) return { problems: [], notes: [`${what} is without the merged tree: a mount makes it by itself`] };
  if (broken.length > 0) return { problems: [], notes: [`${what}: the merged tree is not looked at, because a layer's own cannot be read`] };
  try {
    const problems = await compareWithLayers(image, index, index.tree, signal);
    const more = problems.length - MAX_TOLD;
    return { problems: [...problems.slice(0, MAX_TOLD), ...(more > 0 ? [`${what}: ${more} more differences between the merged tree and the layers`] : [])], notes: [] };
  } catch (error) {
    if (!isFinding(error)) throw error;
    return { problems: [error.message], notes: [] };
  }
}

async function compareWithLayers(image: StoredImage, index: MountIndex, tree: Descriptor, signal: AbortSignal | undefined): Promise<string[]> {
  const what = `merged tree ${tree.digest}`;
  const { root } = await openErofs(new MemorySource(await readTree(image, index, tree, signal)), signal ? { signal } : {});
  const numbers = new Map<TarContent, number>();
  const roots = new Map<string, DirectoryNode>();
  for (const [i, blob] of index.layers.entries()) {
    const layer = LayerIndexBlob.of(image, blob);
    const [plain, head] = await Promise.all([layer.tree(signal), layer.head(signal)]);
    const content = new LayerContent(layer, head, image.open(blob.descriptor));
    numbers.set(content, i + 1);
    roots.set(blob.layer, decodeTree(plain, content, head.tarSize, `${layer.what}: tree`));
  }
  const merged = mergeLayers(image.layers.map(({ digest }) => roots.get(digest) as DirectoryNode));
  const problems: string[] = [];
  for (const { path, kind, detail } of compareTrees(merged, root, { labels: ['the layers', what] })) {
    // Only layers know of directories that nobody describes.
    if (kind !== 'implied') problems.push(`/${printable(path)}: ${kind}: ${detail}`);
  }
  if (problems.length === 0) problems.push(...misplaced(merged, root, numbers, what));
  return problems;
}

/** Files that the merged tree has somewhere else than they are. Both trees have the same names. */
function misplaced(merged: DirectoryNode, root: DirectoryNode, numbers: ReadonlyMap<TarContent, number>, what: string): string[] {
  const problems: string[] = [];
  const others = walk(root, { sorted: true });
  for (const { path, node } of walk(merged, { sorted: true })) {
    const other = others.next().value?.node as RegularNode;
    if (!(node instanceof TarFile) || node.size === 0) continue;
    const shown = other.extents.map(({ length, chunk }): DeviceRun => ({ length, device: chunk.length === 0 ? undefined : chunk.blob, offset: chunk.offset }));
    if (spell(runsOf(node, numbers.get(node.tar))) !== spell(shown)) problems.push(`${what} has /${printable(path)} somewhere else than it is`);
  }
  return problems;
}

/** Runs that lie together are the same as one. */
function spell(runs: readonly DeviceRun[]): string {
  const joined: { length: number; readonly device: number | undefined; readonly offset: number }[] = [];
  for (const { length, device, offset } of runs) {
    const last = joined.at(-1);
    if (length === 0) continue;
    if (last && last.device === device && (device === undefined || last.offset + last.length === offset)) last.length += length;
    else joined.push({ length, device, offset: device === undefined ? 0 : offset });
  }
  return joined.map(({ length, device, offset }) => `${device} ${offset} ${length}`).join(', ');
}
