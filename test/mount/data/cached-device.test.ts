import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import type { LazypullError } from '../../../src/core/errors.ts';
import { CachedDevice, type DeviceHome } from '../../../src/mount/data/cached-device.ts';
import { PAGE_SIZE } from '../../../src/mount/data/pages.ts';
import { noise } from '../../support/noise.ts';
import { atEnd, scratch } from './images.ts';

async function make(t: TestContext, pages: number, home: Partial<DeviceHome> = {}, stores = true): Promise<{ readonly device: CachedDevice; readonly errors: LazypullError[] }> {
  const errors: LazypullError[] = [];
  const handle = await open(stores ? join(scratch(t), 'device') : '/dev/null', stores ? 'wx+' : 'r');
  if (stores) await handle.truncate(pages * PAGE_SIZE);
  const device = new CachedDevice('k', pages * PAGE_SIZE, { room: async () => true, wrote: () => undefined, failed: (error) => void errors.push(error), ...home }, handle, stores);
  atEnd(t, () => device.close());
  return { device, errors };
}

const present = (device: CachedDevice): number[] => {
  const bits = new Uint8Array(device.present);
  return Array.from({ length: device.size / PAGE_SIZE }, (_, page) => page).filter((page) => (((bits[page >> 3] as number) >> (page & 7)) & 1) === 1);
};

test('what is written is there, byte for byte, and nothing else', async (t) => {
  const pages = 12;
  const content = noise(pages * PAGE_SIZE);
  const part = fc.tuple(fc.nat(pages * PAGE_SIZE - 1), fc.integer({ min: 1, max: 9000 }));
  await fc.assert(fc.asyncProperty(fc.array(part, { maxLength: 12 }), fc.array(part, { maxLength: 12 }), async (writes, reads) => {
    const { device } = await make(t, pages);
    const known = new Uint8Array(content.length);
    for (const [address, size] of writes) {
      const end = Math.min(content.length, address + size);
      assert.ok(await device.write([{ address, bytes: content.subarray(address, end), cover: end - address }]));
      known.fill(1, address, end);
    }
    for (const page of present(device)) assert.ok(!known.subarray(page * PAGE_SIZE, (page + 1) * PAGE_SIZE).includes(0), 'a page is shown only as a whole');
    for (const [address, size] of reads) {
      const end = Math.min(content.length, address + size);
      const missing = [...device.missing(address, end - address)];
      const covered = known.slice(address, end);
      for (const [from, to] of missing) {
        assert.ok(!covered.subarray(from - address, to - address).includes(1), 'what is missing is not there');
        covered.fill(1, from - address, to - address);
      }
      assert.ok(!covered.includes(0), 'what is not there is missing');
      assert.equal(device.has(address, end - address), missing.length === 0);
      const bytes = await device.read(address, end - address);
      assert.equal(bytes !== undefined, missing.length === 0);
      if (bytes) assert.ok(Buffer.from(bytes).equals(Buffer.from(content.subarray(address, end))));
    }
    assert.equal(device.localBytes / PAGE_SIZE, present(device).length);
  }), { numRuns: 60 });
});

test('many parts take few calls, with zeros between them', async (t) => {
  const { device } = await make(t, 40);
  const parts = Array.from({ length: 30 }, (_, i) => ({ address: i * PAGE_SIZE, bytes: noise(100 + i * 90, i + 1), cover: PAGE_SIZE }));
  assert.ok(await device.write([...parts, { address: 35 * PAGE_SIZE, bytes: new Uint8Array(0), cover: PAGE_SIZE }]));
  for (const { address, bytes } of parts) {
    const page = await device.read(address, PAGE_SIZE);
    assert.ok(page && Buffer.from(page).equals(Buffer.concat([bytes, new Uint8Array(PAGE_SIZE - bytes.length)])));
  }
  assert.deepEqual(await device.read(35 * PAGE_SIZE, 10).then((bytes) => bytes && [...bytes]), Array.from({ length: 10 }, () => 0));
});

test('pages that are held are not there, are not written, and come back later', async (t) => {
  const { device } = await make(t, 8);
  const bytes = noise(4 * PAGE_SIZE);
  await device.write([{ address: 0, bytes, cover: bytes.length }]);
  assert.deepEqual(present(device), [0, 1, 2, 3]);
  const release = await device.hold(1, 3);
  assert.deepEqual(present(device), [0, 3]);
  assert.equal(await device.read(0, bytes.length), undefined);
  assert.equal(await device.write([{ address: PAGE_SIZE, bytes: bytes.subarray(0, 5), cover: PAGE_SIZE }]), false);
  assert.equal(await device.write([{ address: 5 * PAGE_SIZE, bytes: bytes.subarray(0, 5), cover: PAGE_SIZE }]), true);
  release();
  assert.equal(await device.write([{ address: PAGE_SIZE, bytes: bytes.subarray(PAGE_SIZE, 3 * PAGE_SIZE), cover: 2 * PAGE_SIZE }]), true);
  assert.ok(Buffer.from((await device.read(0, bytes.length)) as Uint8Array).equals(Buffer.from(bytes)));
  // A thread that was stopped in the middle of reading zeros must not find the page there when it looks again.
  assert.deepEqual(present(device), [0, 3]);
});

