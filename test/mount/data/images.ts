import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { TestContext } from 'node:test';
import { digestOf } from '../../../src/core/digest.ts';
import type { LazypullError } from '../../../src/core/errors.ts';
import { choose, type Format, type IndexingFormat, type RewritingFormat } from '../../../src/core/format.ts';
import { MemorySource } from '../../../src/core/source.ts';
import type { ByteSource, Descriptor, ImageStore } from '../../../src/core/types.ts';
import { convertImage } from '../../../src/image/convert.ts';
import { indexImage } from '../../../src/image/index-image.ts';
import { openImage, type OpenImage } from '../../../src/image/open.ts';
import { openMemory } from '../../../src/oci/memory.ts';
import { openErofs, type ErofsImage } from '../../../src/erofs/read.ts';
import type { RegularNode } from '../../../src/core/types.ts';
import { MountCache, type MountCacheOptions } from '../../../src/mount/data/cache.ts';
import { openContent } from '../../../src/mount/data/content.ts';
import { planMount } from '../../../src/mount/data/plan.ts';
import type { ContentOptions, MountContent, MountPlan } from '../../../src/mount/data/types.ts';
import { estargz, nydus, nydusZran, soci } from '../../../formats/index.ts';
import { mountIndex } from '../../../formats/mount-index/index.ts';
import { LINUX, putImage, testFormat } from '../../image/fixture.ts';
import { plainLayers } from '../../formats/nydus/images.ts';
import { LAYER_TAR } from '../../support/layers.ts';

/** Formats that images are read by. */
export const FORMATS: readonly Format<unknown>[] = [mountIndex, estargz, soci, nydus, testFormat] as readonly Format<unknown>[];

/** An image to be mounted, and how often its blobs are asked for what. */
export interface Source {
  readonly store: CountingStore;
  readonly reference: string;
  open(): Promise<OpenImage>;
}

/** A store whose ranged reads can be counted, held up and spoilt. */
export class CountingStore implements ImageStore {
  readonly location: string;
  readonly #store: ImageStore;
  /** Ranged reads: digest, offset, length. */
  readonly reads: { readonly digest: string; readonly offset: number; readonly length: number }[] = [];
  /** Called with the bytes of each ranged read before they are handed out. */
  change: (bytes: Uint8Array, read: { readonly digest: string; readonly offset: number; readonly length: number }) => Promise<Uint8Array> | Uint8Array = (bytes) => bytes;
  /** Everything asked of the store but ranged reads. */
  documents = 0;

  constructor(store: ImageStore) {
    this.#store = store;
    this.location = store.location;
  }

  get bytes(): number {
    return this.reads.reduce((sum, { length }) => sum + length, 0);
  }

  resolve(...of: Parameters<ImageStore['resolve']>): ReturnType<ImageStore['resolve']> {
    this.documents += 1;
    return this.#store.resolve(...of);
  }

  fetch(...of: Parameters<ImageStore['fetch']>): ReturnType<ImageStore['fetch']> {
    this.documents += 1;
    return this.#store.fetch(...of);
  }

