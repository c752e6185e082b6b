import { setMaxListeners } from 'node:events';
import { isAbort, LazypullError, throwIfAborted } from '../../core/errors.ts';
import { Once } from '../../core/once.ts';
import { giveBack } from '../../core/room.ts';
import type { OpenImage } from '../../image/open.ts';
import { ChunkCache } from '../../layer/cache.ts';
import type { AnswerMiss, Miss } from '../types.ts';
import type { DeviceName, MountCache } from './cache.ts';
import { FetchQueue } from './fetch-queue.ts';
import { FileMap, type FileRun } from './file-map.ts';
import { Filler } from './filler.ts';
import { LayerContent } from './layer-content.ts';
import { openLayer, type LayerDevice } from './opened-layer.ts';
import { PAGE_SIZE } from './pages.ts';
import { prefetchRuns } from './prefetch.ts';
import { planName } from './plan-file.ts';
import { hasDigest } from './proven-tars.ts';
import { Readahead } from './readahead.ts';
import { statsOf } from './stats.ts';
import { tidyWhenQuiet } from './tidy-memory.ts';
import type { ContentOptions, ContentPlace, ContentStats, MountContent, MountPlan, PrefetchOptions, PrefetchReport } from './types.ts';

const READ_TIMEOUT = 60_000;
/** Chunks that are kept in memory while they cannot be kept on disk, bytes. */
const MEMORY = 64 << 20;
/** How often another process is looked after, ms. */
const REFRESH = 250;
/** What is known about files is worked out this long (ms) after the start, when nobody has needed it before. */
const MAP_AFTER = 3000;

/**
 * Opens the content of a planned mount. The image itself is asked for only when something has to be fetched; what the cache
 * has needs neither it nor the network.
 */
export async function openContent(plan: MountPlan, openImage: () => Promise<OpenImage>, cache: MountCache, options: ContentOptions): Promise<MountContent> {
  const wanted = plan.devices.map(({ key, size, tiles, tree, layer }): DeviceName => {
    const diffId = plan.layers[layer]?.diffId;
    // What a format wants to prove about files is about its index, not about the tar.
    return { key, size, ...(tiles && diffId && { tar: { diffId, proven: !tree } }) };
  });
  return new Content(plan, openImage, cache, await cache.devices(wanted), options);
}

class Content implements MountContent {
  readonly devices: readonly LayerDevice['device'][];
  readonly #plan: MountPlan;
  readonly #cache: MountCache;
  readonly #devices: readonly LayerDevice[];
  /** By layer; undefined for one without devices. */
  readonly #layers: readonly (LayerContent | undefined)[];
  readonly #queue = new FetchQueue();
  readonly #readahead: readonly Readahead[];
  readonly #refreshed: number[];
  readonly #timeout: number;
  readonly #stop = new AbortController();
  readonly #reads = new Set<Deadline>();
  readonly #map: Once<FileMap>;
  readonly #filler: Filler;
  readonly #timer: NodeJS.Timeout;
  #known: FileMap | undefined;
  #slowest = 0;

