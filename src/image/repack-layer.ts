import { Digester } from '../core/digest.ts';
import type { ConvertContext, ConvertedLayer, LayerInput } from '../core/format.ts';
import { tap } from '../core/stream.ts';
import { writeGzip } from '../codec/gzip-write.ts';
import { OCI } from '../oci/media-types.ts';

const LEVEL = 6;

/** The same tar as one gzip member. */
export async function repackLayer(input: LayerInput, { ingest, workers, follower }: ConvertContext): Promise<ConvertedLayer> {
  const digester = new Digester();
  const blob = await ingest(OCI.layerGzip, async (sink) => {
    await writeGzip(tap(input.tar(), (bytes) => digester.update(bytes)), sink, { level: LEVEL, workers, ...(follower && { follower }) });
  });
  const { annotations, platform, artifactType } = input.descriptor;
  const tarSize = digester.size;
  return {
    descriptor: { ...blob, ...(annotations && { annotations }), ...(platform && { platform }), ...(artifactType && { artifactType }) },
    diffId: digester.finish(),
    tarSize,
    entries: 0,
    chunks: 0,
  };
}
