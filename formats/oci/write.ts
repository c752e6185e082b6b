import { Digester } from '../../src/core/digest.ts';
import type { ConvertContext, ConvertedLayer, LayerInput } from '../../src/core/format.ts';
import type { ByteStream } from '../../src/core/types.ts';
import { writeGzip } from '../../src/codec/gzip-write.ts';
import { cleanPath } from '../../src/tar/path.ts';
import { TarReader } from '../../src/tar/read.ts';
import { paddingOf } from '../../src/tar/write.ts';
import type { OciOptions } from './options.ts';

const LAYER_MEDIA_TYPE = 'application/vnd.oci.image.layer.v1.tar+gzip';
/** Annotations that speak of the old blob. */
const OF_OLD_BLOB = /^(?:containerd\.io\/snapshot\/|io\.containers\.|io\.github\.containers\.|containerd\.io\/uncompressed$)/;

/**
 * The layer's tar as one gzip member, without the entries that a lazy format had added to it. All other bytes of the tar
 * stay as they are, so that a layer to which nothing was added keeps its diffID.
 */
export async function writePlain(input: LayerInput, context: ConvertContext, { level }: Required<OciOptions>): Promise<ConvertedLayer> {
  const digester = new Digester();
  const counts = { entries: 0 };
  const blob = await context.ingest(LAYER_MEDIA_TYPE, async (sink) => {
    await writeGzip(plainTar(input, counts, digester), sink, { level, workers: context.workers, ...(context.follower && { follower: context.follower }) });
  });
  const tarSize = digester.size;
  const { annotations = {}, urls: _urls, data: _data, ...rest } = input.descriptor;
  const kept = Object.fromEntries(Object.entries(annotations).filter(([key]) => !OF_OLD_BLOB.test(key)));
  return {
    descriptor: { ...rest, ...blob, ...(Object.keys(kept).length > 0 && { annotations: kept }) },
    diffId: digester.finish(),
    tarSize,
    entries: counts.entries,
    chunks: 0,
  };
}

/** The tar without reserved entries; each entry's header blocks, payload and padding as they are stored. */
async function* plainTar(input: LayerInput, counts: { entries: number }, digester: Digester): ByteStream {
  const reserved = new Set(input.reserved ?? []);
  const tar = new TarReader(input.tar(), { what: `layer ${input.descriptor.digest}` });
  const out = (bytes: Uint8Array): Uint8Array => {
    digester.update(bytes);
    return bytes;
  };
  try {
    for (let entry = await tar.next(); entry; entry = await tar.next()) {
      if (reserved.has(cleanPath(entry.path))) continue;
      counts.entries += 1;
      yield out(entry.header);
      for await (const bytes of tar.rawBody()) yield out(bytes);
      const padding = paddingOf(entry.storedSize);
      if (padding > 0) yield out(new Uint8Array(padding));
    }
    for await (const bytes of tar.trailer()) yield out(bytes);
  } finally {
    await tar.close();
  }
}
