import { corrupt } from '../../src/core/errors.ts';
import type { ConvertContext } from '../../src/core/format.ts';
import type { ByteStream, Sink } from '../../src/core/types.ts';
import { compressChunks, digestChunks, packsKnownMatches, type PackedUnits, type PlainRange } from '../../src/codec/chunk-jobs.ts';
import { MemberMemory } from '../../src/codec/member-memory.ts';
import { ALIGNMENT } from './layout.ts';
import { CHUNK_DIGEST_SIZE } from './blob-layout.ts';
import { CHUNK_FLAG, encodeBatchContext } from './context-layout.ts';
import { rowOf, type BlobList } from './layer-blobs.ts';
import { addChunk, type NydusFile } from './layer-tree.ts';
import type { NydusSettings } from './options.ts';

/** Chunks are gathered until their memory holds this much; every lot wakes a thread, so fewer and larger are faster. */
const LOT = 4 << 20;

interface PendingChunk {
  readonly file: NydusFile;
  readonly offset: number;
  readonly length: number;
  /** Where the log begins that tells about it, and how long it is, words. */
  readonly known: number;
  words: number;
  /** It may go into a batch. */
  readonly small: boolean;
}

/** Chunks on their way: digested by one thread, then those that are new compressed by one. */
interface Lot {
  readonly memory: MemberMemory;
  readonly chunks: PendingChunk[];
}

/** New chunks that are compressed as one: their rows. */
interface Unit {
  readonly ranges: PlainRange[];
  readonly rows: number[];
  readonly batch: boolean;
  size: number;
}

interface DecidedLot {
  readonly units: readonly Unit[];
  /** Undefined when nothing is new. */
  readonly packed: Promise<PackedUnits> | undefined;
}

/**
 * Cuts files into chunks, finds out which are new, and writes those in order (§5, §8, §9). Digesting and compressing run
 * ahead of writing as far as the pool's budget of memory allows; which chunks are new is decided in order, so the result does
 * not depend on the number of threads.
 */
export class ChunkPacker {
  readonly #sink: Sink;
  readonly #context: ConvertContext;
  readonly #settings: NydusSettings;
  readonly #blobs: BlobList;
  readonly #room: number;
  readonly #usesMatches: boolean;
  #lot: Lot | undefined;
  #decided: Promise<unknown> = Promise.resolve();
  #written: Promise<unknown> = Promise.resolve();
  #failure: { readonly error: unknown } | undefined;
  /** Stored bytes so far. */
  size = 0;
  /** Chunks of all files, and bytes in them. */
  chunks = 0;
  content = 0;
  readonly #batches: Uint8Array[] = [];

  constructor(sink: Sink, context: ConvertContext, settings: NydusSettings, blobs: BlobList) {
    this.#sink = sink;
    this.#context = context;
    this.#settings = settings;
    this.#blobs = blobs;
    this.#room = Math.max(LOT, settings.chunkSize, settings.batchSize);
    this.#usesMatches = packsKnownMatches(settings);
  }

  /** Contexts of all batches; complete after `finish`. */
  get contexts(): readonly Uint8Array[] {
    return this.#batches;
  }

