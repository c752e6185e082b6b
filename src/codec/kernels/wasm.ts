import { wrapError } from '../../core/errors.ts';

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
