import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import fc from 'fast-check';
import { concat } from '../../src/core/bytes.ts';
import { Spool } from '../../src/core/spool.ts';
import { collect } from '../../src/core/stream.ts';

const folders = (): string[] => readdirSync(tmpdir()).filter((name) => name.startsWith('lazypull-spool-'));

test('bytes come back from memory and file alike, in any order, and the file is gone at the end', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(60), fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { minLength: 1, maxLength: 12 }), fc.infiniteStream(fc.double({ min: 0, max: 0.999, noNaN: true })), async (inMemory, parts, random) => {
      const spool = new Spool(inMemory);
      const lent = Buffer.alloc(40);
      for (const part of parts) {
        lent.set(part);
        await spool.append(lent.subarray(0, part.length));
      }
      const all = concat(parts);
      assert.equal(spool.size, all.length);
      for (let i = 0; i < 5; i++) {
        const from = Math.floor((random.next().value as number) * all.length);
        const length = Math.floor((random.next().value as number) * (all.length - from + 1));
        assert.deepEqual(new Uint8Array(await collect(spool.read(from, length), 1000)), all.slice(from, from + length));
      }
      await spool.close();
    }),
    { numRuns: 100 },
  );
  assert.deepEqual(folders(), []);
});
