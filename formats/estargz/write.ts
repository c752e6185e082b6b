import { isUtf8Name } from '../../src/core/bytes.ts';
import { corrupt, LazypullError } from '../../src/core/errors.ts';
import type { ConvertContext, ConvertedLayer, LayerInput } from '../../src/core/format.ts';
import type { Descriptor, Sink } from '../../src/core/types.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { cleanPath } from '../../src/tar/path.ts';
import { TarReader } from '../../src/tar/read.ts';
import { ANNOTATION, encodeFooter, LAYER_MEDIA_TYPE, NO_PREFETCH_LANDMARK, PREFETCH_LANDMARK, RESERVED_NAMES, TOC_NAME } from './layout.ts';
import { LayerWriter } from './layer-writer.ts';
import { memberStart } from './members.ts';
import type { EstargzOptions } from './options.ts';
import { Prefetched } from './prefetch.ts';
import type { FinishedToc } from './toc-writer.ts';

type Options = Required<EstargzOptions>;

/** Descriptor annotations that speak of the old blob and would be lies on the new one. */
const OF_OLD_BLOB = /^(?:io\.containers\.|io\.github\.containers\.zstd-chunked\.|containerd\.io\/snapshot\/|containerd\.io\/uncompressed$)/;

/**
 * Writes one layer as eStargz in one pass: tar entries -> chunks -> gzip members -> TOC -> footer. Memory is bounded by the
 * worker pool's budget and the names of the layer's entries. A prefetch list costs extra passes over the source.
 */
export async function writeEstargz(input: LayerInput, context: ConvertContext, options: Options): Promise<ConvertedLayer> {
  const prefetched = await Prefetched.collect(input, options.prefetch, context.signal);
  try {
    let written: Written | undefined;
    const blob = await context.ingest(LAYER_MEDIA_TYPE, async (sink) => {
      written = await writeBlob(input, context, options, prefetched, sink);
    });
    const layer = await describeLayer(input, context, blob, written as Written, options);
    return { ...layer, unused: prefetched.unmatched.map((pattern) => `nothing matches ${JSON.stringify(pattern)} of the prefetch list`) };
  } finally {
    await prefetched.close();
  }
}

interface Written {
  readonly toc: FinishedToc;
  readonly writer: LayerWriter;
  readonly diffId: ConvertedLayer['diffId'];
  readonly tarSize: number;
}

async function writeBlob(input: LayerInput, context: ConvertContext, options: Options, prefetched: Prefetched, target: Sink): Promise<Written> {
  const { follower } = context;
  const sink: Sink = async (bytes) => {
    follower?.packed(bytes);
    await target(bytes);
  };
  const writer = new LayerWriter(sink, context, options);
  try {
    if (!options.keepDiffId) {
      for await (const { entry, body } of prefetched.entries()) await writer.add(entry, body);
      await writer.landmark(prefetched.size > 0 ? PREFETCH_LANDMARK : NO_PREFETCH_LANDMARK);
    }
    await copyEntries(input, writer, options, prefetched);
    const toc = await writer.finish();
    let tarSize = writer.tarSize;
    if (options.externalToc) {
      await sink(encodeFooter({ kind: 'external' }));
    } else {
      const tocOffset = writer.blobSize;
      follower?.point(memberStart(tocOffset, tarSize));
      await toc.write(sink, async (bytes) => {
        tarSize += bytes.length;
        writer.hashOnly(bytes);
        await follower?.tar(bytes);
      });
      await sink(encodeFooter({ kind: 'estargz', tocOffset }));
    }
    const diffId = writer.diffId();
    if (options.keepDiffId && diffId !== input.diffId) {
      throw new LazypullError('UNSUPPORTED', `the layer's tar cannot be kept byte for byte (something other than zeros stands between its entries): diffID ${diffId} instead of ${input.diffId}`);
    }
    return { toc, writer, diffId, tarSize };
  } finally {
    await writer.close();
  }
}

/** Every entry of the source that is not in front already, in source order. */
async function copyEntries(input: LayerInput, writer: LayerWriter, options: Options, prefetched: Prefetched): Promise<void> {
  const tar = new TarReader(input.tar(), { what: `layer ${input.descriptor.digest}` });
  try {
    let ordinal = 0;
    for (let entry = await tar.next(); entry; entry = await tar.next(), ordinal++) {
      checkEntry(entry, options);
      if (!options.keepDiffId && RESERVED_NAMES.includes(cleanPath(entry.path))) continue;
      if (!prefetched.has(ordinal)) await writer.add(entry, tar.bodyReady() ?? tar.body());
    }
    // Also what does not belong to an entry is read to its end: size, digest and diffID of the source are checked there.
    await writer.trailer(tar.trailer());
  } finally {
    await tar.close();
  }
}

/** What a TOC cannot carry is refused, never changed in silence. */
function checkEntry(entry: TarEntry, options: Options): void {
  const place = { path: entry.path, offset: entry.offset };
  for (const name of [entry.path, entry.linkName, entry.userName, entry.groupName, ...entry.xattrs.keys()]) {
    if (!isUtf8Name(name)) throw new LazypullError('UNSUPPORTED', 'a name that is not UTF-8 cannot be written to a TOC, which is JSON', place);
  }
  if (!options.keepDiffId) return;
  if (cleanPath(entry.path) === TOC_NAME) throw corrupt(`the layer has a file ${TOC_NAME} already, and its tar must not change`, place);
  if (entry.sparse) throw new LazypullError('UNSUPPORTED', 'a sparse file cannot be kept as it is stored', place);
}

async function describeLayer(input: LayerInput, context: ConvertContext, blob: Descriptor, written: Written, options: Options): Promise<ConvertedLayer> {
  const { toc, writer } = written;
  const { annotations = {}, urls: _urls, data: _data, ...rest } = input.descriptor;
  const kept = Object.fromEntries(Object.entries(annotations).filter(([key]) => !OF_OLD_BLOB.test(key)));
  const layer: ConvertedLayer = {
    descriptor: {
      ...rest,
      ...blob,
      annotations: { ...kept, [ANNOTATION.tocDigest]: toc.digest, [ANNOTATION.uncompressedSize]: String(written.tarSize) },
    },
    diffId: written.diffId,
    tarSize: written.tarSize,
    entries: writer.entries,
    chunks: writer.chunks,
    warnings: writer.warnings,
  };
  if (!options.externalToc) return layer;
  const tocBlob = await context.ingest(LAYER_MEDIA_TYPE, async (sink) => {
    await toc.write(sink);
  });
  return { ...layer, attachments: [{ ...tocBlob, annotations: { [ANNOTATION.layerDigest]: blob.digest } }] };
}

