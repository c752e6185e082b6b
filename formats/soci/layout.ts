import type { Digest } from '../../src/core/digest.ts';
import type { Descriptor } from '../../src/core/types.ts';

// SOCI (awslabs/soci-snapshotter 0.15): media types, annotations and the parts of a zTOC.

export const BUILD_TOOL = 'AWS SOCI CLI v0.2';
export const ZTOC_VERSION = '0.9';
export const ZTOC_MEDIA_TYPE = 'application/octet-stream';
export const PREFETCH_MEDIA_TYPE = 'application/vnd.amazon.soci.prefetch.v1+json';
/** `config.mediaType` of an index manifest, and so its artifact type. */
export const INDEX_TYPE = {
  v1: 'application/vnd.amazon.soci.index.v1+json',
  v2: 'application/vnd.amazon.soci.index.v2+json',
} as const;

export const ANNOTATION = {
  /** On an index manifest. */
  buildTool: 'com.amazon.soci.build-tool-identifier',
  /** On a zTOC's or prefetch list's descriptor: the layer it is about. */
  layerDigest: 'com.amazon.soci.image-layer-digest',
  layerMediaType: 'com.amazon.soci.image-layer-mediaType',
  spanSize: 'com.amazon.soci.span-size',
  disableXattrs: 'com.amazon.soci.disable-xattrs',
  /** On an image manifest: its v2 index. */
  indexDigest: 'com.amazon.soci.index-digest',
  /** On a v2 index's entry in the image index: the image it is about. */
  imageDigest: 'com.amazon.soci.image-manifest-digest',
} as const;

export const DEFAULT_SPAN_SIZE = 4 << 20;
export const DEFAULT_MIN_LAYER_SIZE = 10 << 20;
export const WINDOW_SIZE = 32_768;
/** The window where nothing comes before; never written to. */
export const NO_WINDOW: Uint8Array = new Uint8Array(WINDOW_SIZE);

/** Kinds of records (notes §2.2). */
export type RecordType = 'reg' | 'hardlink' | 'symlink' | 'char' | 'block' | 'dir' | 'fifo';

/** One tar entry as a zTOC has it (notes §1.1 FileMetadata, §2). Names are raw, by `decodeName`. */
export interface ZtocRecord {
  readonly name: string;
  readonly type: RecordType;
  /** Plain tar offset of the data, behind all header blocks. */
  readonly offset: number;
  /** Bytes of data. */
  readonly size: number;
  readonly linkName: string;
  /** As in the tar header; may hold file type bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly userName: string;
  readonly groupName: string;
  /** RFC 3339; '' for a time that cannot be said so. */
  readonly modTime: string;
  readonly major: number;
  readonly minor: number;
  /** All pax records, values raw; the xattrs are those under `SCHILY.xattr.`. */
  readonly pax: ReadonlyMap<string, Uint8Array>;
}

/** A place where inflating can begin (notes §3.1). */
export interface Checkpoint {
  /** Offset of the first whole byte that has not been consumed. */
  readonly in: number;
  /** Plain tar offset. */
  readonly out: number;
  /** 0..7: high bits of byte `in - 1` that are still unread. */
  readonly bits: number;
  /** The 32 KiB of tar in front of `out`, padded with zeros on the left. */
  readonly window: Uint8Array;
}

/** The decoded `checkpoints` field. */
export type SpanInfo =
  | { readonly algorithm: 'gzip'; readonly spanSize: number; readonly checkpoints: readonly Checkpoint[] }
  | { readonly algorithm: 'uncompressed'; readonly spanSize: number; readonly size: number };

export interface Ztoc {
  readonly buildTool: string;
  /** Bytes of the layer as stored. */
  readonly packedSize: number;
  /** `uncompressed_archive_size`: where the tar ends, notes §2.6. */
  readonly tarSize: number;
  /** In tar order. */
  readonly records: readonly ZtocRecord[];
  readonly spans: SpanInfo;
  /** Of the stored bytes of each span. */
  readonly spanDigests: readonly Digest[];
}

/** A span: the unit that is fetched, verified and inflated (notes §3.3). All half open, bytes. */
export interface SpanRange {
  readonly packedStart: number;
  readonly packedEnd: number;
  readonly tarStart: number;
  readonly tarEnd: number;
}

/** What `follow` found out about a layer, for `describeImage`: its zTOC, stored already. The windows are left out: each is `NO_WINDOW`. */
export interface SociLayer {
  readonly descriptor: Descriptor;
  readonly ztoc: Ztoc;
}

export interface SociOptions {
  /** Bytes of plain tar per span, at least; default 4 MiB. */
  readonly spanSize?: number;
  /** Stored layers of fewer bytes are left out; default 10 MiB, 0 leaves out none. */
  readonly minLayerSize?: number;
  /** Have zstd layers repacked as gzip; otherwise they are left out. */
  readonly transcodeZstd?: boolean;
  /** Checkpoints exactly where the soci CLI has them, also for layers of few gzip members (snapshotters before 0.14 cannot read those). */
  readonly upstreamCheckpoints?: boolean;
  /** Tell the snapshotter of layers without xattrs, so that it need not ask for them (notes §7.5). */
  readonly optimizeXattr?: boolean;
  /** Globs of files whose spans a snapshotter is to fetch at once. */
  readonly prefetch?: readonly string[];
}
