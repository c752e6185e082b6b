import { concat, copyInto } from '../core/bytes.ts';
import { LazypullError } from '../core/errors.ts';
import { deflateWasm } from './kernels/generated.ts';
import { KernelPool, type WasmGlobal, type WasmMemory } from './kernels/wasm.ts';

/** What kernels/assembly/deflate.ts exports. */
interface DeflateKernel {
  readonly memory: WasmMemory;
  readonly OUTPUT: WasmGlobal;
  readonly SEGMENT: WasmGlobal;
  readonly KNOWN: WasmGlobal;
  readonly KNOWN_SIZE: WasmGlobal;
  readonly knownAt: WasmGlobal;
  setKnown(size: number): void;
  setEffort(binary: number, text: number, good: number, lazy: number, lazier: number, nice: number): void;
  begin(size: number): number;
  next(): number;
  compress(size: number, end: number): number;
  copy(size: number, end: number): number;
}

/** How a call of the kernel ends: more segments follow, the stream is finished, or others will go on behind it. */
const CONTINUE = 0;
const FINISH = 1;
const FLUSH = 2;

/** Level used unless told: smaller than zlib's level 9 on container layers, at several times its speed. */
export const DEFAULT_LEVEL = 6;

/** What `setEffort` of kernels/assembly/deflate-match.ts takes, by level. Any change changes digests of converted images. */
const EFFORTS: readonly (readonly [binary: number, text: number, good: number, lazy: number, lazier: number, nice: number])[] = [
  [0, 0, 0, 0, 0, 0], // stored
  [1, 1, 258, 0, 0, 32],
  [3, 3, 258, 0, 0, 32],
  [3, 4, 4, 6, 0, 64],
  [4, 6, 4, 8, 0, 64],
  [6, 8, 6, 12, 0, 96],
  [8, 16, 8, 16, 0, 128],
  [12, 16, 8, 32, 6, 258],
  [16, 16, 16, 64, 8, 258],
  [16, 16, 258, 258, 32, 258],
];

let instance: { readonly kernel: DeflateKernel; readonly memory: Uint8Array; readonly output: number; readonly segment: number } | undefined;
let instanceLevel = -1;

function open(level: number): NonNullable<typeof instance> {
  const effort = EFFORTS[level];
  if (!effort) throw new LazypullError('USAGE', `compression level must be a whole number from 0 to 9, not ${level}`);
  if (!instance) {
    const kernel = new KernelPool<DeflateKernel>(deflateWasm, 0).borrow();
    instance = { kernel, memory: new Uint8Array(kernel.memory.buffer), output: kernel.OUTPUT.value, segment: kernel.SEGMENT.value };
  }
  if (instanceLevel !== level) instance.kernel.setEffort(...effort);
  instanceLevel = level;
  return instance;
}

/** Whether a level makes use of known matches; those above search everywhere, which takes longer and finds a little more. */
export function usesKnownMatches(level: number): boolean {
  return level > 0 && level <= DEFAULT_LEVEL;
}

/**
 * Compresses `input` of any length into a raw deflate stream (RFC 1951). Levels are 0 (stored) to 9 (smallest). Equal
 * arguments give equal bytes, everywhere and whatever was compressed before.
 *
 * The result is lent: it stays valid until the next call in this thread. Without `final` no block is marked as the last
 * and the stream ends on a byte boundary, so that another can be appended to it. `known` is a log of matches as MemberMemory
 * keeps it; it saves time and has a say in which of many right results comes out.
 */
export function deflateRaw(input: Uint8Array, level: number = DEFAULT_LEVEL, final = true, known?: Uint32Array): Uint8Array {
  const { kernel, memory, output, segment } = open(level);
  const run = level === 0 ? kernel.copy : kernel.compress;
  const parts: Uint8Array[] = [];
  let place = kernel.begin(Math.min(input.length, segment));
  let rest = known && known.length > 0 && usesKnownMatches(level) ? known : undefined;
  for (let at = 0; ; at += segment) {
    const left = input.length - at;
    copyInto(memory, left === input.length && left <= segment ? input : input.subarray(at, at + segment), place);
    if (rest) placeKnown(kernel, rest);
    const isLast = left <= segment;
    const bytes = memory.subarray(output, output + run(Math.min(left, segment), isLast ? (final ? FINISH : FLUSH) : CONTINUE));
    if (isLast && parts.length === 0) return bytes;
    parts.push(isLast ? bytes : bytes.slice());
    if (isLast) return concat(parts);
    rest = rest?.subarray((kernel.knownAt.value - kernel.KNOWN.value) / 4);
    place = kernel.next();
  }
}

/** Gives the kernel as much of the log as one segment can need. */
function placeKnown(kernel: DeflateKernel, log: Uint32Array): void {
  const part = log.length * 4 > kernel.KNOWN_SIZE.value ? log.subarray(0, kernel.KNOWN_SIZE.value / 4) : log;
  copyInto(new Uint8Array(kernel.memory.buffer, kernel.KNOWN.value), new Uint8Array(part.buffer, part.byteOffset, part.byteLength));
  kernel.setKnown(part.length * 4);
}
