import { concat } from '../core/bytes.ts';
import { digestAlgorithm, Digester } from '../core/digest.ts';
import { corrupt, LazypullError } from '../core/errors.ts';
import type { Chunk, Extent, FileProof, OpenLayer, RegularNode } from '../core/types.ts';
import { ChunkCache } from './cache.ts';
import { ChunkLoader, type LoadOptions } from './chunks.ts';
import { DEFAULT_MAX_REQUEST, type PlanOptions } from './plan.ts';

export interface LayerReaderOptions extends PlanOptions {
  /** Bytes of inflated chunks to keep. Default 64 MiB. */
  readonly cacheBytes?: number;
  /** A cache shared with other readers, in place of one of its own. */
  readonly cache?: ChunkCache;
}

export const DEFAULT_CACHE_BYTES = 64 * 1024 * 1024;
/** Longest read into one array: 1 GiB. More is for `stream`. */
const MAX_READ = 1024 * 1024 * 1024;
/** Inflated bytes of one step of a stream, and steps that are under way while one is being used. */
const STEP = 4 * 1024 * 1024;
const AHEAD = 2;

interface Piece {
  readonly chunk: Chunk;
  /** Part of the chunk that is wanted. */
  readonly from: number;
  readonly to: number;
}

/** What is loaded together: pieces of the content, and with the first ones the proof that has to come before them. */
interface Wish {
  readonly pieces: readonly Piece[];
  readonly proof?: { readonly of: FileProof; readonly pieces: readonly Piece[] };
}

/**
 * Reads files of an open layer: finds the chunks, asks for their stored bytes in as few ranged requests as is sensible,
 * checks every chunk against its digests and inflates it. What the format wants to be proven about a file is proven once,
 * before the first of its bytes is handed out. Safe to use for several reads at once.
 */
export class LayerReader {
  readonly #layer: OpenLayer;
  readonly #loader: ChunkLoader;
  readonly #maxRequest: number;
  readonly #proven = new WeakSet<RegularNode>();

  constructor(layer: OpenLayer, options: LayerReaderOptions = {}) {
    const cache = options.cache ?? new ChunkCache(options.cacheBytes ?? DEFAULT_CACHE_BYTES);
    this.#layer = layer;
    this.#loader = new ChunkLoader(layer, options, cache);
    this.#maxRequest = options.maxRequest ?? DEFAULT_MAX_REQUEST;
  }

  /** `length` bytes of a file from `offset` on, fewer at its end, none beyond it. At most 1 GiB. */
  async readFile(node: RegularNode, offset: number, length: number, options: LoadOptions = {}): Promise<Uint8Array> {
    if (!isCount(offset) || !isCount(length)) throw new LazypullError('USAGE', `cannot read ${length} bytes at ${offset}`, options);
    const end = Math.min(node.size, offset + length);
    if (offset >= end) return new Uint8Array(0);
    if (end - offset > MAX_READ) throw new LazypullError('LIMIT', `a read of ${end - offset} bytes does not fit into memory; stream the file`, options);
    let bytes: Uint8Array | undefined;
    let at = 0;
    for await (const part of this.#parts(node, offset, end, options)) {
      if (part.length === end - offset) {
        bytes = part;
        continue;
      }
      // Not before the first chunk has arrived: the size is a stranger's word.
      bytes ??= new Uint8Array(end - offset);
      bytes.set(part, at);
      at += part.length;
    }
    return bytes ?? new Uint8Array(0);
  }

  /** The whole file in bounded memory. The next chunks are fetched while the last ones are used. */
  stream(node: RegularNode, options: LoadOptions = {}): AsyncGenerator<Uint8Array> {
    return this.#parts(node, 0, node.size, options);
  }

