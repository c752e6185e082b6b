import { copyInto } from '../core/bytes.ts';
import { corrupt, LazypullError } from '../core/errors.ts';
import { takeRoom } from '../core/room.ts';
import { inflateWasm } from './kernels/generated.ts';
import { KernelPool, type WasmGlobal, type WasmMemory } from './kernels/wasm.ts';
import { type Matches, tellMatches } from './matches.ts';

/** What kernels/assembly/inflate.ts exports. */
interface InflateKernel {
  readonly memory: WasmMemory;
  readonly INPUT: WasmGlobal;
  readonly INPUT_SIZE: WasmGlobal;
  readonly OUTPUT: WasmGlobal;
  readonly OUTPUT_SIZE: WasmGlobal;
  readonly HISTORY: WasmGlobal;
  readonly LOG: WasmGlobal;
  readonly inputAt: WasmGlobal;
  readonly outputAt: WasmGlobal;
  readonly logged: WasmGlobal;
  readonly soughtOut: WasmGlobal;
  begin(bits: number, log: number): void;
  emptyLog(): void;
  emptyMatches(out: number): void;
  seekMatch(out: number): number;
  run(at: number, end: number, last: number, out: number, limit: number, start: number): number;
}

const pool = new KernelPool<InflateKernel>(inflateWasm, 4);

/** What a kernel has logged about a view of its output. */
function logged(kernel: InflateKernel, bytes: Uint8Array): Matches {
  const from = kernel.seekMatch(bytes.byteOffset);
  const lead = kernel.soughtOut.value - bytes.byteOffset;
  const to = kernel.seekMatch(bytes.byteOffset + bytes.length);
  return { entries: new Uint32Array(bytes.buffer, from, (to - from) / 4), lead };
}

const FAULTS = new Map<number, string>([
  [-1, 'the compressed data ends early'],
  [-2, 'invalid block type'],
  [-3, 'stored block length and its complement differ'],
  [-4, 'too many length or distance codes'],
  [-5, 'invalid code length code'],
  [-6, 'code length repeat reaches outside'],
  [-7, 'no code for the end of the block'],
  [-8, 'invalid literal and length code'],
  [-9, 'invalid distance code'],
  [-10, 'invalid literal or length symbol'],
  [-11, 'invalid distance symbol'],
  [-12, 'distance reaches before the start'],
]);

/** Where a deflate block begins. */
export interface BlockStart {
  /** Bits of input in front of the block header, counted like `Inflater.position`. */
  readonly bit: number;
  /** Bytes of output in front of the block, counted like `Inflater.produced`. */
  readonly out: number;
}

/** How `decode` ended: the stream is complete, more input is needed, or there is output to take. */
export type InflateStatus = 'done' | 'input' | 'output';

/**
 * Streaming raw deflate decoder (RFC 1951) in bounded memory: about 1.4 MiB. Bytes are pushed in and views of the output
 * window are taken out, both by the caller; nothing waits and nothing queues. `close` gives the memory to the next user.
 *
 * One inflater can decode several streams one after another (gzip members): after 'done' the input stands behind the
 * last block, `unread` and `skip` deal with what lies between, and `begin` starts the next stream.
 */
export class Inflater {
  readonly #what: string;
  readonly #input: number;
  readonly #inputLimit: number;
  readonly #output: number;
  readonly #outputLimit: number;
  readonly #history: number;
  #kernel: InflateKernel | undefined;
  #memory: Uint8Array;
  /** Absolute position of the byte at address `#input`. */
  #inputBase = 0;
  #inputAt: number;
  #inputEnd: number;
  #inputIsLast = false;
  /** Absolute position of the byte at address `#output`. */
  #outputBase = 0;
  #outputAt: number;
  /** Where the bytes begin that distances may reach. */
  #historyAt: number;
  /** Where the bytes begin that were not taken yet. */
  #takenAt: number;
  #onBlock: ((block: BlockStart) => void) | undefined;
  #done = false;
  /** The fault that the present stream was found to have. */
  #fault: LazypullError | undefined;

  /** `what` names the data in error messages. */
  constructor(what = 'deflate stream') {
    const kernel = pool.borrow();
    this.#what = what;
    this.#kernel = kernel;
    this.#memory = new Uint8Array(kernel.memory.buffer);
    tellMatches(kernel.memory.buffer, (bytes) => logged(kernel, bytes));
    kernel.emptyMatches(kernel.OUTPUT.value);
    this.#input = kernel.INPUT.value;
    this.#inputLimit = this.#input + kernel.INPUT_SIZE.value;
    this.#output = kernel.OUTPUT.value;
    this.#outputLimit = this.#output + kernel.OUTPUT_SIZE.value;
    this.#history = kernel.HISTORY.value;
    this.#inputAt = this.#inputEnd = this.#input;
    this.#outputAt = this.#takenAt = this.#historyAt = this.#output;
    this.begin();
  }

