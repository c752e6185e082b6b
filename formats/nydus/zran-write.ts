import { copyInto } from '../../src/core/bytes.ts';
import { digestAlgorithm, digestHex, digestOf } from '../../src/core/digest.ts';
import { corrupt, LazypullError } from '../../src/core/errors.ts';
import type { ConvertContext, ConvertedLayer, LayerInput } from '../../src/core/format.ts';
import { tap } from '../../src/core/stream.ts';
import type { Descriptor, DirectoryNode, Lease } from '../../src/core/types.ts';
import { digestChunks, type ChunkRange } from '../../src/codec/chunk-jobs.ts';
import type { Compression } from '../../src/codec/compression.ts';
import { unpackLayer } from '../../src/codec/unpack-layer.ts';
import { impliedDirectory, TreeBuilder } from '../../src/layer/tree.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { checkPath, cleanPath } from '../../src/tar/path.ts';
import { TarReader } from '../../src/tar/read.ts';
import { CHUNK_DIGEST_SIZE } from './blob-layout.ts';
import { Bootstrap } from './bootstrap-writer.ts';
import { BlobList, rowOf } from './layer-blobs.ts';
import { ChunkTable } from './layer-chunks.ts';
import { blobsBelow, NydusLayer } from './layer-result.ts';
import { writeTail } from './layer-tail.ts';
import { addChunk, addEntry, fileOf, withoutLinksBelow, type NydusFile } from './layer-tree.ts';
import { Upload } from './layer-upload.ts';
import { ANNOTATION, BLOB_FEATURE, BLOB_MEDIA_TYPE } from './layout.ts';
import { resolveOptions, type NydusOptions, type NydusSettings } from './options.ts';
import { ZranSpans, type ZranPlace } from './zran-spans.ts';

/** How a zran image is written: the layers stay as they are, so there is nothing to choose about how they are stored. */
export type ZranOptions = Pick<NydusOptions, 'chunkSize' | 'digester' | 'prefetch'>;

/** Bytes that one thread digests at a time. */
const LOT = 4 << 20;

/**
 * Describes one gzip layer for Nydus without storing its content again (§10): chunks are ranges of the layer, and a table of
 * places to begin inflating at tells how to get at them. The layer itself has to be in the repository as well.
 */
export async function writeZran(input: LayerInput, context: ConvertContext, options: ZranOptions): Promise<ConvertedLayer> {
  const settings = resolveOptions(options);
  if (digestAlgorithm(input.descriptor.digest) !== 'sha256') throw new LazypullError('UNSUPPORTED', `layer ${input.descriptor.digest} cannot be referred to: Nydus has room for sha256 digests only`);
  const below = blobsBelow(context);
  const blobs = new BlobList(below, { chunks: new ChunkTable() });
  const writer = new ZranWriter(context, settings, blobs);
  const upload = new Upload(context.ingest, BLOB_MEDIA_TYPE);
  try {
    const sizes = await writer.read(input);
    const own = blobs.own.chunks.count > 0 ? await finishBlob(input, blobs, writer, upload, sizes, settings, context.signal) : undefined;
    const descriptor = own ?? { mediaType: BLOB_MEDIA_TYPE, digest: digestOf(), size: 0 };
    return {
      descriptor,
      diffId: descriptor.digest,
      tarSize: descriptor.size,
      entries: writer.entries,
      chunks: writer.chunks,
      details: new NydusLayer(writer.root, blobs.blobs, settings, true),
    };
  } catch (error) {
    await writer.abandon();
    await upload.abandon(error);
    throw error;
  }
}

interface Lot {
  readonly lease: Lease;
  used: number;
  readonly chunks: (ChunkRange & { readonly file: NydusFile; readonly place: ZranPlace })[];
}

