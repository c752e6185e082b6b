import { corrupt } from '../../src/core/errors.ts';

// FlatBuffers as strangers write them (flatbuffers.dev, "FlatBuffer Internals"). The npm library follows offsets without
// looking, so what is read goes through here: every table, vtable, vector and string lies within the buffer, or is CORRUPT.

/** How often the same bytes may be read as string or vector: writers may share strings, but not without end. */
const SHARING = 4;

export class FlatBuffer {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #what: string;
  /** Bytes of vectors and strings that may still be read. Keeps a small file from unfolding into a huge value. */
  #budget: number;

  /** `what` names the data in error messages. */
  constructor(bytes: Uint8Array, what: string) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
    this.#budget = SHARING * bytes.length + 4096;
  }

  corrupt(message: string, offset: number): Error {
    return corrupt(`${this.#what}: ${message}`, { offset });
  }

  root(): Table {
    if (this.bytes.length < 8) throw this.corrupt(`${this.bytes.length} bytes are no FlatBuffer`, 0);
    return this.table(0);
  }

  /** The table that the offset at `at` points to. */
  table(at: number): Table {
    return new Table(this, this.follow(at));
  }

  /** Where the unsigned offset at `at` points to: at least four bytes are there. */
  follow(at: number): number {
    const target = at + this.view.getUint32(at, true);
    if (target <= at || target + 4 > this.bytes.length) throw this.corrupt('an offset points outside', at);
    return target;
  }

  /** Number of elements of the vector at `at`, which all lie within the buffer; each points to `behind` bytes or more. */
  count(at: number, elementSize: number, behind = 0): number {
    const count = this.view.getUint32(at, true);
    if (at + 4 + count * elementSize > this.bytes.length) throw this.corrupt(`a vector of ${count} elements reaches outside`, at);
    const size = count * (elementSize + behind);
    this.#budget -= size;
    if (size > this.bytes.length || this.#budget < 0) throw this.corrupt('vectors and strings overlap', at);
    return count;
  }

  /** The elements of the byte vector or string at `at`: a view. */
  byteVector(at: number): Uint8Array {
    const count = this.count(at, 1);
    return this.bytes.subarray(at + 4, at + 4 + count);
  }
}

/** A table, its vtable checked. Fields are told by their id; a field that is not stored has its default. */
export class Table {
  readonly #buffer: FlatBuffer;
  /** Where it is, for messages. */
  readonly at: number;
  readonly #vtable: number;
  readonly #fields: number;
  readonly #size: number;

  constructor(buffer: FlatBuffer, at: number) {
    const { view, bytes } = buffer;
    const vtable = at - view.getInt32(at, true);
    if (vtable < 0 || vtable + 4 > bytes.length) throw buffer.corrupt('a vtable lies outside', at);
    const vtableSize = view.getUint16(vtable, true);
    const size = view.getUint16(vtable + 2, true);
    if (vtableSize < 4 || vtableSize % 2 !== 0 || vtable + vtableSize > bytes.length) throw buffer.corrupt(`a vtable of ${vtableSize} bytes`, vtable);
    if (size < 4 || at + size > bytes.length) throw buffer.corrupt(`a table of ${size} bytes reaches outside`, at);
    this.#buffer = buffer;
    this.at = at;
    this.#vtable = vtable;
    this.#fields = vtableSize / 2 - 2;
    this.#size = size;
  }

  /** Where a field of `size` bytes is; undefined when it is not stored. */
  #field(id: number, size: number): number | undefined {
    if (id >= this.#fields) return undefined;
    const offset = this.#buffer.view.getUint16(this.#vtable + 4 + 2 * id, true);
    if (offset === 0) return undefined;
    if (offset < 4 || offset + size > this.#size) throw this.#buffer.corrupt(`field ${id} lies outside its table`, this.at);
    return this.at + offset;
  }

  int8(id: number, otherwise: number): number {
    const at = this.#field(id, 1);
    return at === undefined ? otherwise : this.#buffer.view.getInt8(at);
  }

  int32(id: number): number {
    const at = this.#field(id, 4);
    return at === undefined ? 0 : this.#buffer.view.getInt32(at, true);
  }

  uint32(id: number): number {
    const at = this.#field(id, 4);
    return at === undefined ? 0 : this.#buffer.view.getUint32(at, true);
  }

  /** An int64 that is a size, an offset or a number of bits: 0..2^53-1, everything else is CORRUPT. */
  size(id: number, name: string): number {
    const at = this.#field(id, 8);
    if (at === undefined) return 0;
    const { view } = this.#buffer;
    const high = view.getInt32(at + 4, true);
    if (high < 0 || high > 0x1f_ffff) throw this.#buffer.corrupt(`${name} is ${view.getBigInt64(at, true)}`, at);
    return high * 0x1_0000_0000 + view.getUint32(at, true);
  }

  /** The bytes of a string or byte vector: a view; empty when not stored. */
  bytes(id: number): Uint8Array {
    const at = this.#field(id, 4);
    return at === undefined ? NOTHING : this.#buffer.byteVector(this.#buffer.follow(at));
  }

  table(id: number, name: string): Table {
    const at = this.#field(id, 4);
    if (at === undefined) throw this.#buffer.corrupt(`there is no ${name}`, this.at);
    return this.#buffer.table(at);
  }

  /** Calls `each` with every table of a vector; a table takes `least` bytes or more. */
  tables(id: number, least: number, each: (table: Table, index: number) => void): void {
    this.#elements(id, least, (at, index) => each(this.#buffer.table(at), index));
  }

  /** Calls `each` with the bytes of every string of a vector. */
  strings(id: number, each: (bytes: Uint8Array, index: number) => void): void {
    this.#elements(id, 4, (at, index) => each(this.#buffer.byteVector(this.#buffer.follow(at)), index));
  }

  #elements(id: number, behind: number, each: (at: number, index: number) => void): void {
    const at = this.#field(id, 4);
    if (at === undefined) return;
    const vector = this.#buffer.follow(at);
    const count = this.#buffer.count(vector, 4, behind);
    for (let i = 0; i < count; i += 1) each(vector + 4 + 4 * i, i);
  }
}

const NOTHING = new Uint8Array(0);
