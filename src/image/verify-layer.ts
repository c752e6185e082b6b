import { Digester, type Digest } from '../core/digest.ts';
import { LazypullError } from '../core/errors.ts';
import { tap } from '../core/stream.ts';
import type { Descriptor, DirectoryNode, ImageStore, OpenLayer } from '../core/types.ts';
import { decompress } from '../codec/compression.ts';
import { compareTrees } from '../layer/compare.ts';
import { LayerReader } from '../layer/reader.ts';
import { nodeAt } from '../layer/tree.ts';
import { walk } from '../layer/walk.ts';
import { isTarLayer } from '../oci/media-types.ts';
import type { ImageLayer } from './image-layer.ts';
import { scanTar, type ContentWatcher, type ScannedTar } from './scan.ts';
import { ChunkVerifier, isWhole } from './verify-chunks.ts';
import type { ProblemList, VerifiedLayer } from './verify-report.ts';

export interface LayerCheckOptions {
  /** Most bytes of plain tar. */
  readonly maxLayerSize: number;
  readonly signal: AbortSignal;
  readonly moved: (bytes: number) => void;
}

/** What a look into a layer gave. */
export interface LayerCheck {
  readonly verified: VerifiedLayer;
  /** The tar's tree with content digests; absent when the tar could not be read to its end. */
  readonly tree?: DirectoryNode;
  /** Paths in it that the format added. */
  readonly reserved: readonly string[];
}

/**
 * Checks one layer in one pass over its blob: size and digest, diffID, and for a lazy format every chunk and the whole
 * index against the tar, both ways. What is wrong goes to `problems`; only what is not about the content is thrown.
 */
export async function verifyLayer(store: ImageStore, layer: ImageLayer, problems: ProblemList, options: LayerCheckOptions): Promise<LayerCheck> {
  const { digest, mediaType, size } = layer.descriptor;
  const base = { digest, mediaType, size, diffId: layer.diffId };
  const nothing: LayerCheck = { verified: { ...base, format: null, entries: 0, files: 0, chunks: 0, tarSize: 0 }, reserved: [] };
  if (layer.foreign) {
    problems.notes.add(`${layer.name} is a foreign layer: no registry holds it, it is not checked`);
    return nothing;
  }
  const before = problems.found;
  const open = await openForCheck(layer, problems, options.signal);
  const chunks = open && new ChunkVerifier(open, layer.stored.source, (error) => problems.addError(error, { layer: digest }));
  let scanned: ScannedTar | undefined;
  if (isTarLayer(mediaType)) {
    scanned = await scanLayer(store, layer, open, chunks, problems, options);
  } else {
    problems.notes.add(`${layer.name} is ${mediaType}, no tar: only its digest is checked`);
    await drain(store, layer.descriptor, problems, options);
  }
  await chunks?.finish(options.signal);
  if (open && scanned) {
    compareWithTar(layer, open, scanned, problems);
    await readUnproven(layer, open, scanned, problems, options.signal);
  }
  if (open && !scanned && problems.found === before) problems.notes.add(`${layer.name}: its index could not be compared with a tar`);
  return {
    verified: {
      ...base,
      format: open?.format ?? null,
      entries: scanned?.entries ?? 0,
      files: scanned?.files ?? 0,
      chunks: chunks?.checked ?? 0,
      tarSize: scanned?.size ?? 0,
    },
    ...(scanned && { tree: scanned.root }),
    reserved: open?.reserved ?? [],
  };
}

async function openForCheck(layer: ImageLayer, problems: ProblemList, signal: AbortSignal): Promise<OpenLayer | undefined> {
  try {
    if (!(await layer.format(signal))) return undefined;
    const open = await layer.open(signal);
    for (const message of open.problems ?? []) problems.add({ code: 'CORRUPT', message: `${layer.name}: ${message}`, layer: layer.descriptor.digest });
    return open;
  } catch (error) {
    problems.addError(error, { layer: layer.descriptor.digest });
    return undefined;
  }
}

