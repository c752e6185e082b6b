import type { Digest } from './digest.ts';

/**
 * Random access to a run of bytes: a file, a registry blob, a slice or a cache all look the same.
 * `read` gives exactly `length` bytes or rejects; the result is read-only by agreement.
 */
export interface ByteSource {
  /** Size in bytes. */
  readonly size: number;
  /** What `read` gives is nobody else's: whoever has read it may `giveBack` it. */
  readonly fresh?: boolean;
  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array>;
  /** These bytes will be read soon: they may be asked for already. */
  expect?(offset: number, length: number): void;
  /** Whether part of these bytes need not be asked for any more: how long reading them takes says nothing of where they come from. */
  expects?(offset: number, length: number): boolean;
  /** What was read there is wrong. Tells whether reading it again gets it from somewhere else, which may be right. */
  distrust?(offset: number, length: number): boolean;
}

/** Takes bytes and resolves when it is ready for more. The bytes belong to the caller again once it has resolved. */
export type Sink = (bytes: Uint8Array) => Promise<void>;

/**
 * A stream of bytes. What it yields is lent: it stays valid until the next element is asked for, then its memory may be
 * used again. Whoever keeps bytes copies them.
 */
export type ByteStream = AsyncIterable<Uint8Array>;

/** OCI content descriptor (image-spec 1.1, descriptor.md). Unknown fields survive. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Size in bytes of the content. */
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly urls?: readonly string[];
  readonly platform?: Platform;
  readonly artifactType?: string;
  /** The content itself, base64. */
  readonly data?: string;
}

/** image-spec 1.1, image-index.md, `platform`. */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
  readonly 'os.version'?: string;
  readonly 'os.features'?: readonly string[];
}

