import { gzipSync } from 'node:zlib';
import { concat } from '../../../src/core/bytes.ts';
import { MemorySource } from '../../../src/core/source.ts';
import { streamOf } from '../../../src/core/stream.ts';
import type { OpenLayer } from '../../../src/core/types.ts';
import { gunzip } from '../../../src/codec/gzip.ts';
import { ChunkCache } from '../../../src/layer/cache.ts';
import { ChunkLoader } from '../../../src/layer/chunks.ts';
import { impliedDirectory } from '../../../src/layer/tree.ts';
import type { BlobEntry } from '../../../formats/nydus/bootstrap-layout.ts';
import { CHUNK_FLAG, CHUNK_INFO_V1_SIZE, CHUNK_INFO_V2_SIZE, encodeChunkInfoV1, encodeChunkInfoV2, encodeZranContext, type ChunkInfo, type ContextHeader } from '../../../formats/nydus/context-layout.ts';
import { BLOB_FEATURE } from '../../../formats/nydus/layout.ts';
import { isRight, RafsChunk } from '../../../formats/nydus/read-chunks.ts';
import { readChunks, type BlobChunks } from '../../../formats/nydus/read-contexts.ts';
import { ChunkInflater } from '../../../formats/nydus/read-inflate.ts';
import { numbers } from '../../codec/samples.ts';

/** Context tables made by hand, and chunks read by them. */

export const HOME = { blob: 0, compressor: 'zstd', digester: 'sha256' } as const;
const NONE = new Uint8Array(32);

export interface Table {
  readonly table: Uint8Array;
  readonly header: ContextHeader;
  readonly entry: BlobEntry;
}

/** A table of the given chunks, and of contexts and dictionaries behind them. */
export function tableOf(infos: readonly ChunkInfo[], features: number, contexts: readonly Uint8Array[] = [], dictionaries: Uint8Array = new Uint8Array(0)): Table {
  const v2 = (features & BLOB_FEATURE.chunkInfoV2) !== 0;
  const size = v2 ? CHUNK_INFO_V2_SIZE : CHUNK_INFO_V1_SIZE;
  const view = new DataView(new ArrayBuffer(infos.length * size));
  for (const [i, info] of infos.entries()) (v2 ? encodeChunkInfoV2 : encodeChunkInfoV1)(view, i * size, info);
  const table = concat([new Uint8Array(view.buffer), ...contexts, dictionaries]);
  const sizes = { compressor: 0, offset: 0, compressedSize: table.length, uncompressedSize: table.length };
  return {
    table,
    header: { ...sizes, features, entries: infos.length, contexts: contexts.length, contextsOffset: contexts.length > 0 ? view.byteLength : 0, contextsSize: table.length - view.byteLength },
    entry: {
      id: 'a'.repeat(64), index: 0, chunkSize: 1 << 20, chunkCount: infos.length, compressor: 3, digester: 1, features, compressedSize: 1 << 30, uncompressedSize: 2 ** 40, tocSize: 0,
      contextCompressor: 0, contextOffset: 0, contextCompressedSize: table.length, contextUncompressedSize: table.length, tocDigest: NONE, metaDigest: NONE, metaSize: 0, cipher: 0,
    },
  };
}

export function readTable({ table, header, entry }: Table, dataSize: number): BlobChunks {
  return readChunks(table, header, entry, HOME, dataSize, 'context table');
}

export const info = (changes: Partial<ChunkInfo>): ChunkInfo => ({ flags: 0, uncompressedOffset: 0, uncompressedSize: 1, compressedOffset: 0, compressedSize: 1, low: 0, high: 0, ...changes });

/** A blob whose chunks a table has, opened for their sake alone. */
export function openChunks(found: BlobChunks, data: Uint8Array): OpenLayer {
  const source = new MemorySource(data);
  const inflater = new ChunkInflater([{ home: HOME, source, found }]);
  const chunks = found.chunks.toSorted((a, b) => a.offset - b.offset || a.skip - b.skip);
  return {
    format: 'nydus', index: { root: impliedDirectory(), chunks }, sources: [source], indexBytes: 0,
    inflate: (chunk, packed) => inflater.inflate(chunk, packed), check: (chunk, bytes) => isRight(chunk as RafsChunk, bytes, undefined),
  };
}

export async function loadChunk(found: BlobChunks, chunk: RafsChunk, data: Uint8Array): Promise<Uint8Array> {
  return (await new ChunkLoader(openChunks(found, data), {}, new ChunkCache(0)).load([chunk])).get(chunk) as Uint8Array;
}

/** A place in a gzip stream where a deflate block begins, and the text in front of it. */
export interface BlockStart {
  readonly bit: number;
  readonly out: number;
  readonly first: boolean;
  readonly window: Uint8Array;
}

export async function blockStarts(packed: Uint8Array): Promise<BlockStart[]> {
  const starts: BlockStart[] = [];
  const onBlock = ({ bit, out, first, window }: { bit: number; out: number; first: boolean; window(): Uint8Array }): void => void starts.push({ bit, out, first, window: first ? new Uint8Array(0) : Uint8Array.from(window()) });
  for await (const _ of gunzip(streamOf(packed), { onBlock }));
  return starts;
}

/** A context that begins at a block, with its dictionary; `end` is the plain offset where it ends, `stop` the stored one. */
export function contextAt(packed: Uint8Array, { bit, out }: BlockStart, dictionary: Uint8Array, dictOffset: number, end: number, stop: number): Uint8Array {
  const inOffset = Math.ceil(bit / 8);
  const bits = inOffset * 8 - bit;
  return encodeZranContext({ inOffset, outOffset: out, dictOffset, inSize: stop - inOffset, outSize: end - out, dictSize: dictionary.length, byte: bits > 0 ? (packed[inOffset - 1] as number) : 0, bits });
}

/** A small gzip layer of many blocks, and a table of contexts with dictionaries, two chunks in each. */
export async function madeZran(): Promise<{ readonly table: Table; readonly packed: Uint8Array; readonly contents: readonly Buffer[] }> {
  const random = numbers(5);
  const text = Buffer.from(Array.from({ length: 1500 }, () => `${Math.floor(random() * 400)} `).join(''));
  const packed = gzipSync(text, { memLevel: 1 });
  const blocks = await blockStarts(packed);
  const starts = blocks.filter((_, i) => i % 3 === 0);
  const contexts: Uint8Array[] = [];
  const dictionaries: Uint8Array[] = [];
  const infos: ChunkInfo[] = [];
  const contents: Buffer[] = [];
  let dictOffset = 0;
  for (const [i, start] of starts.entries()) {
    const next = blocks[blocks.indexOf(start) + 4];
    const end = next?.out ?? text.length;
    contexts.push(contextAt(packed, start, start.window, dictOffset, end, next ? Math.ceil(next.bit / 8) : packed.length));
    dictionaries.push(start.window);
    dictOffset += start.window.length;
    const half = Math.floor((end - start.out) / 2);
    for (const [low, size] of [[0, half], [half, end - start.out - half]] as const) {
      infos.push(info({ flags: CHUNK_FLAG.compressed | CHUNK_FLAG.zran, uncompressedOffset: infos.length * 65_536, uncompressedSize: size, low, high: i }));
      contents.push(text.subarray(start.out + low, start.out + low + size));
    }
  }
  const features = BLOB_FEATURE.aligned | BLOB_FEATURE.chunkInfoV2 | BLOB_FEATURE.zran | BLOB_FEATURE.separate;
  return { table: tableOf(infos, features, contexts, concat(dictionaries)), packed, contents };
}
