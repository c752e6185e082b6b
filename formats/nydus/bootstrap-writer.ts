import { concat, roundUp } from '../../src/core/bytes.ts';
import { LazypullError } from '../../src/core/errors.ts';
import type { DirectoryNode, FileNode, RegularNode, Sink } from '../../src/core/types.ts';
import { COMPAT, INCOMPAT } from '../../src/erofs/layout.ts';
import { planErofs, type ErofsPlan } from '../../src/erofs/plan.ts';
import type { ChunkMap } from '../../src/erofs/place.ts';
import { writeErofs } from '../../src/erofs/write.ts';
import { walk } from '../../src/layer/walk.ts';
import {
  BLOB_ENTRY_SIZE, CHUNK_ROW_FLAG, CHUNK_ROW_SIZE, DEVICE_TABLE_OFFSET, encodeBlobEntry, encodeChunkRow, encodePrefetchTable, encodeRafsSuperblock, EXTENSION_OFFSET,
  NID_SIZE, type BlobEntry,
} from './bootstrap-layout.ts';
import { CHUNK_FLAG } from './context-layout.ts';
import { blobOf, refOf, rowOf, type ChunkRef } from './layer-blobs.ts';
import type { ChunkTable } from './layer-chunks.ts';
import { chunksOf } from './layer-tree.ts';
import { algorithmFlags, ALIGNMENT, BLOB_FEATURE, MAX_BLOBS, RAFS_FLAG } from './layout.ts';
import type { NydusSettings } from './options.ts';

/** A blob as a bootstrap names it. */
export interface NamedBlob {
  readonly chunks: ChunkTable;
  readonly entry: Omit<BlobEntry, 'index'>;
}

export interface BootstrapInput {
  readonly root: DirectoryNode;
  /** By the number that files' chunks have of them. Those that no file has a chunk in are left out. */
  readonly blobs: readonly (NamedBlob | undefined)[];
  readonly settings: Pick<NydusSettings, 'chunkSize' | 'compressor' | 'digester'>;
  /** Of the superblock, where it is not the setting: zran is about gzip. */
  readonly compressor?: 'gzip';
  /** Nodes of the tree that are to be fetched first; a directory stands for all that is below it. */
  readonly prefetch?: readonly FileNode[];
  readonly signal?: AbortSignal | undefined;
}

const BLOCK = 4096;
/** Devices are mapped at multiples of 512 KiB, blocks. */
const DEVICE_ALIGNMENT = 128;
/** Rows that are written at once. */
const ROWS = 4096;

/** The bootstrap of a tree: a RAFS v6 image, which is EROFS without content (§2-§4). */
export class Bootstrap {
  /** Numbers of the blobs that it names, in the order of its table. */
  readonly used: readonly number[];
  /** Bytes. */
  readonly size: number;
  /** Inodes. */
  readonly inodes: number;
  /** Rows of the chunk table. */
  readonly chunks: number;
  readonly warnings: readonly string[];
  readonly #input: BootstrapInput;
  readonly #plan: ErofsPlan;
  readonly #flags: number;
  readonly #blobTable: number;
  /** Chunks of files, sorted by digest, place of the blob and number in it. */
  readonly #rows: Uint32Array;
  readonly #census: Census;
  readonly #prefetch: readonly FileNode[];

