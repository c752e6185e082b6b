import { roundUp } from '../core/bytes.ts';
import { corrupt, LazypullError } from '../core/errors.ts';
import { lz4Wasm } from './kernels/generated.ts';
import { KernelPool, type WasmGlobal, type WasmMemory } from './kernels/wasm.ts';

/** What kernels/assembly/lz4.ts exports. */
interface Lz4Kernel {
  readonly memory: WasmMemory & { grow(pages: number): number };
  readonly DATA: WasmGlobal;
  readonly LARGEST: WasmGlobal;
  readonly SLACK: WasmGlobal;
  readonly faultAt: WasmGlobal;
  compress(input: number, size: number, output: number): number;
  decompress(input: number, size: number, output: number, room: number): number;
}

const PAGE = 65536;
/** A kernel that has grown beyond this is let go of after use: two chunks of the largest size that formats allow, 16 MiB. */
const KEEP = 34 << 20;

const FAULTS: ReadonlyMap<number, string> = new Map([
  [-1, 'the lz4 data ends early'],
  [-2, 'the lz4 data holds more than it should'],
  [-3, 'the lz4 data holds less than it should'],
  [-4, 'lz4 match reaches in front of its block'],
]);

let instance: { readonly kernel: Lz4Kernel; memory: Uint8Array } | undefined;

/** A kernel with so many bytes of memory behind DATA. */
function open(bytes: number): NonNullable<typeof instance> {
  if (instance && instance.memory.length > KEEP) instance = undefined;
  if (!instance) {
    const kernel = new KernelPool<Lz4Kernel>(lz4Wasm, 0).borrow();
    instance = { kernel, memory: new Uint8Array(kernel.memory.buffer) };
  }
  const { kernel } = instance;
  const missing = kernel.DATA.value + bytes - instance.memory.length;
  if (missing > 0) {
    try {
      kernel.memory.grow(Math.ceil(missing / PAGE));
    } catch (cause) {
      throw new LazypullError('IO', `no memory for an lz4 block with ${bytes} bytes in and out`, { cause });
    }
    instance.memory = new Uint8Array(kernel.memory.buffer);
  }
  return instance;
}

/** Where output begins behind input of so many bytes: on a cache line, with room for copies that overshoot. */
function behind(size: number, slack: number): number {
  return roundUp(size + slack, 64);
}

/**
 * Compresses into one LZ4 block (no frame), by the end rules of the format, so that every decoder takes it. Equal input
 * gives equal bytes, everywhere and whatever was compressed before. At most 128 MiB. The result is lent: it stays valid
 * until the next call in this thread.
 */
export function lz4Compress(bytes: Uint8Array): Uint8Array {
  const { LARGEST, SLACK, DATA } = open(0).kernel;
  if (bytes.length > LARGEST.value) throw new LazypullError('LIMIT', `${bytes.length} bytes are too many for one lz4 block; ${LARGEST.value} are allowed`);
  const offset = behind(bytes.length, SLACK.value);
  // What does not compress grows by a byte in 255.
  const { kernel, memory } = open(offset + bytes.length + Math.ceil(bytes.length / 255) + 16 + SLACK.value);
  memory.set(bytes, DATA.value);
  const output = DATA.value + offset;
  return memory.subarray(output, output + kernel.compress(DATA.value, bytes.length, output));
}

/**
 * Content of one LZ4 block (no frame) that must hold exactly `size` bytes; anything else is CORRUPT with its offset in
 * the block, and more than 128 MiB are LIMIT. The result belongs to the caller.
 */
export function lz4Decompress(bytes: Uint8Array, size: number, what = 'lz4 block'): Uint8Array {
  // A byte of the block stands for 255 bytes at the most, so a larger wish is refused before memory is taken.
  if (!(Number.isSafeInteger(size) && size >= 0 && size <= bytes.length * 255)) throw corrupt(`${what} of ${bytes.length} bytes cannot inflate to ${size}`);
  const { LARGEST, SLACK, DATA } = open(0).kernel;
  const limit = LARGEST.value;
  if (size > limit || bytes.length > limit) throw new LazypullError('LIMIT', `${what}: ${bytes.length} bytes of lz4 data for ${size}; ${limit} are allowed`);
  const offset = behind(bytes.length, SLACK.value);
  const { kernel, memory } = open(offset + size + SLACK.value);
  memory.set(bytes, DATA.value);
  const output = DATA.value + offset;
  const status = kernel.decompress(DATA.value, bytes.length, output, size);
  if (status < 0) throw corrupt(`${what}: ${FAULTS.get(status) ?? `lz4 fault ${status}`}`, { offset: kernel.faultAt.value });
  const result = Buffer.allocUnsafeSlow(size);
  result.set(memory.subarray(output, output + size));
  return result;
}
