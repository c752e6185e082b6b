import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LazypullError } from '../../../src/core/errors.ts';
import { Arrivals, Delivery } from '../../../src/mount/data/arrivals.ts';
import { FetchQueue } from '../../../src/mount/data/fetch-queue.ts';
import { Readahead } from '../../../src/mount/data/readahead.ts';
import type { FetchClass } from '../../../src/mount/data/types.ts';

const MIB = 1 << 20;

/** Work that ends when it is told. */
function gate(): { readonly done: Promise<void>; open(): void } {
  let open = (): void => undefined;
  const done = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { done, open };
}

test('who waits goes before who does not, and the background goes last', async () => {
  const queue = new FetchQueue();
  const order: FetchClass[] = [];
  const first = gate();
  const running = Array.from({ length: 24 }, () => queue.run('demand', 1, () => first.done));
  const ended = (['background', 'prefetch', 'ahead', 'demand'] as const).map((of) => queue.run(of, 1, async () => void order.push(of)));
  await sleep(10);
  // Readers may be read ahead for while others wait; prefetches go on at half speed.
  assert.deepEqual(order.toSorted(), ['ahead', 'prefetch']);
  first.open();
  await Promise.all([...running, ...ended]);
  assert.deepEqual(order.slice(2), ['demand', 'background']);
});

test('the background does not begin while anything else is under way, nor right after', async () => {
  const queue = new FetchQueue();
  const reading = gate();
  const demand = queue.run('demand', 1, () => reading.done);
  let began = 0;
  const background = queue.run('background', 1, async () => {
    began = performance.now();
  });
  await sleep(80);
  assert.equal(began, 0);
  const ended = performance.now();
  reading.open();
  await Promise.all([demand, background]);
  assert.ok(began >= ended);
});

test('each class has its limit, and who leaves makes room', async () => {
  const queue = new FetchQueue();
  let active = 0;
  let most = 0;
  const stop = new AbortController();
  const work = async (): Promise<void> => {
    active += 1;
    most = Math.max(most, active);
    await sleep(2);
    active -= 1;
  };
  const all = Array.from({ length: 20 }, (_, i) => queue.run('ahead', 1, work, i >= 15 ? stop.signal : undefined));
  stop.abort();
  const ends = await Promise.allSettled(all);
  assert.equal(most, 4);
  assert.equal(ends.filter(({ status }) => status === 'fulfilled').length, 15);
  assert.ok(ends.every((end) => end.status === 'fulfilled' || (end.reason instanceof LazypullError && end.reason.code === 'CANCELLED')));
  await assert.rejects(queue.run('demand', 1, () => Promise.reject(new LazypullError('NETWORK', 'x'))));
  assert.equal(await queue.run('demand', 1, async () => 7), 7, 'a failure gives its place back');
});

test('what is under way takes no more memory than it may, and what alone is more goes alone', async () => {
  const queue = new FetchQueue();
  let under = 0;
  let most = 0;
  const work = (bytes: number) => async (): Promise<void> => {
    under += bytes;
    most = Math.max(most, under);
    await sleep(1);
    under -= bytes;
  };
  await Promise.all([5, 10, 3, 12, 100, 8, 8, 8, 8].map((mib) => queue.run('demand', mib * MIB, work(mib))));
  assert.equal(most, 100);
  most = 0;
  await Promise.all([5, 10, 3, 12, 8, 8, 8, 8].map((mib) => queue.run('demand', mib * MIB, work(mib))));
  assert.ok(most > 20 && most <= 40, String(most));
});

test('requests are as large as the line carries in a moment', () => {
  const queue = new FetchQueue();
  assert.equal(queue.requestSize, 512 << 10);
  for (let i = 0; i < 20; i += 1) queue.measured(4 * MIB, 200);
  assert.ok(Math.abs(queue.requestSize - 5 * MIB) < MIB / 4, String(queue.requestSize));
  for (let i = 0; i < 20; i += 1) queue.measured(8 * MIB, 5);
  assert.equal(queue.requestSize, 8 * MIB);
  for (let i = 0; i < 40; i += 1) queue.measured(100, 1000);
  assert.equal(queue.requestSize, 8 * MIB, 'small ones tell nothing');
  for (let i = 0; i < 40; i += 1) queue.measured(MIB, 10_000);
  assert.equal(queue.requestSize, 512 << 10);
});

