import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { LazypullError } from '../../../src/core/errors.ts';
import { parseListLine } from '../../../src/layer/list-line.ts';
import { Recorder } from '../../../src/mount/host/recorder.ts';
import type { Miss } from '../../../src/mount/types.ts';

const PAGE = 4096;
/** Each file has 256 KiB of device 0; the fourth is no file. */
const FILES = ['usr/bin/app', 'etc/a file', 'lib/x\ny', undefined, 'lib/\udc80'];
const content = {
  locate: async (_: number, address: number) => {
    const path = FILES[Math.floor(address / (256 << 10))];
    return { layer: 'layer 1', path: path && `/${path}`, offset: address % (256 << 10) };
  },
};
const at = (file: number, offset: number, length = PAGE): Miss => ({ device: 0, address: (file << 18) + offset, length });

async function record(...misses: readonly Miss[]): Promise<Recorder> {
  const recorder = new Recorder();
  const answer = recorder.watch(async ({ length }) => new Uint8Array(length));
  for (const miss of misses) assert.equal((await answer(miss)).length, miss.length);
  return recorder;
}

test('files come in the order of their first read, parts ascending, neighbours as one', async () => {
  const recorder = await record(at(1, 0), at(0, 10 * PAGE), at(1, 0), at(0, 0), at(0, PAGE), at(0, 5 * PAGE, 2 * PAGE), at(0, 40 * PAGE));
  assert.deepEqual(await recorder.list(content), ['/etc/a file\t0-4095', '/usr/bin/app\t0-45055,163840-167935']);
  for (const line of await recorder.list(content)) assert.ok(parseListLine(line).parts, line);
});

test('what is no file, and names that a list cannot have, are left out', async () => {
  assert.deepEqual(await (await record(at(2, 0), at(3, 0), at(4, 0), at(1, PAGE))).list(content), ['/etc/a file\t4096-8191']);
});

test('the thread that serves the mount sees nothing as being here', () => {
  const present = new SharedArrayBuffer(8);
  new Uint8Array(present).fill(255);
  const [device] = new Recorder().devices([{ size: 64 * PAGE, fd: 5, present }]);
  assert.deepEqual([device?.size, device?.fd, [...new Uint8Array(device?.present ?? assert.fail())]], [64 * PAGE, 5, [0, 0, 0, 0, 0, 0, 0, 0]]);
  assert.equal(new Uint8Array(present)[0], 255);
});

test('reads that fail are recorded and fail; the list takes the place of an older one, and says so when it cannot', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'lazypull-recorded-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'list');
  const recorder = await record(at(0, 0));
  await recorder.write(path, 'app', content);
  await assert.rejects(recorder.watch(() => Promise.reject(new LazypullError('NETWORK', 'cut')))(at(1, 0)), { code: 'NETWORK' });
  await recorder.write(path, 'app', content);
  assert.deepEqual(readFileSync(path, 'utf8').split('\n'), ['# What was read of app, in this order: for prefetch lists', '/usr/bin/app\t0-4095', '/etc/a file\t0-4095', '']);
  await assert.rejects(recorder.write(join(folder, 'none', 'list'), 'app', content), { code: 'IO' });
});