  /** Adds a file's content, `file.size` bytes in one piece or in many. */
  async addFile(file: NydusFile, body: Uint8Array | ByteStream, place: { readonly path: string; readonly offset: number }): Promise<void> {
    const { chunkSize } = this.#settings;
    const { size } = file;
    let done = 0;
    let left = 0;
    let chunk: PendingChunk | undefined;
    for await (const bytes of body instanceof Uint8Array ? [body] : body) {
      for (let at = 0; at < bytes.length; ) {
        if (left === 0) {
          left = Math.min(chunkSize, size - done);
          if (left === 0) throw corrupt(`file is longer than the ${size} bytes of its header`, place);
          chunk = await this.#begin(file, left);
        }
        const part = bytes.subarray(at, at + left);
        const { length } = chunk as PendingChunk;
        (chunk as PendingChunk).words += (this.#lot as Lot).memory.append(part, length - left, this.#usesMatches);
        at += part.length;
        done += part.length;
        left -= part.length;
      }
    }
    if (done !== size) throw corrupt(`file ends early: ${size} bytes in its header, ${done} stored`, place);
  }

  /** Writes out everything. */
  async finish(): Promise<void> {
    this.#submit();
    await this.#written;
    if (this.#failure) throw this.#failure.error;
  }

  /** Gives memory back after a failure. */
  async abandon(): Promise<void> {
    this.#failure ??= { error: undefined };
    this.#lot?.memory.lease.release();
    this.#lot = undefined;
    await this.#written;
  }

  /** Sees to it that the next chunk has memory. */
  async #begin(file: NydusFile, length: number): Promise<PendingChunk> {
    if (this.#failure) throw this.#failure.error;
    if (this.#lot && this.#lot.memory.used + length > this.#room) this.#submit();
    const { memory, chunks } = (this.#lot ??= { memory: await MemberMemory.lease(this.#context.workers, this.#room, this.#context.signal), chunks: [] });
    const { batchSize, chunkSize } = this.#settings;
    const chunk: PendingChunk = { file, offset: memory.used, length, known: memory.known, words: 0, small: file.size <= chunkSize && length < batchSize / 2 };
    chunks.push(chunk);
    this.chunks += 1;
    this.content += length;
    return chunk;
  }

  #submit(): void {
    const lot = this.#lot;
    this.#lot = undefined;
    if (!lot) return;
    const digests = digestChunks(this.#context.workers, lot.memory.lease, lot.chunks, this.#settings.digester);
    const decided = this.#decide(lot, digests, this.#decided);
    this.#decided = decided;
    this.#written = this.#write(lot, decided, this.#written);
  }

  /** In order: which chunks are new, and their numbers. Never rejects. */
  async #decide(lot: Lot, digests: Promise<Uint8Array>, before: Promise<unknown>): Promise<DecidedLot> {
    try {
      const [all] = await Promise.all([digests, before]);
      if (this.#failure) return NOTHING;
      const units: Unit[] = [];
      for (const [i, { file, offset, length, small, known: knownAt, words }] of lot.chunks.entries()) {
        const at = i * CHUNK_DIGEST_SIZE;
        const known = this.#blobs.find(all, at, length);
        const ref = known ?? this.#blobs.add(all, at, length);
        addChunk(file, ref);
        if (known === undefined) this.#addUnit(units, rowOf(ref), { offset, length, known: lot.memory.logRange(knownAt, words) }, small);
      }
      if (units.length === 0) return NOTHING;
      const { compressor, level, aligned } = this.#settings;
      const packed = compressChunks(this.#context.workers, lot.memory.lease, units.map(({ ranges }) => ranges), { compressor, level, ...(aligned && { align: ALIGNMENT }) });
      packed.catch(() => undefined);
      return { units, packed };
    } catch (error) {
      this.#failure ??= { error };
      return NOTHING;
    }
  }

  #addUnit(units: Unit[], row: number, range: PlainRange, small: boolean): void {
    const last = units.at(-1);
    if (small && last?.batch && last.size + range.length < this.#settings.batchSize) {
      last.ranges.push(range);
      last.rows.push(row);
      last.size += range.length;
    } else {
      units.push({ ranges: [range], rows: [row], batch: small, size: range.length });
    }
  }

  /** In order. Never rejects. */
  async #write(lot: Lot, decided: Promise<DecidedLot>, before: Promise<unknown>): Promise<void> {
    try {
      await before;
      const { units, packed } = await decided;
      const result = await packed;
      if (this.#failure || !result) return;
      for (const [i, unit] of units.entries()) this.#place(unit, result.units[i] as PackedUnits['units'][number]);
      await this.#sink(result.bytes);
      this.size += result.bytes.length;
    } catch (error) {
      this.#failure ??= { error };
    } finally {
      lot.memory.lease.release();
    }
  }

  #place({ rows, ranges, batch, size: plain }: Unit, { offset, size, compressed }: PackedUnits['units'][number]): void {
    const { chunks } = this.#blobs.own;
    const place = { offset: this.size + offset, size, flags: compressed ? CHUNK_FLAG.compressed : 0 };
    if (!batch) {
      chunks.place(rows[0] as number, place);
      return;
    }
    const context = this.#batches.length;
    this.#batches.push(encodeBatchContext({ compressedSize: size, uncompressedSize: plain }));
    let inner = 0;
    for (const [i, row] of rows.entries()) {
      // What is in a batch counts as compressed, whatever became of the batch.
      chunks.place(row, { ...place, size: 0, flags: CHUNK_FLAG.compressed | CHUNK_FLAG.batch, context, inner });
      inner += (ranges[i] as PlainRange).length;
    }
  }
}

const NOTHING: DecidedLot = { units: [], packed: undefined };
