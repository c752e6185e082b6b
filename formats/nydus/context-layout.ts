import { corrupt } from '../../src/core/errors.ts';
import { asBuffer, readU64, struct, viewOf, write64 } from '../../src/erofs/struct.ts';
import { ALIGNMENT } from './layout.ts';

// The compression context table of a blob (§7-§10): where each chunk is stored, and what inflating it takes. It is
// chunk infos | contexts of batches or of zran | dictionaries of zran, compressed as one, with a header of its own behind it.

export const CONTEXT_HEADER_SIZE = 4096;
export const CHUNK_INFO_V1_SIZE = 16;
export const CHUNK_INFO_V2_SIZE = 24;
export const CONTEXT_SIZE = 40;
/** Longest dictionary of a zran context. */
export const MAX_DICTIONARY = 32768;
const MAGIC = 0xb10bb10b;

// ---- Header (§7) ----

const HEADER = struct(CONTEXT_HEADER_SIZE, {
  magic: 4,
  features: 4,
  compressor: 4,
  entries: 4,
  offset: 8,
  compressedSize: 8,
  uncompressedSize: 8,
  contextsOffset: 8,
  contextsSize: 8,
  contexts: 4,
  reserved: 4032,
  magic2: 4,
});

export interface ContextHeader {
  /** BLOB_FEATURE. */
  readonly features: number;
  /** COMPRESSOR of the table. */
  readonly compressor: number;
  /** Chunk infos. */
  readonly entries: number;
  /** Of the table in the blob. */
  readonly offset: number;
  readonly compressedSize: number;
  readonly uncompressedSize: number;
  /** Of the contexts (and dictionaries) in the uncompressed table; 0 without any. */
  readonly contextsOffset: number;
  /** Bytes of contexts and dictionaries. */
  readonly contextsSize: number;
  /** Number of contexts. */
  readonly contexts: number;
}

export function encodeContextHeader(header: ContextHeader): Uint8Array {
  const bytes = Buffer.alloc(CONTEXT_HEADER_SIZE);
  const view = viewOf(bytes);
  bytes.writeUInt32LE(MAGIC, HEADER.magic);
  for (const field of ['features', 'compressor', 'entries', 'contexts'] as const) bytes.writeUInt32LE(header[field], HEADER[field]);
  for (const field of ['offset', 'compressedSize', 'uncompressedSize', 'contextsOffset', 'contextsSize'] as const) write64(view, HEADER[field], header[field]);
  bytes.writeUInt32LE(MAGIC, HEADER.magic2);
  return bytes;
}

/** `base`: where the header is in its blob or file, for messages. */
export function decodeContextHeader(bytes: Uint8Array, base: number): ContextHeader {
  const buffer = asBuffer(bytes);
  for (const at of [HEADER.magic, HEADER.magic2]) {
    const magic = buffer.readUInt32LE(at);
    if (magic !== MAGIC) throw corrupt(`no context table: the magic number is 0x${magic.toString(16)}`, { offset: base + at });
  }
  const u64 = (at: number, what: string): number => readU64(buffer, at, what, base);
  return {
    features: buffer.readUInt32LE(HEADER.features),
    compressor: buffer.readUInt32LE(HEADER.compressor),
    entries: buffer.readUInt32LE(HEADER.entries),
    offset: u64(HEADER.offset, 'context table offset'),
    compressedSize: u64(HEADER.compressedSize, 'stored size of the context table'),
    uncompressedSize: u64(HEADER.uncompressedSize, 'size of the context table'),
    contextsOffset: u64(HEADER.contextsOffset, 'offset of contexts'),
    contextsSize: u64(HEADER.contextsSize, 'size of contexts'),
    contexts: buffer.readUInt32LE(HEADER.contexts),
  };
}

// ---- Chunk infos (§8) ----

export const CHUNK_FLAG = { compressed: 0x1, zran: 0x2, batch: 0x4, encrypted: 0x8, hasCrc: 0x10 } as const;

export interface ChunkInfo {
  /** CHUNK_FLAG; of a v1 info only `compressed`, which it has when its sizes differ. */
  readonly flags: number;
  /** Where the chunk is in the uncompressed address space, a multiple of 4096. */
  readonly uncompressedOffset: number;
  /** 1 to 2^24. */
  readonly uncompressedSize: number;
  readonly compressedOffset: number;
  /** v1: 1 to 2^24. v2: less than 2^24; 0 for a chunk in a batch. */
  readonly compressedSize: number;
  /** v2 only. Batch, zran: offset in the context's output. With `hasCrc`: CRC-32C of the uncompressed chunk. */
  readonly low: number;
  /** v2 only. Batch, zran: number of the context. */
  readonly high: number;
}

/** The places in a v1 info: two numbers of 64 bits, here as halves. Sizes are less one and lie in two pieces each. */
export function encodeChunkInfoV1(view: DataView, at: number, info: ChunkInfo): void {
  const size = info.uncompressedSize - 1;
  const stored = info.compressedSize - 1;
  view.setUint32(at, (info.uncompressedOffset % 2 ** 32) + (size >>> 20) * 256, true);
  view.setUint32(at + 4, Math.floor(info.uncompressedOffset / 2 ** 32) + (size & 0xfffff) * 4096, true);
  view.setUint32(at + 8, info.compressedOffset % 2 ** 32, true);
  view.setUint32(at + 12, Math.floor(info.compressedOffset / 2 ** 32) + (stored >>> 20) * 256 + (stored & 0xfffff) * 4096, true);
}

