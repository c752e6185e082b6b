import assert from 'node:assert/strict';
import type { OpenLayer } from '../../../src/core/types.ts';
import { LayerReader } from '../../../src/layer/reader.ts';
import { walk } from '../../../src/layer/walk.ts';
import { codeOf, count, dice, type Outcomes } from '../../support/mutations.ts';
import { noise } from '../../support/noise.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { directory, file, hardlink, symlink } from '../../support/tar-corpus.ts';

/** Changes to what strangers may send, and what may come of them. */

/** Mutations of each thing that is read. */
export const RUNS = 10_000;
export const TAR = archive(entries(directory('d/'), file('d/a', 'words '.repeat(30)), file('d/b', noise(9000)), file('d/c', noise(300, 4)), symlink('d/s', 'a'), hardlink('h', 'd/a'), file('e')));
/** What its chunks of 4096 bytes hold. */
export const CHUNKS: readonly Uint8Array[] = [Buffer.from('words '.repeat(30)), noise(9000).subarray(0, 4096), noise(9000).subarray(4096, 8192), noise(9000).subarray(8192), noise(300, 4)];

const { below, pick } = dice(23);

/** A change at one of the places that are worth it, or anywhere: bits, bytes, words, cuts, bytes moved. */
export function mutate(bytes: Uint8Array, places: readonly (readonly [number, number])[]): Uint8Array {
  const mutated = Buffer.from(bytes);
  for (let left = 1 + below(3); left > 0; left--) {
    const [from, size] = below(6) === 0 ? [0, mutated.length] : pick(places);
    const at = Math.min(mutated.length - 1, from + below(size));
    const aligned = at - (at % 4);
    const kind = below(7);
    if (kind === 0) mutated[at] = (mutated[at] as number) ^ (1 << below(8));
    else if (kind === 1) mutated[at] = pick([0, 1, 0x7f, 0x80, 0xff]);
    else if (kind <= 3 && aligned + 4 <= mutated.length) mutated.writeUInt32LE(pick([0, 1, 4096, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, mutated.length, mutated.readUInt32LE(aligned) + 1 & 0x7fff_ffff]), aligned);
    else if (kind === 4 && aligned + 8 <= mutated.length) mutated.writeBigInt64LE(pick([0n, 1n, -1n, 2n ** 53n, 2n ** 62n, -(2n ** 63n), 2n ** 40n, BigInt(mutated.length)]), aligned);
    else if (kind === 5) mutated.copyWithin(at, from + below(size), from + below(size));
    else if (below(8) === 0) return mutated.subarray(0, at);
  }
  return mutated;
}

/**
 * Opens and reads everything: a LazypullError, or files of which every piece is what one of the original chunks begins with.
 * `holes`: or nothing but zeros.
 */
export async function readAll(open: () => Promise<Pick<OpenLayer, 'index' | 'sources' | 'inflate' | 'check'>>, chunks: readonly Uint8Array[], seen: Outcomes, holes = false): Promise<void> {
  try {
    const opened = await open();
    const reader = new LayerReader({ format: 'nydus', indexBytes: 0, ...opened });
    for (const { path, node } of walk(opened.index.root)) {
      if (node.type !== 'file') continue;
      for await (const piece of reader.stream(node, { path })) {
        const right = chunks.some((chunk) => piece.length <= chunk.length && Buffer.compare(piece, chunk.subarray(0, piece.length)) === 0);
        assert.ok(right || (holes && piece.every((byte) => byte === 0)), `${path}: ${piece.length} bytes that were never there`);
      }
    }
    count(seen, 'fine');
  } catch (error) {
    count(seen, codeOf(error));
  }
}

/** Each mutation came to something; most must be met, and some must not matter, or nothing was tested. */
export function assertBoth(seen: ReadonlyMap<string, number>, runs = RUNS): void {
  const all = [...seen.values()].reduce((sum, times) => sum + times, 0);
  assert.ok(all >= runs, `${all} mutations`);
  assert.ok((seen.get('fine') ?? 0) > all / 50 && (seen.get('CORRUPT') ?? 0) > all / 20, JSON.stringify([...seen]));
}