test('a hold waits for writes that are under way, and a read that it overtakes gives nothing', async (t) => {
  const { device } = await make(t, 4);
  const bytes = noise(4 * PAGE_SIZE);
  const writing = device.write([{ address: 0, bytes, cover: bytes.length }]);
  await turn();
  (await device.hold(0, 4))();
  await writing;
  assert.deepEqual([present(device), device.localBytes], [[], 0]);
  await device.write([{ address: 0, bytes, cover: bytes.length }]);
  const reading = device.read(0, bytes.length);
  const release = await device.hold(0, 1);
  assert.equal(await reading, undefined);
  release();
});

test('a hidden page is asked for once more', async (t) => {
  const { device } = await make(t, 4);
  const bytes = noise(4 * PAGE_SIZE);
  device.hide(2);
  await device.write([{ address: 0, bytes, cover: bytes.length }]);
  assert.deepEqual(present(device), [0, 1, 3]);
  assert.ok(device.has(0, bytes.length));
  device.show(2 * PAGE_SIZE, 10);
  assert.deepEqual(present(device), [0, 1, 2, 3]);
  device.hide(0);
  assert.deepEqual(present(device), [1, 2, 3]);
});

test('only what a sync has covered is durable; what is evicted meanwhile is not', async (t) => {
  const { device } = await make(t, 8);
  const bytes = noise(4 * PAGE_SIZE);
  await device.write([{ address: 0, bytes, cover: bytes.length }, { address: 5 * PAGE_SIZE + 7, bytes: bytes.subarray(0, 50), cover: 50 }]);
  assert.deepEqual(device.durable().runs, []);
  assert.ok(device.dirty);
  await device.sync();
  assert.deepEqual(device.durable(), { size: 8 * PAGE_SIZE, sealed: false, whole: false, runs: [[0, 4]], parts: [{ page: 5, from: 7, to: 57 }] });
  assert.ok(!device.dirty);
  await device.write([{ address: 6 * PAGE_SIZE, bytes: bytes.subarray(0, PAGE_SIZE), cover: PAGE_SIZE }]);
  const syncing = device.sync();
  (await device.hold(0, 1))();
  (await device.hold(6, 7))();
  await device.write([{ address: 0, bytes: bytes.subarray(0, PAGE_SIZE), cover: PAGE_SIZE }]);
  await syncing;
  assert.deepEqual(device.durable().runs, [[1, 4]]);
  assert.ok(device.dirty, 'what was fetched again is still to be synced');
  await device.sync();
  assert.deepEqual(device.durable().runs, [[0, 4]]);
});

test('when the disk fails at the sync, what was not durable is gone', async (t) => {
  const { device } = await make(t, 8);
  const bytes = noise(PAGE_SIZE);
  await device.write([{ address: 0, bytes, cover: PAGE_SIZE }]);
  await device.sync();
  await device.write([{ address: PAGE_SIZE, bytes, cover: PAGE_SIZE }]);
  // The descriptor goes away under it, which no disk does, but the effect is the same.
  await device.close();
  await assert.rejects(device.sync());
  assert.deepEqual(device.durable().runs, [[0, 1]]);
  assert.ok(!device.has(PAGE_SIZE, 1));
});

test('without room, without a file and on errors nothing is kept, and nobody is harmed', async (t) => {
  const none = await make(t, 4, { room: async () => false });
  assert.equal(await none.device.write([{ address: 0, bytes: noise(10), cover: 10 }]), false);
  const nowhere = await make(t, 4, {}, false);
  assert.equal(await nowhere.device.write([{ address: 0, bytes: noise(10), cover: 10 }]), false);
  assert.equal(await nowhere.device.read(0, 10), undefined);
  const closed = await make(t, 4);
  await closed.device.close();
  assert.equal(await closed.device.write([{ address: 0, bytes: noise(10), cover: 10 }]), false);
  assert.equal(closed.errors[0]?.code, 'IO');
  assert.ok(!closed.device.has(0, 1));
});

test('regions know when they were used, also by other threads', async (t) => {
  const { device } = await make(t, 3 * 1024);
  for (const region of [0, 2]) await device.write([{ address: region * (4 << 20), bytes: noise(10), cover: PAGE_SIZE }]);
  const first = [...device.regions()];
  assert.deepEqual(first.map(({ from, to, bytes }) => [from, to, bytes]), [[0, 1024, PAGE_SIZE], [2048, 3072, PAGE_SIZE]]);
  await new Promise((resolve) => void setTimeout(resolve, 5));
  new Uint8Array(device.touched)[0] = 1;
  const second = [...device.regions()];
  assert.ok((second[0]?.used ?? 0) > (first[0]?.used ?? 0));
  assert.equal(second[1]?.used, first[1]?.used);
});
