import { digestAlgorithm, digestOf, Digester, type Digest } from '../core/digest.ts';
import { corrupt, isAbort, LazypullError } from '../core/errors.ts';
import type { ByteSource, ByteStream, Chunk, Extent, OpenLayer, RegularNode } from '../core/types.ts';
import { ChunkCache } from '../layer/cache.ts';
import { ChunkLoader, MAX_CHUNK } from '../layer/chunks.ts';
import { storedOrder } from '../layer/plan.ts';
import { walk } from '../layer/walk.ts';
import type { ContentWatcher } from './scan.ts';
import { FilesInChunks, isWhole } from './verify-files.ts';

/** Enough for the neighbours of a chunk in one stored unit; a chunk on its own is not kept. */
const CACHE_BYTES = 32 * 1024 * 1024;

/** Chunks that lie in one stored unit. */
interface Unit {
  readonly offset: number;
  readonly end: number;
  readonly chunks: readonly Chunk[];
}

/** The units of one blob that can be taken from it while it streams by. */
interface Streamed {
  readonly units: Unit[];
  /** Bytes of the blob. */
  readonly size: number;
  /** Of `units`: the next one to come. */
  next: number;
  /** Where the last one ends. */
  reached: number;
  /** The blob is on its way, or has been. */
  tapped: boolean;
}

/** Where a chunk is used: for messages. */
interface Use {
  readonly path: string;
  readonly fileOffset: number;
}

/**
 * Checks every chunk of an open layer: that its stored bytes inflate to what its digests say, by other code than wrote them
 * where the format has some. The stored bytes are taken from the blob as it streams by, one unit at a time; chunks that
 * cannot be met that way are read by ranges afterwards.
 */
export class ChunkVerifier {
  /** Chunks that were inflated and found right. */
  checked = 0;
  /** The files in the chunks: what is proven about them on the way. */
  readonly files: FilesInChunks;
  readonly #wrong = new Set<Chunk>();
  /** Blobs that are not there: told once, not for every chunk. */
  readonly #lost = new Set<number>();
  readonly #layer: OpenLayer;
  readonly #report: (error: unknown) => void;
  readonly #alone: boolean;
  /** By number of the blob. */
  readonly #streamed = new Map<number, Streamed>();
  readonly #ranged: Unit[] = [];
  /** Contents of chunks that the format has no digest for, to be held against the tar. */
  readonly #inflated = new Map<Chunk, Digest>();
  readonly #inTar = new Map<Chunk, { digest: Digest; use: Use }>();
  #uses: Map<Chunk, Use> | undefined;

  /**
   * `streams` are numbers of the blobs that `tap` will be given. Wrong chunks go to `report`, which may throw to end the work.
   * `alone`: there is no tar to hold the index against. `contents`: `files` will have the contents of all files.
   */
  constructor(layer: OpenLayer, streams: readonly number[], report: (error: unknown) => void, { alone = false, contents = alone }: { readonly alone?: boolean; readonly contents?: boolean } = {}) {
    this.#layer = layer;
    this.#report = report;
    this.#alone = alone;
    this.files = new FilesInChunks(layer, report, contents);
    for (const blob of streams) {
      const source = layer.sources[blob];
      if (source) this.#streamed.set(blob, { units: [], size: source.size, next: 0, reached: 0, tapped: false });
    }
    for (const unit of unitsOf(layer.index.chunks)) {
      const streamed = this.#streamed.get(unit.chunks[0]?.blob ?? -1);
      // Spans may share the byte that they meet in.
      if (streamed && unit.offset >= streamed.reached - 1 && unit.end <= streamed.size && unit.end - unit.offset <= MAX_CHUNK) {
        streamed.reached = Math.max(streamed.reached, unit.end);
        streamed.units.push(unit);
      } else {
        this.#ranged.push(unit);
      }
    }
  }

