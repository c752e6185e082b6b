import assert from 'node:assert/strict';
import { digestOf } from '../../../src/core/digest.ts';
import { choose, type RewritingFormat } from '../../../src/core/format.ts';
import { collect } from '../../../src/core/stream.ts';
import type { Attributes, DirectoryNode, ImageStore } from '../../../src/core/types.ts';
import { convertImage, type ConvertReport } from '../../../src/image/convert.ts';
import { openImage, type OpenImage } from '../../../src/image/open.ts';
import { compareTrees } from '../../../src/layer/compare.ts';
import { mergeLayers } from '../../../src/layer/overlay.ts';
import { TreeBuilder } from '../../../src/layer/tree.ts';
import { walk } from '../../../src/layer/walk.ts';
import { openMemory } from '../../../src/oci/memory.ts';
import type { TarEntry } from '../../../src/tar/entry.ts';
import { checkPath, cleanPath } from '../../../src/tar/path.ts';
import { TarReader } from '../../../src/tar/read.ts';
import { nydus, type NydusOptions } from '../../../formats/nydus/index.ts';
import { putImage, LINUX, type LayerBlob } from '../../image/fixture.ts';
import { tarInput } from '../../support/layers.ts';

/** The plain tars as layers of an image, lowest first. */
export function plainLayers(tars: readonly Uint8Array[]): LayerBlob[] {
  return tars.map((bytes) => ({ bytes, diffId: digestOf(bytes), mediaType: 'application/vnd.oci.image.layer.v1.tar' }));
}

export interface ConvertedTars {
  readonly store: ImageStore;
  readonly report: ConvertReport;
  readonly image: OpenImage;
}

/** Makes an image of plain tars and converts it inside of a store. */
export async function convertTars<O = NydusOptions>(
  tars: readonly Uint8Array[],
  options: O = {} as O,
  { jobs = 2, store = openMemory(), layers = plainLayers(tars), format = nydus as RewritingFormat<never> }: { jobs?: number; store?: ImageStore; layers?: readonly LayerBlob[]; format?: RewritingFormat<never> } = {},
): Promise<ConvertedTars> {
  await putImage(store, { layers }, 'plain');
  const report = await convertImage({ store, reference: 'plain' }, { store, reference: 'lazy' }, choose(format, options as never), { jobs });
  return { store, report, image: await openImage({ store, reference: 'lazy' }, [format], { platform: LINUX }) };
}

/** The tree that the tars show on top of each other, files with digests of their content. */
export async function expectedTree(tars: readonly Uint8Array[]): Promise<DirectoryNode> {
  const roots: DirectoryNode[] = [];
  for (const tar of tars) {
    const reader = new TarReader(tarInput(tar).tar());
    const tree = new TreeBuilder({ linksBelow: true });
    for (let entry = await reader.next(); entry; entry = await reader.next()) {
      checkPath(entry);
      const path = cleanPath(entry.path);
      const attributes = attributesOf(entry);
      if (entry.type === 'hardlink') tree.link(path, cleanPath(entry.linkName));
      else if (entry.type === 'symlink') tree.add(path, { ...attributes, type: 'symlink', target: entry.linkName });
      else if (entry.type === 'char' || entry.type === 'block') tree.add(path, { ...attributes, type: entry.type, major: entry.major, minor: entry.minor });
      else if (entry.type === 'file') tree.add(path, { ...attributes, type: 'file', size: entry.size, extents: [], digest: digestOf(await collect(reader.body(), 1 << 28)) });
      else tree.add(path, { ...attributes, type: entry.type });
    }
    roots.push(tree.finish());
  }
  return mergeLayers(roots);
}

function attributesOf({ mode, uid, gid, mtime, xattrs }: TarEntry): Attributes {
  return { mode, uid, gid, mtime, xattrs };
}

/** Holds what an image shows against what its tars say: every attribute, every byte. */
export async function assertShows(image: OpenImage, tars: readonly Uint8Array[], what: string): Promise<void> {
  const expected = await expectedTree(tars);
  const differences = [...compareTrees(expected, await image.tree())].filter(({ kind }) => kind !== 'implied');
  assert.deepEqual(differences, [], what);
  for (const { path, node } of walk(expected)) {
    if (node.type !== 'file') continue;
    assert.equal(digestOf(await collect(image.streamFile(`/${path}`), 1 << 28)), node.digest, `${what}: ${path}`);
  }
}

/** The names of a manifest's layers, and what they are. */
export function layersOf({ manifest }: OpenImage): readonly (typeof manifest.layers)[number][] {
  return manifest.layers;
}
