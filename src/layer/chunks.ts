import { setImmediate as turn } from 'node:timers/promises';
import { digestLike } from '../core/digest.ts';
import { corrupt, isAbort, LazypullError, printable, throwIfAborted } from '../core/errors.ts';
import { giveBack } from '../core/room.ts';
import { checkRange } from '../core/source.ts';
import type { ByteSource, Chunk, OpenLayer } from '../core/types.ts';
import { ChunkCache } from './cache.ts';
import { planRequests, storedOrder, type PlanOptions, type RangeRequest } from './plan.ts';

/** Largest chunk, stored or inflated, that is taken into memory: 256 MiB. Lazy formats use 4 MiB or less. */
export const MAX_CHUNK = 256 * 1024 * 1024;
/** Units that hold several chunks are inflated as a whole up to this size, so that neighbours come for free. */
export const MAX_SHARED_UNIT = 32 * 1024 * 1024;
const PARALLEL_REQUESTS = 4;
/** Inflating goes on for this long (ms) until others get their turn. */
const SLICE = 10;

export interface LoadOptions {
  readonly signal?: AbortSignal;
  /** Path in the layer, for messages. */
  readonly path?: string;
}

type Loaded = ReadonlyMap<Chunk, Uint8Array>;

/** Fetches, checks and inflates chunks of one layer; concurrent wishes for one chunk share its request. */
export class ChunkLoader {
  readonly #layer: OpenLayer;
  readonly #plan: PlanOptions;
  readonly #cache: ChunkCache;
  readonly #maxUnit: number;
  readonly #underWay = new Map<Chunk, Promise<Loaded>>();
  #stored: readonly Chunk[] | undefined;

  /** `maxUnit`: units of several chunks are inflated as a whole up to this size; by default if what was not asked for can be kept. */
  constructor(layer: OpenLayer, plan: PlanOptions, cache: ChunkCache, maxUnit = Math.min(MAX_SHARED_UNIT, cache.maxBytes)) {
    this.#layer = layer;
    this.#plan = plan;
    this.#cache = cache;
    this.#maxUnit = maxUnit;
  }