  constructor(input: BootstrapInput) {
    this.#input = input;
    const census = (this.#census = new Census(input));
    this.used = census.used;
    this.#rows = sortRows(input, census);
    this.chunks = this.#rows.length;
    // A prefetch table without a blob table would be nothing that loaders look for.
    this.#prefetch = this.used.length === 0 ? [] : (input.prefetch ?? []);
    this.#blobTable = Math.max(BLOCK, roundUp(DEVICE_TABLE_OFFSET + 128 * this.used.length, BLOCK));
    const tablesEnd = this.#blobTable + BLOB_ENTRY_SIZE * this.used.length + NID_SIZE * this.#prefetch.length;
    const trailer = roundUp(this.#rows.length * CHUNK_ROW_SIZE, BLOCK);
    this.#plan = planErofs(input.root, {
      blockSize: BLOCK,
      devices: this.used.map((number) => ({ tag: this.#entry(number).id, size: this.#entry(number).uncompressedSize })),
      place: (node) => this.#place(node),
      shareXattrs: false,
      uuid: new Uint8Array(16),
      // The root is one block behind the base: inode number 0 would be taken for none.
      frame: { deviceTable: DEVICE_TABLE_OFFSET, metadata: roundUp(tablesEnd, BLOCK), rootGap: BLOCK, trailer, deviceAlignment: DEVICE_ALIGNMENT },
    });
    this.#flags = this.#flagsOf(census.hasXattrs);
    this.size = this.#plan.size + trailer;
    this.inodes = this.#plan.superblock.inodes;
    this.warnings = this.#plan.warnings;
  }

  /** Writes all of it, `size` bytes. */
  async write(sink: Sink): Promise<void> {
    const { used } = this;
    const plan = this.#plan;
    const entries = used.map((number, index) => encodeBlobEntry({ ...this.#entry(number), index }));
    const prefetch = encodePrefetchTable(this.#nids());
    const extension = encodeRafsSuperblock({
      flags: this.#flags,
      blobTableOffset: this.#blobTable,
      blobTableSize: BLOB_ENTRY_SIZE * used.length,
      chunkSize: this.#input.settings.chunkSize,
      chunkTableOffset: plan.size,
      chunkTableSize: this.#rows.length * CHUNK_ROW_SIZE,
      prefetchTableOffset: prefetch.length === 0 ? 0 : this.#blobTable + BLOB_ENTRY_SIZE * used.length,
      prefetchTableSize: prefetch.length,
    });
    await writeErofs(plan, sink, {
      superblock: {
        featureCompat: COMPAT.rafs,
        featureIncompat: INCOMPAT.chunkedFile | INCOMPAT.deviceTable,
        blocks: plan.devices.reduce((sum, { blocks }) => sum + blocks, 0),
        deviceTable: DEVICE_TABLE_OFFSET,
      },
      tables: [{ offset: EXTENSION_OFFSET, bytes: extension }, ...(used.length > 0 ? [{ offset: this.#blobTable, bytes: concat([...entries, prefetch]) }] : [])],
      ...(this.#input.signal && { signal: this.#input.signal }),
    });
    await this.#writeRows(sink);
  }

  #entry(number: number): NamedBlob['entry'] {
    return blobAt(this.#input, number).entry;
  }

  #flagsOf(hasXattrs: boolean): number {
    const { settings, compressor } = this.#input;
    const inlined = this.used.every((number) => (this.#entry(number).features & BLOB_FEATURE.inlinedChunkDigest) !== 0);
    return algorithmFlags(compressor ?? settings.compressor, settings.digester) | RAFS_FLAG.explicitIds | RAFS_FLAG.encryptNone | (hasXattrs ? RAFS_FLAG.hasXattr : 0) | (inlined ? RAFS_FLAG.inlinedChunkDigest : 0);
  }

  /** Always in chunks, also without any: loaders know no other layout for files (§3). */
  #place(node: RegularNode): ChunkMap {
    const { settings } = this.#input;
    return {
      kind: 'chunks',
      bits: Math.log2(settings.chunkSize / BLOCK),
      indexes: chunksOf(node).map((ref) => {
        const { chunks } = blobAt(this.#input, blobOf(ref));
        const number = chunks.number(rowOf(ref));
        return { device: this.#census.placeOf(blobOf(ref)) + 1 + (number >>> 16) * 256, high: number & 0xffff, block: chunks.block(rowOf(ref)) };
      }),
    };
  }

  #nids(): number[] {
    if (this.#prefetch.length === 0) return [];
    const nids = new Map<FileNode, number>(this.#prefetch.map((node) => [node, 0]));
    this.#plan.each((node, nid) => {
      if (nids.has(node)) nids.set(node, nid);
    });
    return this.#prefetch.map((node) => nids.get(node) as number);
  }

  async #writeRows(sink: Sink): Promise<void> {
    const bytes = Buffer.alloc(ROWS * CHUNK_ROW_SIZE);
    for (let at = 0; at < this.#rows.length; at += ROWS) {
      const rows = this.#rows.subarray(at, at + ROWS);
      for (const [i, ref] of rows.entries()) bytes.set(this.#encodeRow(ref), i * CHUNK_ROW_SIZE);
      await sink(bytes.subarray(0, rows.length * CHUNK_ROW_SIZE));
    }
    const padding = this.size - this.#plan.size - this.#rows.length * CHUNK_ROW_SIZE;
    if (padding > 0) await sink(new Uint8Array(padding));
  }

  #encodeRow(ref: ChunkRef): Uint8Array {
    const { chunks } = blobAt(this.#input, blobOf(ref));
    const row = rowOf(ref);
    const { offset, size, flags } = chunks.stored(row);
    const batch = (flags & CHUNK_FLAG.batch) !== 0;
    return encodeChunkRow({
      digest: chunks.digest(row),
      blobIndex: this.#census.placeOf(blobOf(ref)),
      flags: ((flags & CHUNK_FLAG.compressed) !== 0 ? CHUNK_ROW_FLAG.compressed : 0) | (batch ? CHUNK_ROW_FLAG.batch : 0),
      compressedSize: size,
      uncompressedSize: chunks.size(row),
      compressedOffset: offset,
      uncompressedOffset: chunks.block(row) * ALIGNMENT,
      fileOffset: this.#census.positionOf(ref) * this.#input.settings.chunkSize,
      index: chunks.number(row),
      crc32: 0,
    });
  }
}

function blobAt({ blobs }: BootstrapInput, number: number): NamedBlob {
  const blob = blobs[number];
  if (!blob) throw new LazypullError('INTERNAL', `a file has a chunk in blob ${number}, which is not there`);
  return blob;
}

/** What the files of a tree make use of. */
class Census {
  readonly used: readonly number[];
  hasXattrs = false;
  /** Chunks that files have, each once. */
  chunks = 0;
  /** By blob and row: 1 + place of the chunk in the first file that has it, in chunks; 0 when none does. */
  readonly #positions: (Uint32Array | undefined)[] = [];
  readonly #places: number[] = [];

  constructor({ root, blobs }: BootstrapInput) {
    for (const { node } of walk(root)) {
      if (node.xattrs.size > 0) this.hasXattrs = true;
      if (node.type !== 'file') continue;
      for (const [position, ref] of chunksOf(node).entries()) this.#note(ref, position, blobs);
    }
    this.used = blobs.flatMap((_, number) => (this.#positions[number] ? [number] : []));
    if (this.used.length > MAX_BLOBS) throw new LazypullError('LIMIT', `an image has ${this.used.length} blobs; Nydus has numbers for ${MAX_BLOBS}`);
    for (const [place, number] of this.used.entries()) this.#places[number] = place;
  }

  /** Place of a blob in the bootstrap's table. */
  placeOf(blob: number): number {
    return this.#places[blob] as number;
  }

  positionOf(ref: ChunkRef): number {
    return (this.#positions[blobOf(ref)]?.[rowOf(ref)] ?? 1) - 1;
  }

  /** The chunks of a blob that files have. */
  *rows(blob: number): Generator<number> {
    for (const [row, position] of (this.#positions[blob] ?? []).entries()) if (position > 0) yield row;
  }

  #note(ref: ChunkRef, position: number, blobs: BootstrapInput['blobs']): void {
    const blob = blobOf(ref);
    const positions = (this.#positions[blob] ??= new Uint32Array(blobs[blob]?.chunks.count ?? 0));
    if (positions[rowOf(ref)] !== 0) return;
    positions[rowOf(ref)] = position + 1;
    this.chunks += 1;
  }
}

/** All chunks that files have, in the order of the chunk table (§4.2). */
function sortRows(input: BootstrapInput, census: Census): Uint32Array {
  const refs = new Uint32Array(census.chunks);
  let count = 0;
  for (const blob of census.used) for (const row of census.rows(blob)) refs[count++] = refOf(blob, row);
  const hashes = new Map<number, Uint32Array>();
  for (const blob of census.used) {
    const { chunks } = blobAt(input, blob);
    hashes.set(blob, Uint32Array.from({ length: chunks.count }, (_, row) => beginningOf(chunks.digest(row))));
  }
  // Blobs ascend with their places and rows with their numbers, so references have the order that is left to decide.
  return refs.sort((a, b) => {
    const first = (hashes.get(blobOf(a)) as Uint32Array)[rowOf(a)] as number;
    const second = (hashes.get(blobOf(b)) as Uint32Array)[rowOf(b)] as number;
    if (first !== second) return first - second;
    return Buffer.compare(blobAt(input, blobOf(a)).chunks.digest(rowOf(a)), blobAt(input, blobOf(b)).chunks.digest(rowOf(b))) || a - b;
  });
}

/** The first bytes as a number that sorts like them. */
function beginningOf(digest: Uint8Array): number {
  return (digest[0] as number) * 2 ** 24 + (digest[1] as number) * 2 ** 16 + (digest[2] as number) * 256 + (digest[3] as number);
}
