import type { Digest } from './digest.ts';
import type { LazypullError } from './errors.ts';
import type { ByteSource, ByteStream, Descriptor, Ingest, OpenLayer, WorkerPool } from './types.ts';

/** The image that a stored layer belongs to, as far as formats may look at it. Everything is in one repository. */
export interface StoredImage {
  /** Of the image's manifest. */
  readonly descriptor: Descriptor;
  /** The manifest's annotations. */
  readonly annotations: Readonly<Record<string, string>>;
  /** The manifest's layers, lowest first. */
  readonly layers: readonly Descriptor[];
  /** Digests of their plain tars, as the image config has them. */
  readonly diffIds?: readonly Digest[];
  /** All entries of the index that the image was found in; absent when it was found by itself. */
  readonly entries?: readonly Descriptor[];
  /** The descriptor of a manifest; undefined when it is not in the repository. */
  resolve(digest: Digest, signal?: AbortSignal): Promise<Descriptor | undefined>;
  /** A whole blob or manifest of at most `limit` bytes (LIMIT above), size and digest checked. */
  fetch(descriptor: Descriptor, limit: number, signal?: AbortSignal): Promise<Uint8Array>;
  /** Random access to a blob, ranges not checked. */
  open(descriptor: Descriptor): ByteSource;
  /** Manifests whose subject is this image, of one artifact type. */
  referrers(artifactType: string, signal?: AbortSignal): Promise<readonly Descriptor[]>;
  /** Layers of the image whose tag is this image's tag plus a suffix (eStargz external TOC). */
  sibling(suffix: string, signal?: AbortSignal): Promise<readonly StoredLayer[] | undefined>;
}

/** A stored layer as a reader meets it. */
export interface StoredLayer {
  readonly descriptor: Descriptor;
  readonly source: ByteSource;
  /** Absent for a layer on its own. */
  readonly image?: StoredImage;
}

/** A layer as a converter meets it. Each call starts a new pass over the same bytes. */
export interface LayerInput {
  readonly descriptor: Descriptor;
  /** Digest of the plain tar, as the image config has it; absent for a tar that is made on the way (out of a Nydus image). */
  readonly diffId?: Digest;
  /** Clean paths of entries that a lazy format had added to the tar; asked for by formats that are `plain`. */
  readonly reserved?: readonly string[];
  /** The layer as stored: size and digest are checked as it flows. */
  packed(): ByteStream;
  /** The layer inflated to plain tar: also held against the config's diff_id. */
  tar(): ByteStream;
}

/** A layer that a format takes over as it is. */
export interface AdoptedLayer {
  readonly descriptor: Descriptor;
  readonly entries: number;
  readonly chunks: number;
}

/** What there is to say about work on one layer. */
export interface LayerFacts {
  /** Entries in the layer's index. */
  readonly entries: number;
  /** Chunks in the layer's index. */
  readonly chunks: number;
  /** Things a user should hear about, one line each. */
  readonly warnings?: readonly string[];
  /** Things worth knowing that are as they should be, one line each. */
  readonly notes?: readonly string[];
}

/** What a format made of one layer. */
export interface ConvertedLayer extends LayerFacts {
  /** For the new manifest, annotations included. */
  readonly descriptor: Descriptor;
  /** Digest of the new layer's plain tar, for `rootfs.diff_ids`. */
  readonly diffId: Digest;
  /** Bytes of that plain tar. */
  readonly tarSize: number;
  /** Wishes among the options that this layer had nothing for; a user should hear of those that no layer had anything for. */
  readonly unused?: readonly string[];
  /** Further blobs that belong to this layer and that the format's `finish` publishes (eStargz external TOC). */
  readonly attachments?: readonly Descriptor[];
  /** What the format's `assemble` wants to know about the layer. */
  readonly details?: unknown;
}

/** What a format's `convert` needs besides the layer. */
export interface ConvertContext {
  readonly ingest: Ingest;
  /** Shared by all layers of a conversion. */
  readonly workers: WorkerPool;
  readonly signal?: AbortSignal;
  /** Who else wants to know the new layer: the format tells it of every point where a gzip member begins, and of all bytes. */
  readonly follower?: Pick<LayerFollower, 'point' | 'packed' | 'tar'>;
  /** For formats whose layers are made in order: what became of the layers below, lowest first. */
  readonly below?: readonly ConvertedLayer[];
}

/** One image whose layers a format has converted. */
export interface ConvertedImage {
  /** Lowest first. */
  readonly layers: readonly ConvertedLayer[];
  readonly ingest: Ingest;
  /** Brings a blob of another image's repository to where the new image is, without its bytes where they are there or can be mounted. */
  carry(blob: Descriptor, from: StoredImage): Promise<void>;
  readonly signal?: AbortSignal;
}

