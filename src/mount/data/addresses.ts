import { roundUp } from '../../core/bytes.ts';
import { corrupt, LazypullError } from '../../core/errors.ts';
import type { Chunk, Extent, OpenLayer, RegularNode } from '../../core/types.ts';
import type { DeviceRun } from '../../erofs/place.ts';
import { walk } from '../../layer/walk.ts';
import { PAGE_SIZE } from './pages.ts';
import { SegmentTable, type ChunkPlace } from './segments.ts';

/** Bytes of one device: far more than layers have, and a bitmap of it is still 32 MiB. */
const MAX_DEVICE = 1024 ** 4;
/** Tars are made of blocks of this size, which are then the blocks of the mounted image. */
const TAR_BLOCK = 512;
/** Chunk indexes of a file in many pieces: a map that needs more of them costs more than a second copy in the cache. */
const MAX_INDEXES = 64;

/** One blob of a layer as a flat run of bytes. */
export interface DeviceAddresses {
  readonly blob: number;
  /** Bytes, a multiple of 4096. */
  readonly size: number;
  /** Its chunks are `first` to `end` - 1 of the layer's. */
  readonly first: number;
  readonly end: number;
  /** Where regions of single files begin: behind all chunks. */
  readonly regions: number;
}

/** Whether only chunks have addresses, or also files whose pieces do not lie behind each other. */
export interface AddressOptions {
  readonly regions?: boolean;
}

/**
 * Gives the bytes of an open layer addresses on flat devices, one for each blob that has chunks. A layer that tiles its tar
 * has the tar's addresses. Elsewhere chunks follow each other in stored order, each at a multiple of 4096. A file whose
 * chunks do not line up to whole blocks there gets a region of its own behind them; its chunks then have several places.
 *
 * Pure, and a function of the layer alone: other images that have it give it the same addresses. CORRUPT for an index that
 * contradicts itself, LIMIT for devices above 1 TiB.
 */
export class LayerAddresses {
  readonly tiles: boolean;
  /** All chunks, those of a device together. */
  readonly chunks: readonly Chunk[];
  readonly devices: readonly DeviceAddresses[];
  /** Files have chunks that the index does not list (holes): they come behind the others. */
  readonly unlisted: boolean;
  /** The regions' pieces. */
  readonly segments = new SegmentTable();
  readonly #align: number;
  readonly #numbers = new Map<Chunk, number>();
  /** By chunk: its device, and where it begins there. */
  readonly #deviceOf: Uint16Array;
  readonly #starts: Float64Array;
  /** Files in regions of their own: device, address. */
  readonly #regions = new Map<RegularNode, readonly [number, number]>();

