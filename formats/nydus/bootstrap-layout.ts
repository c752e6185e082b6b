import { corrupt } from '../../src/core/errors.ts';
import { asBuffer, readU64, struct, viewOf, write64 } from '../../src/erofs/struct.ts';

// What RAFS v6 adds to an EROFS image (§2-§4). The device slots behind the extended superblock are those of EROFS: the tag is
// the blob id, 64 hex characters.

/** Right behind the superblock of EROFS. */
export const EXTENSION_OFFSET = 1152;
export const EXTENSION_SIZE = 256;
/** Slot number in the superblock: 1408 / 128. */
export const DEVICE_SLOT_NUMBER = 11;
export const DEVICE_TABLE_OFFSET = 1408;
export const BLOB_ENTRY_SIZE = 256;
export const CHUNK_ROW_SIZE = 80;
export const CHUNK_ADDRESS_SIZE = 8;
export const NID_SIZE = 4;
export const BLOB_ID_SIZE = 64;

// ---- Extended superblock (§2.2) ----

const EXTENSION = struct(EXTENSION_SIZE, {
  flags: 8,
  blobTableOffset: 8,
  blobTableSize: 4,
  chunkSize: 4,
  chunkTableOffset: 8,
  chunkTableSize: 8,
  prefetchTableOffset: 8,
  prefetchTableSize: 4,
  padding: 4,
  reserved: 200,
});

export interface RafsSuperblock {
  /** RAFS_FLAG. */
  readonly flags: number;
  /** Bytes, as all offsets and sizes here. */
  readonly blobTableOffset: number;
  readonly blobTableSize: number;
  readonly chunkSize: number;
  readonly chunkTableOffset: number;
  readonly chunkTableSize: number;
  readonly prefetchTableOffset: number;
  readonly prefetchTableSize: number;
}

export function encodeRafsSuperblock(sb: RafsSuperblock): Uint8Array {
  const bytes = Buffer.alloc(EXTENSION_SIZE);
  const view = viewOf(bytes);
  write64(view, EXTENSION.flags, sb.flags);
  write64(view, EXTENSION.blobTableOffset, sb.blobTableOffset);
  bytes.writeUInt32LE(sb.blobTableSize, EXTENSION.blobTableSize);
  bytes.writeUInt32LE(sb.chunkSize, EXTENSION.chunkSize);
  write64(view, EXTENSION.chunkTableOffset, sb.chunkTableOffset);
  write64(view, EXTENSION.chunkTableSize, sb.chunkTableSize);
  write64(view, EXTENSION.prefetchTableOffset, sb.prefetchTableOffset);
  bytes.writeUInt32LE(sb.prefetchTableSize, EXTENSION.prefetchTableSize);
  return bytes;
}

/** `bytes` are those from EXTENSION_OFFSET on. */
export function decodeRafsSuperblock(bytes: Uint8Array): RafsSuperblock {
  const buffer = asBuffer(bytes);
  const wide = (at: number, what: string): number => readU64(buffer, at, what, EXTENSION_OFFSET);
  return {
    flags: wide(EXTENSION.flags, 'RAFS flags'),
    blobTableOffset: wide(EXTENSION.blobTableOffset, 'blob table offset'),
    blobTableSize: buffer.readUInt32LE(EXTENSION.blobTableSize),
    chunkSize: buffer.readUInt32LE(EXTENSION.chunkSize),
    chunkTableOffset: wide(EXTENSION.chunkTableOffset, 'chunk table offset'),
    chunkTableSize: wide(EXTENSION.chunkTableSize, 'chunk table size'),
    prefetchTableOffset: wide(EXTENSION.prefetchTableOffset, 'prefetch table offset'),
    prefetchTableSize: buffer.readUInt32LE(EXTENSION.prefetchTableSize),
  };
}

// ---- Blob table (§4.1) ----

const BLOB_ENTRY = struct(BLOB_ENTRY_SIZE, {
  id: BLOB_ID_SIZE,
  index: 4,
  chunkSize: 4,
  chunkCount: 4,
  compressor: 4,
  digester: 4,
  features: 4,
  compressedSize: 8,
  uncompressedSize: 8,
  tocSize: 4,
  contextCompressor: 4,
  contextOffset: 8,
  contextCompressedSize: 8,
  contextUncompressedSize: 8,
  tocDigest: 32,
  /** With encryption the key. */
  metaDigest: 32,
  /** With encryption the first half of the iv. */
  metaSize: 8,
  cipherIv: 8,
  cipher: 4,
  reserved: 36,
});