/** Goes through a gzip layer once: tree, chunks, and places to inflate them from. */
class ZranWriter {
  readonly #context: ConvertContext;
  readonly #settings: NydusSettings;
  readonly #blobs: BlobList;
  readonly #room: number;
  readonly #tree = new TreeBuilder({ linksBelow: true });
  #lot: Lot | undefined;
  #decided: Promise<unknown> = Promise.resolve();
  #failure: { readonly error: unknown } | undefined;
  readonly spans = new ZranSpans();
  /** Complete after `read`. */
  root: DirectoryNode = impliedDirectory();
  /** Of the new chunks, by row. */
  readonly places: ZranPlace[] = [];
  entries = 0;
  chunks = 0;

  constructor(context: ConvertContext, settings: NydusSettings, blobs: BlobList) {
    this.#context = context;
    this.#settings = settings;
    this.#blobs = blobs;
    this.#room = Math.max(LOT, settings.chunkSize);
  }

  /** What the layer's own bootstrap shows. */
  get alone(): DirectoryNode {
    return this.#tree.linksBelow === 0 ? this.root : withoutLinksBelow(this.root);
  }

  /** Returns the layer's sizes. */
  async read(input: LayerInput): Promise<{ readonly size: number; readonly tarSize: number }> {
    const what = `layer ${input.descriptor.digest}`;
    let compression: Compression = 'none';
    let size = 0;
    let tarSize = 0;
    const layer = unpackLayer(tap(input.packed(), (bytes) => (size += bytes.length)), {
      what,
      size: input.descriptor.size,
      workers: this.#context.workers,
      ...(this.#context.signal && { signal: this.#context.signal }),
      onCompression: (found) => (compression = found),
      onBlock: (block) => this.spans.block(block),
      onPacked: (bytes) => this.spans.packed(bytes),
      check: (diffId, plain) => {
        tarSize = plain;
        if (input.diffId !== undefined && diffId !== input.diffId) throw new LazypullError('DIGEST_MISMATCH', `${what} inflates to diffID ${diffId}, the image config says ${input.diffId}`);
      },
    });
    const stream = tap(layer.stream, () => {
      // Told before the first byte comes.
      if (compression !== 'gzip') throw new LazypullError('UNSUPPORTED', `${what} is ${compression === 'none' ? 'not compressed' : compression}, and zran refers to gzip layers only; convert it to nydus instead`);
    });
    try {
      await this.#readTar(new TarReader(stream, { what }), input.reserved ?? []);
    } catch (error) {
      // What the reader stumbles over may have been wrong before.
      throw layer.fault() ?? error;
    }
    this.root = this.#tree.finish();
    this.#submit();
    await this.#decided;
    if (this.#failure) throw this.#failure.error;
    return { size, tarSize };
  }

  async abandon(): Promise<void> {
    this.#failure ??= { error: undefined };
    this.#lot?.lease.release();
    this.#lot = undefined;
    await this.#decided;
  }

  async #readTar(tar: TarReader, reserved: readonly string[]): Promise<void> {
    try {
      for (let entry = await tar.next(); entry; entry = await tar.next()) await this.#add(entry, tar, reserved);
      for await (const _ of tar.trailer());
    } finally {
      await tar.close();
    }
  }

  async #add(entry: TarEntry, tar: TarReader, reserved: readonly string[]): Promise<void> {
    checkPath(entry);
    const path = cleanPath(entry.path);
    if (reserved.includes(path)) return;
    this.entries += 1;
    const file = entry.type === 'file' ? fileOf(entry, this.#tree.make) : undefined;
    addEntry(this.#tree, path, entry, file);
    if (!file || entry.size === 0) return;
    if (entry.sparse) throw new LazypullError('UNSUPPORTED', 'a sparse file is not stored as it is read, so zran cannot refer to it; convert the layer to nydus instead', { path: entry.path, offset: entry.offset });
    const payload = tar.position;
    const { chunkSize } = this.#settings;
    let done = 0;
    let left = 0;
    const ready = tar.bodyReady();
    for await (const bytes of ready ? [ready] : tar.body()) {
      for (let at = 0; at < bytes.length; ) {
        if (left === 0) {
          left = Math.min(chunkSize, entry.size - done);
          await this.#begin(file, this.spans.begin(payload + done, left));
        }
        const lot = this.#lot as Lot;
        const part = bytes.subarray(at, at + left);
        copyInto(new Uint8Array(lot.lease.memory), part, lot.used);
        lot.used += part.length;
        at += part.length;
        done += part.length;
        left -= part.length;
      }
    }
    if (done !== entry.size) throw corrupt(`file ends early: ${entry.size} bytes in its header, ${done} stored`, { path: entry.path, offset: entry.offset });
  }

  async #begin(file: NydusFile, place: ZranPlace): Promise<void> {
    if (this.#failure) throw this.#failure.error;
    if (this.#lot && this.#lot.used + place.size > this.#room) this.#submit();
    this.#lot ??= { lease: await this.#context.workers.lease(this.#room, this.#context.signal), used: 0, chunks: [] };
    this.#lot.chunks.push({ file, place, offset: this.#lot.used, length: place.size });
    this.chunks += 1;
  }

  #submit(): void {
    const lot = this.#lot;
    this.#lot = undefined;
    if (!lot) return;
    const digests = digestChunks(this.#context.workers, lot.lease, lot.chunks, this.#settings.digester);
    this.#decided = this.#decide(lot, digests, this.#decided);
  }

  /** In order: which chunks are new. Never rejects. */
  async #decide(lot: Lot, digests: Promise<Uint8Array>, before: Promise<unknown>): Promise<void> {
    try {
      const [all] = await Promise.all([digests, before]);
      if (this.#failure) return;
      for (const [i, { file, place }] of lot.chunks.entries()) {
        const at = i * CHUNK_DIGEST_SIZE;
        const known = this.#blobs.find(all, at, place.size);
        const ref = known ?? this.#blobs.add(all, at, place.size);
        if (known === undefined) this.places[rowOf(ref)] = place;
        addChunk(file, ref);
      }
    } catch (error) {
      this.#failure ??= { error };
    } finally {
      lot.lease.release();
    }
  }
}

async function finishBlob(input: LayerInput, blobs: BlobList, writer: ZranWriter, upload: Upload, { size, tarSize }: { readonly size: number; readonly tarSize: number }, settings: NydusSettings, signal: AbortSignal | undefined): Promise<Descriptor> {
  const { own } = blobs;
  const { contexts, count } = writer.spans.finish(own.chunks, writer.places, size, tarSize);
  // The chunks are in the layer: it is what the bootstrap names (§10).
  const id = digestHex(input.descriptor.digest);
  const { entry } = await writeTail(upload.write, {
    settings,
    chunks: own.chunks,
    contexts,
    contextCount: count,
    features: BLOB_FEATURE.zran | BLOB_FEATURE.separate,
    tableCompressor: 'zstd',
    chunkCompressor: 'gzip',
    dataSize: size,
    id,
    bootstrap: async (self, sink) => {
      const named = blobs.blobs.map((blob) => (blob === own ? { chunks: own.chunks, entry: self } : blob.facts && { chunks: blob.chunks, entry: blob.facts.entry }));
      await new Bootstrap({ root: writer.alone, blobs: named, settings, compressor: 'gzip', signal }).write(sink);
    },
  });
  const stored = (await upload.finish()) as Descriptor;
  const descriptor = { ...stored, annotations: { [ANNOTATION.blob]: 'true', [ANNOTATION.ref]: input.descriptor.digest } };
  own.facts = {
    entry: { ...entry, id, metaDigest: Buffer.from(digestHex(stored.digest), 'hex'), metaSize: stored.size },
    descriptor,
    // 32 KiB for each MiB: too much to be carried twice.
    meta: () => undefined,
  };
  return descriptor;
}
