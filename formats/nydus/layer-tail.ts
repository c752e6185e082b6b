import { createHash } from 'node:crypto';
import { concat } from '../../src/core/bytes.ts';
import { digestHex, type Digest } from '../../src/core/digest.ts';
import type { Sink } from '../../src/core/types.ts';
import { lz4Compress } from '../../src/codec/lz4.ts';
import { zstdCompress } from '../../src/codec/zstd.ts';
import { viewOf } from '../../src/erofs/struct.ts';
import { encodeMemberHeader, encodeTocEntry, MEMBER, TOC_FLAG, type TocEntry } from './blob-layout.ts';
import type { BlobEntry } from './bootstrap-layout.ts';
import { CHUNK_INFO_V1_SIZE, CHUNK_INFO_V2_SIZE, CONTEXT_HEADER_SIZE, encodeChunkInfoV1, encodeChunkInfoV2, encodeContextHeader, type ChunkInfo } from './context-layout.ts';
import type { ChunkTable } from './layer-chunks.ts';
import { ALIGNMENT, BLOB_FEATURE, COMPRESSOR, DIGESTER, PLACEHOLDER_ID, type Compressor } from './layout.ts';
import type { NydusSettings } from './options.ts';

/** What is to be written behind a blob's data. */
export interface TailInput {
  readonly settings: Pick<NydusSettings, 'chunkSize' | 'compressor' | 'digester'>;
  readonly chunks: ChunkTable;
  /** Contexts of batches or of zran, and dictionaries; empty for chunk infos of version 1. */
  readonly contexts: readonly Uint8Array[];
  /** How many of them are contexts. */
  readonly contextCount: number;
  /** BLOB_FEATURE beyond those that every blob of ours has. */
  readonly features: number;
  /** How the context table is compressed. */
  readonly tableCompressor: Exclude<Compressor, 'gzip'>;
  /** Of the chunks, where it is not the setting: gzip for zran. */
  readonly chunkCompressor?: Compressor;
  /** The data in front, absent when it is in another blob. */
  readonly data?: { readonly size: number; soFar(): Digest };
  /** Of the blob with the data, if that is another one; a placeholder otherwise. */
  readonly id?: string;
  /** Bytes of chunk data, wherever it is. */
  readonly dataSize: number;
  /** Writes the layer's own bootstrap, in which the blob is this one. */
  bootstrap(entry: Omit<BlobEntry, 'index'>, sink: Sink): Promise<void>;
}

/** Of a blob that is complete, but for its id. */
export type UnnamedEntry = Omit<BlobEntry, 'index'>;

const EVERY = BLOB_FEATURE.aligned | BLOB_FEATURE.inlinedChunkDigest | BLOB_FEATURE.hasTarHeader | BLOB_FEATURE.hasToc | BLOB_FEATURE.capTarToc;
/** Bytes of one zstd frame. */
const FRAME = 4 << 20;
const LEVEL = 3;

/** Writes everything behind a blob's data: context table, digests, bootstrap, TOC (§5-§8). The entry's id is a placeholder. */
export async function writeTail(sink: Sink, input: TailInput): Promise<{ readonly entry: UnnamedEntry; readonly header: Uint8Array }> {
  const { settings, chunks, data } = input;
  const toc: TocEntry[] = [];
  let position = data?.size ?? 0;
  const put: Sink = async (bytes) => {
    await sink(bytes);
    position += bytes.length;
  };
  if (data) {
    const header = encodeMemberHeader({ name: MEMBER.data, size: data.size });
    await put(header);
    const digest = Buffer.from(digestHex(data.soFar()), 'hex');
    toc.push({ name: MEMBER.data, flags: TOC_FLAG.none, digest, offset: 0, compressedSize: data.size, uncompressedSize: chunks.uncompressedSize });
  }

  const v2 = input.contexts.length > 0;
  const features = EVERY | input.features | (v2 ? BLOB_FEATURE.chunkInfoV2 : 0);
  const table = [encodeInfos(chunks, v2), ...input.contexts];
  const tableSize = sizeOf(table);
  const packed = await packTable(table, tableSize, input.tableCompressor);
  const packedSize = sizeOf(packed.parts);
  const offset = position;
  const header = encodeContextHeader({
    features: (features | BLOB_FEATURE.inlinedFsMeta) >>> 0,
    compressor: COMPRESSOR[packed.compressor],
    entries: chunks.count,
    offset,
    compressedSize: packedSize,
    uncompressedSize: tableSize,
    contextsOffset: v2 ? chunks.count * CHUNK_INFO_V2_SIZE : 0,
    contextsSize: v2 ? tableSize - chunks.count * CHUNK_INFO_V2_SIZE : 0,
    contexts: input.contextCount,
  });
  for (const part of packed.parts) await put(part);
  toc.push({ name: MEMBER.meta, flags: TOC_FLAG[packed.compressor], digest: sha256(...table), offset, compressedSize: packedSize, uncompressedSize: tableSize });
  toc.push({ name: MEMBER.metaHeader, flags: TOC_FLAG.none, digest: sha256(header), offset: position, compressedSize: header.length, uncompressedSize: header.length });
  await put(header);
  await put(encodeMemberHeader({ name: MEMBER.meta, size: packedSize + CONTEXT_HEADER_SIZE }));

  toc.push({ name: MEMBER.digests, flags: TOC_FLAG.none, digest: sha256(chunks.digests), offset: position, compressedSize: chunks.digests.length, uncompressedSize: chunks.digests.length });
  await put(chunks.digests);
  await put(encodeMemberHeader({ name: MEMBER.digests, size: chunks.digests.length }));

  const entry: UnnamedEntry = {
    id: input.id ?? PLACEHOLDER_ID,
    chunkSize: settings.chunkSize,
    chunkCount: chunks.count,
    compressor: COMPRESSOR[input.chunkCompressor ?? settings.compressor],
    digester: DIGESTER[settings.digester],
    features: (features | BLOB_FEATURE.inlinedFsMeta) >>> 0,
    compressedSize: input.dataSize,
    uncompressedSize: chunks.uncompressedSize,
    tocSize: 0,
    contextCompressor: COMPRESSOR[packed.compressor],
    contextOffset: offset,
    contextCompressedSize: packedSize,
    contextUncompressedSize: tableSize,
    tocDigest: NO_DIGEST,
    metaDigest: NO_DIGEST,
    metaSize: 0,
    cipher: 0,
  };
  toc.push(await putBootstrap(put, position, (out) => input.bootstrap(entry, out)));

  const entries = Buffer.concat(toc.map(encodeTocEntry));
  const tocHeader = encodeMemberHeader({ name: MEMBER.toc, size: entries.length });
  await put(entries);
  await put(tocHeader);
  // In a bootstrap of its own the blob's is not inlined; the header in the blob goes on saying so.
  return { entry: { ...entry, features: (features & ~BLOB_FEATURE.inlinedFsMeta) >>> 0, tocSize: entries.length + tocHeader.length, tocDigest: sha256(entries, tocHeader) }, header };
}

