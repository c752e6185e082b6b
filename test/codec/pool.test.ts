import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { digestOf } from '../../src/core/digest.ts';
import { LazypullError } from '../../src/core/errors.ts';
import type { WorkerPool } from '../../src/core/types.ts';
import { deflatePiece, gzipMembers } from '../../src/codec/gzip-members.ts';
import { MemberMemory } from '../../src/codec/member-memory.ts';
import { ThreadPool } from '../../src/codec/pool.ts';
import { noise } from '../support/noise.ts';

const is = (code: string) => (error: unknown) => error instanceof LazypullError && error.code === code;

test('members come back in order with their sizes and digests', async () => {
  const pool = new ThreadPool(2);
  const memory = await MemberMemory.lease(pool, 3000);
  const bytes = new Uint8Array(3000).fill(7, 0, 1000).fill(8, 1000);
  memory.append(bytes, 0, true);
  const { bytes: packed, lengths, digests } = await gzipMembers(pool, memory, [{ length: 1000, known: 0, hashes: [] }, { length: 2000, known: 0, hashes: [{ offset: 0, length: 10 }, { offset: 10, length: 1990 }] }], 6);
  const [first = 0, second = 0] = lengths;
  assert.equal(first + second, packed.length);
  assert.deepEqual(gunzipSync(packed.subarray(0, first)), Buffer.from(bytes.slice(0, 1000)));
  assert.deepEqual(gunzipSync(packed.subarray(first)), Buffer.from(bytes.slice(1000)));
  assert.deepEqual(digests, [digestOf(bytes.slice(1000, 1010)), digestOf(bytes.slice(1010))]);
  await pool.close();
});

test('members that grow beyond their memory come back all the same', async () => {
  const pool = new ThreadPool(1);
  const bytes = noise(4000);
  // No larger than need be, which the pool's own is.
  const lender: WorkerPool = { jobs: 1, run: (kind, job) => pool.run(kind, job), lease: async (size) => ({ memory: new SharedArrayBuffer(size), release: () => undefined }) };
  const memory = await MemberMemory.lease(lender, bytes.length);
  memory.append(bytes, 0, true);
  const plans = Array.from({ length: 1000 }, () => ({ length: 4, known: 0, hashes: [] }));
  const { bytes: packed, lengths } = await gzipMembers(pool, memory, plans, 6);
  assert.ok(packed.length > memory.lease.memory.byteLength);
  assert.equal(lengths.reduce((sum, length) => sum + length, 0), packed.length);
  assert.deepEqual(new Uint8Array(gunzipSync(packed)), bytes);
  await pool.close();
});

test('the budget makes takers wait, in order, and a cancelled one gives up its turn', async () => {
  const pool = new ThreadPool(1);
  const held = await Promise.all(Array.from({ length: 3 }, () => pool.lease(10)));
  const got: number[] = [];
  const stop = new AbortController();
  const first = pool.lease(10).then((lease) => got.push(1) && lease);
  const cancelled = pool.lease(10, stop.signal);
  const second = pool.lease(10).then((lease) => got.push(2) && lease);
  stop.abort();
  await assert.rejects(cancelled, is('CANCELLED'));
  assert.deepEqual(got, []);
  held[0]?.release();
  held[0]?.release();
  await first;
  assert.deepEqual(got, [1], 'releasing twice frees one place');
  held[1]?.release();
  await second;
  assert.deepEqual(got, [1, 2]);
  await pool.close();
});

test('memory of ordinary leases is used again; a large one has what it asks for', async () => {
  const pool = new ThreadPool(1);
  const lease = await pool.lease(100);
  lease.release();
  assert.equal((await pool.lease(200)).memory, lease.memory);
  assert.ok((await pool.lease(50 << 20)).memory.byteLength >= 50 << 20);
  await pool.close();
});

test('warming starts every thread once, and all of them work', async () => {
  const pool = new ThreadPool(3);
  pool.warm();
  pool.warm();
  const done = await Promise.all(Array.from({ length: 8 }, () => deflatePiece(pool, new Uint8Array(1000), 6)));
  assert.deepEqual(done.map(({ size }) => size), Array(8).fill(1000));
  await pool.close();
});

test('closing ends although a reply is on its way', async () => {
  for (let i = 0; i < 20; i++) {
    const pool = new ThreadPool(1);
    await deflatePiece(pool, new Uint8Array(10), 6);
    const lost = assert.rejects(deflatePiece(pool, new Uint8Array(10), 6), is('CANCELLED'));
    // The thread answers while this one is busy, so that the reply is met after the closing has begun.
    const until = performance.now() + 3;
    while (performance.now() < until);
    await pool.close();
    await lost;
  }
});

test('a job that fails is an error of its own; a closed pool refuses', async () => {
  const pool = new ThreadPool(1);
  await assert.rejects(pool.run('no such job', {}), is('INTERNAL'));
  assert.equal((await deflatePiece(pool, new Uint8Array(10), 6)).size, 10);
  const lost = pool.run('no such job', {});
  const ended = assert.rejects(lost);
  await pool.close();
  await ended;
  await assert.rejects(pool.run('gzip-members', {}), is('CANCELLED'));
  assert.throws(() => new ThreadPool(0), is('USAGE'));
});
