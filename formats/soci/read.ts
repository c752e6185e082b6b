import { corrupt, LazypullError } from '../../src/core/errors.ts';
import type { StoredImage, StoredLayer } from '../../src/core/format.ts';
import type { Chunk, Descriptor, FileProof, LayerIndex, OpenLayer, RegularNode } from '../../src/core/types.ts';
import { recheckPart } from '../../src/codec/recheck.ts';
import { inflatePart, type GzipPart } from '../../src/codec/resume.ts';
import { isTarLayer } from '../../src/oci/media-types.ts';
import { openEager } from './eager.ts';
import { findIndex } from './find-index.ts';
import { finding } from './finding.ts';
import { checkHeader, MAX_HEADER } from './header-proof.ts';
import { joinLayers, type SociIndex } from './index-manifest.ts';
import { ANNOTATION, type Checkpoint, type Ztoc } from './layout.ts';
import { decodePrefetch, PREFETCH_LIMIT } from './prefetch.ts';
import { buildTree, type ZtocTree } from './toc-tree.ts';
import { decodeZtoc } from './ztoc.ts';

/** Largest zTOC that is read; 1 % to 2 % of a layer is usual. FlatBuffers end at 2 GiB. */
const ZTOC_LIMIT = 1024 ** 3;

/** Whether a layer belongs to an image with a SOCI index; also layers that the index leaves out, so that all of the image can be read. */
export async function detectSoci({ descriptor, image }: StoredLayer, signal?: AbortSignal): Promise<boolean> {
  return image !== undefined && isTarLayer(descriptor.mediaType) && (await findIndex(image, signal)) !== undefined;
}

/** Why a layer has to be pulled whole: the image's index has no zTOC for it. Undefined for a layer that is read by ranges. */
export async function eagerSoci(layer: StoredLayer, signal?: AbortSignal): Promise<string | undefined> {
  const { index } = await indexOf(layer, signal);
  return joinLayers(index).has(layer.descriptor.digest) ? undefined : whyEager(layer.descriptor);
}

/** The layer's zTOC is fetched, checked and becomes the index. A layer that the image's index leaves out is pulled whole. */
export async function openSoci(layer: StoredLayer, signal?: AbortSignal): Promise<OpenLayer> {
  const { image, index } = await indexOf(layer, signal);
  const version = `v${index.version}`;
  const descriptor = joinLayers(index).get(layer.descriptor.digest);
  if (!descriptor) return openEager(layer, { version, eager: true, reason: whyEager(layer.descriptor) }, signal);
  const what = `zTOC ${descriptor.digest}`;
  const list = index.prefetch.find(({ annotations }) => annotations?.[ANNOTATION.layerDigest] === layer.descriptor.digest);
  const [bytes, prefetch] = await Promise.all([image.fetch(descriptor, ZTOC_LIMIT, signal), list && fetchPrefetch(image, list, signal)]);
  const ztoc = decodeZtoc(bytes, what);
  const { size } = layer.descriptor;
  if (ztoc.packedSize !== size) throw corrupt(`${what} is about a layer of ${ztoc.packedSize} bytes; layer ${layer.descriptor.digest} has ${size}`);
  const tree = buildTree(ztoc, what);
  const ahead = prefetch?.ranges(tree.index.chunks);
  const problems = [...tree.problems, ...(prefetch?.problems ?? [])];
  return {
    format: 'soci',
    index: ahead && ahead.length > 0 ? { ...tree.index, prefetch: ahead } : tree.index,
    sources: [layer.source],
    ...decoders(ztoc, tree.index.chunks, `layer ${layer.descriptor.digest}`),
    proof: (node) => proofOf(tree, node),
    tiles: tree.spans.tiles,
    vouch: descriptor.digest,
    indexBytes: descriptor.size + (list?.size ?? 0),
    ...(problems.length > 0 && { problems }),
    facts: {
      version,
      algorithm: ztoc.spans.algorithm,
      spans: tree.index.chunks.length,
      spanSize: ztoc.spans.spanSize,
      tarSize: ztoc.tarSize,
      buildTool: ztoc.buildTool,
      ztocDigest: descriptor.digest,
    },
  };
}

