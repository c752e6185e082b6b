import { isAbort, LazypullError, throwIfAborted } from '../../core/errors.ts';
import { Once } from '../../core/once.ts';
import { giveBack, takeRoom } from '../../core/room.ts';
import type { Chunk } from '../../core/types.ts';
import { planRequests } from '../../layer/plan.ts';
import { Arrivals, Delivery, type Arrival } from './arrivals.ts';
import type { FetchQueue } from './fetch-queue.ts';
import { KeepArrived, type ArrivedChunk } from './keep-arrived.ts';
import { keepChunks } from './keep-chunks.ts';
import { loadChunks, type LoadDesk } from './load-chunks.ts';
import type { LayerDevice, OpenedLayer } from './opened-layer.ts';
import type { ChunkBytes } from './proofs.ts';
import { SequentialPump } from './sequential.ts';
import type { FetchClass } from './types.ts';

export interface LayerContentOptions {
  /** `layer 2 (sha256:...)`. */
  readonly name: string;
  readonly open: (signal?: AbortSignal) => Promise<OpenedLayer>;
  readonly queue: FetchQueue;
  /** Looks whether another process has fetched more of a device. */
  readonly refresh: (device: LayerDevice) => Promise<void>;
  /** Chunks have been kept, or could not be. */
  readonly onKept: (kept: boolean) => void;
  /** Nobody has these bytes of a chunk any more. */
  readonly onLeft: (bytes: Uint8Array) => void;
  /** Wrong bytes came, and are asked for again. */
  readonly onWrong: (error: LazypullError, device: LayerDevice | undefined, address: number) => void;
}

/** Stored bytes worth fetching to save a request. */
const GAP = 64 << 10;
/** Tries of one read, should what it needs be evicted again and again. */
const MAX_TRIES = 50;

type Run = readonly [number, number];

/** What one layer's requests were for, and how they went. */
export class LayerCounts {
  requestsBy: Record<FetchClass, number> = { demand: 0, ahead: 0, prefetch: 0, background: 0 };
  misses = 0;
  errors = 0;
  refetched = 0;
  answers = { local: 0, shared: 0, fetched: 0 };
}

/** The content of one layer: from the local files of its devices, or from where the layer is. */
export class LayerContent {
  readonly name: string;
  readonly counts = new LayerCounts();
  readonly #queue: FetchQueue;
  readonly #options: LayerContentOptions;
  readonly #opened: Once<OpenedLayer>;
  readonly #arrivals: Arrivals;
  #layer: OpenedLayer | undefined;
  #pump: SequentialPump | undefined;
  /** Chunks that reads of this moment want: neighbours among them are fetched together. */
  #batch: { readonly delivery: Delivery; readonly arrivals: Arrival[] } | undefined;
  readonly #stop = new AbortController();
  readonly #deliveries = new Set<Delivery>();

