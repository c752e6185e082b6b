import { Digester } from '../core/digest.ts';
import { LazypullError } from '../core/errors.ts';
import { tap } from '../core/stream.ts';
import type { ByteStream, Descriptor, DirectoryNode, FileNode, ImageStore, OpenLayer } from '../core/types.ts';
import { decompress } from '../codec/compression.ts';
import { compareTrees } from '../layer/compare.ts';
import { LayerReader } from '../layer/reader.ts';
import { nodeAt } from '../layer/tree.ts';
import { walk } from '../layer/walk.ts';
import { isTarLayer } from '../oci/media-types.ts';
import type { ImageLayer } from './image-layer.ts';
import { scanTar, type ContentWatcher, type ScannedTar } from './scan.ts';
import { ChunkVerifier } from './verify-chunks.ts';
import { digestByRanges, treeWithDigests } from './verify-tree.ts';
import type { ProblemList, VerifiedLayer } from './verify-report.ts';

export interface LayerCheckOptions {
  /** Most bytes of plain tar. */
  readonly maxLayerSize: number;
  readonly signal: AbortSignal;
  readonly moved: (bytes: number) => void;
  /** The contents of all files are wanted, to be compared with others. */
  readonly contents?: boolean;
}

/** What a look into a layer gave. */
export interface LayerCheck {
  readonly verified: VerifiedLayer;
  /**
   * The tar's tree with content digests; absent when the tar could not be read to its end. Of a layer whose index is about
   * the whole image, or that is no tar, the index's.
   */
  readonly tree?: DirectoryNode;
  /** The tree is that of the whole image. */
  readonly whole?: boolean;
  /** Paths in it that the format added. */
  readonly reserved: readonly string[];
}

/** A layer as one of the formats that it is in. */
export interface Reading {
  readonly open: OpenLayer;
  readonly chunks: ChunkVerifier;
  /** Number of the layer's own blob among its sources; -1 when it is none of them. */
  readonly own: number;
  /** For messages: of which index of several they speak. */
  readonly name: string;
  /** The index stands for itself: there is no tar that it is about. */
  readonly alone: boolean;
}

/** What is known of a layer before it is checked. */
export interface KnownLayer {
  /** It is opened already (`openForCheck`). */
  readonly readings?: readonly Reading[];
  /** Indexes of other layers that have chunks in this one's blob, and its number there: they are checked as it streams by. */
  readonly beside?: readonly { readonly chunks: ChunkVerifier; readonly blob: number }[];
}

/**
 * Checks one layer in one pass over its blob: size and digest, diffID, and for every lazy format that it is in every chunk
 * and the whole index against the tar, both ways. What is wrong goes to `problems`; only what is not about the content is thrown.
 */
export async function verifyLayer(store: ImageStore, layer: ImageLayer, problems: ProblemList, options: LayerCheckOptions, known: KnownLayer = {}): Promise<LayerCheck> {
  const { digest, mediaType, size } = layer.descriptor;
  const base = { digest, mediaType, size, diffId: layer.diffId };
  const nothing: LayerCheck = { verified: { ...base, format: null, formats: [], entries: 0, files: 0, chunks: 0, tarSize: 0 }, reserved: [] };
  if (layer.foreign) {
    problems.notes.add(`${layer.name} is a foreign layer: no registry holds it, it is not checked`);
    return nothing;
  }
  const before = problems.found;
  const readings = known.readings ?? (await openForCheck(layer, [], problems, options));
  const taps = [...readings.map(({ chunks, own }) => ({ chunks, blob: own })), ...(known.beside ?? [])];
  let scanned: ScannedTar | undefined;
  if (isTarLayer(mediaType)) {
    scanned = await scanLayer(store, layer, readings, taps, problems, options);
  } else {
    if (readings.length === 0) problems.notes.add(`${layer.name} is ${mediaType}, no tar: only its digest is checked`);
    await drain(store, layer.descriptor, problems, options, taps);
  }
  let tree = scanned?.root;
  for (const reading of readings) {
    await reading.chunks.finish(options.signal);
    for (const note of reading.open.notes?.() ?? []) problems.notes.add(`${layer.name}: ${note}`);
    if (reading.alone) tree = options.contents ? await treeWithDigests(reading.open, reading.chunks, (error) => problems.addError(error, { layer: digest }), options.signal) : reading.open.index.root;
    if (!scanned || reading.alone) continue;
    compareWithTar(layer, reading, scanned, problems);
    await compareContents(layer, reading, scanned, problems, options.signal);
  }
  if (readings.some(({ alone }) => !alone) && !scanned && problems.found === before) problems.notes.add(`${layer.name}: its index could not be compared with a tar`);
  const formats = readings.map(({ open }) => open.format);
  const counts = readings.some(({ alone }) => alone) && tree ? countsOf(tree) : scanned;
  return {
    verified: {
      ...base,
      format: formats[0] ?? null,
      formats,
      entries: counts?.entries ?? 0,
      files: counts?.files ?? 0,
      chunks: readings.reduce((sum, { chunks }) => sum + chunks.checked, 0),
      tarSize: scanned?.size ?? 0,
    },
    ...(tree && { tree }),
    ...(readings.some(({ open }) => open.describes === 'image') && { whole: true }),
    reserved: readings.flatMap(({ open }) => open.reserved ?? []),
  };
}

