import assert from 'node:assert/strict';
import { execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import { LazypullError } from '../../../src/core/errors.ts';
import { MountCache } from '../../../src/mount/data/cache.ts';
import type { CachedDevice } from '../../../src/mount/data/cached-device.ts';
import { chooseVictims } from '../../../src/mount/data/evict.ts';
import { PAGE_SIZE } from '../../../src/mount/data/pages.ts';
import { noise } from '../../support/noise.ts';
import type { Answer, Order } from './cache-process.ts';
import type { ReaderOrder, ReaderReport } from './evict-reader.ts';
import { atEnd, openCache, scratch } from './images.ts';

const MIB = 1 << 20;
const keyOf = (n: number): string => n.toString(16).padStart(64, '0');
const isRoot = process.getuid?.() === 0;

async function fillRegions(device: CachedDevice, from: number, to: number, seed = 1): Promise<boolean[]> {
  const kept: boolean[] = [];
  for (let region = from; region < to; region += 1) kept.push(await device.write([{ address: region * 4 * MIB, bytes: noise(4 * MIB, seed + region), cover: 4 * MIB }]));
  return kept;
}

const diskBytes = (dir: string): number => ['devices', 'trees'].reduce((sum, part) => sum + readdirSync(join(dir, part)).reduce((all, name) => all + statSync(join(dir, part, name)).blocks * 512, 0), 0);

test('a cache that is opened again has what the last one had, and nothing that is not on disk', async (t) => {
  const dir = scratch(t);
  const first = await MountCache.open(dir);
  const device = await first.device(keyOf(1), 10 * PAGE_SIZE);
  const bytes = noise(3 * PAGE_SIZE);
  await device.write([{ address: PAGE_SIZE, bytes, cover: bytes.length }, { address: 8 * PAGE_SIZE + 100, bytes: bytes.subarray(0, 50), cover: 50 }]);
  await first.close();
  const { cache } = await openCache(t, dir);
  const again = await cache.device(keyOf(1), 10 * PAGE_SIZE);
  assert.ok(Buffer.from((await again.read(PAGE_SIZE, bytes.length)) as Uint8Array).equals(Buffer.from(bytes)));
  assert.ok(again.has(8 * PAGE_SIZE + 100, 50) && !again.has(8 * PAGE_SIZE + 100, 51) && !again.has(0, 1));
  assert.equal(new Uint8Array(again.present)[0], 0b1110);
});

test('lost or damaged lists, lost files and files of another size: nothing of them is taken for content', async (t) => {
  const dir = scratch(t);
  const files = [
    (key: string): void => unlinkSync(join(dir, 'devices', `${key}.pages`)),
    (key: string): void => writeFileSync(join(dir, 'devices', `${key}.pages`), 'not a list'),
    (key: string): void => writeFileSync(join(dir, 'devices', `${key}.pages`), readFileSync(join(dir, 'devices', `${key}.pages`)).subarray(0, 40)),
    (key: string): void => unlinkSync(join(dir, 'devices', key)),
    (key: string): void => truncateSync(join(dir, 'devices', key), PAGE_SIZE),
  ];
  for (const [n, damage] of files.entries()) {
    const before = await MountCache.open(dir);
    await (await before.device(keyOf(n), 4 * PAGE_SIZE)).write([{ address: 0, bytes: noise(PAGE_SIZE), cover: PAGE_SIZE }]);
    await before.close();
    damage(keyOf(n));
    const after = await MountCache.open(dir);
    const device = await after.device(keyOf(n), 4 * PAGE_SIZE);
    assert.equal(device.localBytes, 0, `damage ${n}`);
    assert.ok(await device.write([{ address: PAGE_SIZE, bytes: noise(PAGE_SIZE), cover: PAGE_SIZE }]), `damage ${n}`);
    await after.close();
    const last = await MountCache.open(dir);
    assert.equal((await last.device(keyOf(n), 4 * PAGE_SIZE)).localBytes, PAGE_SIZE, `damage ${n}`);
    await last.close();
  }
});

test('a device is opened once however often it is asked for, and stays until the last one lets go', async (t) => {
  const { cache } = await openCache(t);
  const [a, b] = await Promise.all([cache.device(keyOf(1), PAGE_SIZE), cache.device(keyOf(1), PAGE_SIZE)]);
  assert.equal(a, b);
  await a.write([{ address: 0, bytes: noise(10), cover: PAGE_SIZE }]);
  await cache.release([{ key: keyOf(1) }]);
  assert.ok(await b.read(0, 10));
  assert.deepEqual((await cache.list()).map(({ users, localBytes }) => [users, localBytes]), [[1, PAGE_SIZE]]);
  await cache.release([{ key: keyOf(1) }]);
  assert.deepEqual((await cache.list()).map(({ users }) => users), [0]);
  await assert.rejects(cache.device('../../etc/passwd', PAGE_SIZE), (error) => error instanceof LazypullError && error.code === 'INTERNAL');
});

test('what nobody uses goes first, the least recently used before the others', () => {
  const item = (name: string, bytes: number, used: number): { part: 'devices'; name: string; bytes: number; used: number } => ({ part: 'devices', name, bytes, used });
  const region = (from: number, bytes: number, used: number): never => ({ from, to: from + 1, bytes, used, device: undefined }) as never;
  const chosen = (excess: number): unknown => {
    const { items, regions } = chooseVictims(excess, [item('new', 5, 30), item('old', 5, 10), item('empty', 0, 1)], [region(7, 3, 9), region(3, 3, 5), region(5, 0, 1)]);
    return [items.map(({ name }) => name), regions.map(({ from }) => from)];
  };
  assert.deepEqual(chosen(0), [[], []]);
  assert.deepEqual(chosen(5), [['old'], []]);
  assert.deepEqual(chosen(6), [['old', 'new'], []]);
  assert.deepEqual(chosen(11), [['old', 'new'], [3]]);
  assert.deepEqual(chosen(100), [['old', 'new'], [3, 7]]);
});

test('the bound holds: things that nobody uses go, then parts of what is mounted, and evicted bytes are never handed out', async (t) => {
  const dir = scratch(t);
  const unused = await MountCache.open(dir);
  await fillRegions(await unused.device(keyOf(9), 16 * MIB), 0, 3);
  await unused.close();
  const { cache, problems } = await openCache(t, dir, { maxBytes: 30 * MIB });
  const device = await cache.device(keyOf(1), 64 * MIB);
  assert.deepEqual(await fillRegions(device, 0, 16), Array.from({ length: 16 }, () => true));
  assert.ok(!existsSync(join(dir, 'devices', keyOf(9))), 'what nobody used went first');
  assert.ok(diskBytes(dir) <= 30 * MIB, `${diskBytes(dir)} bytes on disk`);
  assert.ok(device.localBytes >= 16 * MIB, 'no more than necessary went');
  let gone = 0;
  for (let region = 0; region < 16; region += 1) {
    const bytes = await device.read(region * 4 * MIB, 4 * MIB);
    if (bytes) assert.ok(Buffer.from(bytes).equals(Buffer.from(noise(4 * MIB, 1 + region))), `region ${region}`);
    else gone += 1;
    if (region === 15) assert.ok(bytes, 'the newest is still there');
  }
  assert.ok(gone >= 8);
  assert.deepEqual(problems, []);
  await cache.close();
  const after = await openCache(t, dir);
  const again = await after.cache.device(keyOf(1), 64 * MIB);
  for (let region = 0; region < 16; region += 1) {
    const bytes = await again.read(region * 4 * MIB, 4 * MIB);
    if (bytes) assert.ok(Buffer.from(bytes).equals(Buffer.from(noise(4 * MIB, 1 + region))), `region ${region} after a restart`);
  }
});

test('a cache too small for a single region goes on without keeping anything', async (t) => {
  const { cache, problems } = await openCache(t, undefined, { maxBytes: MIB });
  const device = await cache.device(keyOf(1), 8 * MIB);
  assert.deepEqual(await fillRegions(device, 0, 2), [false, false]);
  assert.equal(await device.read(0, 10), undefined);
  assert.deepEqual(problems, []);
  await assert.rejects(MountCache.open(cache.dir, { maxBytes: -1 }), (error) => error instanceof LazypullError && error.code === 'USAGE');
});

test('sealed files are not punched, by nobody, and only removed as wholes', async (t) => {
  const dir = scratch(t);
  const { cache } = await openCache(t, dir, { maxBytes: 12 * MIB });
  const device = await cache.device(keyOf(1), 8 * MIB);
  await fillRegions(device, 0, 2);
  await cache.seal([device]);
  const second = await openCache(t, dir, { maxBytes: 12 * MIB });
  const same = await second.cache.device(keyOf(1), 8 * MIB);
  assert.ok(same.sealed);
  const other = await second.cache.device(keyOf(2), 16 * MIB);
  await fillRegions(other, 0, 4, 50);
  assert.equal(device.localBytes, 8 * MIB);
  assert.equal(statSync(cache.pathOf(device)).blocks * 512, 8 * MIB);
  assert.ok(Buffer.from((await same.read(0, 4 * MIB)) as Uint8Array).equals(Buffer.from(noise(4 * MIB, 1))));
  const report = await second.cache.remove();
  assert.ok(report.kept >= 1 && existsSync(cache.pathOf(device)), 'it is in use');
});

test('list, remove and gc: what is used stays, rests go', async (t) => {
  const dir = scratch(t);
  const { cache } = await openCache(t, dir);
  const used = await cache.device(keyOf(1), PAGE_SIZE);
  await used.write([{ address: 0, bytes: noise(10), cover: PAGE_SIZE }]);
  const idle = await cache.device(keyOf(2), 2 * PAGE_SIZE);
  await idle.write([{ address: 0, bytes: noise(10), cover: PAGE_SIZE }]);
  await cache.device(keyOf(3), PAGE_SIZE);
  await cache.release([{ key: keyOf(2) }, { key: keyOf(3) }]);
  await cache.flush();
  writeFileSync(join(dir, 'devices', `${keyOf(4)}.pages`), 'of no device');
  writeFileSync(join(dir, 'devices', 'not a key'), 'x');
  writeFileSync(join(dir, 'trees', 'new.tmp'), 'being written');
  writeFileSync(join(dir, 'plans', 'torn.json'), '{');
  writeFileSync(join(dir, 'users', '999999999-x.json'), '{"pid":999999999}');
  assert.deepEqual((await cache.list()).map(({ name, users, size, localBytes }) => [name, users, size, localBytes]).sort(), [[keyOf(1), 1, PAGE_SIZE, PAGE_SIZE], [keyOf(2), 0, 2 * PAGE_SIZE, PAGE_SIZE], [keyOf(3), 0, 0, 0]]);
  const { removed, kept } = await cache.gc();
  assert.deepEqual([removed, kept], [4, 0], 'an empty device, two strays, a torn plan');
  assert.deepEqual(readdirSync(join(dir, 'devices')).sort(), [keyOf(1), `${keyOf(1)}.pages`, keyOf(2), `${keyOf(2)}.pages`]);
  assert.ok(existsSync(join(dir, 'trees', 'new.tmp')), 'it may be finished yet');
  assert.ok(!readdirSync(join(dir, 'users')).some((name) => name.startsWith('999999999')));
  assert.deepEqual({ ...(await cache.remove(({ name }) => name !== 'x')), freedBytes: 0 }, { removed: 1, freedBytes: 0, kept: 1 });
  assert.deepEqual(readdirSync(join(dir, 'devices')).sort(), [keyOf(1), `${keyOf(1)}.pages`]);
  assert.ok(await used.read(0, 10));
});

test('a folder that others could write to is refused', async (t) => {
  const dir = scratch(t);
  chmodSync(dir, 0o777);
  const refused = (error: unknown): boolean => error instanceof LazypullError && error.code === 'UNAUTHORIZED';
  await assert.rejects(MountCache.open(dir), refused);
  chmodSync(dir, 0o700);
  await (await MountCache.open(dir)).close();
  assert.equal(statSync(join(dir, 'devices')).mode & 0o777, 0o700);
  if (!isRoot) return;
  chownSync(dir, 12_345, 0);
  await assert.rejects(MountCache.open(dir), refused);
});

test('a cache folder that is a file is an error', async (t) => {
  const dir = join(scratch(t), 'file');
  writeFileSync(dir, '');
  await assert.rejects(MountCache.open(dir), (error) => error instanceof LazypullError && error.code === 'IO');
});

/** A file system of its own, of so many bytes; undefined when this user may not mount. */
function smallDisk(t: TestContext, size: number): string | undefined {
  const dir = mkdtempSync(join(tmpdir(), 'lazypull-disk-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=700`, 'tmpfs', dir], { stdio: 'ignore' });
  } catch {
    rmSync(dir, { recursive: true });
    return undefined;
  }
  atEnd(t, () => {
    execFileSync('umount', ['-l', dir]);
    rmSync(dir, { recursive: true });
  });
  return dir;
}

test('a full disk: what fits is kept, reads go on, it is said once, and it works again when there is room', async (t) => {
  const dir = smallDisk(t, 10 * MIB);
  if (dir === undefined) return t.skip('mounting a small file system takes root');
  const { cache, problems } = await openCache(t, dir);
  const device = await cache.device(keyOf(1), 64 * MIB);
  const kept = await fillRegions(device, 0, 6);
  assert.deepEqual(kept.slice(0, 3), [true, true, false]);
  assert.equal(problems.length, 1);
  assert.match(problems[0]?.message ?? '', /ENOSPC/);
  assert.ok(Buffer.from((await device.read(4 * MIB, 4 * MIB)) as Uint8Array).equals(Buffer.from(noise(4 * MIB, 2))));
  assert.equal(await device.read(8 * MIB, 10), undefined);
});

test('a full disk is relieved by what nobody uses', async (t) => {
  const dir = smallDisk(t, 10 * MIB);
  if (dir === undefined) return t.skip('mounting a small file system takes root');
  const before = await MountCache.open(dir);
  await fillRegions(await before.device(keyOf(9), 8 * MIB), 0, 2);
  await before.close();
  const { cache } = await openCache(t, dir);
  const device = await cache.device(keyOf(1), 8 * MIB);
  assert.deepEqual(await fillRegions(device, 0, 1), [false]);
  for (let tries = 0; existsSync(join(dir, 'devices', keyOf(9))) && tries < 200; tries += 1) await new Promise((resolve) => void setTimeout(resolve, 10));
  assert.ok(!existsSync(join(dir, 'devices', keyOf(9))));
});

test('a disk that cannot be written: everything works, nothing is kept', async (t) => {
  const dir = smallDisk(t, MIB);
  if (dir === undefined) return t.skip('mounting a small file system takes root');
  execFileSync('mount', ['-o', 'remount,ro', dir]);
  const { cache, problems } = await openCache(t, dir);
  const device = await cache.device(keyOf(1), 8 * MIB);
  assert.deepEqual([cache.keeps, problems.length], [false, 1]);
  assert.deepEqual(await fillRegions(device, 0, 1), [false]);
  assert.equal(await device.read(0, 10), undefined);
  assert.equal(await cache.putTree('x', noise(10)), undefined);
  assert.equal(await cache.openTree('x', 10, ''), undefined);
  assert.equal(await cache.hasRoomFor(1), false);
});

/** Another process with the same cache. */
async function neighbour(t: TestContext): Promise<(order: Order) => Promise<unknown>> {
  const child = fork(new URL('./cache-process.js', import.meta.url), { stdio: 'inherit' });
  atEnd(t, () => child.kill('SIGKILL'));
  return async (order) => {
    child.send(order);
    const [answer] = (await once(child, 'message')) as [Answer];
    if ('error' in answer) throw new Error(answer.error);
    return answer.ok;
  };
}

test('what one process has fetched another finds; what it evicts the other does not hand out', async (t) => {
  const dir = scratch(t);
  const other = await neighbour(t);
  const { cache } = await openCache(t, dir, { maxBytes: 30 * MIB });
  const device = await cache.device(keyOf(1), 64 * MIB);
  assert.equal(await other({ do: 'open', dir, key: keyOf(1), size: 64 * MIB }), 0);
  assert.deepEqual(await fillRegions(device, 0, 5), [true, true, true, true, true]);
  await cache.flush();
  assert.equal(await other({ do: 'refresh' }), 20 * MIB);
  const [first, last] = [noise(4 * MIB, 1)[0], noise(4 * MIB, 1).at(-1)];
  assert.deepEqual(await other({ do: 'read', address: 0, length: 4 * MIB }), [first, last]);
  await fillRegions(device, 5, 9);
  assert.equal(await device.read(0, 10), undefined, 'the oldest is gone here');
  assert.equal(await other({ do: 'read', address: 0, length: 4 * MIB }), null, 'and there');
  assert.equal(await other({ do: 'write', address: 0, length: 4 * MIB, fill: 7 }), true);
  await other({ do: 'flush' });
  await cache.refresh(device);
  assert.deepEqual((await device.read(0, 4 * MIB))?.subarray(0, 3), Buffer.from([7, 7, 7]));
  await other({ do: 'close' });
});

test('what another process uses is not removed; once it is dead it is', async (t) => {
  const dir = scratch(t);
  const other = await neighbour(t);
  await other({ do: 'open', dir, key: keyOf(1), size: 8 * MIB });
  await other({ do: 'write', address: 0, length: 100, fill: 1 });
  await other({ do: 'flush' });
  const { cache } = await openCache(t, dir);
  assert.deepEqual((await cache.list()).map(({ users }) => users), [1]);
  assert.deepEqual({ ...(await cache.remove()), freedBytes: 0 }, { removed: 0, freedBytes: 0, kept: 1 });
  process.kill(Number(readdirSync(join(dir, 'users')).map((name) => name.split('-')[0]).find((pid) => pid !== String(process.pid))), 'SIGKILL');
  for (let tries = 0; (await cache.list())[0]?.users !== 0; tries += 1) {
    assert.ok(tries < 100);
    await new Promise((resolve) => void setTimeout(resolve, 20));
  }
  assert.deepEqual({ ...(await cache.remove()), freedBytes: 0 }, { removed: 1, freedBytes: 0, kept: 0 });
  assert.deepEqual(readdirSync(join(dir, 'users')).filter((name) => !name.startsWith(`${process.pid}-`)), []);
});

test('a process that does not answer keeps what it has', async (t) => {
  const dir = scratch(t);
  const other = await neighbour(t);
  const { cache } = await openCache(t, dir, { maxBytes: 10 * MIB });
  const device = await cache.device(keyOf(1), 64 * MIB);
  await other({ do: 'open', dir, key: keyOf(1), size: 64 * MIB });
  await fillRegions(device, 0, 2);
  await cache.flush();
  await other({ do: 'refresh' });
  const pid = Number(readdirSync(join(dir, 'users')).map((name) => name.split('-')[0]).find((one) => one !== String(process.pid)));
  process.kill(pid, 'SIGSTOP');
  atEnd(t, () => {
    try {
      process.kill(pid, 'SIGCONT');
    } catch {
      // It is gone already.
    }
  });
  assert.deepEqual(await fillRegions(device, 2, 3), [false], 'there is no room without it');
  assert.ok(device.has(0, 8 * MIB));
  process.kill(pid, 'SIGCONT');
  // It hears of the request now, and then that nobody wants it any more.
  await new Promise((resolve) => void setTimeout(resolve, 100));
  await other({ do: 'refresh' });
  assert.notEqual(await other({ do: 'read', address: 0, length: 4 * MIB }), null);
});

test('threads that read while their pages are evicted and fetched again never get a wrong byte', async (t) => {
  const { cache } = await openCache(t, undefined, { maxBytes: 18 * MIB });
  const pages = 32 * 256;
  const device = await cache.device(keyOf(1), pages * PAGE_SIZE);
  const order: ReaderOrder = { fd: device.fd, present: device.present, touched: device.touched, pages, stop: new SharedArrayBuffer(4) };
  const threads = [0, 1].map(() => new Worker(new URL('./evict-reader.js', import.meta.url), { workerData: order }));
  const reports = threads.map(async (thread) => ((await once(thread, 'message')) as [ReaderReport])[0]);
  const content = (page: number): Uint8Array => new Uint8Array(new Uint32Array((MIB / PAGE_SIZE) * (PAGE_SIZE / 4)).map((_, i) => page + Math.floor(i / (PAGE_SIZE / 4))).buffer);
  let evicted = 0;
  for (let round = 0; round < 160; round += 1) {
    const page = ((round * 11) % 32) * 256;
    const before = device.localBytes;
    assert.ok(await device.write([{ address: page * PAGE_SIZE, bytes: content(page), cover: MIB }]));
    if (device.localBytes < before) evicted += 1;
    if (round % 7 === 0) await cache.flush();
  }
  Atomics.store(new Int32Array(order.stop), 0, 1);
  const found = await Promise.all(reports);
  assert.deepEqual(found.flatMap(({ wrong }) => wrong), []);
  assert.ok(found.every(({ read }) => read > 100) && evicted > 5, JSON.stringify([found, evicted]));
});
