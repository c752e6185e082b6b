import { Builder } from 'flatbuffers';
import { decodeName, encodeName } from '../../src/core/bytes.ts';
import type { Digest } from '../../src/core/digest.ts';
import { corrupt, LazypullError, printable } from '../../src/core/errors.ts';
import { FlatBuffer, type Table } from './flatbuffer.ts';
import { ZTOC_VERSION, type RecordType, type Ztoc, type ZtocRecord } from './layout.ts';
import { checkSpans, decodeZinfo, spanCount, writeZinfo, zinfoSize } from './zinfo.ts';

// The zTOC, a FlatBuffer without size prefix and file identifier (notes §1).

/** CompressionInfo.compression_algorithm; the first is the schema's default. */
const ALGORITHM = { gzip: 1, uncompressed: 2 } as const;
const TYPES: ReadonlySet<string> = new Set<RecordType>(['reg', 'hardlink', 'symlink', 'char', 'block', 'dir', 'fifo']);
const DIGEST = /^sha256:[0-9a-f]{64}$/;
/** Offsets within a FlatBuffer are signed. */
const SIZE_LIMIT = 2 ** 31 - 2 ** 20;
/** Bytes of the smallest tables that say what they have to. */
const RECORD_LEAST = 28;
const XATTR_LEAST = 12;

/**
 * Encodes a zTOC in the construction order of the soci CLI (notes §1.2), so that the bytes are the same. What does not fit a
 * FlatBuffer is LIMIT.
 */
export function encodeZtoc(ztoc: Ztoc): Uint8Array {
  const size = zinfoSize(ztoc.spans);
  // One allocation where the builder would double and copy: the checkpoints are nearly all of it.
  const atMost = size + ztoc.spanDigests.length * 96 + 4096 + recordsAtMost(ztoc.records);
  if (atMost > SIZE_LIMIT) throw new LazypullError('LIMIT', `a zTOC of ${spanCount(ztoc.spans)} spans is above 2 GiB: a larger span size makes fewer`);
  const builder = new Builder(atMost);
  const version = builder.createString(ZTOC_VERSION);
  const tool = builder.createString(ztoc.buildTool);
  const records = ztoc.records.map(() => 0);
  for (let i = records.length - 1; i >= 0; i -= 1) records[i] = addRecord(builder, ztoc.records[i] as ZtocRecord);
  const metadata = addVector(builder, records);
  builder.startObject(1);
  builder.addFieldOffset(0, metadata, 0);
  const toc = builder.endObject();
  const checkpoints = addZinfo(builder, ztoc, size);
  const digests = addVector(builder, ztoc.spanDigests.map((digest) => builder.createString(digest)));
  builder.startObject(4);
  builder.addFieldInt32(1, spanCount(ztoc.spans) - 1, 0);
  builder.addFieldOffset(2, digests, 0);
  builder.addFieldOffset(3, checkpoints, 0);
  builder.addFieldInt8(0, ALGORITHM[ztoc.spans.algorithm], ALGORITHM.gzip);
  const compression = builder.endObject();
  builder.startObject(6);
  builder.addFieldOffset(0, version, 0);
  builder.addFieldOffset(1, tool, 0);
  builder.addFieldOffset(4, toc, 0);
  builder.addFieldInt64(2, BigInt(ztoc.packedSize), 0n);
  builder.addFieldInt64(3, BigInt(ztoc.tarSize), 0n);
  builder.addFieldOffset(5, compression, 0);
  builder.finish(builder.endObject());
  return builder.asUint8Array();
}

/** Bytes that the records take, or some more. */
function recordsAtMost(records: readonly ZtocRecord[]): number {
  let size = 0;
  for (const { name, linkName, userName, groupName, pax } of records) {
    // The table, its seven strings' and vectors' lengths and padding; three bytes to a character of a name.
    size += 256 + 3 * (name.length + linkName.length + userName.length + groupName.length);
    for (const [key, value] of pax) size += 48 + 3 * key.length + value.length;
  }
  return size;
}

function addRecord(builder: Builder, record: ZtocRecord): number {
  const name = builder.createString(encodeName(record.name));
  const type = builder.createString(record.type);
  const linkName = builder.createString(encodeName(record.linkName));
  const userName = builder.createString(encodeName(record.userName));
  const groupName = builder.createString(encodeName(record.groupName));
  const modTime = builder.createString(record.modTime);
  const xattrs = addVector(builder, sorted(record.pax).map(([key, value]) => addXattr(builder, key, value)));
  builder.startObject(14);
  builder.addFieldOffset(0, name, 0);
  builder.addFieldOffset(1, type, 0);
  builder.addFieldInt64(2, BigInt(record.offset), 0n);
  builder.addFieldInt64(3, BigInt(record.size), 0n);
  builder.addFieldOffset(4, linkName, 0);
  builder.addFieldInt64(5, BigInt(record.mode), 0n);
  builder.addFieldInt32(6, record.uid, 0);
  builder.addFieldInt32(7, record.gid, 0);
  builder.addFieldOffset(8, userName, 0);
  builder.addFieldOffset(9, groupName, 0);
  builder.addFieldOffset(10, modTime, 0);
  builder.addFieldInt64(11, BigInt(record.major), 0n);
  builder.addFieldInt64(12, BigInt(record.minor), 0n);
  builder.addFieldOffset(13, xattrs, 0);
  return builder.endObject();
}