/** A point in time: whole seconds since the epoch (may be negative) and 0..999999999 nanoseconds on top. */
export interface Time {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** What every node of a file tree has. */
export interface Attributes {
  /** Permission and special bits, 0..07777; never the type. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: Time;
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
  /** Names as the archive has them, empty when it has none. */
  readonly userName?: string;
  readonly groupName?: string;
}

/**
 * One inode of a layer. A hard link is the same object under two names. Names are strings by `decodeName`:
 * bytes that are not UTF-8 appear as lone surrogates.
 */
export type FileNode = DirectoryNode | RegularNode | SymlinkNode | DeviceNode | FifoNode;

export interface DirectoryNode extends Attributes {
  readonly type: 'directory';
  readonly children: Map<string, FileNode>;
  /** Made up because the archive names only what is below it. */
  readonly implied?: boolean;
}

export interface RegularNode extends Attributes {
  readonly type: 'file';
  /** Bytes. */
  readonly size: number;
  /** In file order, without gaps or overlap; empty for an empty file. Trees may make them when asked, and anew each time. */
  readonly extents: readonly Extent[];
  /** Digest of the whole content, when the format has one. */
  readonly digest?: Digest;
}

export interface SymlinkNode extends Attributes {
  readonly type: 'symlink';
  readonly target: string;
}

export interface DeviceNode extends Attributes {
  readonly type: 'char' | 'block';
  readonly major: number;
  readonly minor: number;
}

export interface FifoNode extends Attributes {
  readonly type: 'fifo';
}

/** `length` bytes of a file at `fileOffset` are the bytes of a chunk from `chunkOffset` on. */
export interface Extent {
  readonly fileOffset: number;
  readonly length: number;
  readonly chunk: Chunk;
  readonly chunkOffset: number;
}

/** The unit that is fetched, checked and inflated as a whole. */
export interface Chunk {
  /** Which of the layer's blobs (`OpenLayer.sources`) holds it. */
  readonly blob: number;
  /** Where it is stored in that blob, bytes. */
  readonly offset: number;
  /** Stored bytes; may be an upper bound when the format does not say. */
  readonly length: number;
  /** Bytes once inflated. */
  readonly size: number;
  /** Inflated bytes in front of the chunk's own in the same stored unit (eStargz innerOffset). */
  readonly skip?: number;
  /** Digest of the inflated bytes, when the format has one. */
  readonly digest?: Digest | undefined;
  /** Digest of the stored bytes, when the format has one (SOCI). */
  readonly packedDigest?: Digest;
}

/** What has to be read and found right before a file's content counts (SOCI: its tar header). */
export interface FileProof {
  /** Like those of a file: the bytes to read, without gaps. */
  readonly extents: readonly Extent[];
  /** CORRUPT unless the bytes are what the index says about the file. */
  check(bytes: Uint8Array): Promise<void>;
}

/** One half of the seam between formats and everything else: the parsed index of a layer. */
export interface LayerIndex {
  readonly root: DirectoryNode;
  /** Every chunk once, in stored order. */
  readonly chunks: readonly Chunk[];
  /** Stored ranges that a reader should fetch first, `[offset, end)` of a blob; of blob 0 unless told. */
  readonly prefetch?: readonly { readonly offset: number; readonly end: number; readonly blob?: number }[];
}

/** The other half: the index, where each blob's bytes are, and how a stored chunk becomes file bytes. */
export interface OpenLayer {
  readonly format: string;
  readonly index: LayerIndex;
  readonly sources: readonly ByteSource[];
  /**
   * Inflates the stored bytes of a chunk to exactly `chunk.size` bytes. Does not check the digest: its caller does. The result is
   * the caller's alone, unless it is a part of `packed`: the caller may `giveBack` it.
   */
  inflate(chunk: Chunk, packed: Uint8Array): Promise<Uint8Array>;
  /** The same by other code than wrote the index: what `verify` uses in place of `inflate`. */
  recheck?(chunk: Chunk, packed: Uint8Array): Promise<Uint8Array>;
  /** Whether inflated bytes are right by what `chunk.digest` cannot say (a BLAKE3 digest); undefined for a chunk of which nothing more is known. */
  check?(chunk: Chunk, bytes: Uint8Array): boolean | undefined;
  /**
   * What `check` holds a chunk's inflated bytes against, as text that no other bytes have (`blake3:...`): for chunks without a
   * `digest`. Undefined for one of which no more than a checksum is known.
   */
  strongDigest?(chunk: Chunk): string | undefined;
  /** What the format wants to be proven about a file before it is read for the first time. */
  proof?(node: RegularNode): FileProof | undefined;
  /** The index is about the whole image, and the layer is no more than its wrapping (Nydus bootstrap). */
  readonly describes?: 'image';
  /** Which blobs of the repository the sources are, by their numbers, where the index is about more than its own layer. */
  readonly blobDigests?: readonly (Digest | undefined)[];
  /** Bytes of the blob that are index, not content (TOC, footer, tables). */
  readonly indexBytes: number;
  /** Facts worth printing, in the format's own words. */
  readonly facts?: Readonly<Record<string, string | number | boolean>>;
  /** Clean paths of tar entries that the format itself added (index, landmarks): part of the tar, not of the tree. */
  readonly reserved?: readonly string[];
  /** The chunks of each blob are, in their order, its whole plain tar: where a byte is in the tar is the sum of the sizes before it. */
  readonly tiles?: boolean;
  /**
   * Told of chunks that are about to be fetched together, in stored order: what it takes besides to inflate them can be fetched
   * meanwhile. Inflating them in that order then costs the least. Never throws: what fails shows when they are inflated.
   */
  prepare?(chunks: readonly Chunk[], signal?: AbortSignal): void;
  /**
   * Stands for all that vouches for the bytes of `index.chunks`, together with the layer's digest: layers that have both in
   * common have the same chunks.
   */
  readonly vouch?: Digest;
  /**
   * The layer can only be read from its start (zstd in one frame): all of its plain tar, chunk after chunk, each one proven
   * before its first byte is handed out. Reading a chunk through `sources` puts what lies in front of it into a temporary file;
   * who has a better place for it reads this.
   */
  sequential?(signal?: AbortSignal): ByteStream;
  /** Bytes of the layer's plain tar, when the format says so: `verify` holds it against the stream. */
  readonly tarSize?: number;
  /** What a user should know of the chunks that `recheck` has been given so far, one line each. */
  notes?(): readonly string[];
  /** What breaks the format's own rules without making the layer unreadable, one line each: `verify` reports them. */
  readonly problems?: readonly string[];
}

/**
 * Pushes bytes into a store's sink. `soFar` is the sha256 of all those whose push has resolved: the store hashes them anyway,
 * and what describes its own beginning need not do so again.
 */
export type Produce = (sink: Sink, soFar: () => Digest) => Promise<void>;

/** Stores bytes whose digest is not known yet; nothing is visible in the store unless `produce` resolves. */
export type Ingest = (mediaType: string, produce: Produce) => Promise<Descriptor>;

/** Memory of a `WorkerPool`'s budget, visible to its threads. */
export interface Lease {
  readonly memory: SharedArrayBuffer;
  /** Gives the memory back; the budget frees a place. */
  release(): void;
}

/** Threads for work that takes longer than a few milliseconds, and the memory budget for what is on its way to them. */
export interface WorkerPool {
  /** Threads. */
  readonly jobs: number;
  /** Waits for a place in the budget; the memory has at least `bytes` bytes. */
  lease(bytes: number, signal?: AbortSignal): Promise<Lease>;
  /** Runs a job on the next free thread. `kind` names the function in the worker script. */
  run<Job, Result>(kind: string, job: Job): Promise<Result>;
}

/**
 * Descriptor -> bytes plus names. One value stands for one repository of a registry, one layout directory or one memory
 * store. `push` and `ingest` resolve once the content is durable and can be fetched; content that exists is success.
 */
export interface ImageStore {
  /** For messages: `docker://host/repo`, `oci:dir`. */
  readonly location: string;
  /** Tag or digest -> descriptor of the manifest or index. NOT_FOUND when absent. */
  resolve(reference: string, signal?: AbortSignal): Promise<Descriptor>;
  /** Points a tag at content that is stored already. */
  tag(descriptor: Descriptor, tag: string, signal?: AbortSignal): Promise<void>;
  has(descriptor: Descriptor, signal?: AbortSignal): Promise<boolean>;
  /** Random access; ranges are not digest-checked, the caller's chunk digests do that. */
  open(descriptor: Descriptor): ByteSource;
  /** Size and digest are checked as the bytes flow. */
  fetch(descriptor: Descriptor, signal?: AbortSignal): ByteStream;
  /** Stores bytes of known digest. `open` may be called again for a retry. */
  push(descriptor: Descriptor, open: () => ByteStream, signal?: AbortSignal): Promise<void>;
  ingest(mediaType: string, produce: Produce, signal?: AbortSignal): Promise<Descriptor>;
  /** Descriptors of manifests whose `subject` is the given one. */
  referrers?(subject: Descriptor, signal?: AbortSignal): Promise<readonly Descriptor[]>;
  /** Takes a blob from another repository of the same registry without moving bytes; false when that is not possible. */
  mount?(descriptor: Descriptor, from: ImageStore, signal?: AbortSignal): Promise<boolean>;
  tags?(signal?: AbortSignal): Promise<readonly string[]>;
  /** Ends connections and releases locks. */
  close(): Promise<void>;
}
