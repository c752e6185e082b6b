import { isDigest, type Digest } from '../../src/core/digest.ts';
import { corrupt, LazypullError } from '../../src/core/errors.ts';
import type { ByteSource, Extent, FileNode, LayerIndex, OpenLayer } from '../../src/core/types.ts';
import { chunkDigester } from '../../src/codec/blake3.ts';
import { openErofs, type ChunkedFile } from '../../src/erofs/read.ts';
import { viewOf } from '../../src/erofs/struct.ts';
import { storedOrder } from '../../src/layer/plan.ts';
import { CHUNK_ADDRESS_SIZE, decodeChunkAddress, type BlobEntry, type ChunkAddress } from './bootstrap-layout.ts';
import { ALIGNMENT, BLOB_FEATURE, featureNames } from './layout.ts';
import { isRight, RafsChunk } from './read-chunks.ts';
import { readRafsHead, type RafsHead } from './read-head.ts';
import { ChunkInflater } from './read-inflate.ts';
import { prefetchOf } from './read-prefetch.ts';
import { loadBlobs, type BlobPlaces, type LoadedBlob } from './read-tables.ts';

/** Pieces of all files together: each is an object. */
const MAX_EXTENTS = 1 << 23;

/** What a bootstrap makes of an image, without the layer that it came in. */
export type OpenRafs = Required<Pick<OpenLayer, 'index' | 'sources' | 'blobDigests' | 'inflate' | 'check' | 'strongDigest' | 'facts' | 'problems'>>;

/** Opens a RAFS v6 bootstrap: its tree, and the chunks of its blobs. */
export async function openRafs(bootstrap: ByteSource, places: BlobPlaces, signal?: AbortSignal): Promise<OpenRafs> {
  const head = await readRafsHead(bootstrap, signal);
  const problems = [...head.problems];
  const blobs = await loadBlobs(head, places, problems, signal);
  const files = new FileMap(head, blobs);
  const image = await openErofs(bootstrap, { chunks: { chunkSize: head.rafs.chunkSize, extents: (file) => files.extents(file) }, ...(signal && { signal }) });
  const chunks = [...blobs.flatMap((blob) => ('found' in blob ? blob.found.chunks : [])), ...files.tarChunks()];
  for (const blob of blobs) if ('error' in blob) problems.push(blob.error.message);
  const prefetch = prefetchOf(head.prefetchNids, image.nodes, problems);
  checkContents(image.nodes);
  return {
    ...(await finish(blobs, head.blobs, { root: image.root, chunks: inOrder(chunks), ...(prefetch.length > 0 && { prefetch }) })),
    problems: [...problems, ...image.problems],
    facts: { ...factsOf(head, blobs, files), prefetchEntries: head.prefetchNids.length },
  };
}

/** How to read an image whose tree and chunks are known. */
export async function finish(blobs: readonly LoadedBlob[], entries: readonly Pick<BlobEntry, 'id'>[], index: LayerIndex): Promise<Pick<OpenRafs, 'index' | 'sources' | 'blobDigests' | 'inflate' | 'check' | 'strongDigest'>> {
  const inflater = new ChunkInflater(blobs);
  const blake3 = blobs.some(({ home }) => home.digester === 'blake3') ? await chunkDigester('blake3') : undefined;
  return {
    index,
    sources: blobs.map(({ source }) => source),
    blobDigests: entries.map(({ id }) => blobDigest(id)),
    inflate: (chunk, packed) => inflater.inflate(chunk, packed),
    check: (chunk, bytes) => (chunk instanceof RafsChunk ? isRight(chunk, bytes, blake3) : undefined),
    strongDigest: (chunk) => (chunk instanceof RafsChunk && chunk.home.digester === 'blake3' && chunk.digestBytes ? `blake3:${Buffer.from(chunk.digestBytes).toString('hex')}` : undefined),
  };
}

/** Ids are the digests of what is in the repository. */
function blobDigest(id: string): Digest | undefined {
  const digest = `sha256:${id}`;
  return isDigest(digest) ? digest : undefined;
}

/** By blob, offset and place in the stored unit. */
export function inOrder(chunks: RafsChunk[]): readonly RafsChunk[] {
  return chunks.every((chunk, i) => i === 0 || storedOrder(chunks[i - 1] as RafsChunk, chunk) <= 0) ? chunks : chunks.sort(storedOrder);
}