/** By the bytes of the keys. */
function sorted(pax: ZtocRecord['pax']): (readonly [Uint8Array, Uint8Array])[] {
  if (pax.size === 0) return [];
  return [...pax].map(([key, value]) => [encodeName(key), value] as const).sort(([a], [b]) => Buffer.compare(a, b));
}

function addXattr(builder: Builder, key: Uint8Array, value: Uint8Array): number {
  const keyAt = builder.createString(key);
  const valueAt = builder.createString(value);
  builder.startObject(2);
  builder.addFieldOffset(0, keyAt, 0);
  builder.addFieldOffset(1, valueAt, 0);
  return builder.endObject();
}

/** A vector of offsets. */
function addVector(builder: Builder, offsets: readonly number[]): number {
  builder.startVector(4, offsets.length, 4);
  for (let i = offsets.length - 1; i >= 0; i -= 1) builder.addOffset(offsets[i] as number);
  return builder.endVector();
}

/** The checkpoints are written in place: they may be hundreds of megabytes, and a copy of them would be as much. */
function addZinfo(builder: Builder, ztoc: Ztoc, size: number): number {
  builder.startVector(1, size, 1);
  builder.pad(size);
  const buffer = builder.dataBuffer();
  const start = buffer.capacity() - builder.offset();
  writeZinfo(ztoc.spans, buffer.bytes().subarray(start, start + size));
  return builder.endVector();
}

/**
 * Decodes a stranger's zTOC: any breach of the format, and of rules 1 and 3 of notes §6.3, is CORRUPT. Windows and pax
 * values are views. Rule 5 is toc-tree.ts's; rules 2 and 4 are about the layer's own bytes.
 */
export function decodeZtoc(bytes: Uint8Array, what = 'zTOC'): Ztoc {
  const buffer = new FlatBuffer(bytes, what);
  const root = buffer.root();
  const packedSize = root.size(2, 'size of the layer');
  const tarSize = root.size(3, 'size of the tar');
  const records: ZtocRecord[] = [];
  root.table(4, 'table of contents').tables(0, RECORD_LEAST, (table, index) => records.push(decodeRecord(table, `${what}: record ${index}`)));
  // Upstream's reader sorts too; its writer need not have.
  if (records.some(({ offset }, i) => offset < (records[i - 1]?.offset ?? 0))) records.sort((a, b) => a.offset - b.offset);
  const compression = root.table(5, 'compression information');
  const code = compression.int8(0, ALGORITHM.gzip);
  const algorithm = code === ALGORITHM.gzip ? 'gzip' : code === ALGORITHM.uncompressed ? 'uncompressed' : undefined;
  if (!algorithm) throw buffer.corrupt(`compression algorithm ${code} is unknown`, compression.at);
  const spanDigests: Digest[] = [];
  compression.strings(2, (text, index) => {
    const digest = Buffer.from(text.buffer, text.byteOffset, Math.min(text.length, 200)).toString('latin1');
    if (!DIGEST.test(digest)) throw corrupt(`${what}: digest of span ${index} is ${printable(JSON.stringify(digest))}`, { offset: text.byteOffset - bytes.byteOffset });
    spanDigests.push(digest as Digest);
  });
  const spans = decodeZinfo(compression.bytes(3), algorithm, what);
  const ztoc: Ztoc = { buildTool: decodeName(root.bytes(1)), packedSize, tarSize, records, spans, spanDigests };
  checkSpans(ztoc, compression.int32(1), spanDigests.length, what);
  return ztoc;
}

function decodeRecord(table: Table, what: string): ZtocRecord {
  const type = decodeName(table.bytes(1));
  if (!TYPES.has(type)) throw corrupt(`${what} is of type ${printable(JSON.stringify(type.slice(0, 40)))}`, { offset: table.at });
  const offset = table.size(2, 'offset of a record');
  const size = table.size(3, 'size of a record');
  const pax = new Map<string, Uint8Array>();
  table.tables(13, XATTR_LEAST, (xattr) => pax.set(decodeName(xattr.bytes(0)), xattr.bytes(1)));
  return {
    name: decodeName(table.bytes(0)),
    type: type as RecordType,
    offset,
    size,
    linkName: decodeName(table.bytes(4)),
    mode: table.size(5, 'mode of a record'),
    uid: table.uint32(6),
    gid: table.uint32(7),
    userName: decodeName(table.bytes(8)),
    groupName: decodeName(table.bytes(9)),
    modTime: decodeName(table.bytes(10)),
    major: table.size(11, 'device number of a record'),
    minor: table.size(12, 'device number of a record'),
    pax: pax.size === 0 ? NO_PAX : pax,
  };
}

const NO_PAX: ReadonlyMap<string, Uint8Array> = new Map();