export interface BlobEntry {
  /** 64 hex characters. */
  readonly id: string;
  /** Place in the table. */
  readonly index: number;
  readonly chunkSize: number;
  readonly chunkCount: number;
  /** COMPRESSOR. */
  readonly compressor: number;
  /** DIGESTER. */
  readonly digester: number;
  /** BLOB_FEATURE. */
  readonly features: number;
  /** Of the chunk data. */
  readonly compressedSize: number;
  /** Of the address space. */
  readonly uncompressedSize: number;
  /** With its header; 0 without a TOC. */
  readonly tocSize: number;
  /** How the context table is compressed. */
  readonly contextCompressor: number;
  readonly contextOffset: number;
  /** Without the header behind it. */
  readonly contextCompressedSize: number;
  readonly contextUncompressedSize: number;
  /** 32 bytes: sha256 of the TOC with its header. */
  readonly tocDigest: Uint8Array;
  /** 32 bytes. */
  readonly metaDigest: Uint8Array;
  readonly metaSize: number;
  readonly cipher: number;
}

export function encodeBlobEntry(entry: BlobEntry): Uint8Array {
  const bytes = Buffer.alloc(BLOB_ENTRY_SIZE);
  const view = viewOf(bytes);
  const at = BLOB_ENTRY;
  bytes.write(entry.id, at.id, BLOB_ID_SIZE, 'latin1');
  for (const field of ['index', 'chunkSize', 'chunkCount', 'compressor', 'digester', 'features', 'tocSize', 'contextCompressor', 'cipher'] as const) bytes.writeUInt32LE(entry[field], at[field]);
  for (const field of ['compressedSize', 'uncompressedSize', 'contextOffset', 'contextCompressedSize', 'contextUncompressedSize', 'metaSize'] as const) write64(view, at[field], entry[field]);
  bytes.set(entry.tocDigest.subarray(0, 32), at.tocDigest);
  bytes.set(entry.metaDigest.subarray(0, 32), at.metaDigest);
  return bytes;
}

/** `base`: where the entry is in the bootstrap, for messages. */
export function decodeBlobEntry(bytes: Uint8Array, base: number): BlobEntry {
  const buffer = asBuffer(bytes);
  const at = BLOB_ENTRY;
  const u32 = (field: number): number => buffer.readUInt32LE(field);
  const u64 = (field: number, what: string): number => readU64(buffer, field, what, base);
  const encrypted = u32(at.cipher) !== 0;
  return {
    id: text(buffer.subarray(at.id, at.id + BLOB_ID_SIZE)),
    index: u32(at.index),
    chunkSize: u32(at.chunkSize),
    chunkCount: u32(at.chunkCount),
    compressor: u32(at.compressor),
    digester: u32(at.digester),
    features: u32(at.features),
    compressedSize: u64(at.compressedSize, 'stored size of a blob'),
    uncompressedSize: u64(at.uncompressedSize, 'uncompressed size of a blob'),
    tocSize: u32(at.tocSize),
    contextCompressor: u32(at.contextCompressor),
    contextOffset: u64(at.contextOffset, 'context table offset'),
    contextCompressedSize: u64(at.contextCompressedSize, 'stored size of a context table'),
    contextUncompressedSize: u64(at.contextUncompressedSize, 'size of a context table'),
    tocDigest: Uint8Array.from(buffer.subarray(at.tocDigest, at.tocDigest + 32)),
    metaDigest: Uint8Array.from(buffer.subarray(at.metaDigest, at.metaDigest + 32)),
    metaSize: encrypted ? 0 : u64(at.metaSize, 'size of a meta blob'),
    cipher: u32(at.cipher),
  };
}

// ---- Chunk table (§4.2); RAFS v5 has the same rows behind its inodes ----

const CHUNK_ROW = struct(CHUNK_ROW_SIZE, {
  digest: 32,
  blobIndex: 4,
  flags: 4,
  compressedSize: 4,
  uncompressedSize: 4,
  compressedOffset: 8,
  uncompressedOffset: 8,
  fileOffset: 8,
  index: 4,
  crc32: 4,
});

export const CHUNK_ROW_FLAG = { compressed: 0x1, hole: 0x2, encrypted: 0x4, batch: 0x8, hasCrc: 0x10 } as const;