/** A layer as the new manifest and config name it. */
export interface AssembledLayer {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  /** For the config's history. */
  readonly createdBy?: string;
}

/** What becomes of an image as a whole. */
export interface AssembledImage {
  /** In place of the converted layers. */
  readonly layers: readonly AssembledLayer[];
  readonly warnings?: readonly string[];
  /** Things worth knowing that are as they should be, one line each. */
  readonly notes?: readonly string[];
}

/** A document that must be stored next to the image when all layers are done. */
export interface ExtraImage {
  /** The image's own tag plus this suffix. */
  readonly tagSuffix: string;
  readonly layers: readonly Descriptor[];
}

/** A place in a stored layer where inflating can begin: in front of a deflate block, or of a zstd frame. */
export interface ResumePoint {
  /** Bits of the stored layer in front of it. */
  readonly bit: number;
  /** Bytes of plain tar in front of it. */
  readonly out: number;
  /** It is the first block of a gzip member, or a zstd frame, and nothing in front of it is needed to inflate what follows. */
  readonly member: boolean;
  /** The plain tar in front of it: 32 KiB, or all there is when that is less. To be called before `point` returns, lent until then. */
  window(): Uint8Array;
}

/** What a format's `follow` needs besides the layer. */
export type FollowContext = Pick<ConvertContext, 'ingest' | 'signal'> & Partial<Pick<ConvertContext, 'workers'>>;

/**
 * Follows a layer on its way and describes it, from its stored form and its plain form at once. All bytes are lent. Points
 * come before the stored bytes behind them; otherwise the two forms keep no common step, and either may be ahead.
 */
export interface LayerFollower {
  /** For gzip and zstd. Of a stored layer every point is told before the plain tar behind it is; of one that is just being made it may come later. */
  point(point: ResumePoint): void;
  packed(bytes: Uint8Array): void;
  tar(bytes: Uint8Array): Promise<void>;
  /** All of both has gone by. `layer` is how the new manifest names it; `compression` is what its bytes are. */
  finish(layer: { readonly descriptor: Descriptor; readonly compression: 'gzip' | 'zstd' | 'none' }): Promise<DescribedLayer | SkippedLayer>;
  /** The layer will not come to its end. */
  abandon(): Promise<void>;
}

/** What a follower found out about a layer. */
export interface DescribedLayer extends LayerFacts {
  /** The blob that holds it, stored already. */
  readonly blob: Descriptor;
  /** What the format's `describeImage` wants to know about the layer. */
  readonly details: unknown;
}

/** A layer that an indexing format leaves out. */
export interface SkippedLayer {
  /** Why: one clause, for a user. */
  readonly skipped: string;
}

/** All layers of an image as an indexing format left them. */
export interface DescribedImage {
  /** In the order of the manifest; undefined for a layer that was left out. */
  readonly layers: readonly ({ readonly descriptor: Descriptor; readonly described: DescribedLayer } | undefined)[];
  /** The image's manifest, for an artifact that is to refer to it; absent when the manifest is to name the artifact. */
  readonly subject?: Descriptor;
  /** Stores a blob beside the image. */
  put(mediaType: string, bytes: Uint8Array): Promise<Descriptor>;
}

/** A manifest that describes an image from outside. */
export interface ImageArtifact {
  /** With `artifactType`. */
  readonly descriptor: Descriptor;
  /** The manifest, to be stored exactly so. */
  readonly bytes: Uint8Array;
  readonly warnings?: readonly string[];
  /** Wishes among the options that this image had nothing for; a user should hear of those that no image had anything for. */
  readonly unused?: readonly string[];
}

/**
 * Annotations that tie an image's manifest to an artifact beside it in one index. Whoever rewrites manifests needs to know
 * them, because they name digests.
 */
export interface Binding {
  readonly artifactType: string;
  /** Annotation of the image's manifest: digest of the artifact. */
  readonly artifactKey: string;
  /** Annotation of the artifact's entry in the index: digest of the image's manifest. */
  readonly imageKey: string;
}

/** A layer that is in a format, and yet cannot be opened by it. */
export interface BrokenLayer {
  readonly descriptor: Descriptor;
  readonly error: LazypullError;
}

/** What a format says about a whole image. */
export interface Examination {
  /** What breaks the format's rules, one line each. */
  readonly problems: readonly string[];
  /** What a user should know, one line each. */
  readonly notes: readonly string[];
}

