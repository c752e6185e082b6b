import { isAbort } from '../core/errors.ts';
import type { ByteStream, Chunk, OpenLayer, RegularNode } from '../core/types.ts';
import { ChunkCache } from '../layer/cache.ts';
import { ChunkLoader, MAX_CHUNK } from '../layer/chunks.ts';
import { storedOrder } from '../layer/plan.ts';
import { LayerReader } from '../layer/reader.ts';
import { nodeAt } from '../layer/tree.ts';
import type { Planned } from './extract-plan.ts';
import type { OpenImage } from './open.ts';
import { isFinding } from './verify-report.ts';

/** Inflated bytes of the small files that are fetched together; the next such batch is under way while one is being written. */
const BATCH_BYTES = 8 * 1024 * 1024;
/** Files in a batch, so that what comes next is not planned for all of an image at once. */
const BATCH_FILES = 4096;

/** A file of the selection that can be read now. */
export interface ReadableFile extends Planned<RegularNode> {
  content(signal?: AbortSignal): ByteStream;
}

interface Placed extends Planned<RegularNode> {
  /** Number of the layer that has it. */
  readonly layer: number;
}

interface Batch {
  readonly layer: number;
  readonly files: readonly Placed[];
  /** What they need. */
  readonly chunks: ReadonlySet<Chunk>;
  /** It is one file, too large to be fetched at once: it streams by itself. */
  readonly streams: boolean;
}

interface Reading {
  readonly loader: ChunkLoader;
  readonly reader: LayerReader;
}

/**
 * Gives out all files in the order in which their layers store them, so that neighbours share requests and no chunk is
 * fetched twice. Batch after batch: the files of one may be read side by side, and have to be read before the next is asked for.
 */
export async function* filesInStoredOrder(image: OpenImage, files: readonly Planned<RegularNode>[], signal?: AbortSignal): AsyncGenerator<readonly ReadableFile[]> {
  const opened = await Promise.all(image.layers.map((layer) => layer.open(signal)));
  const readings = openReadings(opened);
  const stop = new AbortController();
  const either = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
  const start = (batch: Batch): Promise<void> => {
    const work = fetchAhead(batch, readings[batch.layer] as Reading, either);
    // It may fail while the batch in front of it is still being read; whoever awaits it gets the error.
    work.catch(() => undefined);
    return work;
  };
  const batches = planBatches(placeFiles(opened, files));
  let next = batches.next();
  let ahead: Promise<void> | undefined;
  try {
    while (!next.done) {
      const batch = next.value;
      await (ahead ?? start(batch));
      next = batches.next();
      // What a file is about to fetch for itself waits, or it would be fetched twice.
      ahead = next.done || (batch.streams && sharesChunk(next.value, batch)) ? undefined : start(next.value);
      const { reader } = readings[batch.layer] as Reading;
      yield batch.files.map((file) => ({
        node: file.node,
        paths: file.paths,
        content: (own) => reader.stream(file.node, { path: file.paths[0], signal: own ?? either }),
      }));
    }
  } finally {
    stop.abort();
  }
}

/** One reader per layer, all with one budget for what is kept; what the loader brings is what the reader finds. */
function openReadings(opened: readonly OpenLayer[]): readonly Reading[] {
  // Two batches, and what is at their edges: a chunk that does not fit would be fetched again for each of its files.
  const largest = opened.reduce((most, { index }) => index.chunks.reduce((max, { size }) => Math.max(max, size), most), 0);
  const cache = new ChunkCache(2 * BATCH_BYTES + 2 * Math.min(largest, MAX_CHUNK));
  return opened.map((layer) => ({ loader: new ChunkLoader(layer, {}, cache), reader: new LayerReader(layer, { cache }) }));
}

/** Finds the layer of each file and sorts them as they are stored. Merging layers shares their files: the same object is in one of them. */
function placeFiles(opened: readonly OpenLayer[], files: readonly Planned<RegularNode>[]): readonly Placed[] {
  const placed = files.map((file) => ({ ...file, layer: opened.findLastIndex(({ index }) => nodeAt(index.root, file.paths[0]) === file.node) }));
  return placed.sort((a, b) => a.layer - b.layer || compareStored(a.node, b.node));
}

/** Empty files come first: they need nothing. */
function compareStored(a: RegularNode, b: RegularNode): number {
  const [first] = a.extents;
  const [second] = b.extents;
  if (!first || !second) return Number(first !== undefined) - Number(second !== undefined);
  return storedOrder(first.chunk, second.chunk) || first.chunkOffset - second.chunkOffset;
}

function* planBatches(files: readonly Placed[]): Generator<Batch> {
  let open: { layer: number; files: Placed[]; chunks: Set<Chunk>; bytes: number } | undefined;
  for (const file of files) {
    const wanted = new Set(file.node.extents.map(({ chunk }) => chunk));
    const streams = inflated(wanted) > BATCH_BYTES;
    const before = open?.chunks;
    const added = inflated(before ? [...wanted].filter((chunk) => !before.has(chunk)) : wanted);
    if (open && (streams || open.layer !== file.layer || open.bytes + added > BATCH_BYTES || open.files.length >= BATCH_FILES)) {
      yield { ...open, streams: false };
      open = undefined;
    }
    if (streams) {
      yield { layer: file.layer, files: [file], chunks: wanted, streams };
    } else if (open) {
      open.files.push(file);
      for (const chunk of wanted) open.chunks.add(chunk);
      open.bytes += added;
    } else {
      open = { layer: file.layer, files: [file], chunks: wanted, bytes: inflated(wanted) };
    }
  }
  if (open) yield { ...open, streams: false };
}

function inflated(chunks: Iterable<Chunk>): number {
  let bytes = 0;
  for (const { size } of chunks) bytes += size;
  return bytes;
}

function sharesChunk(a: Batch, b: Batch): boolean {
  for (const chunk of a.chunks) if (b.chunks.has(chunk)) return true;
  return false;
}

async function fetchAhead({ chunks, streams }: Batch, { loader }: Reading, signal: AbortSignal): Promise<void> {
  try {
    if (!streams) await loader.load(chunks, { signal });
  } catch (error) {
    // Which of the files is broken says the one who reads it.
    if (isAbort(error) || !isFinding(error)) throw error;
  }
}
