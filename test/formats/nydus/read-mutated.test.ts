import assert from 'node:assert/strict';
import { it } from 'node:test';
import { digestOf } from '../../../src/core/digest.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import type { StoredLayer } from '../../../src/core/format.ts';
import { MemorySource } from '../../../src/core/source.ts';
import { BLOB_ENTRY_SIZE, CHUNK_ROW_SIZE, decodeRafsSuperblock, EXTENSION_OFFSET, EXTENSION_SIZE } from '../../../formats/nydus/bootstrap-layout.ts';
import { CONTEXT_HEADER_SIZE } from '../../../formats/nydus/context-layout.ts';
import { BLOB_MEDIA_TYPE } from '../../../formats/nydus/layout.ts';
import { openNydus } from '../../../formats/nydus/read.ts';
import { openRafs } from '../../../formats/nydus/tree.ts';
import { openV5 } from '../../../formats/nydus/v5.ts';
import type { OpenLayer } from '../../../src/core/types.ts';
import { numbers } from '../../codec/samples.ts';
import { noise } from '../../support/noise.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { directory, file, hardlink, symlink } from '../../support/tar-corpus.ts';
import { BLOB_ID, madeV5 } from './made-v5.ts';
import { madeRafs, placesOf, shown } from './samples.ts';

const RUNS = 3000;
const TAR = archive(entries(directory('d/'), file('d/a', 'words '.repeat(30)), file('d/b', noise(9000)), file('d/c', noise(300, 4)), symlink('d/s', 'a'), hardlink('h', 'd/a'), file('e')));

const random = numbers(23);
const below = (limit: number): number => Math.floor(random() * limit);
const pick = <T>(from: readonly T[]): T => from[below(from.length)] as T;

/** A change at one of the places that are worth it, or anywhere: bits, bytes, words, cuts, bytes moved. */
function mutate(bytes: Uint8Array, places: readonly (readonly [number, number])[]): Uint8Array {
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

/** Opens and reads everything: right by its own digests, or a LazypullError. */
async function readAll(open: () => Promise<Pick<OpenLayer, 'index' | 'sources' | 'inflate' | 'check'>>, seen: Map<string, number>): Promise<void> {
  let outcome = 'fine';
  try {
    await shown(await open());
  } catch (error) {
    assert.ok(error instanceof LazypullError && error.code !== 'INTERNAL', error instanceof Error ? error.stack : String(error));
    outcome = error.code;
  }
  seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
}

/** Most mutations must be met, and some must not matter; otherwise nothing was tested. */
function assertBoth(seen: ReadonlyMap<string, number>): void {
  assert.ok((seen.get('fine') ?? 0) > RUNS / 50 && (seen.get('CORRUPT') ?? 0) > RUNS / 20, JSON.stringify([...seen]));
}

it('a bootstrap that was tampered with is refused or read', async () => {
  const { bootstrap, metas, blobs } = await madeRafs({ chunkSize: 4096 }, [TAR]);
  const { blobTableOffset, chunkTableOffset, chunkTableSize } = decodeRafsSuperblock(bootstrap.subarray(EXTENSION_OFFSET, EXTENSION_OFFSET + EXTENSION_SIZE));
  const inodes = blobTableOffset + BLOB_ENTRY_SIZE;
  const places = [[1024, 128], [EXTENSION_OFFSET, 52], [1408, 128], [blobTableOffset, BLOB_ENTRY_SIZE], [inodes, bootstrap.length - inodes], [8192, 4096], [chunkTableOffset, Math.max(CHUNK_ROW_SIZE, chunkTableSize)]] as const;
  const seen = new Map<string, number>();
  for (let run = 0; run < RUNS; run += 1) {
    const mutated = mutate(bootstrap, places);
    await readAll(() => openRafs(new MemorySource(mutated), placesOf(blobs, metas)), seen);
  }
  assertBoth(seen);
});

it('context tables that were tampered with are refused or read', async () => {
  const seen = new Map<string, number>();
  for (const options of [{ chunkSize: 4096 }, { chunkSize: 4096, batchSize: 8192 }]) {
    const { bootstrap, metas, blobs } = await madeRafs(options, [TAR]);
    const [[id, meta]] = [...metas] as [[string, Uint8Array]];
    const infos = Buffer.from(bootstrap).readUInt32LE(decodeRafsSuperblock(bootstrap.subarray(EXTENSION_OFFSET, EXTENSION_OFFSET + EXTENSION_SIZE)).blobTableOffset + 128);
    for (let run = 0; run < RUNS / 2; run += 1) {
      const mutated = mutate(meta, [[0, infos], [0, infos], [meta.length - CONTEXT_HEADER_SIZE, 64], [meta.length - 4, 4]]);
      // Without the blob's own table there is nothing to fall back to.
      await readAll(() => openRafs(new MemorySource(bootstrap), { ...placesOf(blobs, new Map([[id, mutated]])), tables: () => new MemorySource(mutated) }), seen);
    }
  }
  assertBoth(seen);
});

it('blobs that were tampered with are refused or read', async () => {
  const { blobs } = await madeRafs({ chunkSize: 4096 }, [TAR]);
  const [bytes] = [...blobs.values()] as [Uint8Array];
  const tail = 512 + 5 * 128;
  const seen = new Map<string, number>();
  for (let run = 0; run < RUNS; run += 1) {
    const mutated = mutate(bytes, [[bytes.length - tail, tail], [bytes.length - tail, tail], [bytes.length - 512, 512], [bytes.length - 6000, 6000]]);
    const layer: StoredLayer = { descriptor: { mediaType: BLOB_MEDIA_TYPE, digest: digestOf(), size: mutated.length }, source: new MemorySource(mutated) };
    await readAll(async () => ({ check: () => undefined, ...(await openNydus(layer)) }), seen);
  }
  assert.ok((seen.get('fine') ?? 0) > 0 && seen.size > 2, JSON.stringify([...seen]));
});

it('a v5 bootstrap that was tampered with is refused or read', async () => {
  const child = { name: 'file', mode: 0o100644, content: [noise(4096), null, noise(9)], xattrs: { 'user.a': 'b' } };
  const { bootstrap, blob } = madeV5({ name: '/', mode: 0o40755, children: [{ name: 'd', mode: 0o40755, children: [child, { name: 's', mode: 0o120777, target: 'file' }] }, { name: 'e', mode: 0o100600, content: [noise(30)] }] }, [2]);
  const seen = new Map<string, number>();
  for (let run = 0; run < RUNS; run += 1) {
    const mutated = mutate(bootstrap, [[0, 80], [8192, bootstrap.length - 8192], [8192, bootstrap.length - 8192]]);
    await readAll(async () => openV5(mutated, placesOf(new Map([[BLOB_ID, blob]]))), seen);
  }
  assertBoth(seen);
});
