import assert from 'node:assert/strict';
import { it } from 'node:test';
import { digestOf } from '../../../src/core/digest.ts';
import type { StoredLayer } from '../../../src/core/format.ts';
import { MemorySource } from '../../../src/core/source.ts';
import { BLOB_MEDIA_TYPE } from '../../../formats/nydus/layout.ts';
import { openNydus } from '../../../formats/nydus/read.ts';
import { openV5 } from '../../../formats/nydus/v5.ts';
import { noise } from '../../support/noise.ts';
import { BLOB_ID, madeV5 } from './made-v5.ts';
import type { Outcomes } from '../../support/mutations.ts';
import { assertBoth, CHUNKS, mutate, readAll, RUNS, TAR } from './mutations.ts';
import { madeRafs, placesOf } from './samples.ts';

it('10 000 mutations of the members and the TOC of a blob: the right bytes or a typed error', async () => {
  const { blobs } = await madeRafs({ chunkSize: 4096 }, [TAR]);
  const [bytes] = [...blobs.values()] as [Uint8Array];
  const tail = 512 + 5 * 128;
  const seen: Outcomes = new Map();
  for (let run = 0; run < RUNS; run += 1) {
    const mutated = mutate(bytes, [[bytes.length - tail, tail], [bytes.length - tail, tail], [bytes.length - 512, 512], [bytes.length - 6000, 6000]]);
    const layer: StoredLayer = { descriptor: { mediaType: BLOB_MEDIA_TYPE, digest: digestOf(), size: mutated.length }, source: new MemorySource(mutated) };
    await readAll(async () => ({ check: () => undefined, ...(await openNydus(layer)) }), CHUNKS, seen);
  }
  assert.ok([...seen.values()].reduce((sum, times) => sum + times, 0) === RUNS && (seen.get('fine') ?? 0) > 0 && seen.size > 2, JSON.stringify([...seen]));
});

const CONTENTS = [noise(4096), noise(9), noise(30)];

it('10 000 mutations of a v5 bootstrap: the right bytes or a typed error', async () => {
  const child = { name: 'file', mode: 0o100644, content: [CONTENTS[0] as Uint8Array, null, CONTENTS[1] as Uint8Array], xattrs: { 'user.a': 'b' } };
  const { bootstrap, blob } = madeV5({ name: '/', mode: 0o40755, children: [{ name: 'd', mode: 0o40755, children: [child, { name: 's', mode: 0o120777, target: 'file' }] }, { name: 'e', mode: 0o100600, content: [CONTENTS[2] as Uint8Array] }] }, [2]);
  const seen: Outcomes = new Map();
  for (let run = 0; run < RUNS; run += 1) {
    const mutated = mutate(bootstrap, [[0, 80], [8192, bootstrap.length - 8192], [8192, bootstrap.length - 8192]]);
    await readAll(async () => openV5(mutated, placesOf(new Map([[BLOB_ID, blob]]))), CONTENTS, seen, true);
  }
  assertBoth(seen);
});
