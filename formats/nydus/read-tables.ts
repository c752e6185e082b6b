import { corrupt, LazypullError, type ErrorCode } from '../../src/core/errors.ts';
import type { ByteSource } from '../../src/core/types.ts';
import { asBuffer } from '../../src/erofs/struct.ts';
import { CHUNK_DIGEST_SIZE, decodeMemberHeader, MEMBER, MEMBER_HEADER_SIZE } from './blob-layout.ts';
import { CHUNK_ROW_SIZE, decodeChunkRow, type BlobEntry } from './bootstrap-layout.ts';
import { CONTEXT_HEADER_SIZE, decodeContextHeader } from './context-layout.ts';
import { ALIGNMENT, BLOB_FEATURE, compressorName, digesterName, MAX_BLOBS } from './layout.ts';
import { MAX_CHUNKS, type ChunkHome } from './read-chunks.ts';
import { checkContextHeader, MAX_CONTEXT_TABLE, readChunks, unpackContextTable, type BlobChunks } from './read-contexts.ts';
import type { RafsHead } from './read-head.ts';
import { checkMember, checkToc, readMembers, type BlobMembers } from './read-members.ts';

/** Where the blobs of a bootstrap are. */
export interface BlobPlaces {
  /** Assembled context tables by blob id, as the bootstrap layer has them. */
  readonly metas: ReadonlyMap<string, Uint8Array>;
  /** The blob with the chunk data. */
  data(entry: BlobEntry): ByteSource;
  /** The blob with the tables: the same one, but for zran. */
  tables(entry: BlobEntry): ByteSource;
}

/** The chunks of a blob, or why they cannot be had: which matters only to who reads files that are in them. */
export type LoadedBlob = { readonly home: ChunkHome; readonly source: ByteSource } & ({ readonly found: BlobChunks } | { readonly error: LazypullError });

const PARALLEL_BLOBS = 4;
/** Context tables of all blobs together, bytes. */
const MAX_TABLES = 1 << 30;
/** What blobs may do wrong; everything else is about reaching them. */
const FINDINGS: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['NOT_FOUND', 'CORRUPT', 'DIGEST_MISMATCH', 'SIZE_MISMATCH', 'UNSUPPORTED', 'LIMIT']);

/** Reads the context tables of all blobs, and puts a digest on every chunk that has one anywhere. */
export async function loadBlobs(head: RafsHead, places: BlobPlaces, problems: string[], signal?: AbortSignal): Promise<LoadedBlob[]> {
  const { blobs } = head;
  const total = blobs.reduce((sum, { chunkCount }) => sum + chunkCount, 0);
  if (total > MAX_CHUNKS) throw new LazypullError('LIMIT', `image with ${total} chunks is above the ${MAX_CHUNKS} allowed`);
  const bytes = blobs.reduce((sum, { contextUncompressedSize }) => sum + contextUncompressedSize, 0);
  if (bytes > MAX_TABLES) throw new LazypullError('LIMIT', `image with context tables of ${bytes} bytes is above the ${MAX_TABLES} allowed`);
  const loaders = blobs.map((entry) => new BlobLoader(entry, places, problems, signal));
  const loaded: LoadedBlob[] = [];
  for (let at = 0; at < Math.min(blobs.length, MAX_BLOBS); at += PARALLEL_BLOBS) loaded.push(...(await Promise.all(loaders.slice(at, at + PARALLEL_BLOBS).map((loader) => loader.load()))));
  const wrong = setDigests(head, loaded);
  if (wrong > 0) problems.push(`${wrong} rows of the chunk table are about no chunk that is there`);
  for (let at = 0; at < loaders.length; at += PARALLEL_BLOBS) await Promise.all(loaders.slice(at, at + PARALLEL_BLOBS).map((loader, i) => loader.addDigests(loaded[at + i] as LoadedBlob)));
  return loaded;
}

/** Digests of the bootstrap's own table; the number of rows that no chunk agrees with. */
function setDigests({ chunkRows, rafs, tarfs }: RafsHead, loaded: readonly LoadedBlob[]): number {
  let wrong = 0;
  // Its rows are about whole tars, and without digests.
  if (tarfs) return 0;
  for (let at = 0; at < chunkRows.length; at += CHUNK_ROW_SIZE) {
    const row = decodeChunkRow(chunkRows.subarray(at, at + CHUNK_ROW_SIZE), rafs.chunkTableOffset + at);
    const blob = loaded[row.blobIndex];
    if (blob && !('found' in blob)) continue;
    const chunk = blob?.found.chunks[row.index];
    if (chunk && chunk.address === row.uncompressedOffset && chunk.size === row.uncompressedSize) chunk.setDigest(chunkRows, at);
    else wrong += 1;
  }
  return wrong;
}

class BlobLoader {
  readonly #entry: BlobEntry;
  readonly #places: BlobPlaces;
  readonly #problems: string[];
  readonly #signal: AbortSignal | undefined;
  readonly #what: string;
  #members: Promise<BlobMembers> | undefined;

  constructor(entry: BlobEntry, places: BlobPlaces, problems: string[], signal: AbortSignal | undefined) {
    this.#entry = entry;
    this.#places = places;
    this.#problems = problems;
    this.#signal = signal;
    this.#what = `blob ${entry.index} (${entry.id.slice(0, 12)})`;
  }

