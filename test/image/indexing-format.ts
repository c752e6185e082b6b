import { digestOf } from '../../src/core/digest.ts';
import type { DescribedLayer, IndexingFormat, LayerFollower, ResumePoint } from '../../src/core/format.ts';
import { streamOf } from '../../src/core/stream.ts';
import { describe, encodeDocument } from '../../src/oci/documents.ts';
import { OCI } from '../../src/oci/media-types.ts';

/** What one follower was told. */
export interface Heard {
  readonly mediaType: string;
  readonly packed: Buffer[];
  readonly tar: Buffer[];
  readonly points: Omit<ResumePoint, 'window'>[];
  ended: 'no' | 'finished' | 'abandoned';
  compression?: string;
}

export interface TestIndexOptions {
  /** Layers with this in their media type are left out. */
  readonly leaveOut?: string;
  /** Layers with this in their media type are wanted as gzip. */
  readonly repack?: string;
  /** Goes into the artifact, to make it another one. */
  readonly salt?: string;
}

export const TEST_BINDING = { artifactType: 'application/x-test-index', artifactKey: 'test.index', imageKey: 'test.image' };
export const TEST_REFERRER = 'application/x-test-referrer';

/** An indexing format that only remembers what it was told: what the pipeline is tested with. */
export function testIndexing(name = 'listening'): { readonly format: IndexingFormat<TestIndexOptions>; readonly heard: Heard[] } {
  const heard: Heard[] = [];
  const format: IndexingFormat<TestIndexOptions> = {
    kind: 'indexing',
    name,
    binding: TEST_BINDING,
    referrerType: TEST_REFERRER,
    detect: async () => false,
    open: () => Promise.reject(new Error('not needed')),
    follow({ mediaType }, { ingest }, { leaveOut, repack }) {
      if (leaveOut !== undefined && mediaType.includes(leaveOut)) return { skipped: 'it is to be left out' };
      if (repack !== undefined && mediaType.includes(repack)) return 'repack';
      const own: Heard = { mediaType, packed: [], tar: [], points: [], ended: 'no' };
      heard.push(own);
      const follower: LayerFollower = {
        point({ bit, out, member }) {
          own.points.push({ bit, out, member });
        },
        packed(bytes) {
          own.packed.push(Buffer.from(bytes));
        },
        async tar(bytes) {
          own.tar.push(Buffer.from(bytes));
        },
        async finish({ descriptor, compression }): Promise<DescribedLayer> {
          own.ended = 'finished';
          own.compression = compression;
          const text = Buffer.from(`${descriptor.digest} ${digestOf(Buffer.concat(own.tar))}`);
          const blob = await ingest('text/plain', async (sink) => {
            for await (const bytes of streamOf(text)) await sink(bytes);
          });
          return { blob, entries: 3, chunks: own.points.length, details: undefined };
        },
        async abandon() {
          own.ended = 'abandoned';
        },
      };
      return follower;
    },
    async describeImage({ layers, subject, put }, { salt }) {
      const blobs = layers.flatMap((layer) => layer?.described.blob ?? []);
      if (blobs.length === 0) return undefined;
      const config = await put(OCI.empty, Buffer.from('{}'));
      const artifactType = subject ? TEST_REFERRER : TEST_BINDING.artifactType;
      const bytes = encodeDocument({ schemaVersion: 2, mediaType: OCI.manifest, artifactType, config, layers: blobs, ...(subject && { subject }), ...(salt && { annotations: { salt } }) });
      return { descriptor: { ...describe(OCI.manifest, bytes), artifactType }, bytes };
    },
  };
  return { format, heard };
}