  constructor(layer: Pick<OpenLayer, 'index' | 'tiles'>, options: AddressOptions = {}) {
    this.tiles = layer.tiles ?? false;
    this.#align = this.tiles ? TAR_BLOCK : PAGE_SIZE;
    const files = (options.regions ?? true) ? filesOf(layer) : [];
    this.chunks = chunksOf(layer, files);
    this.unlisted = this.chunks.length > layer.index.chunks.length;
    for (const [number, chunk] of this.chunks.entries()) this.#numbers.set(chunk, number);
    this.#deviceOf = new Uint16Array(this.chunks.length);
    this.#starts = new Float64Array(this.chunks.length);
    const devices = this.#lineUp();
    for (const { node, path } of files) if (!this.#fits(node)) this.#makeRegion(node, path, devices);
    this.devices = devices;
  }

  /** Number of a chunk; undefined for one of another layer. */
  numberOf(chunk: Chunk): number | undefined {
    return this.#numbers.get(chunk);
  }

  /** Number among `devices` of the one that a chunk is on. */
  deviceOf(chunk: number): number {
    return this.#deviceOf[chunk] as number;
  }

  /** Where a chunk begins there. */
  startOf(chunk: number): number {
    return this.#starts[chunk] as number;
  }

  /** Everywhere that the bytes of a chunk are. */
  *places(chunk: number): Generator<ChunkPlace> {
    const { size } = this.chunks[chunk] as Chunk;
    if (size === 0) return;
    const device = this.deviceOf(chunk);
    const address = this.startOf(chunk);
    yield { device, address, chunkOffset: 0, length: size, cover: Math.min(this.#nextStart(chunk), roundUp(address + size, PAGE_SIZE)) - address };
    yield* this.segments.ofChunk(chunk);
  }

  /** Chunks that fill bytes of a device. */
  *chunksAt(device: number, address: number, length: number): Generator<number> {
    const { first, end, regions } = this.devices[device] as DeviceAddresses;
    const stop = address + length;
    if (address < regions) {
      for (let chunk = this.#lastUpTo(first, end, address); chunk < end && this.startOf(chunk) < stop; chunk += 1) {
        const { size } = this.chunks[chunk] as Chunk;
        if (size > 0 && this.startOf(chunk) + size > address) yield chunk;
      }
    }
    if (stop > regions) yield* this.segments.at(device, address, stop);
  }

  /**
   * Where the bytes of a file are, in file order; what lies together is one run. `numberOf` says what the devices are called:
   * it is given a place in `devices`.
   */
  runs(node: RegularNode, numberOf: (device: number) => number): readonly DeviceRun[] {
    const region = this.#regions.size > 0 ? this.#regions.get(node) : undefined;
    if (region) return [{ length: node.size, device: numberOf(region[0]), offset: region[1] }];
    return this.#runs(node.extents).map((run) => ({ ...run, device: numberOf(run.device) }));
  }

  #runs(extents: readonly Extent[]): readonly Run[] {
    const runs: Run[] = [];
    for (const { chunk, chunkOffset, length } of extents) {
      const number = this.#numbers.get(chunk);
      if (number === undefined) throw new LazypullError('INTERNAL', 'a chunk has no address', { offset: chunk.offset });
      const device = this.deviceOf(number);
      const offset = this.startOf(number) + chunkOffset;
      const last = runs.at(-1);
      if (last && last.device === device && last.offset + last.length === offset) last.length += length;
      else runs.push({ device, offset, length });
    }
    return runs;
  }

  /** Gives every chunk its first place. */
  #lineUp(): Device[] {
    const devices: Device[] = [];
    for (let first = 0, end = 0; first < this.chunks.length; first = end) {
      const { blob } = this.chunks[first] as Chunk;
      let at = 0;
      for (; this.chunks[end]?.blob === blob; end += 1) {
        this.#deviceOf[end] = devices.length;
        this.#starts[end] = at;
        at += (this.chunks[end] as Chunk).size;
        if (at > MAX_DEVICE) throw tooLarge(blob);
        if (!this.tiles) at = roundUp(at, PAGE_SIZE);
      }
      const size = roundUp(at, PAGE_SIZE);
      devices.push({ blob, size, first, end, regions: size });
    }
    return devices;
  }

  /** Whether a file can be read from where its chunks are: in pieces of one size, a power of two, but for the last. */
  #fits({ extents, size }: RegularNode): boolean {
    // Chunks begin where blocks do.
    if (!this.tiles && extents.length === 1 && extents[0]?.chunkOffset === 0) return true;
    const runs = this.#runs(extents);
    let at = 0;
    let unit = 2 ** 40;
    for (const { offset, length } of runs) {
      if (offset % this.#align !== 0) return false;
      if (at > 0) while (at % unit !== 0) unit /= 2;
      at += length;
    }
    return runs.length <= 1 || (unit >= this.#align && size / unit <= Math.max(MAX_INDEXES, extents.length * 2));
  }

  #makeRegion(node: RegularNode, path: string, devices: readonly Device[]): void {
    const numbers = node.extents.map(({ chunk }) => this.#numbers.get(chunk) as number);
    const device = this.deviceOf(numbers[0] as number);
    const home = devices[device] as Device;
    const start = home.size;
    const end = roundUp(start + node.size, PAGE_SIZE);
    if (end > MAX_DEVICE) throw tooLarge(home.blob, path);
    for (const [i, { chunkOffset, fileOffset, length }] of node.extents.entries()) {
      const address = start + fileOffset;
      const cover = fileOffset + length === node.size ? end - address : length;
      this.segments.add({ device, address, chunk: numbers[i] as number, chunkOffset, length, cover });
    }
    home.size = end;
    this.#regions.set(node, [device, start]);
  }

  /** Where the next bytes behind a chunk begin. */
  #nextStart(chunk: number): number {
    const { end, regions } = this.devices[this.deviceOf(chunk)] as DeviceAddresses;
    let next = chunk + 1;
    while (next < end && (this.chunks[next] as Chunk).size === 0) next += 1;
    return next < end ? this.startOf(next) : regions;
  }

  /** The last chunk from `first` on that begins at or before an address; `first` when there is none. */
  #lastUpTo(first: number, end: number, address: number): number {
    let low = first;
    let high = end;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (this.startOf(middle) <= address) low = middle + 1;
      else high = middle;
    }
    return Math.max(first, low - 1);
  }
}

type Device = { -readonly [K in keyof DeviceAddresses]: DeviceAddresses[K] };

interface Run {
  readonly device: number;
  readonly offset: number;
  length: number;
}

interface File {
  readonly path: string;
  readonly node: RegularNode;
}

/** Every file that has bytes, once, in an order that depends on nothing but the tree. */
function filesOf(layer: Pick<OpenLayer, 'index'>): readonly File[] {
  const seen = new Set<RegularNode>();
  const files: File[] = [];
  for (const { path, node } of walk(layer.index.root, { sorted: true })) {
    if (node.type !== 'file' || node.size === 0 || seen.has(node)) continue;
    seen.add(node);
    checkExtents(node, path);
    files.push({ path, node });
  }
  return files;
}

function checkExtents({ extents, size }: RegularNode, path: string): void {
  let at = 0;
  for (const { fileOffset, length, chunk, chunkOffset } of extents) {
    if (fileOffset !== at || !(length > 0)) throw corrupt(`index has no chunk for byte ${at} of the file`, { path });
    if (chunkOffset < 0 || chunkOffset + length > chunk.size) throw corrupt(`extent at byte ${at} of the file reaches outside its chunk`, { path });
    at += length;
  }
  if (at !== size) throw corrupt(`chunks hold ${at} bytes of the file's ${size}`, { path });
}

/** The chunks of each blob together, in the order that the index has them. Files may have some that the index does not list: they come last. */
function chunksOf({ index }: Pick<OpenLayer, 'index'>, files: readonly File[]): readonly Chunk[] {
  const known = new Set(index.chunks);
  const chunks = [...index.chunks];
  for (const { node } of files) {
    for (const { chunk } of node.extents) {
      if (known.has(chunk)) continue;
      known.add(chunk);
      chunks.push(chunk);
    }
  }
  for (const { size, offset } of chunks) if (!Number.isSafeInteger(size) || size < 0) throw corrupt(`chunk of ${size} bytes`, { offset });
  return chunks.every((chunk, i) => i === 0 || (chunks[i - 1] as Chunk).blob <= chunk.blob) ? chunks : chunks.sort((a, b) => a.blob - b.blob);
}

function tooLarge(blob: number, path?: string): LazypullError {
  return new LazypullError('LIMIT', `blob ${blob} of the layer unpacks to more than ${MAX_DEVICE} bytes`, path === undefined ? {} : { path });
}