async function scanLayer(
  store: ImageStore,
  layer: ImageLayer,
  open: OpenLayer | undefined,
  chunks: ChunkVerifier | undefined,
  problems: ProblemList,
  { maxLayerSize, signal, moved }: LayerCheckOptions,
): Promise<ScannedTar | undefined> {
  const { digest } = layer.descriptor;
  const contents = new ContentProblems();
  const watch = (path: string, size: number): ContentWatcher | undefined => {
    // Of several entries with one path the last one counts, in the tar as in the index.
    contents.forget(path);
    const node = open && nodeAt(open.index.root, path);
    return node?.type === 'file' && node.size === size ? chunks?.watch(path, node, (error) => contents.add(path, error)) : undefined;
  };
  const digester = new Digester();
  let flowed = 0;
  const packed = tap(store.fetch(layer.descriptor, signal), ({ length }) => {
    flowed += length;
    moved(length);
  });
  const tar = decompress(chunks ? chunks.tap(packed, signal) : packed, { maxSize: maxLayerSize, what: layer.name, signal });
  let scanned: ScannedTar;
  try {
    scanned = await scanTar(tap(tar, (bytes) => digester.update(bytes)), { what: layer.name, maxSize: maxLayerSize, signal, watch });
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
  if (open?.tarSize !== undefined && open.tarSize !== scanned.size) {
    problems.add({ code: 'SIZE_MISMATCH', message: `${layer.name} inflates to ${scanned.size} bytes, its index says ${open.tarSize}`, layer: digest });
  }
  return scanned;
}

/** Reads a blob for its size and digest alone; a problem that is known already is not noted again. */
export async function drain(store: ImageStore, descriptor: Descriptor, problems: ProblemList, options: LayerCheckOptions): Promise<void> {
  try {
    for await (const { length } of store.fetch(descriptor, options.signal)) options.moved(length);
  } catch (error) {
    const known = error instanceof LazypullError && problems.problems.some(({ code, layer, message }) => code === error.code && layer === descriptor.digest && message === error.message);
    if (!known) problems.addError(error, { layer: descriptor.digest });
  }
}

/** Everything in the index is in the tar and says the same, and the other way round. */
function compareWithTar(layer: ImageLayer, open: OpenLayer, scanned: ScannedTar, problems: ProblemList): void {
  const ignore = new Set(open.reserved ?? []);
  let lost = 0;
  for (const { path, kind, detail } of compareTrees(scanned.root, open.index.root, { labels: ['the tar', 'the index'], ignore })) {
    if (kind === 'mtime-lost') lost += 1;
    else problems.add({ code: 'DIFFERENT', message: `${layer.name}: ${kind}: ${detail}`, layer: layer.descriptor.digest, path });
  }
  if (lost > 0) problems.notes.add(`${layer.name}: ${lost} modification ${lost === 1 ? 'time has' : 'times have'} fractions of a second that the index does not keep`);
}

/** Files whose content neither their own digest nor that of whole chunks vouches for are read the way a reader would. */
async function readUnproven(layer: ImageLayer, open: OpenLayer, scanned: ScannedTar, problems: ProblemList, signal: AbortSignal): Promise<void> {
  const reader = new LayerReader(open);
  for (const { path, node } of walk(open.index.root)) {
    if (node.type !== 'file' || node.digest !== undefined || node.extents.every(isWhole)) continue;
    const inTar = nodeAt(scanned.root, path);
    if (inTar?.type !== 'file' || inTar.size !== node.size) continue;
    try {
      const digester = new Digester();
      for await (const bytes of reader.stream(node, { path, signal })) digester.update(bytes);
      const got: Digest = digester.finish();
      if (got !== inTar.digest) throw new LazypullError('DIGEST_MISMATCH', `content is ${got} by the index, ${inTar.digest} in the tar`, { path });
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
