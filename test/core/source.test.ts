import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { LazypullError } from '../../src/core/errors.ts';
import { CountingSource, FileSource, MemorySource, sliceSource, streamSource } from '../../src/core/source.ts';
import { collect } from '../../src/core/stream.ts';
import type { ByteSource } from '../../src/core/types.ts';

const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);
const is = (code: string) => (error: unknown) => error instanceof LazypullError && error.code === code;

test('every source gives exactly what is asked, and refuses what is outside', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'lazypull-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'file'), bytes);
  const file = new FileSource(join(folder, 'file'), bytes.length);
  t.after(() => file.close());
  const sources: Record<string, ByteSource> = { memory: new MemorySource(bytes), file, slice: sliceSource(new MemorySource(Buffer.concat([Buffer.alloc(5), bytes, Buffer.alloc(5)])), 5, 1000), counting: new CountingSource(new MemorySource(bytes)) };
  for (const [name, source] of Object.entries(sources)) {
    assert.equal(source.size, 1000, name);
    assert.deepEqual(new Uint8Array(await source.read(10, 20)), bytes.slice(10, 30), name);
    assert.equal((await source.read(1000, 0)).length, 0, name);
    assert.deepEqual(new Uint8Array(await collect(streamSource(source, 333), 1000)), bytes, name);
    for (const [offset, length] of [[990, 11], [-1, 2], [0.5, 1], [2 ** 53, 1], [0, -1]] as const) await assert.rejects(async () => source.read(offset, length), is('CORRUPT'), `${name} ${offset} ${length}`);
    await assert.rejects(async () => source.read(0, 1, AbortSignal.abort()), is('CANCELLED'), name);
  }
});

test('a file that shrank is SIZE_MISMATCH, a missing one IO', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'lazypull-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'file'), bytes);
  const file = new FileSource(join(folder, 'file'), bytes.length);
  truncateSync(join(folder, 'file'), 500);
  await assert.rejects(file.read(400, 200), is('SIZE_MISMATCH'));
  await file.close();
  await assert.rejects(new FileSource(join(folder, 'none'), 1).read(0, 1), is('IO'));
});

test('a file that could not be opened is tried again, and closing it is no error', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'lazypull-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = new FileSource(join(folder, 'file'), bytes.length);
  await assert.rejects(file.read(0, 1), is('IO'));
  writeFileSync(join(folder, 'file'), bytes);
  assert.deepEqual(new Uint8Array(await file.read(0, 10)), new Uint8Array(bytes.subarray(0, 10)));
  await file.close();
  const missing = new FileSource(join(folder, 'none'), 1);
  await assert.rejects(missing.read(0, 1), is('IO'));
  await missing.close();
});

test('counting counts', async () => {
  const source = new CountingSource(new MemorySource(bytes));
  await source.read(0, 10);
  await source.read(50, 7);
  assert.deepEqual([source.requests, source.bytes], [2, 17]);
});