  async load(): Promise<LoadedBlob> {
    const { index, compressor, digester } = this.#entry;
    const home: ChunkHome = { blob: index, compressor: compressorName(compressor) ?? 'none', digester: digesterName(digester) ?? 'sha256' };
    const source = this.#places.data(this.#entry);
    try {
      return { home, source, found: await this.#chunks(home, source.size) };
    } catch (error) {
      if (error instanceof LazypullError && FINDINGS.has(error.code)) return { home, source, error };
      throw error;
    }
  }

  /** The digest array in the blob itself, for what the bootstrap had no digest for. */
  async addDigests(blob: LoadedBlob): Promise<void> {
    const { features, contextOffset, contextCompressedSize, chunkCount } = this.#entry;
    if (!('found' in blob) || (features & BLOB_FEATURE.inlinedChunkDigest) === 0 || blob.found.chunks.every((chunk) => chunk.digestBytes)) return;
    try {
      const source = this.#places.tables(this.#entry);
      const offset = contextOffset + contextCompressedSize + CONTEXT_HEADER_SIZE + MEMBER_HEADER_SIZE;
      const size = chunkCount * CHUNK_DIGEST_SIZE;
      const bytes = await source.read(offset, size + MEMBER_HEADER_SIZE, this.#signal);
      const digests = Uint8Array.from(bytes.subarray(0, size));
      const header = decodeMemberHeader(bytes.subarray(size), offset + size);
      if (header?.name !== MEMBER.digests || header.size !== size) throw corrupt(`${this.#what} has no digests where its bootstrap says`, { offset });
      const member = (await this.#toc(source)).members.find(({ name }) => name === MEMBER.digests);
      if (member) checkMember(digests, member, this.#what);
      for (const [i, chunk] of blob.found.chunks.entries()) if (!chunk.digestBytes) chunk.setDigest(digests, i * CHUNK_DIGEST_SIZE);
    } catch (error) {
      if (!(error instanceof LazypullError) || !FINDINGS.has(error.code)) throw error;
      this.#problems.push(`${this.#what}: chunks cannot be verified: ${error.message}`);
    }
  }

  /** The blob's TOC, which is found right if the bootstrap knows its digest; no members where there is none. */
  #toc(source: ByteSource): Promise<BlobMembers> {
    const { tocSize, tocDigest } = this.#entry;
    if (tocSize === 0 || tocDigest.every((byte) => byte === 0)) return Promise.resolve({ members: [] });
    return (this.#members ??= readMembers(source, this.#what, this.#signal).then((members) => {
      checkToc(members, tocDigest, this.#what);
      return members;
    }));
  }

  async #chunks(home: ChunkHome, dataSize: number): Promise<BlobChunks> {
    const entry = this.#entry;
    const { contextUncompressedSize: size, contextCompressedSize: stored, chunkCount } = entry;
    const what = `context table of ${this.#what}`;
    if (chunkCount === 0 || (entry.features & BLOB_FEATURE.tarfs) !== 0) return { chunks: [], batches: [], windows: [] };
    if (stored === 0 || size === 0) throw new LazypullError('UNSUPPORTED', `${this.#what} has no context table`);
    if (size > MAX_CONTEXT_TABLE) throw new LazypullError('LIMIT', `${what} has ${size} bytes, ${MAX_CONTEXT_TABLE} are allowed`);
    const bundled = this.#places.metas.get(entry.id) ?? this.#places.metas.get(Buffer.from(entry.metaDigest).toString('hex'));
    // The snapshotter's converter cannot unpack lz4 and then ships a header with no table, which is as good as nothing.
    if (bundled && bundled.length > CONTEXT_HEADER_SIZE) {
      try {
        return this.#bundled(bundled, home, dataSize, what);
      } catch (error) {
        if (!(error instanceof LazypullError) || error.code !== 'CORRUPT') throw error;
        this.#problems.push(`${what} in the bootstrap layer: ${error.message}`);
      }
    }
    const source = this.#places.tables(entry);
    const [bytes, { members }] = await Promise.all([source.read(entry.contextOffset, stored + CONTEXT_HEADER_SIZE, this.#signal), this.#toc(source)]);
    const header = decodeContextHeader(bytes.subarray(stored), entry.contextOffset + stored);
    checkContextHeader(header, entry, what, entry.contextOffset + stored);
    const table = await unpackContextTable(bytes.subarray(0, stored), entry, what);
    const member = members.find(({ name }) => name === MEMBER.meta);
    if (member) checkMember(table, member, this.#what);
    // Kept as long as the image is open: not as a view of something larger.
    return readChunks(Uint8Array.from(table), header, entry, home, dataSize, what);
  }

  /** The table, filled up to a multiple of 4096, then its header (§7). */
  #bundled(file: Uint8Array, home: ChunkHome, dataSize: number, what: string): BlobChunks {
    const size = this.#entry.contextUncompressedSize;
    const at = file.length - CONTEXT_HEADER_SIZE;
    if (at < size || at >= size + ALIGNMENT) throw corrupt(`${file.length} bytes for a table of ${size}`, { offset: file.length });
    const header = decodeContextHeader(asBuffer(file).subarray(at), at);
    checkContextHeader(header, this.#entry, what, at);
    return readChunks(file.subarray(0, size), header, this.#entry, home, dataSize, what);
  }
}