  async referrers(subject: Descriptor, signal?: AbortSignal): Promise<readonly Descriptor[]> {
    this.documents += 1;
    return (await this.#store.referrers?.(subject, signal)) ?? [];
  }

  open(descriptor: Descriptor): ByteSource {
    const source = this.#store.open(descriptor);
    return {
      size: source.size,
      read: async (offset, length, signal) => {
        const read = { digest: descriptor.digest, offset, length };
        this.reads.push(read);
        const bytes = await source.read(offset, length, signal);
        let stop = (): void => undefined;
        const aborted = new Promise<never>((_, reject) => {
          stop = (): void => reject(signal?.reason as Error);
        });
        signal?.addEventListener('abort', stop, { once: true });
        try {
          return await Promise.race([this.change(bytes, read), aborted]);
        } finally {
          signal?.removeEventListener('abort', stop);
        }
      },
    };
  }

  tag: ImageStore['tag'] = (...of) => this.#store.tag(...of);
  has: ImageStore['has'] = (...of) => this.#store.has(...of);
  push: ImageStore['push'] = (...of) => this.#store.push(...of);
  ingest: ImageStore['ingest'] = (...of) => this.#store.ingest(...of);
  close: ImageStore['close'] = () => this.#store.close();
}

/** Brings plain tars, lowest first, into a format. */
export type MakeImage = (tars: readonly Uint8Array[]) => Promise<Source>;

function sourceOf(store: ImageStore, reference: string): Source {
  const counting = new CountingStore(store);
  return { store: counting, reference, open: () => openImage({ store: counting, reference }, FORMATS, { platform: LINUX }) };
}

/** By a format that makes new layers. */
export function rewritten<O>(format: RewritingFormat<O>, options: O): MakeImage {
  return async (tars) => {
    const store = openMemory();
    const layers = format.name === 'nydus-zran' ? gzipLayers(tars) : plainLayers(tars);
    await putImage(store, { layers }, 'plain');
    await convertImage({ store, reference: 'plain' }, { store, reference: 'lazy' }, choose(format as never, options as never), { jobs: 1 });
    return sourceOf(store, 'lazy');
  };
}

/** By a format that leaves layers as they are. */
export function indexed<O>(format: IndexingFormat<O>, options: O, packed = true): MakeImage {
  return async (tars) => {
    const store = openMemory();
    await putImage(store, { layers: packed ? gzipLayers(tars) : plainLayers(tars) }, 'lazy');
    await indexImage({ store, reference: 'lazy' }, choose(format as never, options as never), { jobs: 1 });
    return sourceOf(store, 'lazy');
  };
}

/** Small blocks, so that small layers have several. */
export function gzipLayers(tars: readonly Uint8Array[]): { bytes: Uint8Array; diffId: `sha256:${string}`; mediaType: string }[] {
  return tars.map((tar) => ({ bytes: gzipSync(tar, { memLevel: 2 }), diffId: digestOf(tar) as `sha256:${string}`, mediaType: `${LAYER_TAR}+gzip` }));
}

/** Every way of storing an image that differs in how its bytes are found. */
export const WAYS: Readonly<Record<string, MakeImage>> = {
  estargz: rewritten(estargz, {}),
  'estargz, small chunks': rewritten(estargz, { chunkSize: 8192 }),
  'estargz, odd chunks': rewritten(estargz, { chunkSize: 5000 }),
  'estargz, members of several files': rewritten(estargz, { minChunkSize: 65_536 }),
  'estargz, external TOC': rewritten(estargz, { externalToc: true }),
  nydus: rewritten(nydus, { chunkSize: 65_536 }),
  'nydus, batches': rewritten(nydus, { chunkSize: 8192, batchSize: 65_536, compressor: 'lz4', digester: 'sha256' }),
  'nydus zran': rewritten(nydusZran, { chunkSize: 65_536 }),
  soci: indexed(soci, { minLayerSize: 0, spanSize: 30_000 }),
  'soci, plain tar': indexed(soci, { minLayerSize: 0, spanSize: 5000 }, false),
  'mount index': indexed(mountIndex, {}),
  'mount index, plain tar': indexed(mountIndex, {}, false),
  'soci, pulled whole': indexed(soci, { minLayerSize: 20_000, spanSize: 30_000 }),
};

/** Where nothing has to wait for a disk. */
const ROOM = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

const ends = new WeakMap<TestContext, (() => unknown)[]>();

/** Work for the end of a test: what was set up last is taken down first. */
export function atEnd(t: TestContext, work: () => unknown): void {
  const known = ends.get(t);
  if (known) {
    known.push(work);
    return;
  }
  const all = [work];
  ends.set(t, all);
  t.after(async () => {
    for (let next = all.pop(); next; next = all.pop()) await next();
  });
}

/** A folder that is gone after the test. */
export function scratch(t: TestContext): string {
  const dir = mkdtempSync(join(ROOM, 'lazypull-data-'));
  atEnd(t, () => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A cache that is closed after the test. */
export async function openCache(t: TestContext, dir = scratch(t), options: MountCacheOptions = {}): Promise<{ readonly cache: MountCache; readonly problems: LazypullError[] }> {
  const problems: LazypullError[] = [];
  const cache = await MountCache.open(dir, { onProblem: (error) => problems.push(error), ...options });
  atEnd(t, () => cache.close());
  return { cache, problems };
}

export interface Opened {
  readonly plan: MountPlan;
  readonly content: MountContent;
  readonly tree: ErofsImage;
}

/** Plans an image and opens its content, as a mount does. */
export async function mounted(t: TestContext, source: Source, cache: MountCache, options: Partial<ContentOptions> = {}): Promise<Opened> {
  const plan = await planMount(await source.open(), cache, { formats: FORMATS });
  const content = await openContent(plan, source.open, cache, { loadFormats: async () => FORMATS, ...options });
  atEnd(t, () => content.close());
  return { plan, content, tree: await openErofs(new MemorySource(new Uint8Array(plan.metadata))) };
}

/** A file of the mounted tree, read through the devices in pieces of at most so many bytes. */
export async function readThrough({ content }: Pick<Opened, 'content'>, node: RegularNode, piece = 131_072): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (const { chunk, length, chunkOffset } of node.extents) {
    for (let done = 0; done < length; done += piece) {
      const size = Math.min(piece, length - done);
      parts.push(chunk.length === 0 ? new Uint8Array(size) : new Uint8Array(await content.read({ device: chunk.blob - 1, address: chunk.offset + chunkOffset + done, length: size })));
    }
  }
  return Buffer.concat(parts);
}
