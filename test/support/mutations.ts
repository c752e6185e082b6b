import assert from 'node:assert/strict';
import { LazypullError } from '../../src/core/errors.ts';
import { numbers } from '../codec/samples.ts';

/** Changes to what strangers may send, the same in every run, and what may come of them. */

export interface Dice {
  /** A whole number from 0 to below the limit. */
  below(limit: number): number;
  pick<T>(from: readonly T[]): T;
}

export function dice(seed: number): Dice {
  const random = numbers(seed);
  const below = (limit: number): number => Math.floor(random() * limit);
  return { below, pick: <T>(from: readonly T[]): T => from[below(from.length)] as T };
}

/** Any change to the bytes: bits, bytes, words, cuts, bytes moved. `where`: places that are worth it. `size`: one that bounds are held against. */
export function mutateBytes({ below, pick }: Dice, bytes: Uint8Array, where: (length: number) => number, size: number): Uint8Array {
  const mutated = Buffer.from(bytes);
  for (let left = 1 + below(4); left > 0; left--) {
    const at = where(mutated.length);
    const kind = below(6);
    if (kind === 0) mutated[at] = (mutated[at] as number) ^ (1 << below(8));
    else if (kind === 1) mutated[at] = pick([0, 1, 0x7f, 0x80, 0xff]);
    else if (kind === 2 && at + 4 <= mutated.length) mutated.writeUInt32LE(pick([0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, mutated.length]), at);
    else if (kind === 3 && at + 8 <= mutated.length) mutated.writeBigInt64LE(pick([0n, 1n, -1n, 2n ** 53n, 2n ** 62n, -(2n ** 63n), BigInt(size)]), at);
    else if (kind === 4) mutated.copyWithin(at, below(mutated.length), below(mutated.length));
    else if (kind === 5 && below(4) === 0) return mutated.subarray(0, at);
  }
  return mutated;
}

/** How often what came out. */
export type Outcomes = Map<string, number>;

export function count(seen: Outcomes, outcome: string): void {
  seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
}

/** The code of an error that may be; fails for any other. */
export function codeOf(error: unknown): string {
  assert.ok(error instanceof LazypullError && error.code !== 'INTERNAL', error instanceof Error ? error.stack : String(error));
  return error.code;
}

/** Each of these came out more than so often, or nothing was tested. */
export function assertSeen(seen: ReadonlyMap<string, number>, outcomes: readonly string[], times: number): void {
  for (const what of outcomes) assert.ok((seen.get(what) ?? 0) > times, `${what}: ${JSON.stringify([...seen])}`);
}