/**
 * Opens the layer as everything that it is; what it would have to be pulled whole for has no index to be checked. `others`: layers
 * that will be checked after it, and whose blobs an index about the whole image may have its chunks in.
 */
export async function openForCheck(layer: ImageLayer, others: readonly ImageLayer[], problems: ProblemList, { signal, contents = false }: LayerCheckOptions): Promise<Reading[]> {
  const place = { layer: layer.descriptor.digest };
  const report = (error: unknown): void => problems.addError(error, place);
  const opened: OpenLayer[] = [];
  try {
    for (const format of await layer.formats(signal)) {
      try {
        if ((await format.eager?.(layer.stored, signal)) === undefined) opened.push(await layer.openAs(format, signal));
      } catch (error) {
        report(error);
      }
    }
  } catch (error) {
    report(error);
  }
  return opened.map((open) => {
    for (const message of open.problems ?? []) problems.add({ code: 'CORRUPT', message: `${layer.name}: ${message}`, ...place });
    const name = opened.length > 1 ? `the ${open.format} index` : 'the index';
    const whole = open.describes === 'image';
    const alone = whole || !isTarLayer(layer.descriptor.mediaType);
    const own = open.sources.indexOf(layer.stored.source);
    const streams = whole ? (open.blobDigests ?? []).flatMap((digest, blob) => (others.some(({ descriptor }) => descriptor.digest === digest) ? [blob] : [])) : [own];
    return { open, chunks: new ChunkVerifier(open, streams, report, { alone, contents: alone && contents }), own, name, alone };
  });
}

type Tap = NonNullable<KnownLayer['beside']>[number];

async function scanLayer(
  store: ImageStore,
  layer: ImageLayer,
  readings: readonly Reading[],
  taps: readonly Tap[],
  problems: ProblemList,
  { maxLayerSize, signal, moved }: LayerCheckOptions,
): Promise<ScannedTar | undefined> {
  const { digest } = layer.descriptor;
  const contents = new ContentProblems();
  const watch = (path: string, size: number): ContentWatcher | undefined => {
    // Of several entries with one path the last one counts, in the tar as in the index.
    contents.forget(path);
    const watchers = readings.flatMap(({ open, chunks, alone }) => {
      if (alone) return [];
      const node = nodeAt(open.index.root, path);
      return (node?.type === 'file' && node.size === size && chunks.watch(path, node, (error) => contents.add(path, error))) || [];
    });
    return watchers.length > 1 ? together(watchers) : watchers[0];
  };
  const digester = new Digester();
  let flowed = 0;
  let packed: ByteStream = tap(store.fetch(layer.descriptor, signal), ({ length }) => {
    flowed += length;
    moved(length);
  });
  for (const { chunks, blob } of taps) packed = chunks.tap(packed, blob, signal);
  const tar = decompress(packed, { maxSize: maxLayerSize, what: layer.name, signal });
  let scanned: ScannedTar;
  try {
    scanned = await scanTar(tap(tar, (bytes) => digester.update(bytes)), { what: layer.name, maxSize: maxLayerSize, signal, watch, linksBelow: layer.number > 0 });
  } catch (error) {
    problems.addError(error, { layer: digest });
    // The tar broke off; whether the blob is at least the one that was meant is worth knowing.
    await drain(store, layer.descriptor, problems, { maxLayerSize, signal, moved: () => undefined });
    return undefined;
  }
  // The store checks a digest at the end of the stream: what was left unread was not checked.
  if (flowed !== layer.descriptor.size) await drain(store, layer.descriptor, problems, { maxLayerSize, signal, moved: () => undefined });
  contents.report((error) => problems.addError(error, { layer: digest }));
  const diffId = digester.finish();
  if (diffId !== layer.diffId) {
    problems.add({ code: 'DIGEST_MISMATCH', message: `${layer.name} inflates to diffID ${diffId}, the image config says ${layer.diffId}`, layer: digest });
  }
  for (const { open, name } of readings) {
    if (open.tarSize === undefined || open.tarSize === scanned.size) continue;
    problems.add({ code: 'SIZE_MISMATCH', message: `${layer.name} inflates to ${scanned.size} bytes, ${name === 'the index' ? 'its index' : name} says ${open.tarSize}`, layer: digest });
  }
  return scanned;
}

