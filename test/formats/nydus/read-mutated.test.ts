import { it } from 'node:test';
import { MemorySource } from '../../../src/core/source.ts';
import { BLOB_ENTRY_SIZE, CHUNK_ROW_SIZE, decodeRafsSuperblock, EXTENSION_OFFSET, EXTENSION_SIZE } from '../../../formats/nydus/bootstrap-layout.ts';
import { openRafs } from '../../../formats/nydus/tree.ts';
import type { Outcomes } from '../../support/mutations.ts';
import { assertBoth, CHUNKS, mutate, readAll, RUNS, TAR } from './mutations.ts';
import { madeRafs, placesOf } from './samples.ts';

it('10 000 mutations of a bootstrap: the right bytes or a typed error', async () => {
  const { bootstrap, metas, blobs } = await madeRafs({ chunkSize: 4096 }, [TAR]);
  const { blobTableOffset, chunkTableOffset, chunkTableSize } = decodeRafsSuperblock(bootstrap.subarray(EXTENSION_OFFSET, EXTENSION_OFFSET + EXTENSION_SIZE));
  const inodes = blobTableOffset + BLOB_ENTRY_SIZE;
  const places = [[1024, 128], [EXTENSION_OFFSET, 52], [1408, 128], [blobTableOffset, BLOB_ENTRY_SIZE], [inodes, bootstrap.length - inodes], [8192, 4096], [chunkTableOffset, Math.max(CHUNK_ROW_SIZE, chunkTableSize)]] as const;
  const seen: Outcomes = new Map();
  for (let run = 0; run < RUNS; run += 1) {
    const mutated = mutate(bootstrap, places);
    await readAll(() => openRafs(new MemorySource(mutated), placesOf(blobs, metas)), CHUNKS, seen);
  }
  assertBoth(seen);
});
