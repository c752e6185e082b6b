import { corrupt, LazypullError } from '../../src/core/errors.ts';
import { checkRange } from '../../src/core/source.ts';
import type { ByteSource } from '../../src/core/types.ts';
import { COMPAT, decodeDeviceSlot, decodeSuperblock, DEVICE_SLOT_SIZE, INCOMPAT, SUPERBLOCK_OFFSET, type DeviceSlot, type Superblock } from '../../src/erofs/layout.ts';
import {
  BLOB_ENTRY_SIZE, CHUNK_ROW_SIZE, decodeBlobEntry, decodePrefetchTable, decodeRafsSuperblock, DEVICE_TABLE_OFFSET, EXTENSION_OFFSET, EXTENSION_SIZE,
  NID_SIZE, type BlobEntry, type RafsSuperblock,
} from './bootstrap-layout.ts';
import { CHUNK_INFO_V1_SIZE, CHUNK_INFO_V2_SIZE } from './context-layout.ts';
import {
  algorithmsOf, BLOB_FEATURE, checkFeatures, CIPHER, compressorName, digesterName, MAX_BLOB_CHUNKS, MAX_BLOBS, MAX_CHUNK_SIZE, MAX_COMPRESSED,
  MAX_UNCOMPRESSED, MIN_CHUNK_SIZE, RAFS_FLAG, type Compressor, type NydusDigester,
} from './layout.ts';

/** What a RAFS v6 bootstrap says in front of its inodes, found right by all rules that loaders know (§17). */
export interface RafsHead {
  readonly superblock: Superblock;
  readonly rafs: RafsSuperblock;
  readonly compressor: Compressor;
  readonly digester: NydusDigester;
  readonly tarfs: boolean;
  readonly blobs: readonly BlobEntry[];
  /** Rows of the chunk table, back to back; empty without one. */
  readonly chunkRows: Uint8Array;
  readonly prefetchNids: readonly number[];
  /** What no loader minds, one line each. */
  readonly problems: readonly string[];
}

const HEAD = DEVICE_TABLE_OFFSET;
/** In the superblock: number of slots that extend it, and available algorithms. Both are 0 here. */
const EXT_SLOTS = SUPERBLOCK_OFFSET + 0x0d;
const ALGORITHMS = SUPERBLOCK_OFFSET + 0x54;

/** Reads and checks the head of a bootstrap. CORRUPT, with the offset, for what loaders refuse. */
export async function readRafsHead(source: ByteSource, signal?: AbortSignal): Promise<RafsHead> {
  if (source.size < 4096) throw corrupt(`bootstrap of ${source.size} bytes`, { offset: 0 });
  const head = Buffer.from(await source.read(0, HEAD, signal));
  const superblock = checkSuperblock(head, source.size);
  const rafs = decodeRafsSuperblock(head.subarray(EXTENSION_OFFSET, EXTENSION_OFFSET + EXTENSION_SIZE));
  const { flags, chunkSize } = rafs;
  const algorithms = algorithmsOf(flags % 2 ** 32, EXTENSION_OFFSET);
  if (flags % 2 ** 32 >= RAFS_FLAG.encryptAes128Xts && (flags & RAFS_FLAG.encryptAes128Xts) !== 0) throw new LazypullError('UNSUPPORTED', 'the image is encrypted', { offset: EXTENSION_OFFSET });
  if (chunkSize < MIN_CHUNK_SIZE || chunkSize > MAX_CHUNK_SIZE || !Number.isInteger(Math.log2(chunkSize))) throw corrupt(`chunk size of ${chunkSize} bytes`, { offset: EXTENSION_OFFSET });
  const tables = checkTables(rafs, superblock, source.size);
  const tarfs = (flags & RAFS_FLAG.tarfs) !== 0;
  const read = ({ offset, size }: Table): Promise<Uint8Array> | Uint8Array => (size === 0 ? new Uint8Array(0) : source.read(offset, size, signal));
  const blobs = decodeBlobs(await read(tables.blobs), rafs, tarfs);
  const slots = await read({ name: 'device table', offset: DEVICE_TABLE_OFFSET, size: superblock.extraDevices * DEVICE_SLOT_SIZE });
  const problems = checkSlots(slots, superblock, blobs);
  return {
    superblock, rafs, ...algorithms, tarfs, blobs, problems,
    chunkRows: await read(tables.chunks),
    prefetchNids: decodePrefetchTable(await read(tables.prefetch)),
  };
}

