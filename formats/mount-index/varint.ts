import { corrupt } from '../../src/core/errors.ts';

/** Bytes of a number of up to 53 bits. */
const MAX_BYTES = 8;

/** Numbers as groups of seven bits, lowest first; all but the last byte have their high bit set. Grows as needed. */
export class VarintWriter {
  #bytes = Buffer.allocUnsafeSlow(4096);
  #size = 0;

  /** What has been written; lent until more is. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#size);
  }

  byte(value: number): void {
    this.#room(1);
    this.#bytes[this.#size++] = value;
  }

  /** 0 up to 2^53 - 1. */
  number(value: number): void {
    this.#room(MAX_BYTES);
    let rest = value;
    // Plain arithmetic: there may be more than 32 bits.
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.#bytes[this.#size++] = (rest % 0x80) + 0x80;
    this.#bytes[this.#size++] = rest;
  }

  /** The same for numbers below 0 too, of up to 52 bits: 0, -1, 1, -2, 2 ... */
  signed(value: number): void {
    this.number(value >= 0 ? value * 2 : -value * 2 - 1);
  }

  /** Bytes with their number in front. */
  counted(bytes: Uint8Array): void {
    this.number(bytes.length);
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#size);
    this.#size += bytes.length;
  }

  #room(size: number): void {
    if (this.#size + size <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#size + size));
    this.#bytes.copy(larger, 0, 0, this.#size);
    this.#bytes = larger;
  }
}

/** Reads what `VarintWriter` writes. Numbers above 2^53 - 1 and whatever reaches behind the end are CORRUPT. */
export class VarintReader {
  readonly #bytes: Buffer;
  readonly #what: string;
  #at = 0;

  /** `what` names the bytes in messages. */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
  }

  get position(): number {
    return this.#at;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  byte(): number {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) throw corrupt(`${this.#what} ends early`, { offset: this.#at });
    this.#at += 1;
    return byte;
  }

  number(): number {
    const first = this.byte();
    if (first < 0x80) return first;
    let value = first - 0x80;
    for (let i = 1, unit = 0x80; i < MAX_BYTES; i += 1, unit *= 0x80) {
      const byte = this.byte();
      value += (byte & 0x7f) * unit;
      if (byte < 0x80 && Number.isSafeInteger(value)) return value;
    }
    throw corrupt(`${this.#what} has a number above 2^53-1`, { offset: this.#at });
  }

  signed(): number {
    const value = this.number();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  /** Lent: a view. More than `limit` bytes are CORRUPT. */
  counted(limit: number): Buffer {
    const size = this.number();
    if (size > limit || size > this.left) throw corrupt(`${this.#what} has a field of ${size} bytes`, { offset: this.#at });
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }

  end(): void {
    if (this.left > 0) throw corrupt(`${this.#what} has ${this.left} bytes too many`, { offset: this.#at });
  }
}