  constructor(options: LayerContentOptions) {
    const { name, open, queue } = options;
    this.name = name;
    this.#queue = queue;
    this.#options = options;
    this.#arrivals = new Arrivals(options.onLeft);
    this.#opened = new Once(async (signal) => {
      const layer = await open(signal);
      if (layer.sequential) this.#pump = new SequentialPump(layer, this.#stop.signal);
      this.#layer = layer;
      return layer;
    });
  }

  /** Undefined until the layer has been needed. */
  get opened(): OpenedLayer | undefined {
    return this.#layer;
  }

  /** Changes while something comes that takes its time. */
  get progress(): number {
    return this.#pump?.position ?? 0;
  }

  open(signal?: AbortSignal): Promise<OpenedLayer> {
    return this.#opened.get(signal);
  }

  /** Exactly these bytes of a device, proven. */
  async read(device: LayerDevice, address: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    const end = address + length;
    let how: keyof LayerCounts['answers'] = 'local';
    for (let tries = 0; tries < MAX_TRIES; tries += 1) {
      if (device.device.has(address, length)) {
        const bytes = await device.device.read(address, length);
        if (!bytes) continue;
        this.counts.answers[how] += 1;
        return bytes;
      }
      throwIfAborted(this.#stop.signal);
      if (tries === 0) await this.#options.refresh(device);
      const layer = await this.open(signal);
      // Only now: it may have come meanwhile.
      const missing = [...device.device.missing(address, length)];
      if (missing.length === 0) continue;
      try {
        const { bytes, shared } = await this.#fetchRead(layer, device, address, end, missing, signal);
        how = shared ? 'shared' : 'fetched';
        if (!bytes) continue;
        this.counts.answers[how] += 1;
        return bytes;
      } catch (error) {
        // Whoever had asked for it first has given up.
        if (!isAbort(error) || signal?.aborted || this.#stop.signal.aborted) throw error;
      }
    }
    throw new LazypullError('IO', 'what is read is evicted before it can be handed out: the cache is too small', { offset: address });
  }

  /** Fetches what is missing of some parts of a device, with as few requests as that takes. Resolves once it is kept, or cannot be. */
  async fetch(device: LayerDevice, runs: readonly Run[], of: FetchClass, signal?: AbortSignal): Promise<void> {
    for (let again = true; again; ) {
      if (runs.every(([from, to]) => device.device.has(from, to - from))) return;
      const layer = await this.open(signal);
      const missing = runs.flatMap(([from, to]) => [...device.device.missing(from, to - from)]);
      const { content, proof } = this.#wanted(layer, device, runs, missing);
      const wanted = new Set([...proof, ...content]);
      // What has come for somebody else was perhaps not proven then.
      again = layer.proofs !== undefined && [...wanted].some((chunk) => this.#arrivals.get(chunk) !== undefined);
      const arrivals = this.#want(layer, wanted, of);
      await this.#arrivals.waitKept(arrivals, signal);
    }
  }

  close(): void {
    this.#stop.abort();
    for (const delivery of this.#deliveries) delivery.giveUp();
  }

  /** The bytes of a range of which some runs are missing; undefined when the others have been evicted meanwhile. */
  async #fetchRead(layer: OpenedLayer, device: LayerDevice, address: number, end: number, missing: readonly Run[], signal: AbortSignal | undefined): Promise<{ readonly bytes: Uint8Array | undefined; readonly shared: boolean }> {
    const { proofs } = layer;
    const own = layer.ownNumber(device);
    const known = proofs?.wrong(own, address, end);
    if (known) throw known;
    const { content, proof } = this.#wanted(layer, device, [[address, end]], missing);
    const shared = content.every((chunk) => this.#arrivals.get(chunk) !== undefined);
    const arrivals = this.#want(layer, new Set([...proof, ...content]), 'demand');
    const bytes = await this.#arrivals.wait(arrivals, (loaded) => this.#assemble(layer, device, { address, end, missing }, content, loaded), signal);
    return { bytes, shared };
  }

  /** Puts a read together from chunks that have just come and from what was there. */
  async #assemble(layer: OpenedLayer, device: LayerDevice, range: ReadRange, content: readonly number[], loaded: ReadonlyMap<number, Uint8Array>): Promise<Uint8Array | undefined> {
    const { address, end, missing } = range;
    const { proofs } = layer;
    const own = layer.ownNumber(device);
    if (proofs) {
      await proofs.prove(own, address, end, this.#bytesOf(layer, loaded));
      const wrong = proofs.wrong(own, address, end);
      if (wrong) throw wrong;
      // What was not proven when it arrived has not been kept.
      if (missing.some(([from, to]) => !device.device.has(from, to - from))) await keepChunks(layer, content.map((chunk) => [chunk, loaded.get(chunk) as Uint8Array]));
    }
    const bytes = takeRoom(end - address).fill(0);
    let at = address;
    for (const [from, to] of [...missing, [end, end] as const]) {
      if (from > at) {
        const local = await device.device.read(at, from - at);
        if (!local) return undefined;
        bytes.set(local, at - address);
        giveBack(local);
      }
      at = to;
    }
    for (const chunk of content) copyChunk(layer, own, chunk, loaded.get(chunk) as Uint8Array, range, bytes);
    if (content.length === 0) await device.device.write(missing.map(([from, to]) => ({ address: from, bytes: NOTHING, cover: to - from })));
    return bytes;
  }

  /** The chunks that fill what is missing of some runs, and those that the files in them have to be proven by. */
  #wanted({ addresses, proofs, ownNumber }: OpenedLayer, device: LayerDevice, runs: readonly Run[], missing: readonly Run[]): { readonly content: readonly number[]; readonly proof: readonly number[] } {
    const own = ownNumber(device);
    const content = new Set<number>();
    for (const [from, to] of missing) for (const chunk of addresses.chunksAt(own, from, to - from)) content.add(chunk);
    const parts = runs.flatMap(([from, to]) => proofs?.partsFor(own, from, to) ?? []);
    const proof = parts.filter(({ chunk, from, to }) => !device.device.has(addresses.startOf(chunk) + from, to - from)).map(({ chunk }) => chunk);
    return { content: [...content], proof };
  }

  /** Chunks as they will arrive: those that are under way already, and the others by requests of their own. */
  #want(layer: OpenedLayer, chunks: Iterable<number>, of: FetchClass): Arrival[] {
    const arrivals: Arrival[] = [];
    const fresh: Arrival[] = [];
    const batch = of === 'demand' ? (this.#batch ??= this.#newBatch(layer)) : { delivery: new Delivery(), arrivals: fresh };
    for (const chunk of chunks) {
      const known = this.#arrivals.get(chunk) ?? this.#pump?.want(chunk, this.#arrivals);
      const arrival = known ?? this.#arrivals.add(chunk, batch.delivery);
      if (!known) batch.arrivals.push(arrival);
      arrivals.push(arrival);
    }
    if (of !== 'demand' && fresh.length > 0) this.#request(layer, fresh, of, batch.delivery);
    return arrivals;
  }

  #newBatch(layer: OpenedLayer): { readonly delivery: Delivery; readonly arrivals: Arrival[] } {
    const batch = { delivery: new Delivery(), arrivals: [] };
    setImmediate(() => {
      this.#batch = undefined;
      this.#request(layer, batch.arrivals, 'demand', batch.delivery);
    });
    return batch;
  }

  #request(layer: OpenedLayer, arrivals: readonly Arrival[], of: FetchClass, delivery: Delivery): void {
    const all = layer.addresses.chunks;
    const byChunk = new Map<Chunk, Arrival>([...arrivals, ...this.#between(layer, arrivals, delivery)].map((arrival) => [all[arrival.chunk] as Chunk, arrival]));
    // Nobody waits behind what nobody waits for; what somebody waits for is not torn apart.
    const maxRequest = this.#queue.requestSize;
    for (const { chunks, length } of planRequests(byChunk.keys(), { gap: GAP, maxRequest })) {
      void this.#deliver(layer, chunks.map((chunk) => byChunk.get(chunk) as Arrival), length, of, delivery);
    }
  }

  /** What comes along because it lies between chunks that are fetched by one request: it is kept as well. */
  *#between({ addresses, devices }: OpenedLayer, wanted: readonly Arrival[], delivery: Delivery): Generator<Arrival> {
    const { chunks } = addresses;
    const numbers = wanted.map(({ chunk }) => chunk).sort((a, b) => a - b);
    for (const [i, next] of numbers.entries()) {
      const last = i === 0 ? next : (numbers[i - 1] as number);
      const [from, to] = [chunks[last] as Chunk, chunks[next] as Chunk];
      if (next - last < 2 || from.blob !== to.blob || to.offset - from.offset - from.length > GAP) continue;
      for (let number = last + 1; number < next; number += 1) {
        const { size } = chunks[number] as Chunk;
        if (size === 0 || this.#arrivals.get(number) || devices[addresses.deviceOf(number)]?.device.has(addresses.startOf(number), size)) continue;
        yield this.#arrivals.add(number, delivery);
      }
    }
  }

  /** Never rejects: what goes wrong is told to those who wait. */
  async #deliver(layer: OpenedLayer, arrivals: readonly Arrival[], length: number, of: FetchClass, delivery: Delivery): Promise<void> {
    const { signal } = delivery;
    const wanted = new Map(arrivals.map((arrival) => [arrival.chunk, arrival]));
    const keeping = new KeepArrived((chunks) => this.#keep(layer, chunks), (chunk, bytes) => {
      const arrival = wanted.get(chunk);
      if (arrival) arrival.done();
      else this.#options.onLeft(bytes);
    });
    const desk: LoadDesk = {
      take: (chunk, bytes) => {
        // Others may have asked for it meanwhile, and have it now.
        throwIfAborted(signal);
        wanted.get(chunk)?.resolve(bytes);
        keeping.add(chunk, bytes);
        // What is to be proven may depend on one of those that would wait.
        return layer.proofs ? undefined : keeping.room();
      },
      lost: (chunk, error) => wanted.get(chunk)?.reject(error),
      refetch: (error, chunk) => this.#wrong(error, layer, chunk),
      fetched: (bytes, milliseconds) => this.#queue.measured(bytes, milliseconds),
    };
    this.#deliveries.add(delivery);
    try {
      const size = arrivals.reduce((sum, { chunk }) => sum + (layer.addresses.chunks[chunk] as Chunk).size, length);
      const load = (): Promise<void> => {
        this.counts.requestsBy[of] += 1;
        return loadChunks(layer, [...wanted.keys()], desk, signal);
      };
      await this.#queue.run(of, size, load, signal);
    } catch (error) {
      for (const arrival of arrivals) arrival.reject(error);
    } finally {
      await keeping.end();
      for (const arrival of arrivals) arrival.done();
      if (delivery.left === 0) this.#deliveries.delete(delivery);
    }
  }

  /** Puts chunks that have come into the local files, as far as what is to be proven about them can be proven by now. */
  async #keep(layer: OpenedLayer, chunks: readonly ArrivedChunk[]): Promise<void> {
    if (this.#stop.signal.aborted) return;
    await this.#proveAll(layer, new Map(chunks));
    this.#options.onKept(await keepChunks(layer, chunks));
  }

  #wrong(error: LazypullError, { addresses, devices }: OpenedLayer, chunk: number): void {
    this.counts.refetched += 1;
    this.#options.onWrong(error, devices[addresses.deviceOf(chunk)], addresses.startOf(chunk));
  }

  /** Proves the files whose bytes have come, as far as what it takes has come as well or is under way. */
  async #proveAll(layer: OpenedLayer, loaded: ReadonlyMap<number, Uint8Array>): Promise<void> {
    const { proofs, addresses } = layer;
    if (!proofs) return;
    for (const chunk of loaded.keys()) {
      for (const { device, address, length } of addresses.places(chunk)) await proofs.prove(device, address, address + length, this.#bytesOf(layer, loaded));
    }
  }

  #bytesOf(layer: OpenedLayer, loaded: ReadonlyMap<number, Uint8Array>): ChunkBytes {
    return async (chunk, from, to) => {
      const here = loaded.get(chunk);
      if (here) return here.subarray(from, to);
      const others = await this.#arrivals.part(chunk, from, to);
      if (others) return others;
      const local = layer.devices[layer.addresses.deviceOf(chunk)]?.device;
      return local?.read(layer.addresses.startOf(chunk) + from, to - from);
    };
  }
}

interface ReadRange {
  readonly address: number;
  readonly end: number;
  readonly missing: readonly Run[];
}

const NOTHING = new Uint8Array(0);

/** Puts what a chunk has of the missing runs where they belong in a range's bytes. */
function copyChunk(layer: OpenedLayer, device: number, chunk: number, bytes: Uint8Array, range: ReadRange, target: Uint8Array): void {
  for (const place of layer.addresses.places(chunk)) {
    if (place.device !== device) continue;
    for (const [from, to] of range.missing) {
      const start = Math.max(from, place.address);
      const stop = Math.min(to, place.address + place.length);
      if (start >= stop) continue;
      const skip = place.chunkOffset + start - place.address;
      target.set(bytes.subarray(skip, skip + stop - start), start - range.address);
    }
  }
}
