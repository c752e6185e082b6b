import { copyInto, roundUp } from '../core/bytes.ts';
import { corrupt, LazypullError } from '../core/errors.ts';
import { takeRoom } from '../core/room.ts';
import { lz4Wasm } from './kernels/generated.ts';
import { type DataKernel, GrowingKernel, type WasmGlobal } from './kernels/wasm.ts';

/** What kernels/assembly/lz4.ts exports. */
interface Lz4Kernel extends DataKernel {
  readonly faultAt: WasmGlobal;
  compress(input: number, size: number, output: number): number;
  compressKnown(input: number, size: number, log: number, logSize: number, output: number): number;
  decompress(input: number, size: number, output: number, room: number): number;
}

/** Two chunks of the largest size that formats allow, 16 MiB, and a log of matches. */
const KEEP = 56 << 20;
const kernels = new GrowingKernel<Lz4Kernel>(lz4Wasm, KEEP);

const FAULTS: ReadonlyMap<number, string> = new Map([
  [-1, 'the lz4 data ends early'],
  [-2, 'the lz4 data holds more than it should'],
  [-3, 'the lz4 data holds less than it should'],
  [-4, 'lz4 match reaches in front of its block'],
]);

/** Where output begins behind input of so many bytes: on a cache line, with room for copies that overshoot. */
function behind(size: number, slack: number): number {
  return roundUp(size + slack, 64);
}

/**
 * Compresses into one LZ4 block (no frame), by the end rules of the format, so that every decoder takes it. Equal arguments
 * give equal bytes, everywhere and whatever was compressed before. At most 128 MiB. The result is lent: it stays valid
 * until the next call in this thread. `known` is a log of matches as MemberMemory keeps it: the search is left out, and the
 * block is smaller as a rule.
 */
export function lz4Compress(bytes: Uint8Array, known?: Uint32Array): Uint8Array {
  const { LARGEST, SLACK, DATA } = kernels.open(0).kernel;
  if (bytes.length > LARGEST.value) throw new LazypullError('LIMIT', `${bytes.length} bytes are too many for one lz4 block; ${LARGEST.value} are allowed`);
  const logSize = known?.byteLength ?? 0;
  const logAt = behind(bytes.length, SLACK.value);
  const offset = behind(logAt + logSize, 0);
  // What does not compress grows by a byte in 255.
  const { kernel, memory } = kernels.open(offset + bytes.length + Math.ceil(bytes.length / 255) + 16 + SLACK.value);
  copyInto(memory, bytes, DATA.value);
  const output = DATA.value + offset;
  let size = 0;
  if (known && logSize > 0) {
    copyInto(memory, new Uint8Array(known.buffer, known.byteOffset, logSize), DATA.value + logAt);
    size = kernel.compressKnown(DATA.value, bytes.length, DATA.value + logAt, logSize, output);
  }
  if (size === 0) size = kernel.compress(DATA.value, bytes.length, output);
  return memory.subarray(output, output + size);
}

/**
 * Content of one LZ4 block (no frame) that must hold exactly `size` bytes; anything else is CORRUPT with its offset in
 * the block, and more than 128 MiB are LIMIT. The result belongs to the caller.
 */
export function lz4Decompress(bytes: Uint8Array, size: number, what = 'lz4 block'): Uint8Array {
  // A byte of the block stands for 255 bytes at the most, so a larger wish is refused before memory is taken.
  if (!(Number.isSafeInteger(size) && size >= 0 && size <= bytes.length * 255)) throw corrupt(`${what} of ${bytes.length} bytes cannot inflate to ${size}`);
  const { LARGEST, SLACK, DATA } = kernels.open(0).kernel;
  const limit = LARGEST.value;
  if (size > limit || bytes.length > limit) throw new LazypullError('LIMIT', `${what}: ${bytes.length} bytes of lz4 data for ${size}; ${limit} are allowed`);
  const offset = behind(bytes.length, SLACK.value);
  const { kernel, memory } = kernels.open(offset + size + SLACK.value);
  memory.set(bytes, DATA.value);
  const output = DATA.value + offset;
  const status = kernel.decompress(DATA.value, bytes.length, output, size);
  if (status < 0) throw corrupt(`${what}: ${FAULTS.get(status) ?? `lz4 fault ${status}`}`, { offset: kernel.faultAt.value });
  const result = takeRoom(size);
  result.set(memory.subarray(output, output + size));
  return result;
}