export function decodeChunkInfoV1(view: DataView, at: number): ChunkInfo {
  const a = view.getUint32(at, true);
  const b = view.getUint32(at + 4, true);
  const d = view.getUint32(at + 12, true);
  const uncompressedSize = (((a >>> 8) & 0xf) * 2 ** 20 + (b >>> 12)) + 1;
  const compressedSize = (((d >>> 8) & 0xf) * 2 ** 20 + (d >>> 12)) + 1;
  return {
    flags: uncompressedSize === compressedSize ? 0 : CHUNK_FLAG.compressed,
    uncompressedOffset: (b & 0xfff) * 2 ** 32 + (a - (a % ALIGNMENT)),
    uncompressedSize,
    compressedOffset: (d & 0xff) * 2 ** 32 + view.getUint32(at + 8, true),
    compressedSize,
    low: 0,
    high: 0,
  };
}

export function encodeChunkInfoV2(view: DataView, at: number, info: ChunkInfo): void {
  view.setUint32(at, info.uncompressedOffset / ALIGNMENT, true);
  view.setUint32(at + 4, info.uncompressedSize - 1 + info.flags * 2 ** 24, true);
  view.setUint32(at + 8, info.compressedOffset % 2 ** 32, true);
  view.setUint32(at + 12, Math.floor(info.compressedOffset / 2 ** 32) + info.compressedSize * 256, true);
  view.setUint32(at + 16, info.low, true);
  view.setUint32(at + 20, info.high, true);
}

export function decodeChunkInfoV2(view: DataView, at: number): ChunkInfo {
  const b = view.getUint32(at + 4, true);
  const d = view.getUint32(at + 12, true);
  return {
    flags: b >>> 24,
    uncompressedOffset: view.getUint32(at, true) * ALIGNMENT,
    uncompressedSize: (b & 0xffffff) + 1,
    compressedOffset: (d & 0xff) * 2 ** 32 + view.getUint32(at + 8, true),
    compressedSize: d >>> 8,
    low: view.getUint32(at + 16, true),
    high: view.getUint32(at + 20, true),
  };
}

// ---- Contexts (§9, §10) ----

const BATCH_CONTEXT = struct(CONTEXT_SIZE, { compressedSize: 4, uncompressedSize: 4, reserved: 32 });

/** Small chunks that are compressed as one. */
export interface BatchContext {
  readonly compressedSize: number;
  /** Exact: not rounded up. */
  readonly uncompressedSize: number;
}

export function encodeBatchContext(context: BatchContext): Uint8Array {
  const bytes = Buffer.alloc(CONTEXT_SIZE);
  bytes.writeUInt32LE(context.compressedSize, BATCH_CONTEXT.compressedSize);
  bytes.writeUInt32LE(context.uncompressedSize, BATCH_CONTEXT.uncompressedSize);
  return bytes;
}

export function decodeBatchContext(view: DataView, at: number): BatchContext {
  return { compressedSize: view.getUint32(at + BATCH_CONTEXT.compressedSize, true), uncompressedSize: view.getUint32(at + BATCH_CONTEXT.uncompressedSize, true) };
}

const ZRAN_CONTEXT = struct(CONTEXT_SIZE, { inOffset: 8, outOffset: 8, dictOffset: 8, inSize: 4, outSize: 4, dictSize: 4, byte: 1, bits: 1, reserved: 2 });

/** A place in a gzip layer where inflating can begin, and how far it goes. Contexts may overlap. */
export interface ZranContext {
  /** Of the first whole byte in the layer. */
  readonly inOffset: number;
  /** In the plain tar. */
  readonly outOffset: number;
  /** In the area of dictionaries. */
  readonly dictOffset: number;
  readonly inSize: number;
  readonly outSize: number;
  /** 0 to MAX_DICTIONARY. */
  readonly dictSize: number;
  /** The byte in front of `inOffset`, of which the `bits` high ones belong to what follows. */
  readonly byte: number;
  /** 0 to 7. */
  readonly bits: number;
}

export function encodeZranContext(context: ZranContext): Uint8Array {
  const bytes = Buffer.alloc(CONTEXT_SIZE);
  const view = viewOf(bytes);
  for (const field of ['inOffset', 'outOffset', 'dictOffset'] as const) write64(view, ZRAN_CONTEXT[field], context[field]);
  for (const field of ['inSize', 'outSize', 'dictSize'] as const) bytes.writeUInt32LE(context[field], ZRAN_CONTEXT[field]);
  bytes.writeUInt8(context.byte, ZRAN_CONTEXT.byte);
  bytes.writeUInt8(context.bits, ZRAN_CONTEXT.bits);
  return bytes;
}

/** `at` is an offset in the uncompressed table. */
export function decodeZranContext(table: Uint8Array, at: number): ZranContext {
  const buffer = asBuffer(table).subarray(at, at + CONTEXT_SIZE);
  const u64 = (field: number): number => readU64(buffer, field, 'place of a zran context', at);
  return {
    inOffset: u64(ZRAN_CONTEXT.inOffset),
    outOffset: u64(ZRAN_CONTEXT.outOffset),
    dictOffset: u64(ZRAN_CONTEXT.dictOffset),
    inSize: buffer.readUInt32LE(ZRAN_CONTEXT.inSize),
    outSize: buffer.readUInt32LE(ZRAN_CONTEXT.outSize),
    dictSize: buffer.readUInt32LE(ZRAN_CONTEXT.dictSize),
    byte: buffer.readUInt8(ZRAN_CONTEXT.byte),
    bits: buffer.readUInt8(ZRAN_CONTEXT.bits),
  };
}
