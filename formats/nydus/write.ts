import { digestHex, digestOf } from '../../src/core/digest.ts';
import type { ConvertContext, ConvertedLayer, LayerInput } from '../../src/core/format.ts';
import type { Descriptor, DirectoryNode } from '../../src/core/types.ts';
import { impliedDirectory, TreeBuilder } from '../../src/layer/tree.ts';
import { checkPath, cleanPath } from '../../src/tar/path.ts';
import { TarReader } from '../../src/tar/read.ts';
import { Bootstrap } from './bootstrap-writer.ts';
import { loadDictionary } from './dictionary.ts';
import { BlobList, type NydusBlob, type Savings } from './layer-blobs.ts';
import { ChunkTable } from './layer-chunks.ts';
import { ChunkPacker } from './layer-packer.ts';
import { Prefetched, unmatchedNote } from './layer-prefetch.ts';
import { blobsBelow, NydusLayer } from './layer-result.ts';
import { encodeInfos, writeTail } from './layer-tail.ts';
import { addEntry, fileOf, withoutLinksBelow, type NydusFile } from './layer-tree.ts';
import { Upload } from './layer-upload.ts';
import { ANNOTATION, BLOB_FEATURE, BLOB_MEDIA_TYPE } from './layout.ts';
import { resolveOptions, type NydusOptions, type NydusSettings } from './options.ts';

/** Descriptor annotations that speak of the old blob and would be lies on the new one. */
const OF_OLD_BLOB = /^(?:io\.containers\.|io\.github\.containers\.zstd-chunked\.|containerd\.io\/snapshot\/|containerd\.io\/uncompressed$)/;

/**
 * Makes a Nydus blob of one layer in one pass: tar entries -> chunks -> those that no layer below and no dictionary has ->
 * blob. The layer's tree goes into the image's bootstrap; a layer that brings no chunk of its own has no blob. Memory: the
 * worker pool's budget, about 200 bytes per entry and 60 per chunk. A prefetch list costs extra passes over the source.
 */
export async function writeNydus(input: LayerInput, context: ConvertContext, options: NydusOptions): Promise<ConvertedLayer> {
  const dictionary = options.chunkDict && (await loadDictionary(options.chunkDict, context.signal));
  const settings = resolveOptions(options, dictionary?.decided);
  const below = blobsBelow(context);
  const blobs = new BlobList(below, { chunks: new ChunkTable() }, dictionary);
  const prefetched = await Prefetched.collect(input, settings.prefetch, context.signal);
  const upload = new Upload(context.ingest, BLOB_MEDIA_TYPE);
  const packer = new ChunkPacker(upload.write, context, settings, blobs);
  try {
    const layer = new LayerTree();
    await layer.read(input, packer, prefetched);
    await packer.finish();
    const own = blobs.own.chunks.count > 0 ? await finishBlob(input, blobs, packer, upload, layer, settings, context.signal) : undefined;
    return describeLayer({ layer, blobs, packer, settings, prefetched, ...(own && { own }) });
  } catch (error) {
    await packer.abandon();
    await upload.abandon(error);
    throw error;
  } finally {
    await prefetched.close();
  }
}

/** A layer's tree while the layer is read. */
class LayerTree {
  readonly #tree = new TreeBuilder({ linksBelow: true });
  root: DirectoryNode = impliedDirectory();
  entries = 0;

  /** What the layer's own bootstrap shows. */
  get alone(): DirectoryNode {
    return this.#tree.linksBelow === 0 ? this.root : withoutLinksBelow(this.root);
  }

