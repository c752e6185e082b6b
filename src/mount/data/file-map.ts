import { setImmediate as turn } from 'node:timers/promises';
import { decodeName } from '../../core/bytes.ts';
import { LazypullError } from '../../core/errors.ts';
import { FILE_TYPE, LAYOUT } from '../../erofs/layout.ts';
import { ErofsView } from '../../erofs/view.ts';
import type { Matcher } from '../../layer/glob.ts';

/** Bytes of a device that belong to one file. */
export interface FileRun {
  readonly device: number;
  readonly address: number;
  readonly length: number;
}

interface Run extends FileRun {
  readonly fileOffset: number;
  /** Number of the file's path. */
  readonly path: number;
}

/** The runs of one device, by address. */
interface DeviceRuns {
  readonly starts: Float64Array;
  readonly lengths: Float64Array;
  readonly fileOffsets: Float64Array;
  readonly paths: Uint32Array;
}

/** Work between two looks at what else there is to do, ms. */
const SLICE = 8;
/** Names and runs of a tree: those that we make have fewer, and strangers' must come to an end. */
const MAX_NAMES = 4_000_000;

/**
 * Which files of the mounted tree have their bytes where, told from the tree itself: no layer is opened for it. About 60
 * bytes for each file. A file with several names has one of them.
 */
export class FileMap {
  readonly #devices: readonly DeviceRuns[];
  /** All paths behind each other, and where each one ends. */
  readonly #paths: Buffer;
  readonly #ends: Uint32Array;

  private constructor(runs: readonly Run[], paths: readonly Buffer[], devices: number) {
    this.#devices = Array.from({ length: devices }, (_, device) => inOrder(runs.filter((run) => run.device === device)));
    this.#paths = Buffer.concat(paths);
    let end = 0;
    this.#ends = Uint32Array.from(paths, (path) => (end += path.length));
  }

  /** Reads the tree, with pauses for others. `devices`: how many there are. */
  static async of(metadata: SharedArrayBuffer, devices: number): Promise<FileMap> {
    const view = await ErofsView.open(new Uint8Array(metadata));
    const runs: Run[] = [];
    const paths: Buffer[] = [];
    /** Files with several names, and directories, that have been met. */
    const met = new Set<number>([view.rootNid]);
    let names = 0;
    const todo: { readonly nid: number; readonly path: Buffer }[] = [{ nid: view.rootNid, path: Buffer.alloc(0) }];
    let until = performance.now() + SLICE;
    for (let next = todo.pop(); next; next = todo.pop()) {
      const { nid, path } = next;
      view.entries(nid, 0, (child, type, start, end) => {
        const name = view.bytes.subarray(start, end);
        names += 1;
        if (names + runs.length > MAX_NAMES) throw new LazypullError('LIMIT', `tree of the image has more than ${MAX_NAMES} names and pieces of files`);
        if (met.has(child) || isDots(name)) return true;
        if (type === FILE_TYPE.directory) {
          met.add(child);
          todo.push({ nid: child, path: join(path, name) });
        }
        if (type !== FILE_TYPE.file) return true;
        const inode = view.inode(child);
        if (inode.nlink > 1) met.add(child);
        if (inode.size === 0 || inode.layout !== LAYOUT.chunkBased) return true;
        let fileOffset = 0;
        for (const { device, offset, length } of view.runs(child, inode, 0, inode.size)) {
          if (device !== undefined && device > 0) runs.push({ device: device - 1, address: offset, length, fileOffset, path: paths.length });
          fileOffset += length;
        }
        paths.push(join(path, name));
        return true;
      });
      if (performance.now() < until) continue;
      await turn();
      until = performance.now() + SLICE;
    }
    return new FileMap(runs, paths, devices);
  }

  /** All runs, by device and address. */
  *runs(): Generator<FileRun> {
    for (const [device, { starts, lengths }] of this.#devices.entries()) {
      for (let i = 0; i < starts.length; i += 1) yield { device, address: starts[i] as number, length: lengths[i] as number };
    }
  }

