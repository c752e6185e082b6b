import { concat } from '../../core/bytes.ts';
import { LazypullError, wrapError } from '../../core/errors.ts';
import type { Extent, FileProof, OpenLayer, RegularNode } from '../../core/types.ts';
import { walk } from '../../layer/walk.ts';
import type { LayerAddresses } from './addresses.ts';

type Run = readonly [number, number];

/** Bytes [from, to) of a chunk if they are at hand; undefined when they are not. */
export type ChunkBytes = (chunk: number, from: number, to: number) => Promise<Uint8Array | undefined>;

/** Bytes [from, to) of a chunk. */
export interface ChunkPart {
  readonly chunk: number;
  readonly from: number;
  readonly to: number;
}

const UNKNOWN = 0;
const RIGHT = 1;
const WRONG = 2;

/**
 * What a format wants to be proven about files before their bytes count (SOCI: that the tar's headers say the same as the
 * index), brought down to devices: bytes of a file are kept and handed out once the file is proven. A file is proven when
 * one of its chunks arrives and what it takes is at hand, which it mostly is: a header is in front of its content. When only
 * the middle of a large file is wanted, the chunk with its header is fetched as well.
 */
export class Proofs {
  readonly #layer: OpenLayer;
  readonly #addresses: LayerAddresses;
  /** By device: its files by address. */
  readonly #files: readonly { readonly starts: Float64Array; readonly ends: Float64Array; readonly nodes: readonly RegularNode[]; readonly states: Uint8Array }[];
  readonly #errors = new Map<RegularNode, LazypullError>();

  constructor(layer: OpenLayer, addresses: LayerAddresses) {
    this.#layer = layer;
    this.#addresses = addresses;
    const runs = addresses.devices.map((): { start: number; end: number; node: RegularNode }[] => []);
    const seen = new Set<RegularNode>();
    for (const { node } of walk(layer.index.root)) {
      if (node.type !== 'file' || node.size === 0 || seen.has(node)) continue;
      seen.add(node);
      for (const { device = 0, offset, length } of addresses.runs(node, (own) => own)) runs[device]?.push({ start: offset, end: offset + length, node });
    }
    this.#files = runs.map((all) => {
      all.sort((a, b) => a.start - b.start);
      return { starts: Float64Array.from(all, ({ start }) => start), ends: Float64Array.from(all, ({ end }) => end), nodes: all.map(({ node }) => node), states: new Uint8Array(all.length) };
    });
  }

  /** What has to be looked at before bytes of a device count. */
  partsFor(device: number, address: number, end: number): readonly ChunkPart[] {
    return [...this.#open(device, address, end)].flatMap((file) => this.#proofOf(file)?.parts ?? []);
  }

  /** Proves the files that bytes of a device belong to, as far as what it takes is at hand. */
  async prove(device: number, address: number, end: number, bytesOf: ChunkBytes): Promise<void> {
    for (const file of this.#open(device, address, end)) {
      const proof = this.#proofOf(file);
      if (!proof) continue;
      const parts = await Promise.all(proof.parts.map(({ chunk, from, to }) => bytesOf(chunk, from, to)));
      if (!parts.every((part) => part !== undefined)) continue;
      try {
        await proof.of.check(concat(parts));
        file.settle(RIGHT);
      } catch (error) {
        this.#fail(file, error);
      }
    }
  }

  /** The parts of a range that belong to no file that is not proven. */
  proven(device: number, address: number, end: number): readonly Run[] {
    const runs: Run[] = [];
    let at = address;
    for (const { start, stop, state } of this.#within(device, address, end)) {
      if (state === RIGHT) continue;
      if (start > at) runs.push([at, start]);
      at = Math.max(at, stop);
    }
    if (end > at) runs.push([at, end]);
    return runs;
  }

  /** Why bytes of a device cannot be handed out; undefined when they can, or when it is not known yet. */
  wrong(device: number, address: number, end: number): LazypullError | undefined {
    for (const { state, node } of this.#within(device, address, end)) if (state === WRONG) return this.#errors.get(node);
    return undefined;
  }

  *#open(device: number, address: number, end: number): Generator<OpenFile> {
    for (const { node, state, at } of this.#within(device, address, end)) {
      if (state === UNKNOWN) yield { node, settle: (now) => void ((this.#files[device] as { states: Uint8Array }).states[at] = now) };
    }
  }

  *#within(device: number, address: number, end: number): Generator<{ readonly at: number; readonly start: number; readonly stop: number; readonly state: number; readonly node: RegularNode }> {
    const files = this.#files[device];
    if (!files) return;
    const { starts, ends, nodes, states } = files;
    for (let at = firstBehind(ends, address); at < starts.length && (starts[at] as number) < end; at += 1) {
      yield { at, start: starts[at] as number, stop: ends[at] as number, state: states[at] as number, node: nodes[at] as RegularNode };
    }
  }

  /** Undefined when nothing has to be proven, or cannot be. */
  #proofOf(file: OpenFile): { readonly of: FileProof; readonly parts: readonly ChunkPart[] } | undefined {
    try {
      const of = this.#layer.proof?.(file.node);
      if (of) return { of, parts: of.extents.map((extent) => this.#partOf(extent)) };
      file.settle(RIGHT);
    } catch (error) {
      this.#fail(file, error);
    }
    return undefined;
  }

  #partOf({ chunk, chunkOffset, length }: Extent): ChunkPart {
    const number = this.#addresses.numberOf(chunk);
    if (number === undefined) throw new LazypullError('INTERNAL', 'a proof is in a chunk that the layer does not have', { offset: chunk.offset });
    return { chunk: number, from: chunkOffset, to: chunkOffset + length };
  }

  #fail({ node, settle }: OpenFile, error: unknown): void {
    this.#errors.set(node, wrapError(error, 'CORRUPT', 'cannot be proven', { path: pathOf(this.#layer, node) }));
    settle(WRONG);
  }
}

interface OpenFile {
  readonly node: RegularNode;
  settle(state: number): void;
}

/** Files in a tar lie behind each other, so that their ends are in order as well. */
function firstBehind(ends: Float64Array, address: number): number {
  let low = 0;
  let high = ends.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ends[middle] as number) <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

function pathOf(layer: OpenLayer, wanted: RegularNode): string {
  for (const { path, node } of walk(layer.index.root)) if (node === wanted) return path;
  return '';
}