  /** The inflated bytes of each chunk; stored and inflated bytes are held against the digests that it has. */
  async load(chunks: Iterable<Chunk>, options: LoadOptions = {}): Promise<Loaded> {
    throwIfAborted(options.signal);
    const loaded = new Map<Chunk, Uint8Array>();
    const missing: Chunk[] = [];
    const shared: Chunk[] = [];
    for (const chunk of new Set(chunks)) {
      const kept = this.#cache.get(chunk);
      if (kept) loaded.set(chunk, kept);
      else if (this.#underWay.has(chunk)) shared.push(chunk);
      else missing.push(chunk);
    }
    for (const chunk of missing) this.#check(chunk, options);
    const waiting = shared.map((chunk) => this.#borrow(chunk, options));
    const requests = planRequests(missing, this.#plan);
    await Promise.all([...waiting, this.#run(requests, loaded, options)]);
    for (const [at, chunk] of shared.entries()) loaded.set(chunk, (await waiting[at]) as Uint8Array);
    return loaded;
  }

  async #run(requests: readonly RangeRequest[], loaded: Map<Chunk, Uint8Array>, options: LoadOptions): Promise<void> {
    let next = 0;
    let failed = false;
    const worker = async (): Promise<void> => {
      for (let request = requests[next++]; request; request = requests[next++]) {
        // A failure elsewhere ends the load; what has not been asked for yet need not be.
        if (failed) return;
        const task = this.#fetch(request, options);
        for (const chunk of request.chunks) this.#underWay.set(chunk, task);
        try {
          for (const [chunk, bytes] of await task) loaded.set(chunk, bytes);
        } catch (error) {
          failed = true;
          throw error;
        } finally {
          for (const chunk of request.chunks) this.#underWay.delete(chunk);
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(PARALLEL_REQUESTS, requests.length) }, worker));
  }

  /** A chunk that somebody else is fetching; if they give up, it is fetched again. */
  async #borrow(chunk: Chunk, options: LoadOptions): Promise<Uint8Array> {
    try {
      return (await this.#underWay.get(chunk))?.get(chunk) as Uint8Array;
    } catch (error) {
      if (!isAbort(error) || options.signal?.aborted) throw error;
      return (await this.load([chunk], options)).get(chunk) as Uint8Array;
    }
  }

  async #fetch(request: RangeRequest, options: LoadOptions): Promise<Loaded> {
    const source = this.#layer.sources[request.blob] as ByteSource;
    this.#layer.prepare?.(request.chunks, options.signal);
    const packed = await source.read(request.offset, request.length, options.signal);
    const loaded = new Map<Chunk, Uint8Array>();
    let until = performance.now() + SLICE;
    for (const chunk of request.chunks) {
      if (loaded.has(chunk)) continue;
      if (performance.now() > until) {
        await turn();
        throwIfAborted(options.signal);
        until = performance.now() + SLICE;
      }
      const from = chunk.offset - request.offset;
      const stored = packed.subarray(from, from + chunk.length);
      checkPacked(chunk, stored, options);
      const neighbours = await this.#sharedUnit(chunk, stored, request.chunks);
      if (neighbours) for (const [other, bytes] of neighbours) loaded.set(other, bytes);
      if (!loaded.has(chunk)) loaded.set(chunk, await this.#inflate(chunk, stored, options));
    }
    for (const [chunk, bytes] of loaded) this.#cache.set(chunk, bytes);
    // What is stored as it is has become chunks.
    if (source.fresh && ![...loaded.values()].some(({ buffer }) => buffer === packed.buffer)) giveBack(packed);
    return loaded;
  }

  async #inflate(chunk: Chunk, stored: Uint8Array, options: LoadOptions): Promise<Uint8Array> {
    const bytes = await this.#layer.inflate(chunk, stored);
    if (bytes.length !== chunk.size) throw corrupt(`chunk inflates to ${bytes.length} bytes instead of ${chunk.size}`, place(options, chunk.offset));
    const got = chunk.digest && digestLike(chunk.digest, bytes);
    if (got !== chunk.digest) {
      throw new LazypullError('DIGEST_MISMATCH', `chunk of ${chunk.size} bytes has digest ${got}, not ${chunk.digest}`, place(options, chunk.offset));
    }
    if (this.#layer.check?.(chunk, bytes) === false) {
      throw new LazypullError('DIGEST_MISMATCH', `chunk of ${chunk.size} bytes does not have the digest that the index says`, place(options, chunk.offset));
    }
    return bytes;
  }

  /**
   * Several chunks of one stored unit come out of one inflation. Every chunk that proves right is given back; undefined
   * when the chunk is alone or the unit cannot be inflated as a whole, and the chunk is then read for itself.
   */
  async #sharedUnit(chunk: Chunk, stored: Uint8Array, wanted: readonly Chunk[]): Promise<Loaded | undefined> {
    const members = this.#unit(chunk);
    if (members.length < 2) return undefined;
    // The digest of a part of the unit's bytes, or of more than them, has not vouched for a neighbour.
    if (members.some((member) => member.packedDigest !== chunk.packedDigest)) return undefined;
    const unit = { blob: chunk.blob, offset: chunk.offset, length: stored.length, size: 0 };
    for (const member of members) unit.size = Math.max(unit.size, (member.skip ?? 0) + member.size);
    if (unit.size > this.#maxUnit) return undefined;
    let bytes: Uint8Array;
    try {
      bytes = await this.#layer.inflate(unit, stored);
    } catch (error) {
      if (error instanceof LazypullError && !isAbort(error)) return undefined;
      throw error;
    }
    const right = new Map<Chunk, Uint8Array>();
    for (const member of members) {
      const skip = member.skip ?? 0;
      const own = bytes.subarray(skip, skip + member.size);
      if (own.length !== member.size) continue;
      // Unasked for and unproven is not worth keeping; what was asked for goes the way that reports errors.
      const proven = member.digest ? digestLike(member.digest, own) === member.digest : this.#layer.check?.(member, own);
      if (proven ?? wanted.includes(member)) right.set(member, new Uint8Array(own));
    }
    return right;
  }

  /**
   * The chunks that one stored unit holds: they start at the same stored offset, and all but one say `skip`. Chunks that
   * do not are units of their own, even where they share bytes (spans meet inside a byte).
   */
  #unit(chunk: Chunk): readonly Chunk[] {
    const stored = (this.#stored ??= inStoredOrder(this.#layer.index.chunks));
    let low = 0;
    let high = stored.length;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const at = stored[middle] as Chunk;
      if (at.blob < chunk.blob || (at.blob === chunk.blob && at.offset < chunk.offset)) low = middle + 1;
      else high = middle;
    }
    // In this order the second one has the smallest `skip` but one: without it there are two units, or only one chunk.
    if (!stored[low + 1]?.skip) return [chunk];
    let end = low;
    while (stored[end]?.blob === chunk.blob && stored[end]?.offset === chunk.offset) end += 1;
    return stored.slice(low, end);
  }

  /** Before anything is allocated or asked for. */
  #check(chunk: Chunk, options: LoadOptions): void {
    const source = this.#layer.sources[chunk.blob];
    if (!source) throw corrupt(`index names blob ${chunk.blob}, which the layer does not have`, place(options, chunk.offset));
    checkRange(source, chunk.offset, chunk.length, options.path === undefined ? 'chunk' : `chunk of ${printable(options.path)}`);
    if (chunk.length > MAX_CHUNK || chunk.size > MAX_CHUNK) {
      const what = `chunk of ${chunk.length} stored and ${chunk.size} inflated bytes`;
      throw new LazypullError('LIMIT', `${what} is above the ${MAX_CHUNK} bytes allowed`, place(options, chunk.offset));
    }
  }
}

/** Before anything else is done with stored bytes. */
function checkPacked(chunk: Chunk, stored: Uint8Array, options: LoadOptions): void {
  const { packedDigest } = chunk;
  const got = packedDigest && digestLike(packedDigest, stored);
  if (got === packedDigest) return;
  throw new LazypullError('DIGEST_MISMATCH', `${chunk.length} stored bytes have digest ${got}, not ${packedDigest}`, place(options, chunk.offset));
}

function inStoredOrder(chunks: readonly Chunk[]): readonly Chunk[] {
  for (let i = 1; i < chunks.length; i++) {
    if (storedOrder(chunks[i - 1] as Chunk, chunks[i] as Chunk) > 0) return [...chunks].sort(storedOrder);
  }
  return chunks;
}

function place(options: LoadOptions, offset: number): { path?: string; offset: number } {
  return options.path === undefined ? { offset } : { path: options.path, offset };
}
