import { opName } from './wire.ts';

/** What a session has done so far. */
export interface FuseStats {
  /** By name of the operation; only those that occurred. */
  readonly requests: Readonly<Record<string, number>>;
  /** Reads that were answered from what is here, and their bytes. */
  readonly localReads: number;
  readonly localBytes: number;
  /** Reads that had to be fetched, and the bytes of those that were answered. */
  readonly misses: number;
  readonly missBytes: number;
  /** Of them: how many are being waited for. */
  readonly pending: number;
  /** Reads that were answered with an error, and other requests that metadata was too bad for. */
  readonly errors: number;
  /** Requests that nobody waited for any more. */
  readonly interrupted: number;
}

const OPS = 64;
const FIELDS = ['localReads', 'localBytes', 'misses', 'errors'] as const;
type Field = (typeof FIELDS)[number];

/** Numbers that the serving thread counts and others look at. */
export class Counters {
  readonly memory: SharedArrayBuffer;
  readonly #values: Float64Array;

  constructor(memory = new SharedArrayBuffer((OPS + FIELDS.length) * 8)) {
    this.memory = memory;
    this.#values = new Float64Array(memory);
  }

  request(opcode: number): void {
    const place = opcode < OPS ? opcode : 0;
    this.#values[place] = (this.#values[place] as number) + 1;
  }

  add(field: Field, value: number): void {
    const place = OPS + FIELDS.indexOf(field);
    this.#values[place] = (this.#values[place] as number) + value;
  }

  get(field: Field): number {
    return this.#values[OPS + FIELDS.indexOf(field)] as number;
  }

  requests(): Readonly<Record<string, number>> {
    const found: Record<string, number> = {};
    for (let opcode = 0; opcode < OPS; opcode += 1) {
      const count = this.#values[opcode] as number;
      if (count > 0) found[opName(opcode)] = count;
    }
    return found;
  }
}