  async *#parts(node: RegularNode, offset: number, end: number, options: LoadOptions): AsyncGenerator<Uint8Array> {
    const whole = offset === 0 && end === node.size;
    const unproven = whole && node.digest !== undefined && node.extents.some(({ chunk }) => chunk.digest === undefined);
    const digester = unproven && node.digest ? new Digester(digestAlgorithm(node.digest)) : undefined;
    const stop = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
    const wishes = this.#wishes(node, offset, end, options);
    const start = (): Promise<Step> | undefined => {
      const next = wishes.next();
      if (next.done) return undefined;
      const step = this.#load(node, next.value, { ...options, signal });
      // It may fail while an earlier step is still being used; whoever awaits it gets the error.
      step.catch(() => undefined);
      return step;
    };
    const under: Promise<Step>[] = [];
    const fill = (): void => {
      while (under.length < AHEAD) {
        const step = start();
        if (!step) return;
        under.push(step);
      }
    };
    try {
      fill();
      for (let step = under.shift(); step; step = under.shift()) {
        const parts = await step;
        fill();
        for (const part of parts) {
          digester?.update(part);
          yield part;
        }
      }
    } finally {
      stop.abort();
    }
    const got = digester?.finish();
    if (digester && got !== node.digest) throw new LazypullError('DIGEST_MISMATCH', `file has digest ${got}, not ${node.digest}`, options);
  }

  *#wishes(node: RegularNode, offset: number, end: number, options: LoadOptions): Generator<Wish> {
    let proof = this.#proven.has(node) ? undefined : this.#layer.proof?.(node);
    for (const group of this.#steps(pieces(node.extents, offset, end, options))) {
      yield proof ? { pieces: group, proof: { of: proof, pieces: [...pieces(proof.extents, 0, sizeOf(proof.extents), options)] } } : { pieces: group };
      proof = undefined;
    }
  }

  /** Proof and content in one plan: they often share a chunk, and nearly always a request. */
  async #load(node: RegularNode, { pieces: wanted, proof }: Wish, options: LoadOptions): Promise<Step> {
    const loaded = await this.#loader.load([...(proof?.pieces ?? []), ...wanted].map(({ chunk }) => chunk), options);
    const partsOf = (all: readonly Piece[]): Step => all.map(({ chunk, from, to }) => (loaded.get(chunk) as Uint8Array).subarray(from, to));
    if (proof) {
      await proof.of.check(concat(partsOf(proof.pieces)));
      this.#proven.add(node);
    }
    return partsOf(wanted);
  }

  /** Groups pieces so that a step is about one request's worth of stored bytes and bounded inflated bytes. */
  *#steps(all: Iterable<Piece>): Generator<readonly Piece[]> {
    let group: Piece[] = [];
    let stored = 0;
    let inflated = 0;
    for (const piece of all) {
      const { length, size } = piece.chunk;
      if (group.length > 0 && (stored + length > this.#maxRequest || inflated + size > STEP)) {
        yield group;
        group = [];
        stored = 0;
        inflated = 0;
      }
      group.push(piece);
      stored += length;
      inflated += size;
    }
    if (group.length > 0) yield group;
  }
}

type Step = readonly Uint8Array[];

/** The parts of chunks that make up `[offset, end)` of a file; extents that leave holes or reach outside their chunk are CORRUPT. */
function* pieces(extents: readonly Extent[], offset: number, end: number, options: LoadOptions): Generator<Piece> {
  let at = offset;
  for (let i = firstExtent(extents, offset); at < end; i++) {
    const extent = extents[i];
    if (!extent || extent.fileOffset > at || extent.length <= 0 || extent.fileOffset + extent.length <= at) {
      throw corrupt(`index has no chunk for byte ${at} of the file`, options);
    }
    if (extent.chunkOffset < 0 || extent.chunkOffset + extent.length > extent.chunk.size) throw corrupt(`extent at byte ${at} of the file reaches outside its chunk`, options);
    const from = extent.chunkOffset + (at - extent.fileOffset);
    const to = Math.min(extent.chunkOffset + extent.length, from + (end - at));
    yield { chunk: extent.chunk, from, to };
    at += to - from;
  }
}

function sizeOf(extents: readonly Extent[]): number {
  const last = extents.at(-1);
  return last ? last.fileOffset + last.length : 0;
}

/** Index of the last extent that starts at or before `offset`. */
function firstExtent(extents: readonly Extent[], offset: number): number {
  let low = 0;
  let high = extents.length;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if ((extents[middle] as Extent).fileOffset <= offset) low = middle + 1;
    else high = middle;
  }
  return Math.max(0, low - 1);
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