/** Names in a tree that was not made of a tar, what is only implied left out. */
function countsOf(tree: DirectoryNode): { entries: number; files: number } {
  const files = new Set<FileNode>();
  let entries = 0;
  for (const { node } of walk(tree)) {
    if (!(node.type === 'directory' && node.implied)) entries += 1;
    if (node.type === 'file') files.add(node);
  }
  return { entries, files: files.size };
}

function together(watchers: readonly ContentWatcher[]): ContentWatcher {
  return {
    update: (bytes) => watchers.forEach((watcher) => watcher.update(bytes)),
    finish: (digest) => watchers.forEach((watcher) => watcher.finish(digest)),
  };
}

/** Reads a blob for its size and digest alone; a problem that is known already is not noted again. */
export async function drain(store: ImageStore, descriptor: Descriptor, problems: ProblemList, options: LayerCheckOptions, taps: readonly Tap[] = []): Promise<void> {
  try {
    let stream: ByteStream = store.fetch(descriptor, options.signal);
    for (const { chunks, blob } of taps) stream = chunks.tap(stream, blob, options.signal);
    for await (const { length } of stream) options.moved(length);
  } catch (error) {
    const known = error instanceof LazypullError && problems.problems.some(({ code, layer, message }) => code === error.code && layer === descriptor.digest && message === error.message);
    if (!known) problems.addError(error, { layer: descriptor.digest });
  }
}

/** Everything in the index is in the tar and says the same, and the other way round. */
function compareWithTar(layer: ImageLayer, { open, name }: Reading, scanned: ScannedTar, problems: ProblemList): void {
  const ignore = new Set(open.reserved ?? []);
  let lost = 0;
  for (const { path, kind, detail } of compareTrees(scanned.root, open.index.root, { labels: ['the tar', name], ignore })) {
    if (kind === 'mtime-lost') lost += 1;
    else problems.add({ code: 'DIFFERENT', message: `${layer.name}: ${kind}: ${detail}`, layer: layer.descriptor.digest, path });
  }
  if (lost > 0) problems.notes.add(`${layer.name}: ${lost} modification ${lost === 1 ? 'time has' : 'times have'} fractions of a second that ${name} does not keep`);
}

/**
 * Files that neither their own digest nor those of whole chunks vouch for: their contents came by with the chunks, and if
 * not in order, they are read the way a reader would.
 */
async function compareContents(layer: ImageLayer, { open, chunks, name }: Reading, scanned: ScannedTar, problems: ProblemList, signal: AbortSignal): Promise<void> {
  const { recheck } = open;
  const reader = new LayerReader(recheck ? { ...open, inflate: recheck } : open);
  for (const { path, node } of walk(open.index.root)) {
    // What is wrong with a chunk was told already.
    if (node.type !== 'file' || !chunks.files.isUnproven(node) || chunks.isHit(node)) continue;
    const inTar = nodeAt(scanned.root, path);
    if (inTar?.type !== 'file' || inTar.size !== node.size) continue;
    try {
      const got = chunks.files.contentOf(node) ?? (await digestByRanges(reader, node, path, signal));
      if (got !== inTar.digest) throw new LazypullError('DIGEST_MISMATCH', `content is ${got} by ${name}, ${inTar.digest} in the tar`, { path });
    } catch (error) {
      problems.addError(error, { layer: layer.descriptor.digest });
    }
  }
}

/** Files whose problems are remembered: far more than are listed. */
const MAX_PATHS = 10_000;

/** Problems with the contents of files, of which an entry that comes again makes the earlier ones void. */
class ContentProblems {
  readonly #byPath = new Map<string, unknown[]>();

  add(path: string, error: unknown): void {
    const known = this.#byPath.get(path);
    if (known) known.push(error);
    else if (this.#byPath.size < MAX_PATHS) this.#byPath.set(path, [error]);
  }

  forget(path: string): void {
    this.#byPath.delete(path);
  }

  report(each: (error: unknown) => void): void {
    for (const errors of this.#byPath.values()) for (const error of errors) each(error);
  }
}