function checkSuperblock(head: Buffer, size: number): Superblock {
  const superblock = decodeSuperblock(head.subarray(SUPERBLOCK_OFFSET));
  const { checksum, blockSize, inodes, xattrBlock, featureCompat, featureIncompat, deviceTable, metaBlock } = superblock;
  const wrong = (message: string): LazypullError => corrupt(`RAFS superblock with ${message}`, { offset: SUPERBLOCK_OFFSET });
  if ((featureCompat & COMPAT.rafs) === 0) throw wrong('no mark of RAFS v6');
  if (checksum !== 0) throw wrong(`checksum 0x${checksum.toString(16)}`);
  if (blockSize !== 4096 && blockSize !== 512) throw wrong(`blocks of ${blockSize} bytes`);
  if (size % blockSize !== 0) throw corrupt(`bootstrap of ${size} bytes, no multiple of ${blockSize}`, { offset: size });
  if (head[EXT_SLOTS] !== 0 || head.readUInt16LE(ALGORITHMS) !== 0 || xattrBlock !== 0) throw wrong('fields that it must not use');
  if (inodes === 0) throw wrong('no inodes');
  if (featureIncompat !== (INCOMPAT.chunkedFile | INCOMPAT.deviceTable)) throw wrong(`features 0x${featureIncompat.toString(16)}`);
  if (deviceTable !== DEVICE_TABLE_OFFSET) throw wrong(`its device table at ${deviceTable}`);
  if (metaBlock * blockSize > size) throw wrong(`its inodes at block ${metaBlock}`);
  return superblock;
}

interface Table {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
}

/** The tables lie in the file, behind the device slots, in their units, and not over each other. */
function checkTables(rafs: RafsSuperblock, { extraDevices }: Superblock, size: number): { readonly blobs: Table; readonly chunks: Table; readonly prefetch: Table } {
  const blobs = { name: 'blob table', offset: rafs.blobTableOffset, size: rafs.blobTableSize, unit: BLOB_ENTRY_SIZE, align: 4096 };
  const chunks = { name: 'chunk table', offset: rafs.chunkTableOffset, size: rafs.chunkTableSize, unit: CHUNK_ROW_SIZE, align: 4096 };
  // Some writers left a size without a place, for trees that were empty.
  const prefetch = { name: 'prefetch table', offset: rafs.prefetchTableOffset, size: rafs.prefetchTableOffset === 0 ? 0 : rafs.prefetchTableSize, unit: NID_SIZE, align: 1 };
  const slotsEnd = DEVICE_TABLE_OFFSET + extraDevices * DEVICE_SLOT_SIZE;
  const used = [blobs, chunks, prefetch].filter((table) => table.size > 0 || table === blobs);
  for (const { name, offset, size: length, unit, align } of used) {
    if (offset < slotsEnd || offset < 4096 || offset % align !== 0 || length % unit !== 0) throw corrupt(`${name} of ${length} bytes at ${offset}`, { offset: EXTENSION_OFFSET });
    checkRange({ size }, offset, length, name);
  }
  const sorted = used.filter((table) => table.size > 0).sort((a, b) => a.offset - b.offset);
  for (const [i, table] of sorted.entries()) {
    const next = sorted[i + 1];
    if (next && table.offset + table.size > next.offset) throw corrupt(`${table.name} and ${next.name} overlap`, { offset: next.offset });
  }
  return { blobs, chunks, prefetch };
}