function whyEager({ mediaType }: Descriptor): string {
  return /[+.]zstd$/.test(mediaType) ? 'a zTOC cannot describe zstd' : 'the SOCI index has no zTOC for it';
}

async function indexOf({ descriptor, image }: StoredLayer, signal: AbortSignal | undefined): Promise<{ image: StoredImage; index: SociIndex }> {
  const found = image && (await findIndex(image, signal));
  if (!image || !found) throw new LazypullError('NOT_FOUND', `layer ${descriptor.digest} is in no image that has a SOCI index`);
  if ('error' in found) throw found.error;
  return { image, index: found.index };
}

/** A prefetch list is advice: without it the layer is as good as before. */
interface Prefetch {
  /** Stored ranges of the spans in the list; ids that no span has count for nothing, as for the snapshotter. */
  ranges(spans: readonly Chunk[]): LayerIndex['prefetch'] & {};
  readonly problems: readonly string[];
}

async function fetchPrefetch(image: StoredImage, list: Descriptor, signal: AbortSignal | undefined): Promise<Prefetch> {
  try {
    const runs = decodePrefetch(await image.fetch(list, PREFETCH_LIMIT, signal), `prefetch list ${list.digest}`);
    const ranges = (spans: readonly Chunk[]): { offset: number; end: number }[] => runs.flatMap(({ start, end }) => {
      const first = spans[start];
      const last = spans[Math.min(end, spans.length - 1)];
      return first && last ? [{ offset: first.offset, end: last.offset + last.length }] : [];
    });
    return { ranges, problems: [] };
  } catch (error) {
    return { ranges: () => [], problems: [finding(error)] };
  }
}

/** How spans are inflated: by our own decoder, and for `verify` by another. Spans of a plain tar are what they are. */
function decoders({ spans }: Ztoc, chunks: readonly Chunk[], what: string): Pick<OpenLayer, 'inflate' | 'recheck' | 'notes'> {
  if (spans.algorithm !== 'gzip') {
    return {
      async inflate({ offset, size }, packed) {
        if (packed.length < size) throw corrupt(`${what}: a span of ${packed.length} bytes cannot hold ${size} of the tar`, { offset });
        return packed.subarray(0, size);
      },
    };
  }
  const checkpoints = new Map(chunks.map((chunk, i) => [chunk, spans.checkpoints[i] as Checkpoint]));
  /** Spans in which a gzip member begins (notes §3.4). */
  const across = new Set<Chunk>();
  const spanOf = (chunk: Chunk, packed: Uint8Array): GzipPart => {
    const checkpoint = checkpoints.get(chunk);
    if (!checkpoint) throw new LazypullError('INTERNAL', `${what} has no span at byte ${chunk.offset}`);
    const { in: at, out, bits, window } = checkpoint;
    return { start: { bit: at * 8 - bits, out }, window, packed, size: chunk.size, what: `${what}, span at byte ${chunk.offset}` };
  };
  return {
    inflate: async (chunk, packed) => inflatePart(spanOf(chunk, packed)),
    recheck: (chunk, packed) => recheckPart(spanOf(chunk, packed), () => across.add(chunk)),
    notes: () => (across.size === 0 ? [] : [`gzip members begin inside ${across.size} of ${chunks.length} spans: snapshotters before 0.14 read zeros from there on`]),
  };
}

/** A file's header has to be read and found right before its content counts (notes §6.4). */
function proofOf({ files, spans }: ZtocTree, node: RegularNode): FileProof | undefined {
  const file = files.get(node);
  if (!file) return undefined;
  const { record, headerStart } = file;
  const length = record.offset - headerStart;
  if (length > MAX_HEADER) throw new LazypullError('LIMIT', `tar header of ${length} bytes is above the ${MAX_HEADER} allowed`, { path: record.name, offset: headerStart });
  return { extents: spans.extents(headerStart, record.offset), check: (bytes) => checkHeader(bytes, record) };
}
