import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LazypullError } from '../../../src/core/errors.ts';
import { decodeMemberHeader, decodeTocEntry, encodeMemberHeader, encodeTocEntry, MEMBER_HEADER_SIZE, TOC_ENTRY_SIZE } from '../../../formats/nydus/blob-layout.ts';
import {
  BLOB_ENTRY_SIZE, CHUNK_ROW_SIZE, decodeBlobEntry, decodeChunkAddress, decodeChunkRow, decodePrefetchTable, decodeRafsSuperblock, encodeBlobEntry,
  encodeChunkAddress, encodeChunkRow, encodePrefetchTable, encodeRafsSuperblock, EXTENSION_SIZE,
} from '../../../formats/nydus/bootstrap-layout.ts';
import {
  CHUNK_FLAG, CONTEXT_HEADER_SIZE, CONTEXT_SIZE, decodeBatchContext, decodeChunkInfoV1, decodeChunkInfoV2, decodeContextHeader, decodeZranContext, encodeBatchContext,
  encodeChunkInfoV1, encodeChunkInfoV2, encodeContextHeader, encodeZranContext,
} from '../../../formats/nydus/context-layout.ts';
import { algorithmFlags, algorithmsOf, BLOB_FEATURE, checkFeatures, COMPRESSOR, compressorName, DIGESTER, digesterName, featureNames, RAFS_FLAG } from '../../../formats/nydus/layout.ts';