/** Finds the chunks that make up files. */
class FileMap {
  readonly #head: RafsHead;
  readonly #blobs: readonly LoadedBlob[];
  /** tarfs has no context tables: chunks by blob and place in the tar. */
  readonly #tar = new Map<string, RafsChunk>();
  #extents = 0;
  /** Extents that are not the first to use their chunk. */
  shared = 0;
  readonly #used = new Set<RafsChunk>();

  constructor(head: RafsHead, blobs: readonly LoadedBlob[]) {
    this.#head = head;
    this.#blobs = blobs;
  }

  get used(): number {
    return this.#used.size;
  }

  tarChunks(): Iterable<RafsChunk> {
    return this.#tar.values();
  }

  extents({ path, size, indexes }: ChunkedFile): readonly Extent[] {
    const { chunkSize } = this.#head.rafs;
    const view = viewOf(indexes);
    const count = indexes.length / CHUNK_ADDRESS_SIZE;
    this.#extents += count;
    if (this.#extents > MAX_EXTENTS) throw new LazypullError('LIMIT', `files in more than ${MAX_EXTENTS} pieces`, { path });
    return Array.from({ length: count }, (_, i) => {
      const fileOffset = i * chunkSize;
      const length = Math.min(chunkSize, size - fileOffset);
      const address = decodeChunkAddress(view, i * CHUNK_ADDRESS_SIZE, this.#blobs.length, 0);
      const chunk = this.#head.tarfs ? this.#inTar(address, length, path) : this.#chunk(address, length, path);
      if (chunk.size < length) throw corrupt(`byte ${fileOffset} is in a chunk of ${chunk.size} bytes, ${length} are needed`, { path });
      if (this.#used.has(chunk)) this.shared += 1;
      if (chunk.packing !== 'lost') this.#used.add(chunk);
      return { fileOffset, length, chunk, chunkOffset: 0 };
    });
  }

  #chunk({ blob, index, block }: ChunkAddress, length: number, path: string): RafsChunk {
    const loaded = this.#blobs[blob] as LoadedBlob;
    if ('error' in loaded) return new RafsChunk(loaded.home, { offset: 0, length: 0, size: length, packing: 'lost', address: block * ALIGNMENT });
    const chunk = loaded.found.chunks[index];
    if (!chunk) throw corrupt(`file is in chunk ${index} of blob ${blob}, which has ${loaded.found.chunks.length}`, { path });
    if (chunk.address !== block * ALIGNMENT) throw corrupt(`chunk ${index} of blob ${blob} is at ${chunk.address}, the file says ${block * ALIGNMENT}`, { path });
    return chunk;
  }

  #inTar({ blob, block }: ChunkAddress, length: number, path: string): RafsChunk {
    const { home, source } = this.#blobs[blob] as LoadedBlob;
    const offset = block * this.#head.superblock.blockSize;
    if (offset + length > source.size) throw corrupt(`file is at ${offset} of a tar of ${source.size} bytes`, { path });
    const key = `${blob} ${offset} ${length}`;
    const known = this.#tar.get(key);
    if (known) return known;
    const chunk = new RafsChunk(home, { offset, length, size: length, packing: 'plain', address: offset });
    this.#tar.set(key, chunk);
    return chunk;
  }
}

/** Files that are in no chunks are nothing that RAFS has. */
function checkContents(nodes: ReadonlyMap<number, FileNode>): void {
  for (const [nid, node] of nodes) {
    if (node.type === 'file' && node.extents.some(({ chunk }) => !(chunk instanceof RafsChunk))) throw new LazypullError('UNSUPPORTED', `inode of nid ${nid} is a file that is in no chunks`);
  }
}

function factsOf(head: RafsHead, blobs: readonly LoadedBlob[], files: FileMap): Record<string, string | number> {
  const chunks = blobs.reduce((sum, blob) => sum + ('found' in blob ? blob.found.chunks.length : 0), 0);
  const features = featureNames(head.blobs.reduce((all, { features: some }) => all | some, 0)).join(' ');
  return {
    fsVersion: 6,
    chunkSize: head.rafs.chunkSize,
    compressor: head.compressor,
    digester: head.digester,
    blobs: blobs.length,
    ...(features !== '' && { features }),
    uncompressedSize: head.blobs.reduce((sum, { uncompressedSize }) => sum + uncompressedSize, 0),
    chunksUsed: files.used,
    chunksUnused: Math.max(0, chunks - files.used),
    chunksShared: files.shared,
    mode: head.tarfs ? 'tarfs' : (head.blobs.some(({ features: some }) => (some & BLOB_FEATURE.zran) !== 0) ? 'zran' : 'native'),
  };
}
