import { createHash } from 'node:crypto';
import { NO_EXTENTS, NO_XATTRS } from '../../src/layer/nodes.ts';
import { TreeBuilder } from '../../src/layer/tree.ts';
import { CHUNK_ROW_SIZE } from '../../formats/nydus/bootstrap-layout.ts';
import { Bootstrap } from '../../formats/nydus/bootstrap-writer.ts';
import { refOf } from '../../formats/nydus/layer-blobs.ts';
import { ChunkTable } from '../../formats/nydus/layer-chunks.ts';
import type { NydusFile } from '../../formats/nydus/layer-tree.ts';
import { BLOB_FEATURE } from '../../formats/nydus/layout.ts';
import { pathOf } from './erofs.ts';

const NO_DIGEST = new Uint8Array(32);

export interface BootstrapFigures {
  readonly inodes: number;
  readonly bytes: number;
  readonly bytesOfNames: number;
  /** The chunk table, which only tools look at, has 80 bytes for each chunk. */
  readonly bytesOfChunkTable: number;
  readonly bytesPerInodeBeyondNames: number;
  readonly bytesPerInodeBeyondNamesAndChunkTable: number;
  /** From the tree to the last byte. */
  readonly seconds: number;
}

/** The bootstrap of so many files, each a chunk of its own in one blob. */
export async function benchBootstrap(files: number): Promise<BootstrapFigures> {
  const tree = new TreeBuilder();
  const chunks = new ChunkTable();
  let names = 0;
  for (let i = 0; i < files; i += 1) {
    const path = pathOf(i);
    const size = 1 + ((i * 7919) % 60_000);
    const digest = createHash('sha256').update(path).digest();
    const row = chunks.add(digest, 0, size);
    chunks.place(row, { offset: row * 65_536, size, flags: 0 });
    const file: NydusFile = { type: 'file', mode: 0o644, uid: 0, gid: 0, mtime: tree.make.time({ seconds: 1_700_000_000 + (i % 100_000), nanoseconds: 0 }), xattrs: NO_XATTRS, size, extents: NO_EXTENTS, chunks: refOf(0, row) };
    tree.add(path, file);
    names += path.length - path.lastIndexOf('/') - 1;
  }
  const root = tree.finish();
  const started = performance.now();
  const entry = {
    id: 'a'.repeat(64), chunkSize: 1 << 20, chunkCount: files, compressor: 3, digester: 1, features: BLOB_FEATURE.aligned | BLOB_FEATURE.inlinedChunkDigest, compressedSize: files * 65_536, uncompressedSize: chunks.uncompressedSize,
    tocSize: 0, contextCompressor: 0, contextOffset: 0, contextCompressedSize: files * 16, contextUncompressedSize: files * 16, tocDigest: NO_DIGEST, metaDigest: NO_DIGEST, metaSize: 0, cipher: 0,
  };
  const bootstrap = new Bootstrap({ root, blobs: [{ chunks, entry }], settings: { chunkSize: 1 << 20, compressor: 'zstd', digester: 'sha256' } });
  await bootstrap.write(async () => undefined);
  const seconds = Math.round(performance.now() - started) / 1000;
  const { inodes, size: bytes } = bootstrap;
  const table = bootstrap.chunks * CHUNK_ROW_SIZE;
  const per = (all: number): number => Math.round((all / inodes) * 10) / 10;
  return { inodes, bytes, bytesOfNames: names, bytesOfChunkTable: table, bytesPerInodeBeyondNames: per(bytes - names), bytesPerInodeBeyondNamesAndChunkTable: per(bytes - names - table), seconds };
}
