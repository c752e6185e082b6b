import { corrupt } from '../../src/core/errors.ts';

// Nydus images, RAFS v6 (nydus 2.x): names, bits and numbers that its structures share. The structures themselves are in
// bootstrap-layout.ts (the tree: EROFS plus tables), context-layout.ts (where a blob's chunks are), blob-layout.ts (members of
// a blob) and v5-layout.ts (RAFS v5, read only). All numbers are little-endian; section numbers are those of our notes on the format.

// ---- Packaging (§16) ----

/** A data layer: a blob, not compressed as a whole. The bootstrap layer is an ordinary tar+gzip. */
export const BLOB_MEDIA_TYPE = 'application/vnd.oci.image.layer.nydus.blob.v1';
/** Artifact type of a manifest beside the plain image in one index. */
export const MANIFEST_ARTIFACT_TYPE = 'application/vnd.nydus.image.manifest.v1+json';
/** Older way to tell the manifests in an index apart: in the platform's `os.features`. */
export const OS_FEATURE = 'nydus.remoteimage.v1';

const LABEL = 'containerd.io/snapshot/';
export const ANNOTATION = {
  /** `"true"` on a data layer. */
  blob: `${LABEL}nydus-blob`,
  /** `"true"` on the bootstrap layer, the last one. */
  bootstrap: `${LABEL}nydus-bootstrap`,
  /** `"6"` or `"5"`, on the bootstrap layer. */
  fsVersion: `${LABEL}nydus-fs-version`,
  /** On a zran data layer: the digest of the plain layer that it is about. */
  ref: `${LABEL}nydus-ref`,
  encryptedBlob: `${LABEL}nydus-encrypted-blob`,
  /** On the bootstrap layer: JSON list of blob ids of other images (chunk dictionaries). */
  referenceBlobIds: `${LABEL}nydus-reference-blob-ids`,
  /** The same of this image's blobs, in old images. */
  blobIds: `${LABEL}nydus-blob-ids`,
} as const;

/** In the bootstrap layer's tar. */
export const BOOTSTRAP_PATH = 'image/image.boot';
/** In the bootstrap layer's tar, one per blob: `image/<hex>.blob.meta`. */
export const META_SUFFIX = '.blob.meta';
export const META_FOLDER = 'image/';

// ---- Bits and numbers ----

/** Offsets in a blob's uncompressed address space are multiples of this, outside of tarfs. */
export const ALIGNMENT = 4096;
export const DEFAULT_CHUNK_SIZE = 1 << 20;
export const MIN_CHUNK_SIZE = 4096;
export const MAX_CHUNK_SIZE = 16 << 20;
/** Blobs of one image: a byte names them, and 0 and 255 are not used. */
export const MAX_BLOBS = 254;
/** Chunks of one blob: an index has 24 bits. */
export const MAX_BLOB_CHUNKS = 2 ** 24;
/** Bytes of one blob's uncompressed address space. */
export const MAX_UNCOMPRESSED = 2 ** 44;
/** Stored bytes of one blob: places have 40 bits. */
export const MAX_COMPRESSED = 2 ** 40;
/** Blob id while it cannot be known: in a bootstrap that is part of the blob. */
export const PLACEHOLDER_ID = 'x'.repeat(64);

export const COMPRESSOR = { none: 0, lz4: 1, gzip: 2, zstd: 3 } as const;
export type Compressor = keyof typeof COMPRESSOR;
export const DIGESTER = { blake3: 0, sha256: 1 } as const;
export type NydusDigester = keyof typeof DIGESTER;
export const CIPHER = { none: 0, aes128Xts: 1, aes256Gcm: 2 } as const;

/** Flags of a bootstrap (§2.2). Exactly one of the compressors and one of the digesters is set. */
export const RAFS_FLAG = {
  compressNone: 0x1,
  compressLz4: 0x2,
  digestBlake3: 0x4,
  digestSha256: 0x8,
  explicitIds: 0x10,
  hasXattr: 0x20,
  compressGzip: 0x40,
  compressZstd: 0x80,
  inlinedChunkDigest: 0x100,
  tarfs: 0x200,
  encryptNone: 0x100_0000,
  encryptAes128Xts: 0x200_0000,
} as const;

const COMPRESSOR_FLAGS: Readonly<Record<Compressor, number>> = {
  none: RAFS_FLAG.compressNone, lz4: RAFS_FLAG.compressLz4, gzip: RAFS_FLAG.compressGzip, zstd: RAFS_FLAG.compressZstd,
};
const DIGESTER_FLAGS: Readonly<Record<NydusDigester, number>> = { blake3: RAFS_FLAG.digestBlake3, sha256: RAFS_FLAG.digestSha256 };

/** Features of a blob (§4.1), in its blob entry and its context header. */
export const BLOB_FEATURE = {
  aligned: 0x1,
  inlinedFsMeta: 0x2,
  chunkInfoV2: 0x4,
  zran: 0x8,
  /** Chunk data is in another blob. */
  separate: 0x10,
  inlinedChunkDigest: 0x20,
  tarfs: 0x40,
  batch: 0x80,
  encrypted: 0x100,
  /** Made by a generator of chunk dictionaries. */
  chunkDict: 0x200,
  separatedPrefetch: 0x400,
  external: 0x800,
  hasTarHeader: 0x1000_0000,
  hasToc: 0x2000_0000,
  capTarToc: 0x4000_0000,
} as const;
/** Of the low 16 bits; others are refused there, and so is bit 31. */
const KNOWN_FEATURES = 0x0fff;

export function compressorName(value: number): Compressor | undefined {
  return nameOf(COMPRESSOR, value);
}

export function digesterName(value: number): NydusDigester | undefined {
  return nameOf(DIGESTER, value);
}

/** The flags that say how a bootstrap's chunks are compressed and digested. */
export function algorithmFlags(compressor: Compressor, digester: NydusDigester): number {
  return COMPRESSOR_FLAGS[compressor] | DIGESTER_FLAGS[digester];
}

/** The algorithms that a bootstrap's flags name; CORRUPT unless there is exactly one of each. */
export function algorithmsOf(flags: number, offset: number): { readonly compressor: Compressor; readonly digester: NydusDigester } {
  return { compressor: only(COMPRESSOR_FLAGS, flags, 'compressor', offset), digester: only(DIGESTER_FLAGS, flags, 'digest algorithm', offset) };
}

/** Features by name, for people; CORRUPT for ones that loaders refuse. */
export function checkFeatures(features: number, what: string, offset: number): void {
  if ((features & 0xffff & ~KNOWN_FEATURES) !== 0 || features >= 0x8000_0000) throw corrupt(`${what} has unknown features 0x${features.toString(16)}`, { offset });
}

export function featureNames(features: number): string[] {
  return Object.entries(BLOB_FEATURE).filter(([, bit]) => (features & bit) !== 0).map(([name]) => name);
}

function only<K extends string>(bits: Readonly<Record<K, number>>, flags: number, what: string, offset: number): K {
  const found = (Object.keys(bits) as K[]).filter((name) => (flags & bits[name]) !== 0);
  const [name] = found;
  if (name === undefined || found.length > 1) throw corrupt(`RAFS flags 0x${flags.toString(16)} name ${found.length} ${what}s, not one`, { offset });
  return name;
}

function nameOf<K extends string>(values: Readonly<Record<K, number>>, value: number): K | undefined {
  return (Object.keys(values) as K[]).find((name) => values[name] === value);
}
