import assert from 'node:assert/strict';
import { it } from 'node:test';
import { digestOf } from '../../../src/core/digest.ts';
import { MemorySource } from '../../../src/core/source.ts';
import { decodeRafsSuperblock, EXTENSION_OFFSET, EXTENSION_SIZE } from '../../../formats/nydus/bootstrap-layout.ts';
import { CONTEXT_HEADER_SIZE } from '../../../formats/nydus/context-layout.ts';
import { openRafs } from '../../../formats/nydus/tree.ts';
import { loadChunk, madeZran, readTable } from './made-contexts.ts';
import { codeOf, count, type Outcomes } from '../../support/mutations.ts';
import { assertBoth, CHUNKS, mutate, readAll, RUNS, TAR } from './mutations.ts';
import { madeRafs, placesOf } from './samples.ts';

it('10 000 mutations of context tables: the right bytes or a typed error', async () => {
  const seen: Outcomes = new Map();
  for (const options of [{ chunkSize: 4096 }, { chunkSize: 4096, batchSize: 8192 }]) {
    const { bootstrap, metas, blobs } = await madeRafs(options, [TAR]);
    const [[id, meta]] = [...metas] as [[string, Uint8Array]];
    const infos = Buffer.from(bootstrap).readUInt32LE(decodeRafsSuperblock(bootstrap.subarray(EXTENSION_OFFSET, EXTENSION_OFFSET + EXTENSION_SIZE)).blobTableOffset + 128);
    for (let run = 0; run < RUNS / 2; run += 1) {
      const mutated = mutate(meta, [[0, infos], [0, infos], [meta.length - CONTEXT_HEADER_SIZE, 64], [meta.length - 4, 4]]);
      // Without the blob's own table there is nothing to fall back to.
      await readAll(() => openRafs(new MemorySource(bootstrap), { ...placesOf(blobs, new Map([[id, mutated]])), tables: () => new MemorySource(mutated) }), CHUNKS, seen);
    }
  }
  assertBoth(seen);
});

it('10 000 mutations of zran contexts and their dictionaries: the right bytes or a typed error', async () => {
  const { table, packed, contents } = await madeZran();
  const digests = contents.map((content) => Buffer.from(digestOf(content).slice(7), 'hex'));
  const infos = table.header.contextsOffset;
  const contexts = table.header.contexts * 40;
  const seen: Outcomes = new Map();
  for (let run = 0; run < RUNS; run += 1) {
    const mutated = mutate(table.table, [[0, infos], [infos, contexts], [infos, contexts], [infos + contexts, table.table.length - infos - contexts]]);
    try {
      const found = readTable({ ...table, table: mutated }, packed.length);
      const outcomes = new Set<string>();
      for (const [i, chunk] of found.chunks.entries()) {
        // As the bootstrap's table has it.
        chunk.setDigest(digests[i] as Uint8Array, 0);
        try {
          assert.deepEqual(Buffer.from(await loadChunk(found, chunk, packed)), contents[i]);
        } catch (error) {
          outcomes.add(codeOf(error));
        }
      }
      count(seen, outcomes.size === 0 ? 'fine' : [...outcomes].sort().join(' '));
    } catch (error) {
      count(seen, codeOf(error));
    }
  }
  assertBoth(seen);
  assert.ok((seen.get('DIGEST_MISMATCH') ?? 0) > RUNS / 100, JSON.stringify([...seen]));
});