function decodeBlobs(table: Uint8Array, rafs: RafsSuperblock, tarfs: boolean): BlobEntry[] {
  const count = table.length / BLOB_ENTRY_SIZE;
  if (count > MAX_BLOBS) throw new LazypullError('LIMIT', `bootstrap with ${count} blobs, ${MAX_BLOBS} are possible`, { offset: rafs.blobTableOffset });
  return Array.from({ length: count }, (_, i) => {
    const offset = rafs.blobTableOffset + i * BLOB_ENTRY_SIZE;
    const entry = decodeBlobEntry(table.subarray(i * BLOB_ENTRY_SIZE, (i + 1) * BLOB_ENTRY_SIZE), offset);
    checkBlob(entry, i, rafs.chunkSize, tarfs, offset);
    return entry;
  });
}

/** The rules of §4.1. */
function checkBlob(entry: BlobEntry, index: number, chunkSize: number, tarfs: boolean, offset: number): void {
  const wrong = (message: string): LazypullError => corrupt(`blob ${index} has ${message}`, { offset });
  const { features, chunkCount } = entry;
  const has = (feature: keyof typeof BLOB_FEATURE): boolean => (features & BLOB_FEATURE[feature]) !== 0;
  checkFeatures(features, `blob ${index}`, offset);
  if (entry.id.length === 0) throw wrong('no id');
  if (entry.index !== index) throw wrong(`number ${entry.index}`);
  if (entry.chunkSize !== chunkSize) throw wrong(`chunks of ${entry.chunkSize} bytes, others of ${chunkSize}`);
  if (compressorName(entry.compressor) === undefined || compressorName(entry.contextCompressor) === undefined) throw wrong('an unknown compressor');
  if (digesterName(entry.digester) === undefined) throw wrong(`digest algorithm ${entry.digester}`);
  if (chunkCount > MAX_BLOB_CHUNKS || entry.compressedSize > MAX_COMPRESSED || entry.uncompressedSize > MAX_UNCOMPRESSED) throw wrong(`${chunkCount} chunks in ${entry.compressedSize} bytes, ${entry.uncompressedSize} uncompressed`);
  if (has('encrypted') || entry.cipher !== CIPHER.none) throw new LazypullError('UNSUPPORTED', `blob ${index} is encrypted`, { offset });
  if (has('aligned') === (tarfs || has('tarfs'))) throw wrong(tarfs ? 'aligned chunks, in tarfs' : 'chunks that are not aligned');
  const wide = has('batch') || has('zran');
  if (wide && !has('chunkInfoV2')) throw wrong('batches or zran contexts without chunk infos of version 2');
  if (has('batch') && has('zran')) throw wrong('both batches and zran contexts');
  const { contextCompressedSize: stored, contextUncompressedSize: size } = entry;
  if (stored === 0) return;
  const infos = chunkCount * (has('chunkInfoV2') ? CHUNK_INFO_V2_SIZE : CHUNK_INFO_V1_SIZE);
  if (stored > size || (wide ? size < infos : size !== infos)) throw wrong(`a context table of ${size} bytes, ${stored} stored, for ${chunkCount} chunks`);
}

/** The slots that kernels look at. What follows is only what every loader demands: nobody holds them against the blob table. */
function checkSlots(table: Uint8Array, { extraDevices }: Superblock, blobs: readonly BlobEntry[]): string[] {
  const wrong = (message: string, slot: number): LazypullError => corrupt(`device slot ${slot} has ${message}`, { offset: DEVICE_TABLE_OFFSET + slot * DEVICE_SLOT_SIZE });
  if (extraDevices < blobs.length) throw wrong(`no device for blob ${extraDevices}`, extraDevices);
  const ids = new Set<string>();
  const problems: string[] = [];
  for (let i = 0; i < extraDevices; i += 1) {
    const { tag, blocks }: DeviceSlot = decodeDeviceSlot(table.subarray(i * DEVICE_SLOT_SIZE, (i + 1) * DEVICE_SLOT_SIZE), false);
    if (blocks === 0) throw wrong('no blocks', i);
    if (ids.has(tag)) throw wrong('the id of another one', i);
    ids.add(tag);
    if (blobs[i] && blobs[i]?.id !== tag) problems.push(`device slot ${i} is not that of blob ${i}`);
  }
  return problems;
}
