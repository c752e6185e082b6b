import { digestLike } from '../../src/core/digest.ts';
import { LazypullError } from '../../src/core/errors.ts';
import type { StoredImage } from '../../src/core/format.ts';
import { Once } from '../../src/core/once.ts';
import type { ByteSource } from '../../src/core/types.ts';
import { zstdDecompress } from '../../src/codec/zstd.ts';
import type { LayerBlob } from './artifact.ts';
import { decodeHead, MAX_PLAIN_TREE, type LayerHead, type Part } from './layout.ts';

/** The head of a blob about a layer, and what of the tree came along with it. */
interface Begun {
  readonly head: LayerHead;
  readonly tree?: Uint8Array;
}

/** Several readers of one layer, with tree and without, share what has been fetched. */
const known = new WeakMap<StoredImage, Map<string, LayerIndexBlob>>();

/** A blob about one layer, read by ranges: its parts are proven by what the artifact says of them. */
export class LayerIndexBlob {
  readonly blob: LayerBlob;
  readonly source: ByteSource;
  /** For messages. */
  readonly what: string;
  readonly #begun: Once<Begun>;
  readonly #tree: Once<Uint8Array>;
  /** The tree is wanted as well. */
  #wantsTree = false;

  private constructor(image: StoredImage, blob: LayerBlob) {
    this.blob = blob;
    this.source = image.open(blob.descriptor);
    this.what = `mount index ${blob.descriptor.digest} of layer ${blob.layer}`;
    this.#begun = new Once((signal) => this.#begin(signal));
    this.#tree = new Once((signal) => this.#readTree(signal));
  }

  static of(image: StoredImage, blob: LayerBlob): LayerIndexBlob {
    const blobs = known.get(image) ?? new Map<string, LayerIndexBlob>();
    known.set(image, blobs);
    const own = blobs.get(blob.descriptor.digest) ?? new LayerIndexBlob(image, blob);
    blobs.set(blob.descriptor.digest, own);
    return own;
  }

  async head(signal?: AbortSignal): Promise<LayerHead> {
    return (await this.#begun.get(signal)).head;
  }

  /** The rows of the layer's tree. Together with the head it is one request. */
  tree(signal?: AbortSignal): Promise<Uint8Array> {
    this.#wantsTree = true;
    return this.#tree.get(signal);
  }

  /** Packed windows: `offset` counts from where they begin. What is in them is not proven. */
  windows(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    return this.source.read(this.blob.head.size + this.blob.tree.size + offset, length, signal);
  }

  async #begin(signal: AbortSignal | undefined): Promise<Begun> {
    const { head: part, tree, layer } = this.blob;
    const wantsTree = this.#wantsTree;
    const bytes = await this.source.read(0, part.size + (wantsTree ? tree.size : 0), signal);
    const head = decodeHead(this.#proven(bytes.subarray(0, part.size), part, 'head'), this.what);
    if (head.treeSize !== tree.size) throw new LazypullError('CORRUPT', `${this.what} has a tree of ${head.treeSize} bytes, the artifact says ${tree.size} (layer ${layer})`);
    if (part.size + tree.size + head.pieces.windowsSize > this.source.size) throw new LazypullError('CORRUPT', `${this.what} has ${this.source.size} bytes, and parts of ${part.size + tree.size + head.pieces.windowsSize}`);
    return { head, ...(wantsTree && { tree: bytes.subarray(part.size) }) };
  }

  async #readTree(signal: AbortSignal | undefined): Promise<Uint8Array> {
    const { head, tree } = this.blob;
    const begun = await this.#begun.get(signal);
    const packed = this.#proven(begun.tree ?? (await this.source.read(head.size, tree.size, signal)), tree, 'tree');
    const limit = Math.min(MAX_PLAIN_TREE, begun.head.plainTreeSize);
    const plain = await zstdDecompress(packed, limit, `${this.what}: tree`);
    if (plain.length !== begun.head.plainTreeSize) throw new LazypullError('CORRUPT', `${this.what} has a tree of ${plain.length} bytes, its head says ${begun.head.plainTreeSize}`);
    return plain;
  }

  #proven(bytes: Uint8Array, { digest }: Part, name: string): Uint8Array {
    const got = digestLike(digest, bytes);
    if (got === digest) return bytes;
    throw new LazypullError('DIGEST_MISMATCH', `${this.what} has a ${name} of digest ${got}, not ${digest}`);
  }
}
