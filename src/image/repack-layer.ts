import { Digester } from '../core/digest.ts';
import type { ConvertContext, ConvertedLayer, LayerInput } from '../core/format.ts';
import { tap } from '../core/stream.ts';
import { writeGzip } from '../codec/gzip-write.ts';
import { OCI } from '../oci/media-types.ts';

const LEVEL = 6;

/** The same tar as one gzip member. */
export async function repackLayer(input: LayerInput, { ingest, workers, follower }: ConvertContext): Promise<ConvertedLayer> {
  // A tar that has a diffID is held against it as it is read.
  const digester = new Digester();
  const tar = input.diffId === undefined ? tap(input.tar(), (bytes) => digester.update(bytes)) : input.tar();
  let tarSize = 0;
  const blob = await ingest(OCI.layerGzip, async (sink) => {
    tarSize = await writeGzip(tar, sink, { level: LEVEL, workers, ...(follower && { follower }) });
  });
  const { annotations, platform, artifactType } = input.descriptor;
  return {
    descriptor: { ...blob, ...(annotations && { annotations }), ...(platform && { platform }), ...(artifactType && { artifactType }) },
    diffId: input.diffId ?? digester.finish(),
    tarSize,
    entries: 0,
    chunks: 0,
  };
}
