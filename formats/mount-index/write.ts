import { LazypullError, printable, wrapError } from '../../src/core/errors.ts';
import type { DescribedLayer, FollowContext, LayerFollower, ResumePoint, SkippedLayer } from '../../src/core/format.ts';
import { Pipe } from '../../src/core/pipe.ts';
import type { Attributes, Descriptor, DirectoryNode } from '../../src/core/types.ts';
import { zstdCompress } from '../../src/codec/zstd.ts';
import { impliedDirectory, TreeBuilder } from '../../src/layer/tree.ts';
import { isTarLayer } from '../../src/oci/media-types.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { checkPath, cleanPath } from '../../src/tar/path.ts';
import { TarReader } from '../../src/tar/read.ts';
import { PieceCutter } from './cut.ts';
import { encodeHead, LAYER_MEDIA_TYPE, MAX_PLAIN_TREE, partOf, type MountIndexOptions, type Part } from './layout.ts';
import { PieceTable } from './piece-table.ts';
import { NOWHERE, TarFile, type TarContent } from './tar-file.ts';
import { encodeTree } from './tree-encode.ts';
import { MAX_HOLES } from './tree-layout.ts';
import { WindowPacker } from './windows.ts';

type FinishedLayer = Parameters<LayerFollower['finish']>[0];

/** What `describeImage` wants to know about a layer. */
export interface IndexedLayer {
  /** Of the blob about it. */
  readonly head: Part;
  readonly tree: Part;
  /** Its own tree; all files are in `tar`. */
  readonly root: DirectoryNode;
  readonly tar: TarContent;
  readonly tarSize: number;
}

/** Level of zstd for trees: higher ones take ten times as long to save a tenth. */
export const TREE_LEVEL = 9;

/** Begins to follow a layer; says why not where it is no tar that is there already. */
export function followLayer(layer: { readonly mediaType: string; readonly size?: number }, context: FollowContext, options: Required<MountIndexOptions>): LayerFollower | SkippedLayer {
  if (!isTarLayer(layer.mediaType)) return { skipped: `layers of type ${printable(layer.mediaType)} cannot be indexed` };
  if (layer.size === undefined) return { skipped: 'it is only being made: index the image that it becomes part of' };
  return new IndexFollower(context, options);
}

/** Makes the blob about one layer as its bytes go by, and stores it. Memory: the tree, 80 bytes for each piece, and what `WindowPacker` says. */
class IndexFollower implements LayerFollower {
  readonly #context: FollowContext;
  readonly #cutter: PieceCutter;
  readonly #windows: WindowPacker;
  readonly #pipe = new Pipe();
  readonly #reading: Promise<void>;
  /** An object of its own: files are told apart by what they are in. */
  readonly #tar: TarContent = { ...NOWHERE };
  #root = impliedDirectory();
  #entries = 0;
  #holes = 0;
  #error: LazypullError | undefined;

  constructor(context: FollowContext, { spanSize }: Required<MountIndexOptions>) {
    this.#context = context;
    this.#cutter = new PieceCutter(spanSize);
    this.#windows = new WindowPacker(context.workers);
    this.#reading = this.#read().catch((error: unknown) => void (this.#error = wrapError(error, 'INTERNAL', 'the layer cannot be indexed')));
  }

  point(point: ResumePoint): void {
    if (this.#error) return;
    const start = this.#cutter.choose(point);
    if (start && !point.member && point.out > 0) this.#windows.begin(start, point.window());
  }

  packed(bytes: Uint8Array): void {
    if (!this.#error) this.#windows.packed(bytes);
  }

  async tar(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return;
    if (!this.#error) {
      this.#cutter.tar(bytes);
      await this.#windows.settle();
    }
    await this.#pipe.write(bytes);
  }

  async finish(layer: FinishedLayer): Promise<DescribedLayer> {
    this.#pipe.end();
    await this.#reading;
    try {
      if (this.#error) throw this.#error;
      return await this.#describe(layer);
    } finally {
      await this.#windows.close();
    }
  }

  async abandon(): Promise<void> {
    this.#pipe.fail(new LazypullError('CANCELLED', 'the layer is given up'));
    await this.#reading;
    await this.#windows.close();
  }

  async #read(): Promise<void> {
    const tar = new TarReader(this.#pipe, { what: 'layer' });
    const tree = new TreeBuilder();
    try {
      for (let entry = await tar.next(); entry; entry = await tar.next()) {
        this.#entries += 1;
        checkPath(entry);
        this.#add(tree, entry);
      }
      this.#root = tree.finish();
    } finally {
      await tar.close();
    }
  }

  #add(tree: TreeBuilder, entry: TarEntry): void {
    const path = cleanPath(entry.path);
    const { type, mode, uid, gid, mtime, xattrs, userName, groupName } = entry;
    const attributes: Attributes = { mode, uid, gid, mtime: tree.make.time(mtime), xattrs: tree.make.xattrs(xattrs), userName, groupName };
    if (type === 'file') {
      this.#holes += entry.size - entry.storedSize;
      if (this.#holes > MAX_HOLES) throw new LazypullError('LIMIT', 'its sparse files have holes of more than 1 TiB');
      tree.add(path, new TarFile(attributes, entry.size, this.#tar, entry.offset + entry.header.length, entry.sparse));
    } else if (type === 'hardlink') tree.link(path, cleanPath(entry.linkName));
    else if (type === 'symlink') tree.add(path, tree.make.symlink(attributes, entry.linkName));
    else if (type === 'directory') tree.add(path, { type, ...attributes });
    else if (type === 'fifo') tree.add(path, tree.make.fifo(attributes));
    else tree.add(path, tree.make.device(attributes, type, entry.major, entry.minor));
  }

  async #describe({ descriptor, compression }: FinishedLayer): Promise<DescribedLayer> {
    await this.#windows.finish();
    const tarSize = this.#cutter.size;
    const pieces = PieceTable.of(this.#cutter.finish(compression), compression, descriptor.size);
    const plainTree = encodeTree(this.#root);
    if (plainTree.length > MAX_PLAIN_TREE) throw new LazypullError('LIMIT', `layer ${descriptor.digest} has a tree of ${plainTree.length} bytes, more than readers take`);
    const tree = await zstdCompress(plainTree, TREE_LEVEL);
    const head = encodeHead({ compression, entries: this.#entries, packedSize: descriptor.size, tarSize, treeSize: tree.length, plainTreeSize: plainTree.length }, pieces);
    const blob = await this.#store(head, tree, pieces.windowsSize);
    const details: IndexedLayer = { head: partOf(head), tree: partOf(tree), root: this.#root, tar: this.#tar, tarSize };
    return { blob, entries: this.#entries, chunks: pieces.count, details };
  }

  #store(head: Uint8Array, tree: Uint8Array, windowsSize: number): Promise<Descriptor> {
    return this.#context.ingest(LAYER_MEDIA_TYPE, async (sink) => {
      await sink(head);
      await sink(tree);
      for await (const bytes of this.#windows.read(windowsSize)) await sink(bytes);
    });
  }
}
