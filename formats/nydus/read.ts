import { isDigest, type Digest } from '../../src/core/digest.ts';
import { corrupt, LazypullError } from '../../src/core/errors.ts';
import type { StoredImage, StoredLayer } from '../../src/core/format.ts';
import { MemorySource } from '../../src/core/source.ts';
import type { ByteSource, OpenLayer } from '../../src/core/types.ts';
import { impliedDirectory } from '../../src/layer/tree.ts';
import { MEMBER } from './blob-layout.ts';
import { CONTEXT_HEADER_SIZE, decodeContextHeader } from './context-layout.ts';
import type { BlobEntry } from './bootstrap-layout.ts';
import { ANNOTATION, BLOB_FEATURE, BLOB_MEDIA_TYPE, featureNames, PLACEHOLDER_ID } from './layout.ts';
import { readBootstrapLayer } from './read-bootstrap.ts';
import { readRafsHead } from './read-head.ts';
import { readMember, readMembers, type BlobMembers, type Member } from './read-members.ts';
import type { BlobPlaces } from './read-tables.ts';
import { openRafs, type OpenRafs } from './tree.ts';
import { isV5 } from './v5-layout.ts';
import { openV5, V5Reader } from './v5.ts';

/** Bytes of a bootstrap inside of a blob. */
const INLINE_LIMIT = 512 << 20;

/** Whether annotations or media type say that a layer is part of a Nydus image. */
export function claimsNydus({ descriptor }: Pick<StoredLayer, 'descriptor'>): boolean {
  const { mediaType, annotations = {} } = descriptor;
  return mediaType === BLOB_MEDIA_TYPE || annotations[ANNOTATION.bootstrap] === 'true' || annotations[ANNOTATION.blob] === 'true';
}

/** There is nothing else to tell them by: a bootstrap layer is a tar like others, and blobs begin with chunk data. */
export async function detectNydus(layer: StoredLayer): Promise<boolean> {
  return claimsNydus(layer);
}

/**
 * The bootstrap layer opens as the whole image's tree, data layers as empty trees. A blob that is in no image with a bootstrap
 * layer opens as the layer that it was made from, if its own bootstrap is in it.
 */
export async function openNydus(layer: StoredLayer, signal?: AbortSignal): Promise<OpenLayer> {
  if (layer.descriptor.annotations?.[ANNOTATION.bootstrap] === 'true') return openBootstrap(layer, signal);
  const what = `blob ${layer.descriptor.digest}`;
  const members = await readMembers(layer.source, what, signal);
  const described = layer.image?.layers.some(({ annotations }) => annotations?.[ANNOTATION.bootstrap] === 'true');
  if (described) return openData(layer, members, what, signal);
  const boot = members.members.find(({ name }) => name === MEMBER.bootstrap);
  if (!boot) throw new LazypullError('NOT_FOUND', `${what} has no bootstrap, and is in no image that has one`);
  return openAlone(layer, members, boot, what, signal);
}

/** What an image's bootstrap says without its tree. */
export interface BootstrapBlobs {
  readonly version: 5 | 6;
  readonly blobs: readonly BlobEntry[];
}

/** Both `open` and `examine` want to know; the bootstrap itself is not kept. */
const known = new WeakMap<StoredImage, BootstrapBlobs>();

/** The blobs that a bootstrap layer names. */
export async function bootstrapOf(layer: StoredLayer, signal?: AbortSignal): Promise<BootstrapBlobs> {
  const kept = layer.image && known.get(layer.image);
  return kept ?? blobsOf((await readBootstrapLayer(layer, signal)).bootstrap);
}

async function blobsOf(bootstrap: Uint8Array): Promise<BootstrapBlobs> {
  if (isV5(bootstrap)) return { version: 5, blobs: new V5Reader(bootstrap, NOWHERE).entries };
  return { version: 6, blobs: (await readRafsHead(new MemorySource(bootstrap))).blobs };
}

async function openBootstrap(layer: StoredLayer, signal: AbortSignal | undefined): Promise<OpenLayer> {
  const { bootstrap, metas } = await readBootstrapLayer(layer, signal);
  const summary = await blobsOf(bootstrap);
  if (layer.image) known.set(layer.image, summary);
  const open = await openAny(bootstrap, imagePlaces(layer, metas), signal);
  return { ...open, format: 'nydus', describes: 'image', indexBytes: layer.descriptor.size, facts: { ...open.facts, bootstrapSize: bootstrap.length, contextTables: metas.size } };
}

