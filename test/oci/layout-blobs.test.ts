import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { digestOf } from '../../src/core/digest.ts';
import { collect } from '../../src/core/stream.ts';
import { BlobFolder, replaceFile, TempBlob } from '../../src/oci/layout-blobs.ts';
import { noise, rejectsWith } from './store-contract.ts';

const scratch = mkdtempSync(join(tmpdir(), 'lazypull-blobs-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

describe('blob files', () => {
  it('have the bytes in order, however they were cut', async () => {
    const blobs = new BlobFolder(join(scratch, 'order'));
    const whole = noise(3_500_000, 5);
    // Around the sizes at which writes are gathered or go straight through.
    const size = fc.oneof(fc.integer({ min: 0, max: 5000 }), fc.constantFrom(524_287, 524_288, 524_289, 1_048_575, 1_048_576, 1_048_577));
    await fc.assert(fc.asyncProperty(fc.array(size, { maxLength: 8 }), async (sizes) => {
      const temp = await blobs.create();
      let at = 0;
      for (const length of sizes) {
        const end = Math.min(at + length, whole.length);
        // Memory that is used again right after.
        const lent = Buffer.from(whole.subarray(at, end));
        await temp.write(lent);
        lent.fill(0);
        at = end;
      }
      const digest = await temp.commit();
      assert.equal(digest, digestOf(whole.subarray(0, at)));
      assert.equal(digestOf(await collect(blobs.stream(digest), at)), digest);
    }), { numRuns: 15 });
  });

  it('are not made of a file that could not be written', async () => {
    const folder = join(scratch, 'poor');
    mkdirSync(folder);
    const path = join(folder, 'temp');
    writeFileSync(path, '');
    const temp = new TempBlob(new BlobFolder(folder), path, await open(path, 'r'), 'sha256');
    await rejectsWith(temp.write(noise(1_000_000)), 'IO', /cannot write/);
    await rejectsWith(temp.write(noise(1_000_000)), 'IO');
    await rejectsWith(temp.commit(), 'IO', /only 0 of 2000000 bytes/);
    await temp.discard();
    assert.equal(existsSync(path), false);
  });

  it('are not made of a file that the disk did not take, though it says so only once', async () => {
    const folder = join(scratch, 'lost');
    mkdirSync(folder);
    const path = join(folder, 'temp');
    const handle = await open(path, 'wx+');
    let told = 0;
    handle.datasync = () => {
      told += 1;
      return Promise.reject(Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' }));
    };
    const blobs = new BlobFolder(folder);
    const temp = new TempBlob(blobs, path, handle, 'sha256');
    for (let i = 0; i < 65; i++) await temp.write(new Uint8Array(1 << 20));
    await rejectsWith(temp.commit(), 'IO', /cannot store blob.*EIO/);
    assert.equal(told, 1);
    await temp.discard();
    assert.deepEqual(readdirSync(folder), []);
  });

  it('can be discarded at any time', async () => {
    const folder = join(scratch, 'discard');
    const blobs = new BlobFolder(folder);
    const early = await blobs.create();
    await early.write(noise(10));
    await early.discard();
    await early.discard();
    const late = await blobs.create();
    await late.write(noise(10));
    const digest = await late.commit();
    await late.discard();
    assert.equal(await blobs.size(digest), 10);
    assert.deepEqual(readdirSync(join(folder, 'blobs')), ['sha256']);
  });

  it('are replaced as a whole', async () => {
    const path = join(scratch, 'file');
    await replaceFile(path, Buffer.from('old'));
    await Promise.all(['a', 'b', 'c'].map((text) => replaceFile(path, Buffer.from(text.repeat(1000)))));
    assert.match(readFileSync(path, 'utf8'), /^(a{1000}|b{1000}|c{1000})$/);
    await rejectsWith(replaceFile(join(scratch, 'none', 'file'), Buffer.from('x')), 'IO');
    assert.deepEqual(readdirSync(scratch).filter((name) => name.startsWith('.')), []);
  });
});
