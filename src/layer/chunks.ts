import { setImmediate as turn } from 'node:timers/promises';
import { digestLike } from '../core/digest.ts';
import { corrupt, isAbort, LazypullError, printable, throwIfAborted } from '../core/errors.ts';
import { giveBack, takeRoom } from '../core/room.ts';
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

/** Who takes chunks one by one. */
export interface ChunkTaker {
  /** A chunk that is right, as soon as it is known to be; its bytes are the taker's alone. Those behind it wait for as long as it says. */
  take(chunk: Chunk, bytes: Uint8Array): void | Promise<void>;
  /** A request of so many stored bytes was answered after some milliseconds. Not told of bytes that had been on their way before. */
  onFetched?(bytes: number, milliseconds: number): void;
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
    const waiting = shared.map((chunk) => this.#borrow(chunk, options));
    await Promise.all([...waiting, this.#run(missing, (request) => this.#share(request, loaded, options), options)]);
    for (const [at, chunk] of shared.entries()) loaded.set(chunk, (await waiting[at]) as Uint8Array);
    return loaded;
  }

  /**
   * Like `load`, for who does not want to wait for the last chunk to have the first one. What is fetched is shared with nobody, and
   * chunks that came along and are right are handed over as well. What was handed over before a failure is right.
   */
  async pass(chunks: Iterable<Chunk>, taker: ChunkTaker, options: LoadOptions = {}): Promise<void> {
    throwIfAborted(options.signal);
    const missing: Chunk[] = [];
    for (const chunk of new Set(chunks)) {
      const kept = this.#cache.get(chunk);
      if (kept) await taker.take(chunk, new Uint8Array(kept));
      else missing.push(chunk);
    }
    const take = (chunk: Chunk, bytes: Uint8Array): void | Promise<void> => {
      if (this.#cache.maxBytes > 0) this.#cache.set(chunk, new Uint8Array(bytes));
      return taker.take(chunk, bytes);
    };
    await this.#run(missing, (request) => this.#fetch(request, { ...taker, take }, options), options);
  }

  /** Some requests at a time. */
  async #run(missing: readonly Chunk[], work: (request: RangeRequest) => Promise<void>, options: LoadOptions): Promise<void> {
    for (const chunk of missing) this.#check(chunk, options);
    const requests = planRequests(missing, this.#plan);
    let next = 0;
    let failed = false;
    const worker = async (): Promise<void> => {
      for (let request = requests[next++]; request; request = requests[next++]) {
        // A failure elsewhere ends the load; what has not been asked for yet need not be.
        if (failed) return;
        try {
          await work(request);
        } catch (error) {
          failed = true;
          throw error;
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(PARALLEL_REQUESTS, requests.length) }, worker));
  }

  /** A request of which others may have something, too. */
  async #share(request: RangeRequest, loaded: Map<Chunk, Uint8Array>, options: LoadOptions): Promise<void> {
    const own = new Map<Chunk, Uint8Array>();
    const take = (chunk: Chunk, bytes: Uint8Array): void => {
      own.set(chunk, bytes);
      this.#cache.set(chunk, bytes);
    };
    const task = this.#fetch(request, { take }, options).then(() => own);
    for (const chunk of request.chunks) this.#underWay.set(chunk, task);
    try {
      for (const [chunk, bytes] of await task) loaded.set(chunk, bytes);
    } finally {
      for (const chunk of request.chunks) this.#underWay.delete(chunk);
    }
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

  async #fetch(request: RangeRequest, taker: ChunkTaker, options: LoadOptions): Promise<void> {
    const source = this.#layer.sources[request.blob] as ByteSource;
    this.#layer.prepare?.(request.chunks, options.signal);
    const coming = source.expects?.(request.offset, request.length) ?? false;
    const asked = performance.now();
    const packed = await source.read(request.offset, request.length, options.signal);
    let until = performance.now();
    if (!coming) taker.onFetched?.(request.length, until - asked);
    until += SLICE;
    const came = new Set<Chunk>();
    // What is stored as it is becomes chunks.
    let spent = source.fresh ?? false;
    const pass = (chunk: Chunk, bytes: Uint8Array): void | Promise<void> => {
      came.add(chunk);
      spent &&= bytes.buffer !== packed.buffer;
      return taker.take(chunk, bytes);
    };
    for (const chunk of request.chunks) {
      if (came.has(chunk)) continue;
      if (performance.now() > until) {
        await turn();
        throwIfAborted(options.signal);
        until = performance.now() + SLICE;
      }
      const from = chunk.offset - request.offset;
      const stored = packed.subarray(from, from + chunk.length);
      checkPacked(chunk, stored, options);
      const neighbours = await this.#sharedUnit(chunk, stored, request.chunks);
      if (neighbours) for (const [other, bytes] of neighbours) if (!came.has(other)) await pass(other, bytes);
      if (!came.has(chunk)) await pass(chunk, await this.#inflate(chunk, stored, options));
    }
    if (spent) giveBack(packed);
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
      if (!(proven ?? wanted.includes(member))) continue;
      const copy = takeRoom(own.length);
      copy.set(own);
      right.set(member, copy);
    }
    if (bytes.buffer !== stored.buffer) giveBack(bytes);
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