  constructor(plan: MountPlan, openImage: () => Promise<OpenImage>, cache: MountCache, devices: readonly LayerDevice['device'][], { loadFormats, readTimeout = READ_TIMEOUT, onProblem }: ContentOptions) {
    this.#plan = plan;
    this.#cache = cache;
    setMaxListeners(0, this.#stop.signal);
    this.devices = devices;
    this.#devices = devices.map((device, number) => ({ number, device, planned: plan.devices[number] as MountPlan['devices'][number] }));
    this.#readahead = devices.map(() => new Readahead());
    this.#refreshed = devices.map(() => Date.now());
    this.#timeout = readTimeout;
    const image = new Once(openImage);
    const memory = new ChunkCache(devices.every(({ stores }) => stores) ? 0 : MEMORY);
    const told = new Set<number>();
    this.#layers = plan.layers.map((planned, number) => {
      const own = this.#devices.filter(({ planned: { layer } }) => layer === number);
      if (own.length === 0) return undefined;
      const open = async (signal?: AbortSignal): ReturnType<typeof openLayer> => {
        const { layers, place } = await image.get();
        const layer = layers[number];
        if (layer?.descriptor.digest !== planned.digest) throw new LazypullError('INTERNAL', `${nameOf(plan, number)} is not in the image that was opened`);
        const formats = await loadFormats();
        const scope = `${place.store.location} ${plan.digest}`;
        try {
          const opened = await openLayer(layer, planned, own, { formats, scope, cache: memory }, signal);
          tidyWhenQuiet();
          return opened;
        } catch (error) {
          // Whatever the plan was made from, the next mount has to look again.
          if (error instanceof LazypullError && error.code === 'CORRUPT') await cache.dropDocument(planName(plan.digest, plan.platform));
          throw error;
        }
      };
      return new LayerContent({
        name: nameOf(plan, number),
        open,
        queue: this.#queue,
        refresh: (device) => this.#refresh(device),
        onKept: (kept) => void (memory.maxBytes = kept ? 0 : MEMORY),
        // What is kept in memory may be had again.
        onLeft: (bytes) => {
          if (memory.maxBytes === 0) giveBack(bytes);
        },
        onWrong: (error, device, address) => {
          if (!told.has(number)) void this.#tellWrong(error, number, device, address, onProblem);
          told.add(number);
        },
      });
    });
    this.#map = new Once(async () => (this.#known = await FileMap.of(plan.metadata, devices.length)));
    this.#filler = new Filler(this.#devices, (device, runs, of, signal) => this.#layerOf(device).fetch(device, runs, of, signal));
    this.#timer = setTimeout(() => void this.#map.get().catch(() => undefined), MAP_AFTER);
    this.#timer.unref();
    tidyWhenQuiet();
  }

  readonly read: AnswerMiss = async (miss, signal) => {
    const device = this.#devices[miss.device];
    if (!device || miss.address + miss.length > device.planned.size) throw new LazypullError('INTERNAL', `no device ${miss.device} with ${miss.length} bytes`, { offset: miss.address });
    const layer = this.#layerOf(device);
    const started = performance.now();
    layer.counts.misses += 1;
    const deadline = new Deadline(this.#timeout, () => layer.progress);
    const cancel = (): void => deadline.cancel();
    // Not AbortSignal.any: of one that lives as long as the mount every read would leave something behind.
    signal?.addEventListener('abort', cancel, { once: true });
    this.#reads.add(deadline);
    try {
      throwIfAborted(signal);
      const reading = layer.read(device, miss.address, miss.length, deadline.signal);
      this.#readAhead(device, miss);
      const bytes = await reading;
      device.device.show(miss.address, miss.length);
      return bytes;
    } catch (error) {
      if (isAbort(error) && !deadline.over) throw error;
      layer.counts.errors += 1;
      throw await this.#explain(isAbort(error) ? new LazypullError('NETWORK', `not read within ${this.#timeout / 1000} s`) : error, miss);
    } finally {
      deadline.end();
      this.#reads.delete(deadline);
      signal?.removeEventListener('abort', cancel);
      this.#slowest = Math.max(this.#slowest, performance.now() - started);
    }
  };

  async prefetch(options: PrefetchOptions = {}): Promise<PrefetchReport> {
    const { runs, unmatched } = await prefetchRuns(this.#plan, options, () => this.#fileMap());
    this.#openFor(runs);
    const report = await this.#filler.fetch(runs, 'prefetch', this.#either(options.signal));
    return { ...report, unmatched };
  }

  async fill(signal?: AbortSignal): Promise<void> {
    const map = await this.#fileMap();
    const lacking = this.#filler.lacking(map.runs());
    if (lacking > 0 && !(await this.#cache.hasRoomFor(lacking))) throw new LazypullError('LIMIT', `the cache has no room for the ${lacking} bytes that the image still needs`, { path: this.#cache.dir });
    await this.#filler.fetch(map.runs(), 'background', this.#either(signal));
    await this.#cache.flush();
    await this.#proveTars(this.#either(signal));
    if (!this.complete()) throw new LazypullError('IO', 'not everything could be kept in the cache', { path: this.#cache.dir });
  }

  complete(): boolean {
    if (this.#known) return this.#filler.complete(this.#known);
    void this.#fileMap().catch(() => undefined);
    return false;
  }

  async whenComplete(signal?: AbortSignal): Promise<void> {
    await this.#filler.whenComplete(await this.#fileMap(), this.#either(signal));
  }

  async seal(): Promise<readonly string[]> {
    await this.#fileMap();
    if (!this.complete()) throw new LazypullError('IO', 'the content is not complete', { path: this.#cache.dir });
    await this.#cache.seal(this.devices);
    return this.devices.map((device) => this.#cache.pathOf(device));
  }

  stats(): ContentStats {
    return statsOf({ plan: this.#plan, devices: this.#devices, layers: this.#layers, filler: this.#filler, map: this.#known, slowest: this.#slowest });
  }

  async locate(device: number, address: number): Promise<ContentPlace> {
    const layer = nameOf(this.#plan, this.#devices[device]?.planned.layer ?? 0);
    const found = (await this.#fileMap()).find(device, address);
    return { layer, path: found && `/${found.path}`, offset: found?.offset };
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#stop.abort();
    for (const read of this.#reads) read.cancel();
    for (const layer of this.#layers) layer?.close();
    await this.#cache.release(this.devices);
  }

  /** Layers that are here as wholes, and are the tars that the image's config names, also serve images that have them in another form. */
  async #proveTars(signal: AbortSignal): Promise<void> {
    for (const device of this.#devices) {
      const { planned: { tiles, layer }, device: local } = device;
      const addresses = this.#layerOf(device).opened?.addresses;
      const diffId = this.#plan.layers[layer]?.diffId;
      // Without anything having been fetched there is nothing new to find out.
      if (!tiles || !addresses || !diffId || local.sealed) continue;
      const last = addresses.chunks.length - 1;
      const size = last < 0 ? 0 : addresses.startOf(last) + (addresses.chunks[last]?.size ?? 0);
      if (local.has(0, local.size) && (await hasDigest(local, size, diffId, signal))) await this.#cache.isTar(local, diffId);
    }
  }

  /** Layers are opened side by side, not one after another as it is their turn. */
  #openFor(runs: Iterable<FileRun>): void {
    const layers = new Set<LayerContent>();
    for (const { device: number, address, length } of runs) {
      const device = this.#devices[number];
      if (device && !device.device.has(address, length)) layers.add(this.#layerOf(device));
    }
    // What fails now fails again, for who needs it.
    for (const layer of layers) layer.open(this.#stop.signal).catch(() => undefined);
  }

  #layerOf({ planned }: LayerDevice): LayerContent {
    return this.#layers[planned.layer] as LayerContent;
  }

  /** Asks whether the reader goes on, and fetches what it will want next. Nobody waits for that, and what fails fails again when it is read. */
  #readAhead(device: LayerDevice, { address, length }: Miss): void {
    const opened = this.#layerOf(device).opened;
    if (!opened) return;
    const { addresses } = opened;
    let loaded = address + length;
    const own = opened.ownNumber(device);
    for (const chunk of addresses.chunksAt(own, address + length - 1, 1)) loaded = Math.max(loaded, ...[...addresses.places(chunk)].filter((place) => place.device === own && place.address < loaded).map((place) => place.address + place.cover));
    const ahead = this.#readahead[device.number]?.asked(address, address + length, loaded, (end) => this.#known?.endBefore(device.number, end));
    if (!ahead) return;
    const to = Math.min(ahead.to, device.planned.size);
    const runs = this.#known ? [...this.#known.within(device.number, ahead.from, to)].map((run) => [Math.max(ahead.from, run.address), Math.min(to, run.address + run.length)] as const) : [[ahead.from, to] as const];
    if (ahead.from >= to || runs.length === 0) return;
    device.device.hide(Math.floor((runs[0]?.[0] ?? 0) / PAGE_SIZE));
    this.#layerOf(device).fetch(device, runs, 'ahead', this.#stop.signal).catch(() => undefined);
    // From now on it is worth knowing where files end.
    void this.#fileMap().catch(() => undefined);
  }

  async #refresh(device: LayerDevice): Promise<void> {
    const now = Date.now();
    if (now - (this.#refreshed[device.number] as number) < REFRESH) return;
    this.#refreshed[device.number] = now;
    await this.#cache.refresh(device.device);
  }

  #fileMap(): Promise<FileMap> {
    return this.#map.get();
  }

  #either(signal: AbortSignal | undefined): AbortSignal {
    return signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal;
  }

  async #tellWrong(error: LazypullError, layer: number, device: LayerDevice | undefined, address: number, onProblem: ContentOptions['onProblem']): Promise<void> {
    const place = device && (await this.locate(device.number, address).catch(() => undefined));
    onProblem?.(new LazypullError(error.code, `${nameOf(this.#plan, layer)}: wrong bytes came, and are asked for again: ${error.message}`, { ...(place?.path !== undefined && { path: place.path, offset: place.offset ?? 0 }), cause: error }));
  }

  /** The error with what a user can do something with: file, place in it, layer. */
  async #explain(error: unknown, { device, address }: Miss): Promise<LazypullError> {
    const known = error instanceof LazypullError ? error : new LazypullError('INTERNAL', 'read failed', { cause: error });
    const place = await this.locate(device, address).catch(() => undefined);
    if (!place) return known;
    const where = place.path === undefined ? { offset: address } : { path: place.path, offset: place.offset ?? 0 };
    return new LazypullError(known.code, `${place.layer}: ${known.message}`, { ...where, cause: known });
  }
}

/** The end of somebody's patience: put off for as long as something is seen to go on. */
class Deadline {
  readonly #controller = new AbortController();
  #timer: NodeJS.Timeout;
  #seen: number;
  /** It is the time that has run out. */
  over = false;

  constructor(milliseconds: number, progress: () => number) {
    this.#seen = progress();
    const look = (): void => {
      const now = progress();
      if (now === this.#seen) {
        this.over = true;
        this.#controller.abort();
      } else {
        this.#seen = now;
        this.#timer = setTimeout(look, milliseconds);
      }
    };
    this.#timer = setTimeout(look, milliseconds);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  cancel(): void {
    this.#controller.abort();
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}

function nameOf({ layers }: MountPlan, number: number): string {
  return `layer ${number + 1} (${layers[number]?.digest ?? 'unknown'})`;
}
