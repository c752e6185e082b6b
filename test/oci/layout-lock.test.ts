import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openLayout } from '../../src/oci/layout.ts';
import { withLock } from '../../src/oci/layout-lock.ts';
import { built } from '../support/root.ts';
import { rejectsWith } from './store-contract.ts';

const scratch = mkdtempSync(join(tmpdir(), 'lazypull-lock-'));
after(() => rmSync(scratch, { recursive: true, force: true }));
let count = 0;
const fresh = (): string => join(scratch, `lock-${(count += 1)}`);

/** A process number that is not in use any more. */
async function deadPid(): Promise<number> {
  const child = spawn(process.execPath, ['-e', '']);
  await new Promise((resolve) => child.once('exit', resolve));
  assert.ok(child.pid);
  return child.pid;
}

describe('the lock of a layout', () => {
  it('lets one in at a time, and leaves no file', async () => {
    const path = fresh();
    let inside = 0;
    await Promise.all(Array.from({ length: 20 }, () => withLock(path, async () => {
      assert.equal((inside += 1), 1);
      assert.ok(existsSync(path));
      await sleep(1);
      inside -= 1;
    })));
    assert.deepEqual(readdirSync(scratch), []);
  });

  it('is released when the work fails', async () => {
    const path = fresh();
    await assert.rejects(withLock(path, () => Promise.reject(new Error('no'))), /no/);
    assert.equal(existsSync(path), false);
    assert.equal(await withLock(path, () => Promise.resolve('yes')), 'yes');
  });

  it('breaks the lock of a dead process, but not of a living one', async () => {
    const path = fresh();
    writeFileSync(path, `${await deadPid()} ${hostname()} - 1-2-3\n`);
    assert.equal(await withLock(path, () => Promise.resolve('mine')), 'mine');
    writeFileSync(path, `${process.ppid} ${hostname()} - 1-2-3\n`);
    await rejectsWith(withLock(path, () => Promise.resolve('never'), { wait: 20 }), 'IO', new RegExp(`pid ${process.ppid} .*remove the file`));
    assert.ok(existsSync(path));
    rmSync(path);
  });

  it('sees through a process number that was given out again', { skip: !existsSync('/proc/self/stat') }, async () => {
    const path = fresh();
    writeFileSync(path, `${process.ppid} ${hostname()} 1 1-2-3\n`);
    assert.equal(await withLock(path, () => Promise.resolve('mine')), 'mine');
  });

  it('gives up on a holder on another host, or without a name, only when it is old', async () => {
    for (const text of ['1 elsewhere.invalid - 1-2-3\n', '']) {
      const path = fresh();
      writeFileSync(path, text);
      await rejectsWith(withLock(path, () => Promise.resolve('never'), { wait: 20 }), 'IO');
      const old = new Date(Date.now() - 600_000);
      utimesSync(path, old, old);
      assert.equal(await withLock(path, () => Promise.resolve('mine')), 'mine');
    }
  });

  it('is not taken from a new holder by those who judged the old one', async () => {
    const path = fresh();
    writeFileSync(path, `${await deadPid()} ${hostname()} - 1-2-3\n`);
    let inside = 0;
    // Other paths of the same file go past the queue within the process, as other processes would.
    const ways = Array.from({ length: 8 }, (_, i) => join(scratch, './'.repeat(i), `lock-${count}`).replace(scratch, `${scratch}${'/.'.repeat(i)}`));
    await Promise.all(ways.map((way) => withLock(way, async () => {
      assert.equal((inside += 1), 1);
      await sleep(3);
      inside -= 1;
    })));
    assert.deepEqual(readdirSync(scratch), []);
  });

  it('stops waiting when it is told to', async () => {
    const path = fresh();
    writeFileSync(path, `${process.ppid} ${hostname()} - 1-2-3\n`);
    const controller = new AbortController();
    const waiting = withLock(path, () => Promise.resolve('never'), { signal: controller.signal });
    setTimeout(() => controller.abort(), 20);
    await rejectsWith(waiting, 'CANCELLED');
    rmSync(path);
  });

  it('keeps every tag of several processes', async () => {
    const folder = fresh();
    const script = `
      const { openLayout } = await import(process.argv[1]);
      const store = await openLayout(process.argv[2], { create: true });
      for (let i = 0; i < 10; i++) {
        const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, config: { digest: 'sha256:' + '0'.repeat(64) }, layers: [], who: process.argv[3], i }));
        const { createHash } = await import('node:crypto');
        const descriptor = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: 'sha256:' + createHash('sha256').update(bytes).digest('hex'), size: bytes.length };
        await store.push(descriptor, async function* () { yield bytes; });
        await store.tag(descriptor, process.argv[3] + '-' + i);
      }`;
    const codes = await Promise.all(['a', 'b', 'c'].map((who) => new Promise((resolve) => {
      const args = ['--input-type=module', '-e', script, join(built, 'src/oci/layout.js'), folder, who];
      spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit'] }).once('exit', resolve);
    })));
    assert.deepEqual(codes, [0, 0, 0]);
    const tags = await (await openLayout(folder)).tags();
    assert.equal(tags.length, 30);
    assert.deepEqual(readdirSync(folder).sort(), ['blobs', 'index.json', 'oci-layout']);
    rmSync(folder, { recursive: true });
  });
});