/** Records as literals make them. */
const record = <T>(fields: { readonly [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> => fc.record<T>(fields as { [K in keyof T]: fc.Arbitrary<T[K]> }, { noNullPrototype: true }) as fc.Arbitrary<T>;
const u8 = fc.nat(0xff);
const u32 = fc.nat(0xffff_ffff);
const u53 = fc.maxSafeNat();
const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 });
const id = fc.stringMatching(/^[0-9a-f]{64}$/);
const plain = (bytes: Uint8Array): Uint8Array => Uint8Array.from(bytes);
const isCorrupt = (error: unknown): boolean => error instanceof LazypullError && error.code === 'CORRUPT';

describe('RAFS v6 structures', () => {
  it('keeps every field of the extended superblock', () => {
    const fields = { flags: u53, blobTableOffset: u53, blobTableSize: u32, chunkSize: u32, chunkTableOffset: u53, chunkTableSize: u53, prefetchTableOffset: u53, prefetchTableSize: u32 };
    fc.assert(fc.property(record(fields), (sb) => {
      const bytes = encodeRafsSuperblock(sb);
      assert.equal(bytes.length, EXTENSION_SIZE);
      assert.deepEqual(decodeRafsSuperblock(bytes), sb);
    }));
  });

  it('has the fields of the extended superblock where readers look', () => {
    const bytes = Buffer.from(encodeRafsSuperblock({
      flags: 0x94, blobTableOffset: 0x1000, blobTableSize: 256, chunkSize: 1 << 20, chunkTableOffset: 0x5000, chunkTableSize: 80, prefetchTableOffset: 0x1100, prefetchTableSize: 4,
    }));
    assert.deepEqual([bytes.readUInt32LE(0), bytes.readUInt32LE(8), bytes.readUInt32LE(16), bytes.readUInt32LE(20), bytes.readUInt32LE(24), bytes.readUInt32LE(32), bytes.readUInt32LE(40), bytes.readUInt32LE(48)],
      [0x94, 0x1000, 256, 1 << 20, 0x5000, 80, 0x1100, 4]);
    assert.ok(bytes.subarray(52).every((byte) => byte === 0));
  });

  it('keeps every field of a blob entry', () => {
    fc.assert(fc.property(
      record({
        id, index: u32, chunkSize: u32, chunkCount: u32, compressor: u32, digester: u32, features: u32, compressedSize: u53, uncompressedSize: u53, tocSize: u32,
        contextCompressor: u32, contextOffset: u53, contextCompressedSize: u53, contextUncompressedSize: u53, tocDigest: bytes32, metaDigest: bytes32, metaSize: u53,
      }),
      (entry) => {
        const bytes = encodeBlobEntry({ ...entry, cipher: 0 });
        assert.equal(bytes.length, BLOB_ENTRY_SIZE);
        const decoded = decodeBlobEntry(bytes, 0);
        assert.deepEqual({ ...decoded, tocDigest: plain(decoded.tocDigest), metaDigest: plain(decoded.metaDigest) }, { ...entry, cipher: 0 });
      },
    ));
  });

  it('tells where in the bootstrap a number is too large', () => {
    const bytes = Buffer.alloc(BLOB_ENTRY_SIZE);
    bytes.writeBigUInt64LE(2n ** 53n, 88);
    assert.throws(() => decodeBlobEntry(bytes, 4096), (error) => isCorrupt(error) && (error as LazypullError).offset === 4096 + 88);
  });

  it('keeps every field of a chunk row', () => {
    fc.assert(fc.property(
      record({ digest: bytes32, blobIndex: u32, flags: u32, compressedSize: u32, uncompressedSize: u32, compressedOffset: u53, uncompressedOffset: u53, fileOffset: u53, index: u32, crc32: u32 }),
      (row) => {
        const bytes = encodeChunkRow(row);
        assert.equal(bytes.length, CHUNK_ROW_SIZE);
        const decoded = decodeChunkRow(bytes, 0);
        assert.deepEqual({ ...decoded, digest: plain(decoded.digest) }, row);
      },
    ));
  });

  it('puts a chunk address into the clothes of an EROFS chunk index', () => {
    const bytes = new DataView(new ArrayBuffer(8));
    encodeChunkAddress(bytes, 0, { blob: 2, index: 0xabcdef, block: 0x1234_5678 });
    // startblk_hi, device_id (blob in the low byte), startblk_lo.
    assert.deepEqual([bytes.getUint16(0, true), bytes.getUint16(2, true), bytes.getUint32(4, true)], [0xcdef, 0xab03, 0x1234_5678]);
    assert.deepEqual(decodeChunkAddress(bytes, 0, 3, 0), { blob: 2, index: 0xabcdef, block: 0x1234_5678 });
    assert.throws(() => decodeChunkAddress(bytes, 0, 2, 0), isCorrupt);
    encodeChunkAddress(bytes, 0, { blob: -1, index: 0, block: 0 });
    assert.throws(() => decodeChunkAddress(bytes, 0, 3, 0), isCorrupt);
  });

  it('keeps a prefetch table', () => {
    fc.assert(fc.property(fc.array(u32), (nids) => assert.deepEqual(decodePrefetchTable(encodePrefetchTable(nids)), nids)));
  });

  it('knows exactly one compressor and one digest algorithm', () => {
    for (const compressor of Object.keys(COMPRESSOR) as (keyof typeof COMPRESSOR)[]) {
      for (const digester of Object.keys(DIGESTER) as (keyof typeof DIGESTER)[]) {
        const flags = algorithmFlags(compressor, digester);
        assert.deepEqual(algorithmsOf(flags | RAFS_FLAG.hasXattr, 0), { compressor, digester });
      }
    }
    assert.throws(() => algorithmsOf(0, 0), isCorrupt);
    assert.throws(() => algorithmsOf(RAFS_FLAG.compressLz4 | RAFS_FLAG.compressZstd | RAFS_FLAG.digestSha256, 0), isCorrupt);
    assert.deepEqual([compressorName(1), compressorName(3), compressorName(4), digesterName(0), digesterName(2)], ['lz4', 'zstd', undefined, 'blake3', undefined]);
  });

  it('refuses features that loaders refuse', () => {
    checkFeatures(0x7000_0fff, 'blob', 0);
    assert.throws(() => checkFeatures(0x1000, 'blob', 0), isCorrupt);
    assert.throws(() => checkFeatures(0x8000_0000, 'blob', 0), isCorrupt);
    assert.deepEqual(featureNames(BLOB_FEATURE.aligned | BLOB_FEATURE.batch | BLOB_FEATURE.hasToc), ['aligned', 'batch', 'hasToc']);
  });
});

describe('the context table', () => {
  it('keeps every field of its header', () => {
    fc.assert(fc.property(record({ features: u32, compressor: u32, entries: u32, offset: u53, compressedSize: u53, uncompressedSize: u53, contextsOffset: u53, contextsSize: u53, contexts: u32 }), (header) => {
      const bytes = encodeContextHeader(header);
      assert.equal(bytes.length, CONTEXT_HEADER_SIZE);
      assert.deepEqual(decodeContextHeader(bytes, 0), header);
    }));
    for (const at of [0, 4092]) {
      const bytes = Buffer.from(encodeContextHeader({ features: 0, compressor: 0, entries: 0, offset: 0, compressedSize: 0, uncompressedSize: 0, contextsOffset: 0, contextsSize: 0, contexts: 0 }));
      bytes.writeUInt8(1, at);
      assert.throws(() => decodeContextHeader(bytes, 100), (error) => isCorrupt(error) && (error as LazypullError).offset === 100 + at);
    }
  });

  it('has chunk infos of version 1 as two words of 64 bits', () => {
    const place = record({ block: fc.nat(2 ** 32 - 1), uncompressedSize: fc.integer({ min: 1, max: 2 ** 24 }), compressedOffset: fc.nat(2 ** 40 - 1), compressedSize: fc.integer({ min: 1, max: 2 ** 24 }) });
    fc.assert(fc.property(place, ({ block, uncompressedSize, compressedOffset, compressedSize }) => {
      const view = new DataView(new ArrayBuffer(16));
      const info = { flags: uncompressedSize === compressedSize ? 0 : CHUNK_FLAG.compressed, uncompressedOffset: block * 4096, uncompressedSize, compressedOffset, compressedSize, low: 0, high: 0 };
      encodeChunkInfoV1(view, 0, info);
      const [size, stored] = [BigInt(uncompressedSize - 1), BigInt(compressedSize - 1)];
      assert.equal(view.getBigUint64(0, true), BigInt(block * 4096) | ((size & 0xfffffn) << 44n) | ((size >> 20n) << 8n));
      assert.equal(view.getBigUint64(8, true), BigInt(compressedOffset) | ((stored & 0xfffffn) << 44n) | ((stored >> 20n) << 40n));
      assert.deepEqual(decodeChunkInfoV1(view, 0), info);
    }));
  });

  it('has chunk infos of version 2 as three', () => {
    const place = record({ flags: fc.nat(0x1f), block: u32, uncompressedSize: fc.integer({ min: 1, max: 2 ** 24 }), compressedOffset: fc.nat(2 ** 40 - 1), compressedSize: fc.nat(2 ** 24 - 1), low: u32, high: u32 });
    fc.assert(fc.property(place, ({ block, ...rest }) => {
      const view = new DataView(new ArrayBuffer(24));
      const info = { ...rest, uncompressedOffset: block * 4096 };
      encodeChunkInfoV2(view, 0, info);
      assert.equal(view.getBigUint64(0, true), BigInt(block) | (BigInt(info.uncompressedSize - 1) << 32n) | (BigInt(info.flags) << 56n));
      assert.equal(view.getBigUint64(8, true), BigInt(info.compressedOffset) | (BigInt(info.compressedSize) << 40n));
      assert.equal(view.getBigUint64(16, true), BigInt(info.low) | (BigInt(info.high) << 32n));
      assert.deepEqual(decodeChunkInfoV2(view, 0), info);
    }));
  });

  it('keeps contexts', () => {
    fc.assert(fc.property(record({ inOffset: u53, outOffset: u53, dictOffset: u53, inSize: u32, outSize: u32, dictSize: u32, byte: u8, bits: u8 }), u32, (context, size) => {
      const bytes = encodeZranContext(context);
      assert.equal(bytes.length, CONTEXT_SIZE);
      assert.deepEqual(decodeZranContext(Buffer.concat([new Uint8Array(7), bytes]), 7), context);
      const batch = encodeBatchContext({ compressedSize: size, uncompressedSize: context.outSize });
      assert.equal(batch.length, CONTEXT_SIZE);
      assert.deepEqual(decodeBatchContext(new DataView(batch.buffer, batch.byteOffset), 0), { compressedSize: size, uncompressedSize: context.outSize });
    }));
  });
});

describe('members of a blob', () => {
  it('have a tar header behind them', () => {
    fc.assert(fc.property(fc.stringMatching(/^[a-z.]{1,40}$/), fc.oneof(u32, u53), (name, size) => {
      const bytes = encodeMemberHeader({ name, size });
      assert.equal(bytes.length, MEMBER_HEADER_SIZE);
      assert.deepEqual(decodeMemberHeader(bytes, 0), { name, size });
    }));
  });

  it('have headers exactly as nydus-image writes them', () => {
    const bytes = Buffer.from(encodeMemberHeader({ name: 'blob.meta', size: 4464 }));
    assert.equal(bytes.toString('latin1', 0, 10), 'blob.meta\0');
    assert.ok(bytes.subarray(100, 124).every((byte) => byte === 0), 'mode, uid, gid');
    assert.equal(bytes.toString('latin1', 124, 136), '00000010560\0');
    assert.equal(bytes.toString('latin1', 148, 157), `${[...bytes].reduce((sum, byte, i) => sum + (i >= 148 && i < 156 ? 32 : byte), 0).toString(8).padStart(7, '0')}\x000`);
    assert.equal(bytes.toString('latin1', 257, 265), 'ustar  \0');
  });

  it('are not mistaken for something else', () => {
    const bytes = Buffer.from(encodeMemberHeader({ name: 'image.boot', size: 10 }));
    assert.equal(decodeMemberHeader(new Uint8Array(512), 0), undefined);
    const flipped = Buffer.from(bytes);
    flipped.writeUInt8(0x78, 3);
    assert.equal(decodeMemberHeader(flipped, 0), undefined, 'the checksum is looked at');
  });

  it('are told by a TOC', () => {
    fc.assert(fc.property(record({ name: fc.stringMatching(/^[a-z.]{1,16}$/), flags: u32, digest: bytes32, offset: u53, compressedSize: u53, uncompressedSize: u53 }), (entry) => {
      const bytes = encodeTocEntry(entry);
      assert.equal(bytes.length, TOC_ENTRY_SIZE);
      const decoded = decodeTocEntry(bytes, 0);
      assert.deepEqual({ ...decoded, digest: plain(decoded.digest) }, entry);
    }));
  });
});