  /** Bytes of input consumed. Inside a stream: whole bytes only. */
  get position(): number {
    return this.#inputBase + (this.#inputAt - this.#input);
  }

  /** Bytes of output produced. */
  get produced(): number {
    return this.#outputBase + (this.#outputAt - this.#output);
  }

  /** Bytes of output that `take` would return. */
  get pending(): number {
    return this.#outputAt - this.#takenAt;
  }

  /** Begins a stream at the current byte of input. Distances cannot reach into what was produced before. */
  begin(onBlock?: (block: BlockStart) => void): void {
    this.#start(0, onBlock);
    this.#historyAt = this.#outputAt;
  }

  /**
   * Begins in the middle of a stream, at a block start that was reported earlier. `window` is the output in front of
   * that block: 32 KiB, or all of it when there is less. The next byte pushed must be the one at `floor(block.bit / 8)`.
   */
  resume(block: BlockStart, window: Uint8Array, onBlock?: (block: BlockStart) => void): void {
    if (this.pending > 0 || this.#inputAt !== this.#inputEnd) throw new LazypullError('INTERNAL', 'resume needs an inflater that holds no data');
    const bits = block.bit % 8;
    const history = window.subarray(Math.max(0, window.length - this.#history));
    this.#memory.set(history, this.#output);
    this.#historyAt = this.#output;
    this.#outputAt = this.#takenAt = this.#output + history.length;
    this.#outputBase = block.out - history.length;
    this.#inputAt = this.#inputEnd = this.#input;
    this.#inputBase = (block.bit - bits) / 8;
    this.#inputIsLast = false;
    this.#open().emptyMatches(this.#outputAt);
    this.#start(bits, onBlock);
  }

  #start(bits: number, onBlock: ((block: BlockStart) => void) | undefined): void {
    this.#onBlock = onBlock;
    this.#open().begin(bits, onBlock ? 1 : 0);
    this.#done = false;
    this.#fault = undefined;
  }

  /** Copies in as much of `bytes` as there is room for (up to 256 KiB) and returns how much that was. */
  push(bytes: Uint8Array): number {
    if (this.#inputEnd + bytes.length > this.#inputLimit && this.#inputAt > this.#input) {
      this.#memory.copyWithin(this.#input, this.#inputAt, this.#inputEnd);
      this.#inputBase += this.#inputAt - this.#input;
      this.#inputEnd -= this.#inputAt - this.#input;
      this.#inputAt = this.#input;
    }
    const size = Math.min(bytes.length, this.#inputLimit - this.#inputEnd);
    copyInto(this.#memory, size === bytes.length ? bytes : bytes.subarray(0, size), this.#inputEnd);
    this.#inputEnd += size;
    return size;
  }

  /** Declares that no input follows what was pushed. */
  end(): void {
    this.#inputIsLast = true;
  }

  /** The input that was pushed and not consumed; lent until the next call of `push`. */
  unread(): Uint8Array {
    return this.#memory.subarray(this.#inputAt, this.#inputEnd);
  }

  /** Passes over `count` bytes of unread input. */
  skip(count: number): void {
    if (count > this.#inputEnd - this.#inputAt) throw new LazypullError('INTERNAL', `cannot skip ${count} bytes of input that are not there`);
    this.#inputAt += count;
  }

  /**
   * Decodes until the stream ends, the input is used up, or there is no more room for output ('output': take it before
   * the next call). `atMost` ends with 'output' after that many further bytes, give or take one match.
   * Broken data is CORRUPT with its input position.
   */
  decode(atMost = Infinity): InflateStatus {
    if (this.#done) return 'done';
    if (this.#fault) throw this.#fault;
    const kernel = this.#open();
    for (;;) {
      if (this.#outputAt >= this.#outputLimit) {
        if (this.#takenAt < this.#outputAt) return 'output';
        this.#slide();
      }
      const limit = Math.min(this.#outputLimit, this.#outputAt + atMost);
      const status = kernel.run(this.#inputAt, this.#inputEnd, this.#inputIsLast ? 1 : 0, this.#outputAt, limit, this.#historyAt);
      this.#inputAt = kernel.inputAt.value;
      this.#outputAt = kernel.outputAt.value;
      if (this.#onBlock && kernel.logged.value > 0) this.#reportBlocks(kernel, this.#onBlock);
      if (status === 0) {
        this.#done = true;
        return 'done';
      }
      if (status === 1) return 'input';
      if (status === 2) return 'output';
      if (status < 0) throw (this.#fault = corrupt(`${this.#what}: ${FAULTS.get(status) ?? `inflate fault ${status}`}`, { offset: this.position }));
    }
  }

  /** What was produced since the last call, or the first bytes of it; lent until the next call of `decode`. */
  take(atMost: number = this.pending): Uint8Array {
    const bytes = this.#memory.subarray(this.#takenAt, this.#takenAt + Math.min(atMost, this.pending));
    this.#takenAt += bytes.length;
    return bytes;
  }

  /** The last `count` bytes of output, taken or not; `count` must be what `decode` has just added. Lent like `take`. */
  recent(count: number): Uint8Array {
    return this.#memory.subarray(this.#outputAt - count, this.#outputAt);
  }

  /**
   * The output in front of position `out`, at most 32 KiB of it and never from an earlier stream: what `resume` needs.
   * `out` must be a block start of the last `decode`, or `produced`. Lent until the next call of `decode`.
   */
  window(out: number = this.produced): Uint8Array {
    const end = this.#output + (out - this.#outputBase);
    if (end < this.#historyAt || end > this.#outputAt) throw new LazypullError('INTERNAL', `output in front of ${out} is no longer there`);
    return this.#memory.subarray(Math.max(this.#historyAt, end - this.#history), end);
  }

  /** Like `window`, but with output of earlier streams too: 32 KiB, or all that came before if that is less. */
  before(out: number = this.produced): Uint8Array {
    const end = this.#output + (out - this.#outputBase);
    if (end < this.#output || end > this.#outputAt) throw new LazypullError('INTERNAL', `output in front of ${out} is no longer there`);
    return this.#memory.subarray(Math.max(this.#output, end - this.#history), end);
  }

  /** The last `count` bytes of input that were consumed; `count` must be what was consumed since the last `push`. Lent until the next. */
  consumed(count: number): Uint8Array {
    return this.#memory.subarray(this.#inputAt - count, this.#inputAt);
  }

  /** Has `matchesIn` say nothing of what this inflater lends. */
  ignoreMatches(): void {
    tellMatches(this.#memory.buffer, undefined);
  }

  /** Gives the memory back. Everything lent is invalid from here on. Closing twice is fine. */
  close(): void {
    if (this.#kernel) pool.giveBack(this.#kernel);
    this.#kernel = undefined;
    this.#memory = new Uint8Array(0);
  }

  #open(): InflateKernel {
    if (!this.#kernel) throw new LazypullError('INTERNAL', 'inflater is closed');
    return this.#kernel;
  }

  /** Moves the last output to the front of the output window: what distances may reach, and for `before` also what they may not. */
  #slide(): void {
    const from = Math.max(this.#output, this.#outputAt - this.#history);
    const moved = from - this.#output;
    this.#memory.copyWithin(this.#output, from, this.#outputAt);
    this.#outputBase += moved;
    this.#outputAt = this.#takenAt = this.#outputAt - moved;
    this.#historyAt = Math.max(this.#output, this.#historyAt - moved);
    this.#open().emptyMatches(this.#outputAt);
  }

  #reportBlocks(kernel: InflateKernel, onBlock: (block: BlockStart) => void): void {
    const count = kernel.logged.value;
    // Signed: a block may begin in a byte that was consumed before the input moved to the front.
    const log = new Int32Array(kernel.memory.buffer, kernel.LOG.value, count * 2).slice();
    kernel.emptyLog();
    for (let i = 0; i < count; i++) {
      onBlock({ bit: this.#inputBase * 8 + (log[2 * i] as number), out: this.#outputBase + (log[2 * i + 1] as number) });
    }
  }
}

/** Which part of a stream's output is wanted. */
export interface Part {
  /** Bytes to drop first; 0 unless told. */
  readonly skip?: number;
  /** Bytes wanted. */
  readonly size: number;
}

/**
 * Inflates the part of a raw deflate stream that is wanted and stops there: what follows is not looked at.
 * The result belongs to the caller. A stream that ends before is CORRUPT.
 */
export function inflateRaw(packed: Uint8Array, part: Part, what = 'deflate stream'): Uint8Array {
  const inflater = new Inflater(what);
  try {
    return inflatePart(inflater, packed, part, what);
  } finally {
    inflater.close();
  }
}

/** Decodes with an inflater that has begun its stream; `packed` is pushed as needed. */
function inflatePart(inflater: Inflater, packed: Uint8Array, { skip = 0, size }: Part, what: string): Uint8Array {
  const total = skip + size;
  // No deflate stream grows more than 1032-fold (two bits for 258 bytes), so a larger wish is refused before memory is taken.
  if (!(size >= 0 && skip >= 0 && total <= packed.length * 1032)) throw corrupt(`${what} of ${packed.length} bytes cannot inflate to ${total}`);
  const result = takeRoom(size);
  let pushed = 0;
  let at = 0;
  while (at < total) {
    if (pushed < packed.length) pushed += inflater.push(pushed === 0 ? packed : packed.subarray(pushed));
    if (pushed === packed.length) inflater.end();
    const status = inflater.decode(total - at);
    const bytes = inflater.take();
    if (at + bytes.length > skip) {
      const from = Math.max(0, skip - at);
      result.set(bytes.subarray(from, Math.min(bytes.length, total - at)), Math.max(0, at - skip));
    }
    at += bytes.length;
    if (status === 'done' && at < total) throw corrupt(`${what} inflates to ${at} bytes, ${total} are needed`, { offset: inflater.position });
  }
  return result;
}
