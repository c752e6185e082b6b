import { LazypullError, wrapError } from '../../core/errors.ts';

// Node's type package leaves WebAssembly to the DOM types, which have no place here; this is the little we use.
interface WasmNamespace {
  readonly Module: new (bytes: Uint8Array) => WasmModule;
  readonly Instance: new (module: WasmModule) => { readonly exports: unknown };
}
interface WasmModule {
  readonly wasmModule?: never;
}
declare const WebAssembly: WasmNamespace;

/** An exported global of a kernel. */
export interface WasmGlobal {
  readonly value: number;
}

export interface WasmMemory {
  readonly buffer: ArrayBuffer;
}

/**
 * Instances of one embedded kernel. Compiling and touching fresh memory costs more than many a small job, so instances
 * are kept for reuse: at most `keep` idle ones. `K` is what the kernel exports.
 */
export class KernelPool<K> {
  readonly #wasm: string;
  readonly #keep: number;
  readonly #idle: K[] = [];
  #module: WasmModule | undefined;

  constructor(wasm: string, keep: number) {
    this.#wasm = wasm;
    this.#keep = keep;
  }

  borrow(): K {
    const idle = this.#idle.pop();
    if (idle) return idle;
    try {
      this.#module ??= new WebAssembly.Module(Buffer.from(this.#wasm, 'base64'));
      return new WebAssembly.Instance(this.#module).exports as K;
    } catch (error) {
      // Each instance reserves address space, which a process may be short of (ulimit -v).
      throw wrapError(error, 'IO', 'cannot start a WebAssembly kernel');
    }
  }

  giveBack(kernel: K): void {
    if (this.#idle.length < this.#keep) this.#idle.push(kernel);
  }
}

/** What a kernel exports whose memory grows: input lies at DATA, everything else behind it. */
export interface DataKernel {
  readonly memory: WasmMemory & { grow(pages: number): number };
  readonly DATA: WasmGlobal;
  readonly SLACK: WasmGlobal;
  /** Most bytes of input. */
  readonly LARGEST: WasmGlobal;
}

const PAGE = 65536;

/** The one instance that a thread has of a kernel whose memory grows with what it works on. One that has grown beyond `keep` bytes is let go of after use. */
export class GrowingKernel<K extends DataKernel> {
  readonly #pool: KernelPool<K>;
  readonly #keep: number;
  #open: { readonly kernel: K; memory: Uint8Array } | undefined;

  constructor(wasm: string, keep: number) {
    this.#pool = new KernelPool<K>(wasm, 0);
    this.#keep = keep;
  }

  /** The kernel with so many bytes of memory behind DATA. */
  open(bytes: number): { readonly kernel: K; readonly memory: Uint8Array } {
    if (this.#open && this.#open.memory.length > this.#keep) this.#open = undefined;
    if (!this.#open) {
      const kernel = this.#pool.borrow();
      this.#open = { kernel, memory: new Uint8Array(kernel.memory.buffer) };
    }
    const open = this.#open;
    const missing = open.kernel.DATA.value + bytes - open.memory.length;
    if (missing > 0) {
      try {
        open.kernel.memory.grow(Math.ceil(missing / PAGE));
      } catch (cause) {
        throw new LazypullError('IO', `no memory for ${bytes} bytes in and out of a WebAssembly kernel`, { cause });
      }
      open.memory = new Uint8Array(open.kernel.memory.buffer);
    }
    return open;
  }
}