/** A data layer: what it holds is shown by the bootstrap layer. */
async function openData(layer: StoredLayer, members: BlobMembers, what: string, signal: AbortSignal | undefined): Promise<OpenLayer> {
  return {
    format: 'nydus',
    index: { root: impliedDirectory(), chunks: [] },
    sources: [layer.source],
    inflate: async (chunk) => {
      throw corrupt(`${what} has no chunks of its own`, { offset: chunk.offset });
    },
    indexBytes: indexBytes(layer, members),
    facts: { ...memberFacts(members), ...(await headerFacts(layer.source, members, signal)) },
  };
}

async function openAlone(layer: StoredLayer, members: BlobMembers, boot: Member, what: string, signal: AbortSignal | undefined): Promise<OpenLayer> {
  const bootstrap = await readMember(layer.source, boot, INLINE_LIMIT, what, signal);
  const places = imagePlaces(layer, new Map());
  // Its own id cannot be in it: it is a digest of all of it.
  const own = ({ id, features }: BlobEntry): boolean => id === PLACEHOLDER_ID || (features & BLOB_FEATURE.inlinedFsMeta) !== 0;
  const open = await openAny(bootstrap, {
    ...places,
    data: (entry) => (own(entry) && (entry.features & BLOB_FEATURE.separate) === 0 ? layer.source : places.data(entry)),
    tables: (entry) => (own(entry) ? layer.source : places.tables(entry)),
  }, signal);
  return { ...open, format: 'nydus', indexBytes: indexBytes(layer, members), facts: { ...open.facts, ...memberFacts(members), bootstrapSize: bootstrap.length } };
}

function openAny(bootstrap: Uint8Array, places: BlobPlaces, signal: AbortSignal | undefined): Promise<OpenRafs> {
  return isV5(bootstrap) ? openV5(bootstrap, places) : openRafs(new MemorySource(bootstrap), places, signal);
}

/** Blobs by their ids, which are the digests of what is in the repository. */
function imagePlaces({ image }: StoredLayer, metas: ReadonlyMap<string, Uint8Array>): BlobPlaces {
  const find = (id: string, size: number): ByteSource => {
    const digest = `sha256:${id}`;
    return isDigest(digest) && image ? openBlob(image, digest, size) : missing(size, `blob ${id.slice(0, 64)}`);
  };
  return {
    metas,
    data: (entry) => find(entry.id, entry.compressedSize),
    tables: (entry) => {
      const separate = (entry.features & BLOB_FEATURE.separate) !== 0 && entry.metaDigest.some((byte) => byte !== 0);
      return separate ? find(Buffer.from(entry.metaDigest).toString('hex'), entry.metaSize) : find(entry.id, entry.compressedSize);
    },
  };
}

/** A blob of the repository; of one that the manifest does not name (a chunk dictionary, a layer that zran refers to) the bootstrap knows the size. */
function openBlob(image: StoredImage, digest: Digest, size: number): ByteSource {
  return image.open(image.layers.find((layer) => layer.digest === digest) ?? { mediaType: 'application/octet-stream', digest, size });
}

/** For who wants no content. */
const NOWHERE: BlobPlaces = { metas: new Map(), data: ({ compressedSize, id }) => missing(compressedSize, id), tables: ({ compressedSize, id }) => missing(compressedSize, id) };

function missing(size: number, what: string): ByteSource {
  return { size, read: (offset) => Promise.reject(new LazypullError('NOT_FOUND', `${what} cannot be found: it is not known which image it belongs to`, { offset })) };
}

/** Everything but chunk data. */
function indexBytes({ descriptor }: StoredLayer, { members }: BlobMembers): number {
  const data = members.find(({ name }) => name === MEMBER.data);
  return members.length === 0 ? 0 : descriptor.size - (data?.size ?? 0);
}

function memberFacts({ members, toc }: BlobMembers): Record<string, string | boolean> {
  return { members: members.map(({ name }) => name).join(' ') || 'none', toc: toc !== undefined };
}

/** What the header of the context table says. A blob without members tells nothing by itself. */
async function headerFacts(source: ByteSource, { members }: BlobMembers, signal: AbortSignal | undefined): Promise<Record<string, string | number>> {
  const meta = members.find(({ name }) => name === MEMBER.metaHeader) ?? members.find(({ name }) => name === MEMBER.meta);
  if (!meta || meta.size < CONTEXT_HEADER_SIZE) return {};
  const at = meta.offset + meta.size - CONTEXT_HEADER_SIZE;
  const header = decodeContextHeader(await source.read(at, CONTEXT_HEADER_SIZE, signal), at);
  return { chunks: header.entries, contexts: header.contexts, contextTable: header.uncompressedSize, features: featureNames(header.features).join(' ') };
}
