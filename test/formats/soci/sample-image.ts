import { digestOf, type Digest } from '../../../src/core/digest.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import type { StoredImage, StoredLayer } from '../../../src/core/format.ts';
import { CountingSource, MemorySource } from '../../../src/core/source.ts';
import type { Descriptor } from '../../../src/core/types.ts';
import { encodeSociIndex } from '../../../formats/soci/index-manifest.ts';
import { ANNOTATION, INDEX_TYPE, PREFETCH_MEDIA_TYPE, ZTOC_MEDIA_TYPE } from '../../../formats/soci/layout.ts';
import { encodePrefetch, type SpanRun } from '../../../formats/soci/prefetch.ts';
import { OCI } from '../../../src/oci/media-types.ts';
import { encodeTarHeader, END_OF_ARCHIVE, paddingOf } from '../../../src/tar/write.ts';
import { mixture } from '../../codec/samples.ts';

export interface SampleLayer {
  readonly packed: Uint8Array;
  /** By its first bytes unless given. */
  readonly mediaType?: string;
  /** Encoded zTOC; without one the layer is left out of the index. */
  readonly ztoc?: Uint8Array;
  readonly prefetch?: readonly SpanRun[] | Uint8Array;
}

export interface SampleImage {
  readonly image: StoredImage;
  readonly layers: readonly (StoredLayer & { readonly source: CountingSource })[];
  /** Digests of what was fetched whole, in order. */
  readonly fetched: string[];
  /** What can be fetched: take away or change at will. */
  readonly blobs: Map<Digest, Uint8Array>;
  readonly index: Descriptor;
}

/** An image with a SOCI index, as formats see it. */
export function sampleImage(specs: readonly SampleLayer[], version: 'v1' | 'v2' = 'v2'): SampleImage {
  const blobs = new Map<Digest, Uint8Array>();
  const fetched: string[] = [];
  const put = (mediaType: string, bytes: Uint8Array, annotations?: Record<string, string>): Descriptor => {
    blobs.set(digestOf(bytes), bytes);
    return { mediaType, digest: digestOf(bytes), size: bytes.length, ...(annotations && { annotations }) };
  };
  const descriptors = specs.map(({ packed, mediaType = typeOf(packed) }) => put(mediaType, packed));
  const about = (i: number): Record<string, string> => ({ [ANNOTATION.layerDigest]: descriptors[i]?.digest ?? '' });
  const ztocs = specs.flatMap(({ ztoc }, i) => (ztoc ? [put(ZTOC_MEDIA_TYPE, ztoc, about(i))] : []));
  const lists = specs.flatMap(({ prefetch }, i) => (prefetch ? [put(PREFETCH_MEDIA_TYPE, prefetch instanceof Uint8Array ? prefetch : encodePrefetch(prefetch), about(i))] : []));
  const descriptor: Descriptor = { mediaType: OCI.manifest, digest: digestOf(Buffer.from('manifest')), size: 8 };
  const index = put(OCI.manifest, encodeSociIndex({ layers: [...ztocs, ...lists], ...(version === 'v1' && { subject: descriptor }) }));
  const image: StoredImage = {
    descriptor,
    annotations: version === 'v2' ? { [ANNOTATION.indexDigest]: index.digest } : {},
    layers: descriptors,
    resolve: async (digest) => {
      const bytes = blobs.get(digest);
      return bytes && { mediaType: OCI.manifest, digest, size: bytes.length };
    },
    async fetch({ digest, size }, limit) {
      fetched.push(digest);
      const bytes = blobs.get(digest);
      if (!bytes) throw new LazypullError('NOT_FOUND', `${digest} is not there`);
      if (size > limit) throw new LazypullError('LIMIT', `${digest} is too large`);
      return bytes;
    },
    referrers: async (type) => (version === 'v1' && type === INDEX_TYPE.v1 ? [{ ...index, artifactType: type }] : []),
    open: ({ digest }) => new MemorySource(blobs.get(digest) ?? new Uint8Array(0)),
    sibling: async () => undefined,
  };
  const layers = descriptors.map((one, i) => ({ descriptor: one, source: new CountingSource(new MemorySource((specs[i] as SampleLayer).packed)), image }));
  return { image, layers, fetched, blobs, index };
}

function typeOf(packed: Uint8Array): string {
  return packed[0] === 0x1f ? OCI.layerGzip : packed[0] === 0x28 ? OCI.layerZstd : OCI.layer;
}

/** A tar of files of many sizes, small and large, with something of everything else between them. */
export function sampleTar(sizes: readonly number[]): Uint8Array {
  const mtime = { seconds: 1_700_000_000, nanoseconds: 250_000_000 };
  const parts: Uint8Array[] = [encodeTarHeader({ path: './', type: 'directory', mode: 0o755 }), encodeTarHeader({ path: './bin/', type: 'directory', mode: 0o755, mtime })];
  const all = mixture(sizes.reduce((sum, size) => sum + size, 0));
  let at = 0;
  sizes.forEach((size, i) => {
    const xattrs = i % 3 === 0 ? new Map([['user.number', Buffer.from(String(i))]]) : new Map<string, Uint8Array>();
    parts.push(encodeTarHeader({ path: `./bin/file-${i}`, type: 'file', mode: 0o4755, uid: i, gid: 7, userName: 'u', mtime, size, xattrs }));
    parts.push(all.subarray(at, at + size), new Uint8Array(paddingOf(size)));
    at += size;
    if (i % 4 === 1) parts.push(encodeTarHeader({ path: `./bin/link-${i}`, type: 'symlink', linkName: `file-${i}`, mode: 0o777, mtime }));
    if (i % 4 === 2) parts.push(encodeTarHeader({ path: `bin/hard-${i}`, type: 'hardlink', linkName: `./bin/file-${i}`, mode: 0o755, mtime }));
    if (i % 4 === 3) parts.push(encodeTarHeader({ path: `/dev/null-${i}`, type: 'char', mode: 0o666, major: 1, minor: 3, mtime }));
  });
  return Buffer.concat([...parts, END_OF_ARCHIVE]);
}