  /** Files of the list first, then all others in the order of the archive. */
  async read(input: LayerInput, packer: ChunkPacker, prefetched: Prefetched): Promise<void> {
    const hot = new Map<number, NydusFile>();
    for (const { entry, ordinal, body } of prefetched.files()) {
      const file = fileOf(entry, this.#tree.make);
      hot.set(ordinal, file);
      await packer.addFile(file, body, entry);
    }
    const reserved = new Set(input.reserved ?? []);
    const tar = new TarReader(input.tar(), { what: `layer ${input.descriptor.digest}` });
    try {
      let ordinal = 0;
      for (let entry = await tar.next(); entry; entry = await tar.next(), ordinal++) {
        checkPath(entry);
        const path = cleanPath(entry.path);
        if (reserved.has(path)) continue;
        this.entries += 1;
        const known = hot.get(ordinal);
        const file = entry.type === 'file' ? (known ?? fileOf(entry, this.#tree.make)) : undefined;
        addEntry(this.#tree, path, entry, file);
        if (file && !known && entry.size > 0) await packer.addFile(file, tar.bodyReady() ?? tar.body(), entry);
      }
      // Also what does not belong to an entry is read to its end: size, digest and diffID of the source are checked there.
      for await (const _ of tar.trailer());
    } finally {
      await tar.close();
    }
    this.root = this.#tree.finish();
  }
}

/** Writes what stands behind the data, and gives the blob its name. */
async function finishBlob(input: LayerInput, blobs: BlobList, packer: ChunkPacker, upload: Upload, layer: LayerTree, settings: NydusSettings, signal: AbortSignal | undefined): Promise<Descriptor> {
  const { own } = blobs;
  const { contexts } = packer;
  const { entry, header } = await writeTail(upload.write, {
    settings,
    chunks: own.chunks,
    contexts,
    contextCount: contexts.length,
    features: contexts.length > 0 ? BLOB_FEATURE.batch : 0,
    tableCompressor: settings.compressor,
    data: { size: packer.size, soFar: () => upload.soFar() },
    dataSize: packer.size,
    bootstrap: async (self, sink) => {
      const named = blobs.blobs.map((blob) => (blob === own ? { chunks: own.chunks, entry: self } : blob.facts && { chunks: blob.chunks, entry: blob.facts.entry }));
      await new Bootstrap({ root: layer.alone, blobs: named, settings, signal }).write(sink);
    },
  });
  const stored = (await upload.finish()) as Descriptor;
  const { annotations = {}, urls: _urls, data: _data, ...rest } = input.descriptor;
  const kept = Object.fromEntries(Object.entries(annotations).filter(([key]) => !OF_OLD_BLOB.test(key)));
  const descriptor = { ...rest, ...stored, annotations: { ...kept, [ANNOTATION.blob]: 'true' } };
  const id = digestHex(stored.digest);
  own.facts = { entry: { ...entry, id }, descriptor, meta: () => ({ table: tableOf(own, contexts), header }) };
  return descriptor;
}

function tableOf({ chunks }: NydusBlob, contexts: readonly Uint8Array[]): Uint8Array {
  const infos = encodeInfos(chunks, contexts.length > 0);
  return contexts.length === 0 ? infos : Buffer.concat([infos, ...contexts]);
}

interface Finished {
  readonly layer: LayerTree;
  readonly blobs: BlobList;
  readonly packer: ChunkPacker;
  readonly settings: NydusSettings;
  readonly prefetched: Prefetched;
  /** The layer's blob; absent without one. */
  readonly own?: Descriptor;
}

function describeLayer({ layer, blobs, packer, settings, prefetched, own }: Finished): ConvertedLayer {
  const descriptor = own ?? { mediaType: BLOB_MEDIA_TYPE, digest: digestOf(), size: 0 };
  return {
    descriptor,
    // A blob is not compressed as a whole: it is its own plain form (§16).
    diffId: descriptor.digest,
    tarSize: descriptor.size,
    entries: layer.entries,
    chunks: packer.chunks,
    notes: savedNotes(blobs, packer),
    unused: prefetched.unmatched.map(unmatchedNote),
    details: new NydusLayer(layer.root, blobs.blobs, settings),
  };
}

/** What did not have to be stored again. */
function savedNotes({ saved }: BlobList, packer: ChunkPacker): string[] {
  const parts = [part(saved.layer, 'in the layer itself'), part(saved.below, 'in layers below'), part(saved.dictionary, 'in the dictionary')].filter((text) => text !== undefined);
  if (parts.length === 0) return [];
  return [`of ${packer.chunks} chunks (${packer.content} bytes) there were already: ${parts.join(', ')}`];
}

function part({ chunks, bytes }: Savings, where: string): string | undefined {
  return chunks === 0 ? undefined : `${chunks} ${where} (${bytes} bytes)`;
}