export interface ChunkRow {
  /** 32 bytes. */
  readonly digest: Uint8Array;
  readonly blobIndex: number;
  /** CHUNK_ROW_FLAG. */
  readonly flags: number;
  readonly compressedSize: number;
  readonly uncompressedSize: number;
  readonly compressedOffset: number;
  readonly uncompressedOffset: number;
  readonly fileOffset: number;
  /** Number of the chunk in its blob. */
  readonly index: number;
  /** CRC-32C of the uncompressed chunk. */
  readonly crc32: number;
}

export function encodeChunkRow(row: ChunkRow): Uint8Array {
  const bytes = Buffer.alloc(CHUNK_ROW_SIZE);
  const view = viewOf(bytes);
  bytes.set(row.digest.subarray(0, 32), CHUNK_ROW.digest);
  for (const field of ['blobIndex', 'flags', 'compressedSize', 'uncompressedSize', 'index', 'crc32'] as const) bytes.writeUInt32LE(row[field], CHUNK_ROW[field]);
  for (const field of ['compressedOffset', 'uncompressedOffset', 'fileOffset'] as const) write64(view, CHUNK_ROW[field], row[field]);
  return bytes;
}

/** `base`: where the row is in the bootstrap, for messages. The digest is a view. */
export function decodeChunkRow(bytes: Uint8Array, base: number): ChunkRow {
  const buffer = asBuffer(bytes);
  const u32 = (field: number): number => buffer.readUInt32LE(field);
  const u64 = (field: number): number => readU64(buffer, field, 'place of a chunk', base);
  return {
    digest: buffer.subarray(CHUNK_ROW.digest, CHUNK_ROW.digest + 32),
    blobIndex: u32(CHUNK_ROW.blobIndex),
    flags: u32(CHUNK_ROW.flags),
    compressedSize: u32(CHUNK_ROW.compressedSize),
    uncompressedSize: u32(CHUNK_ROW.uncompressedSize),
    compressedOffset: u64(CHUNK_ROW.compressedOffset),
    uncompressedOffset: u64(CHUNK_ROW.uncompressedOffset),
    fileOffset: u64(CHUNK_ROW.fileOffset),
    index: u32(CHUNK_ROW.index),
    crc32: u32(CHUNK_ROW.crc32),
  };
}

// ---- Chunk addresses of inodes (§3): in the clothes of EROFS' chunk indexes ----

const CHUNK_ADDRESS = struct(CHUNK_ADDRESS_SIZE, { indexLow: 2, blob: 1, indexHigh: 1, block: 4 });

export interface ChunkAddress {
  /** Place in the blob table. */
  readonly blob: number;
  /** Number of the chunk in its blob's context table. */
  readonly index: number;
  /** Uncompressed offset / block size. */
  readonly block: number;
}

export function encodeChunkAddress(view: DataView, at: number, address: ChunkAddress): void {
  view.setUint16(at + CHUNK_ADDRESS.indexLow, address.index & 0xffff, true);
  view.setUint8(at + CHUNK_ADDRESS.blob, address.blob + 1);
  view.setUint8(at + CHUNK_ADDRESS.indexHigh, address.index >>> 16);
  view.setUint32(at + CHUNK_ADDRESS.block, address.block, true);
}

/** CORRUPT where no blob is named. `base`: where `view` begins in the bootstrap. */
export function decodeChunkAddress(view: DataView, at: number, blobs: number, base: number): ChunkAddress {
  const device = view.getUint8(at + CHUNK_ADDRESS.blob);
  if (device === 0 || device > blobs) throw corrupt(`chunk is in blob ${device} of ${blobs}`, { offset: base + at });
  return {
    blob: device - 1,
    index: view.getUint16(at + CHUNK_ADDRESS.indexLow, true) | (view.getUint8(at + CHUNK_ADDRESS.indexHigh) << 16),
    block: view.getUint32(at + CHUNK_ADDRESS.block, true),
  };
}

// ---- Prefetch table (§4.3) ----

export function encodePrefetchTable(nids: readonly number[]): Uint8Array {
  const bytes = Buffer.alloc(nids.length * NID_SIZE);
  for (const [i, nid] of nids.entries()) bytes.writeUInt32LE(nid, i * NID_SIZE);
  return bytes;
}

export function decodePrefetchTable(bytes: Uint8Array): number[] {
  const buffer = asBuffer(bytes);
  return Array.from({ length: Math.floor(buffer.length / NID_SIZE) }, (_, i) => buffer.readUInt32LE(i * NID_SIZE));
}

/** Up to the first NUL. */
function text(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end < 0 ? bytes.length : end);
}