  /** Passes a blob through and checks the chunks in it. Several may be on their way at a time. */
  async *tap(stream: ByteStream, blob: number, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    const streamed = this.#streamed.get(blob);
    if (!streamed || streamed.tapped) {
      yield* stream;
      return;
    }
    streamed.tapped = true;
    const { units, size } = streamed;
    let at = 0;
    let partial: { bytes: Uint8Array; have: number } | undefined;
    for await (const bytes of stream) {
      const end = at + bytes.length;
      for (let unit = units[streamed.next]; unit && unit.offset < end; unit = units[streamed.next]) {
        const part = bytes.subarray(Math.max(unit.offset - at, 0), Math.min(unit.end, end) - at);
        const length = unit.end - unit.offset;
        if (part.length < length) {
          partial ??= { bytes: new Uint8Array(length), have: 0 };
          partial.bytes.set(part, partial.have);
          partial.have += part.length;
        }
        if (unit.end > end) break;
        // Taken off the list before it is checked: what fails here is not to be read again.
        streamed.next += 1;
        await this.#check(unit, windowSource(size, unit.offset, partial?.bytes ?? part), signal);
        partial = undefined;
      }
      at = end;
      yield bytes;
    }
  }

  /** Reads by ranges what no stream brought, all that is left of one that broke off. */
  async finish(signal?: AbortSignal): Promise<void> {
    const left = [...[...this.#streamed.values()].flatMap(({ units, next }) => units.slice(next)), ...this.#ranged];
    this.#streamed.clear();
    this.#ranged.length = 0;
    for (const group of neighbours(left)) {
      const window = group.length > 1 ? await this.#read(group, signal) : undefined;
      for (const unit of group) await this.#check(unit, window, signal);
    }
    for (const [chunk, { digest, use }] of this.#inTar) {
      const got = this.#inflated.get(chunk);
      if (got !== undefined && got !== digest) this.#report(differs(use, chunk, got, digest));
    }
  }

  /** Whether a file has a chunk that was found to be wrong. */
  isHit(node: RegularNode): boolean {
    return this.#wrong.size > 0 && node.extents.some(({ chunk }) => this.#wrong.has(chunk));
  }

  /** Watches a file of the tar and holds it against the chunks that the index has for it. Wrong ones go to `report`. */
  watch(path: string, node: RegularNode, report: (error: unknown) => void): ContentWatcher | undefined {
    // Its content is compared as a whole.
    if (this.files.isUnproven(node)) return undefined;
    const { extents } = node;
    const whole = extents.length === 1 && isWhole(extents[0] as Extent);
    const check = (extent: Extent, digest: Digest): void => {
      const { chunk } = extent;
      const use = { path, fileOffset: extent.fileOffset };
      if (chunk.digest === undefined) this.#inTar.set(chunk, { digest, use });
      else if (digestAlgorithm(chunk.digest) === 'sha256' && chunk.digest !== digest) report(differs(use, chunk, chunk.digest, digest));
    };
    let at = 0;
    let position = 0;
    let digester = new Digester();
    return {
      update(bytes) {
        if (whole) return;
        let from = 0;
        while (from < bytes.length) {
          const extent = extents[at];
          if (!extent) return;
          const take = Math.min(bytes.length - from, extent.fileOffset + extent.length - position);
          digester.update(bytes.subarray(from, from + take));
          from += take;
          position += take;
          if (position < extent.fileOffset + extent.length) continue;
          const digest = digester.finish();
          if (isWhole(extent)) check(extent, digest);
          digester = new Digester();
          at += 1;
        }
      },
      finish(digest) {
        // The usual small file: its digest is its only chunk's, no need to hash it twice.
        if (whole) check(extents[0] as Extent, digest);
      },
    };
  }

  /** Units that lie together, by one request; undefined when that fails: one by one it is told what is hit. */
  async #read(group: readonly Unit[], signal: AbortSignal | undefined): Promise<ByteSource | undefined> {
    const source = this.#layer.sources[group[0]?.chunks[0]?.blob ?? 0];
    const start = group[0]?.offset ?? 0;
    const end = Math.max(...group.map((unit) => unit.end));
    if (!source || end > source.size) return undefined;
    try {
      return windowSource(source.size, start, await source.read(start, end - start, signal));
    } catch (error) {
      if (isAbort(error)) throw error;
      return undefined;
    }
  }

  async #check(unit: Unit, at: ByteSource | undefined, signal: AbortSignal | undefined): Promise<void> {
    const layer = this.#layer;
    const blob = unit.chunks[0]?.blob ?? 0;
    if (this.#lost.has(blob)) {
      for (const chunk of unit.chunks) this.#wrong.add(chunk);
      return;
    }
    const view: OpenLayer = {
      ...layer,
      index: { root: layer.index.root, chunks: unit.chunks },
      sources: at ? layer.sources.map((source, i) => (i === blob ? at : source)) : layer.sources,
      inflate: (chunk, packed) => (layer.recheck ? layer.recheck(chunk, packed) : layer.inflate(chunk, packed)),
    };
    const loader = new ChunkLoader(view, {}, new ChunkCache(unit.chunks.length > 1 ? CACHE_BYTES : 0));
    const load = async (chunks: readonly Chunk[], path?: string): Promise<void> => {
      for (const [chunk, bytes] of await loader.load(chunks, { ...(path !== undefined && { path }), ...(signal && { signal }) })) {
        // Of stored bytes that have a digest it is the files that are compared.
        if (!this.#alone && chunk.digest === undefined && chunk.packedDigest === undefined) this.#inflated.set(chunk, digestOf(bytes));
        await this.files.feed(chunk, bytes);
        this.checked += 1;
      }
    };
    try {
      await load(unit.chunks);
    } catch (error) {
      if (isAbort(error)) throw error;
      if (error instanceof LazypullError && error.code === 'NOT_FOUND') {
        this.#lost.add(blob);
        for (const chunk of unit.chunks) this.#wrong.add(chunk);
        this.#report(error);
        return;
      }
      // Once more and one by one, to name each file that is hit; finding their names takes a walk, which is rarely needed.
      this.#uses ??= usesOf(layer);
      for (const chunk of unit.chunks) {
        await load([chunk], this.#uses.get(chunk)?.path).catch((reason: unknown) => {
          this.#wrong.add(chunk);
          this.#report(reason);
        });
      }
    }
  }
}