const NO_DIGEST = new Uint8Array(32);

/** The chunk infos of a blob, in order. */
export function encodeInfos(chunks: ChunkTable, v2: boolean): Uint8Array {
  const size = v2 ? CHUNK_INFO_V2_SIZE : CHUNK_INFO_V1_SIZE;
  const bytes = new Uint8Array(chunks.count * size);
  const view = viewOf(bytes);
  const encode = v2 ? encodeChunkInfoV2 : encodeChunkInfoV1;
  for (let row = 0; row < chunks.count; row += 1) encode(view, row * size, infoOf(chunks, row));
  return bytes;
}

function infoOf(chunks: ChunkTable, row: number): ChunkInfo {
  const { offset, size, flags, context, inner } = chunks.stored(row);
  return { flags, uncompressedOffset: chunks.block(row) * ALIGNMENT, uncompressedSize: chunks.size(row), compressedOffset: offset, compressedSize: size, low: inner, high: context };
}

type Parts = readonly Uint8Array[];

/** A table that does not shrink stays as it is. */
async function packTable(table: Parts, size: number, compressor: TailInput['tableCompressor']): Promise<{ readonly parts: Parts; readonly compressor: TailInput['tableCompressor'] }> {
  const packed: Uint8Array[] = [];
  if (compressor === 'zstd') {
    const frames = new Frames(async (bytes) => void packed.push(bytes));
    for (const part of table) await frames.write(part);
    await frames.end();
  } else if (compressor === 'lz4') {
    packed.push(new Uint8Array(lz4Compress(concat(table))));
  }
  return compressor !== 'none' && sizeOf(packed) < size ? { parts: packed, compressor } : { parts: table, compressor: 'none' };
}

function sizeOf(parts: Parts): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}

/** Compresses a stream into zstd frames of 4 MiB, so that it is never in memory as a whole. Decoders take several for one. */
class Frames {
  readonly #sink: Sink;
  #frame = new Uint8Array(1 << 16);
  #used = 0;
  /** Stored bytes. */
  size = 0;

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + FRAME - this.#used);
      if (this.#used + part.length > this.#frame.length) this.#grow(this.#used + part.length);
      this.#frame.set(part, this.#used);
      this.#used += part.length;
      at += part.length;
      if (this.#used === FRAME) await this.end();
    }
  }

  async end(): Promise<void> {
    if (this.#used === 0) return;
    const packed = await zstdCompress(this.#frame.subarray(0, this.#used), LEVEL);
    this.#used = 0;
    this.size += packed.length;
    await this.#sink(packed);
  }

  #grow(size: number): void {
    const larger = new Uint8Array(Math.min(FRAME, Math.max(size, 2 * this.#frame.length)));
    larger.set(this.#frame.subarray(0, this.#used));
    this.#frame = larger;
  }
}

async function putBootstrap(put: Sink, offset: number, write: (sink: Sink) => Promise<void>): Promise<TocEntry> {
  const hash = createHash('sha256');
  const frames = new Frames(put);
  let plain = 0;
  await write(async (bytes) => {
    hash.update(bytes);
    plain += bytes.length;
    await frames.write(bytes);
  });
  await frames.end();
  await put(encodeMemberHeader({ name: MEMBER.bootstrap, size: frames.size }));
  return { name: MEMBER.bootstrap, flags: TOC_FLAG.zstd, digest: hash.digest(), offset, compressedSize: frames.size, uncompressedSize: plain };
}

function sha256(...parts: Parts): Uint8Array {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}