/** What all formats can do: read. */
interface ReadableFormat {
  readonly name: string;
  /** Whether a layer is in this format: annotations and media type first, then at most one small read. Never throws for a stranger's blob. */
  detect(layer: StoredLayer, signal?: AbortSignal): Promise<boolean>;
  open(layer: StoredLayer, signal?: AbortSignal): Promise<OpenLayer>;
  /** The same without the tree, for who has the merged one: `index.root` is an empty directory. Absent where that would save nothing. */
  openContent?(layer: StoredLayer, signal?: AbortSignal): Promise<OpenLayer>;
  /** Whether annotations alone speak for this format: it is then looked for before the others. Reads nothing. */
  claims?(layer: StoredLayer): boolean;
  /** Why `open` has to pull a layer of this format whole: one clause. Undefined for a layer that is read by ranges, as it should be. */
  eager?(layer: StoredLayer, signal?: AbortSignal): Promise<string | undefined>;
  /** The merged tree, where the format has published it; its layers are then opened only when their content is read. */
  premade?(image: StoredImage, signal?: AbortSignal): Promise<PremadeTree | undefined>;
  /** Looks at the format's documents about an image; undefined when there are none. `broken` are its layers that could not be opened, and why. */
  examine?(image: StoredImage, signal?: AbortSignal, broken?: readonly BrokenLayer[]): Promise<Examination | undefined>;
}

/** An image's merged tree, made beforehand: an EROFS image without content, whose blocks are 512 bytes. */
export interface PremadeTree {
  readonly metadata: Uint8Array;
  /** By device of the image, from the first: number of the layer (from 0) whose plain tar it is. */
  readonly layers: readonly number[];
  /** By device: `OpenLayer.vouch` of that layer, so that none has to be opened before it is read. */
  readonly vouches: readonly Digest[];
}

/** A format that makes new layers (eStargz). */
export interface RewritingFormat<O = unknown> extends ReadableFormat {
  readonly kind: 'rewriting';
  /**
   * What a layer that is in this format already looks like in a new manifest, its bytes untouched; undefined when it has
   * to be converted all the same (for instance because its index cannot be verified).
   */
  adopt(layer: StoredLayer, signal?: AbortSignal): Promise<AdoptedLayer | undefined>;
  convert(input: LayerInput, context: ConvertContext, options: O): Promise<ConvertedLayer>;
  /** It makes ordinary layers: of what made the old ones lazy nothing is to stay, be it in them or beside them. */
  readonly plain?: boolean;
  /** Among the `os.features` of an image in this format where one index lists it beside ordinary ones, which cannot do without such a mark. */
  readonly osFeature?: string;
  /**
   * The image goes on needing the layers that it was made of: they have to be in the target as they are, though its manifest
   * does not name them (Nydus zran).
   */
  readonly keepsLayers?: boolean;
  /** The layers of an image are made one after the other, lowest first: each may make use of those below (Nydus). */
  readonly inOrder?: boolean;
  /** Makes the manifest's layers of the converted ones, for formats in which they are not the same (Nydus). */
  assemble?(image: ConvertedImage, options: O): Promise<AssembledImage>;
  /** Last step about the whole image, after every layer of every platform. */
  finish?(layers: readonly ConvertedLayer[], options: O): Promise<readonly ExtraImage[]>;
}

/** A format that leaves layers as they are and describes them from outside (SOCI). */
export interface IndexingFormat<O = unknown> extends ReadableFormat {
  readonly kind: 'indexing';
  readonly binding: Binding;
  /** Artifact type of those of its artifacts that refer to an image by `subject`. */
  readonly referrerType: string;
  /** Options for an index that stays on this machine, next to the content itself, and is not read much. */
  readonly localOptions?: O;
  /**
   * Begins to follow a layer, or says why not, or asks for a gzip version of it. `size` is that of the stored layer if it
   * is known already.
   */
  follow(layer: { readonly mediaType: string; readonly size?: number }, context: FollowContext, options: O): LayerFollower | SkippedLayer | 'repack';
  /** What following a layer would come to, from the blob that was once made of it; CORRUPT when it is not about that layer. */
  recall?(layer: Descriptor, blob: Descriptor, bytes: Uint8Array): Promise<DescribedLayer>;
  /** The artifact about one image; undefined when none of its layers is described. */
  describeImage(image: DescribedImage, options: O): Promise<ImageArtifact | undefined>;
}

/**
 * A lazy format. `O` are its own options, already parsed. The core knows formats only through this type.
 */
export type Format<O = unknown> = RewritingFormat<O> | IndexingFormat<O>;

/** A format together with the options to write it with. */
export interface FormatChoice<F extends Format = Format> {
  readonly format: F;
  readonly options: unknown;
}

/** Chooses a format to write, options checked by its type; those left out have the format's defaults. */
export function choose<F extends Format>(format: F, options: F extends Format<infer O> ? O : never = {} as never): FormatChoice<F> {
  return { format, options };
}