function differs(use: Use, chunk: Chunk, index: Digest, tar: Digest): LazypullError {
  return new LazypullError('DIGEST_MISMATCH', `chunk at byte ${use.fileOffset} is ${index} by the index, ${tar} in the tar`, { path: use.path, offset: chunk.offset });
}

function unitsOf(chunks: readonly Chunk[]): Unit[] {
  const units: { offset: number; end: number; chunks: Chunk[] }[] = [];
  for (const chunk of [...chunks].sort(storedOrder)) {
    const last = units.at(-1);
    const end = chunk.offset + chunk.length;
    if (last && chunk.skip && last.offset === chunk.offset && last.chunks[0]?.blob === chunk.blob) {
      last.end = Math.max(last.end, end);
      last.chunks.push(chunk);
    } else {
      units.push({ offset: chunk.offset, end, chunks: [chunk] });
    }
  }
  return units;
}

/** Stored bytes that one request is for, and what lies between units that is worth fetching along. */
const MAX_REQUEST = 8 * 1024 * 1024;
const GAP = 64 * 1024;
/** Units of one request. */
const MAX_GROUP = 4096;

/** Cuts units in stored order into groups that are worth one request each. */
function* neighbours(units: readonly Unit[]): Generator<readonly Unit[]> {
  let group: Unit[] = [];
  let end = 0;
  for (const unit of units) {
    const [first] = group;
    const near = first && first.chunks[0]?.blob === unit.chunks[0]?.blob && unit.offset >= first.offset && unit.offset <= end + GAP;
    if (!near || unit.end - first.offset > MAX_REQUEST || group.length === MAX_GROUP) {
      if (first) yield group;
      group = [];
      end = 0;
    }
    group.push(unit);
    end = Math.max(end, unit.end);
  }
  if (group.length > 0) yield group;
}

function usesOf(layer: OpenLayer): Map<Chunk, Use> {
  const uses = new Map<Chunk, Use>();
  for (const { path, node } of walk(layer.index.root)) {
    if (node.type !== 'file') continue;
    for (const { chunk, fileOffset } of node.extents) if (!uses.has(chunk)) uses.set(chunk, { path, fileOffset });
  }
  return uses;
}

/** A source of which only `[offset, offset + bytes.length)` is at hand. */
function windowSource(size: number, offset: number, bytes: Uint8Array): ByteSource {
  return {
    size,
    read: async (at, length) => {
      if (at < offset || at + length > offset + bytes.length) throw corrupt('chunk lies outside its stored unit', { offset: at });
      return bytes.subarray(at - offset, at - offset + length);
    },
  };
}