test('what nobody waits for any more is given up, and is not joined by others', async () => {
  const left: Uint8Array[] = [];
  const arrivals = new Arrivals((bytes) => left.push(bytes));
  const nothing = (): Promise<void> => Promise.resolve();
  const delivery = new Delivery();
  const [one, two] = [arrivals.add(1, delivery), arrivals.add(2, delivery)];
  const stop = new AbortController();
  const first = arrivals.wait([one], nothing, stop.signal);
  const second = arrivals.wait([two], nothing, stop.signal);
  stop.abort();
  await assert.rejects(first);
  assert.ok(!delivery.signal.aborted || second, 'as long as somebody waits');
  await assert.rejects(second);
  assert.ok(delivery.signal.aborted);
  assert.equal(arrivals.get(1), undefined);
  const later = new Delivery();
  const three = arrivals.add(3, later);
  const use = gate();
  const waiting = arrivals.wait([three], async (loaded) => {
    await use.done;
    return [...loaded];
  });
  three.resolve(Uint8Array.of(9));
  await sleep(1);
  assert.ok(!later.signal.aborted, 'what has come is not given up');
  assert.equal(arrivals.get(3), three, 'until it is kept');
  three.done();
  assert.equal(arrivals.get(3), undefined);
  assert.deepEqual(left, [], 'somebody has it still');
  use.open();
  assert.deepEqual(await waiting, [[3, Uint8Array.of(9)]]);
  assert.deepEqual(left, [Uint8Array.of(9)]);
  const four = arrivals.add(4, new Delivery());
  const failing = arrivals.wait([four], nothing);
  four.reject(new LazypullError('NETWORK', 'gone'));
  await assert.rejects(failing, (error) => error instanceof LazypullError && error.code === 'NETWORK');
});

test('a reader that goes on is read ahead of: a part of what it has read, up to the end of the file', () => {
  const ahead = new Readahead();
  const end = 100 * MIB;
  const ask = (address: number): ReturnType<Readahead['asked']> => ahead.asked(address, address + MIB, Math.ceil((address + MIB) / (4 * MIB)) * 4 * MIB, () => end);
  assert.equal(ask(0), undefined);
  assert.equal(ask(MIB), undefined, 'it is in what has come already');
  assert.equal(ask(4 * MIB), undefined, 'once may be an accident');
  assert.deepEqual(ask(8 * MIB), { from: 12 * MIB, to: 18 * MIB });
  assert.equal(ask(9 * MIB), undefined);
  assert.deepEqual(ask(12 * MIB), { from: 18 * MIB, to: 27 * MIB });
  let at = 18 * MIB;
  let next = ask(at);
  while (next && next.to < end) {
    assert.ok(next.to - next.from <= 16 * MIB);
    at = next.from;
    next = ask(at);
  }
  assert.equal(next?.to, end);
});

test('from file to file less is read ahead, and random readers cost nothing', () => {
  const ahead = new Readahead();
  let asked = 0;
  let last: ReturnType<Readahead['asked']>;
  for (let at = 0; at < 50; at += 1) {
    const found = ahead.asked(at * 10_000, at * 10_000 + 9000, at * 10_000 + 10_000, (address) => address);
    if (found) {
      asked += 1;
      last = found;
      assert.ok(found.to - found.from <= found.from / 3 + 1);
    }
  }
  assert.ok(asked > 3 && last && last.to > 500_000);
  const random = new Readahead();
  let state = 7;
  for (let i = 0; i < 500; i += 1) {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    assert.equal(random.asked(state * 64, state * 64 + 4096, state * 64 + 65_536, () => 2 ** 40), undefined);
  }
});

test('several readers of one device are told apart', () => {
  const ahead = new Readahead();
  const found: number[] = [];
  for (let step = 0; step < 4; step += 1) {
    for (const reader of [0, 1, 2, 3]) {
      const at = reader * 1000 * MIB + step * MIB;
      if (ahead.asked(at, at + MIB, at + MIB, () => 2 ** 40)) found.push(reader);
    }
  }
  assert.deepEqual([...new Set(found)].sort(), [0, 1, 2, 3]);
});

test('who waits for chunks to be kept does not hold their bytes, and who asks for a part has it as long as it takes', async () => {
  const left: number[] = [];
  const arrivals = new Arrivals((bytes) => left.push(bytes[0] as number));
  const delivery = new Delivery();
  const [one, two] = [arrivals.add(1, delivery), arrivals.add(2, delivery)];
  let over = false;
  const keeping = arrivals.waitKept([one, two]).then(() => (over = true));
  const part = arrivals.part(1, 1, 3);
  one.resolve(Uint8Array.of(1, 2, 3));
  one.done();
  one.done();
  assert.deepEqual(left, [], 'a part of it is wanted');
  assert.deepEqual(await part, Uint8Array.of(2, 3));
  assert.deepEqual(left, [1], 'the other one is still to come');
  assert.equal(await arrivals.part(1, 0, 1), undefined);
  two.resolve(Uint8Array.of(4));
  await sleep(1);
  assert.equal(over, false);
  two.done();
  await keeping;
  assert.deepEqual(left, [1, 4]);
  const three = arrivals.add(3, new Delivery());
  const lost = arrivals.part(3, 0, 1);
  three.reject(new LazypullError('NETWORK', 'gone'));
  assert.equal(await lost, undefined);
});

test('of what is given up, what has come is still there to be joined until it is kept', async () => {
  const arrivals = new Arrivals(() => undefined);
  const delivery = new Delivery();
  const [one, two] = [arrivals.add(1, delivery), arrivals.add(2, delivery)];
  const stop = new AbortController();
  const waiting = arrivals.wait([one, two], () => Promise.resolve(), stop.signal);
  one.resolve(Uint8Array.of(1));
  stop.abort();
  await assert.rejects(waiting);
  assert.ok(delivery.signal.aborted);
  assert.equal(arrivals.get(1), one);
  assert.equal(arrivals.get(2), undefined);
});