  /** Runs that touch bytes [from, to) of a device. */
  *within(device: number, from: number, to: number): Generator<FileRun> {
    const runs = this.#devices[device];
    if (!runs) return;
    for (let i = Math.max(0, lastUpTo(runs.starts, from)); (runs.starts[i] ?? to) < to; i += 1) {
      const [address, length] = [runs.starts[i] as number, runs.lengths[i] as number];
      if (address + length > from) yield { device, address, length };
    }
  }

  /** The file that shows a byte of a device, and where in it; undefined when none does. */
  find(device: number, address: number): { readonly path: string; readonly offset: number } | undefined {
    const runs = this.#devices[device];
    if (!runs) return undefined;
    // Runs may begin at one place and be of different lengths.
    for (let i = lastUpTo(runs.starts, address), tries = 0; i >= 0 && tries < 64; i -= 1, tries += 1) {
      const inside = address - (runs.starts[i] as number);
      if (inside < (runs.lengths[i] as number)) return { path: this.#path(runs.paths[i] as number), offset: (runs.fileOffsets[i] as number) + inside };
    }
    return undefined;
  }

  /** Where the run ends that has the byte in front of an address, or comes last before it. */
  endBefore(device: number, address: number): number | undefined {
    const runs = this.#devices[device];
    const at = runs ? lastUpTo(runs.starts, address - 1) : -1;
    return runs && at >= 0 ? (runs.starts[at] as number) + (runs.lengths[at] as number) : undefined;
  }

  /**
   * Runs of the files that lines name: by their paths, by those of directories above, or by globs. A file that several lines name is
   * the first one's; a line that names nothing has undefined.
   */
  match(matchers: readonly Matcher[]): readonly (readonly FileRun[] | undefined)[] {
    /** By what they name: the line, from 1. Of two that are the same the first counts. */
    const lines = new Map(matchers.map(({ literal }, i) => [literal, i + 1] as const).reverse());
    // Others cannot name anything but themselves, and each one is held against every path.
    const globs = matchers.filter(({ literal }) => /[*?[\\]/.test(literal));
    const met = new Set<string>();
    /** By path: the first line that names it, or 0. */
    const wanted = new Uint32Array(this.#ends.length);
    for (let number = 0; number < wanted.length; number += 1) {
      const path = this.#path(number);
      const hits = lines.has('') ? [''] : [];
      for (let end = path.length; end > 0; end = path.lastIndexOf('/', end - 1)) {
        const part = path.slice(0, end);
        if (lines.has(part)) hits.push(part);
        else for (const { literal, glob } of globs) if (glob(part)) hits.push(literal);
      }
      for (const hit of hits) met.add(hit);
      wanted[number] = hits.reduce((first, hit) => Math.min(first || Infinity, lines.get(hit) as number), 0);
    }
    const runs = matchers.map(({ literal }): FileRun[] | undefined => (met.has(literal) ? [] : undefined));
    for (const [device, { starts, lengths, paths }] of this.#devices.entries()) {
      for (let i = 0; i < starts.length; i += 1) {
        const line = wanted[paths[i] as number] as number;
        if (line > 0) runs[line - 1]?.push({ device, address: starts[i] as number, length: lengths[i] as number });
      }
    }
    return runs;
  }

  #path(number: number): string {
    return decodeName(this.#paths.subarray(number === 0 ? 0 : this.#ends[number - 1], this.#ends[number]));
  }
}

function isDots(name: Uint8Array): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}

const SLASH = Buffer.from('/');

function join(path: Buffer, name: Uint8Array): Buffer {
  return path.length === 0 ? Buffer.from(name) : Buffer.concat([path, SLASH, name]);
}

function inOrder(runs: readonly Run[]): DeviceRuns {
  const sorted = [...runs].sort((a, b) => a.address - b.address || a.length - b.length);
  return {
    starts: Float64Array.from(sorted, ({ address }) => address),
    lengths: Float64Array.from(sorted, ({ length }) => length),
    fileOffsets: Float64Array.from(sorted, ({ fileOffset }) => fileOffset),
    paths: Uint32Array.from(sorted, ({ path }) => path),
  };
}

/** Place of the last number that is not above `value`; -1 when all are. */
function lastUpTo(numbers: Float64Array, value: number): number {
  let low = 0;
  let high = numbers.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((numbers[middle] as number) <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
