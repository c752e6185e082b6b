import { digestHex, isDigest } from '../../src/core/digest.ts';
import { LazypullError } from '../../src/core/errors.ts';
import type { StoredImage } from '../../src/core/format.ts';
import { MemorySource } from '../../src/core/source.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { CHUNK_ROW_FLAG, CHUNK_ROW_SIZE, decodeChunkRow, type BlobEntry, type ChunkRow } from './bootstrap-layout.ts';
import { CHUNK_FLAG, CONTEXT_HEADER_SIZE } from './context-layout.ts';
import { ChunkIndex, type NydusBlob } from './layer-blobs.ts';
import { ChunkTable } from './layer-chunks.ts';
import { ALIGNMENT, ANNOTATION, BLOB_FEATURE } from './layout.ts';
import type { Decided, NydusSettings } from './options.ts';
import { readBootstrapLayer } from './read-bootstrap.ts';
import { readRafsHead, type RafsHead } from './read-head.ts';

/** The chunks of another Nydus image that a new one may refer to. */
export interface Dictionary {
  readonly blobs: readonly NydusBlob[];
  readonly index: ChunkIndex;
  readonly decided: Decided;
}

const loaded = new WeakMap<StoredImage, Promise<Dictionary>>();

/** Reads a dictionary, once however many layers ask for it. USAGE for an image that cannot be one. */
export function loadDictionary(image: StoredImage, signal?: AbortSignal): Promise<Dictionary> {
  let dictionary = loaded.get(image);
  if (!dictionary) {
    dictionary = read(image, signal);
    loaded.set(image, dictionary);
    // Another conversion may have more luck.
    dictionary.catch(() => loaded.delete(image));
  }
  return dictionary;
}

async function read(image: StoredImage, signal: AbortSignal | undefined): Promise<Dictionary> {
  const descriptor = image.layers.find(({ annotations }) => annotations?.[ANNOTATION.bootstrap] === 'true');
  if (!descriptor) throw refuse('no Nydus image: none of its layers is a bootstrap');
  const { bootstrap, metas } = await readBootstrapLayer({ descriptor, source: image.open(descriptor), image }, signal);
  const head = await readRafsHead(new MemorySource(bootstrap), signal);
  const { compressor, digester, rafs } = head;
  if (head.tarfs || compressor === 'gzip') throw refuse('made of plain layers, whose chunks no other image can refer to');
  if (head.chunkRows.length === 0) throw refuse('without a chunk table, so its chunks have no digests');
  const layers = new Map(image.layers.map((layer) => [digestHex(layer.digest), layer]));
  const blobs = head.blobs.map((entry): NydusBlob => ({ chunks: new ChunkTable(true), facts: factsOf(entry, layers.get(entry.id), metas.get(entry.id)) }));
  addRows(head, blobs);
  return { blobs, index: new ChunkIndex(blobs.map(({ chunks }) => chunks)), decided: { chunkSize: rafs.chunkSize, compressor: compressor as NydusSettings['compressor'], digester } };
}

function factsOf(entry: BlobEntry, layer: Descriptor | undefined, file: Uint8Array | undefined): NonNullable<NydusBlob['facts']> {
  if (!layer || !isDigest(layer.digest)) throw refuse(`no image whose blobs are all among its layers: ${entry.id.slice(0, 64)} is missing`);
  const { index: _index, ...rest } = entry;
  const tableEnd = Math.ceil(entry.contextUncompressedSize / ALIGNMENT) * ALIGNMENT;
  const meta = file?.length === tableEnd + CONTEXT_HEADER_SIZE ? { table: file.subarray(0, entry.contextUncompressedSize), header: file.subarray(tableEnd) } : undefined;
  return { entry: rest, descriptor: layer, meta: () => meta, foreign: true };
}

/** Takes the rows of the chunk table in. Only ordinary chunks and batches: others need more than an address to be read. */
function addRows(head: RafsHead, blobs: readonly NydusBlob[]): void {
  for (let at = 0; at < head.chunkRows.length; at += CHUNK_ROW_SIZE) {
    const row = decodeChunkRow(head.chunkRows.subarray(at, at + CHUNK_ROW_SIZE), head.rafs.chunkTableOffset + at);
    const blob = blobs[row.blobIndex];
    const entry = head.blobs[row.blobIndex];
    if (!blob || !entry || !isUsable(row, entry, head.rafs.chunkSize)) continue;
    const flags = ((row.flags & CHUNK_ROW_FLAG.compressed) !== 0 ? CHUNK_FLAG.compressed : 0) | ((row.flags & CHUNK_ROW_FLAG.batch) !== 0 ? CHUNK_FLAG.batch : 0);
    blob.chunks.addNumbered(row.index, row.digest, row.uncompressedSize, row.uncompressedOffset, { offset: row.compressedOffset, size: row.compressedSize, flags });
  }
}

function isUsable(row: ChunkRow, entry: BlobEntry, chunkSize: number): boolean {
  const forbidden = BLOB_FEATURE.zran | BLOB_FEATURE.separate | BLOB_FEATURE.tarfs | BLOB_FEATURE.encrypted | BLOB_FEATURE.external;
  return (
    (row.flags & (CHUNK_ROW_FLAG.hole | CHUNK_ROW_FLAG.encrypted)) === 0 &&
    (entry.features & forbidden) === 0 &&
    row.index < entry.chunkCount &&
    row.uncompressedSize >= 1 &&
    row.uncompressedSize <= chunkSize &&
    row.uncompressedOffset % ALIGNMENT === 0 &&
    row.uncompressedOffset + row.uncompressedSize <= entry.uncompressedSize
  );
}

function refuse(why: string): LazypullError {
  return new LazypullError('USAGE', `chunk dictionary is ${why}`);
}
