import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LazypullError } from '../../../src/core/errors.ts';
import type { RegularNode } from '../../../src/core/types.ts';
import { nodeAt } from '../../../src/layer/tree.ts';
import { estargz } from '../../../formats/index.ts';
import { noise } from '../../support/noise.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { directory, file } from '../../support/tar-corpus.ts';
import { mounted, openCache, readThrough, rewritten, type Opened, type Source } from './images.ts';

const CHUNK = 8192;
const LARGE = noise(40 * CHUNK);
const small = (i: number): Uint8Array => noise(1000 + i, i + 1);
const TAR = archive(entries(directory('d/'), file('d/large', LARGE), ...Array.from({ length: 10 }, (_, i) => file(`d/small${i}`, small(i)))));

const made = rewritten(estargz, { chunkSize: CHUNK });

async function setUp(t: TestContext, options: Parameters<typeof mounted>[3] = {}): Promise<Opened & { readonly source: Source; readonly at: (path: string, offset?: number) => { device: number; address: number } }> {
  const source = await made([TAR]);
  const { cache } = await openCache(t);
  const opened = await mounted(t, source, cache, options);
  source.store.reads.length = 0;
  const at = (path: string, offset = 0): { device: number; address: number } => {
    const chunk = fileAt(opened, path).extents[0]?.chunk;
    assert.ok(chunk);
    return { device: chunk.blob - 1, address: chunk.offset + offset };
  };
  return { ...opened, source, at };
}

function fileAt({ tree }: Pick<Opened, 'tree'>, path: string): RegularNode {
  const node = nodeAt(tree.root, path);
  assert.ok(node?.type === 'file', path);
  return node;
}

/** Reads of content, not of the layer's index. */
const contentReads = ({ store }: Source): readonly { readonly offset: number; readonly length: number }[] => store.reads.filter(({ length }) => length !== 51 && length < 60_000);

const failure = (code: string, pattern: RegExp, path?: string) => (error: unknown): boolean => {
  assert.ok(error instanceof LazypullError, String(error));
  assert.deepEqual([error.code, path === undefined || error.path === path], [code, true], `${error.code} ${error.path}: ${error.message}`);
  assert.match(error.message, pattern);
  return true;
};

test('a read fetches the chunks that it needs and no others, once', async (t) => {
  const { content, source, at } = await setUp(t);
  await content.read({ ...at('d/large', 3 * CHUNK + 100), length: 200 });
  const [first] = source.store.reads.splice(0).slice(-1);
  assert.ok(first && first.length < CHUNK + 100, `${first?.length} bytes for one chunk`);
  await content.read({ ...at('d/large', 3 * CHUNK), length: CHUNK });
  assert.deepEqual(source.store.reads, []);
  const bytes = await content.read({ ...at('d/large', 10 * CHUNK + 5), length: 3 * CHUNK });
  assert.ok(Buffer.from(bytes).equals(Buffer.from(LARGE.subarray(10 * CHUNK + 5, 13 * CHUNK + 5))));
  assert.equal(source.store.reads.length, 1, 'neighbours are one request');
});

test('misses of one moment share requests, and those for what is under way join it', async (t) => {
  const { content, source, at } = await setUp(t);
  await content.read({ ...at('d/small9'), length: 1 });
  source.store.reads.length = 0;
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  source.store.change = async (bytes) => {
    await held;
    return bytes;
  };
  const early = Array.from({ length: 20 }, (_, i) => content.read({ ...at('d/large', 5 * CHUNK + i * 2000), length: 2000 }));
  await sleep(20);
  const late = Array.from({ length: 20 }, (_, i) => content.read({ ...at('d/large', 5 * CHUNK + i * 2000), length: 1000 }));
  await sleep(20);
  assert.equal(content.stats().layers[0]?.requestsBy.demand, 2, 'five neighbouring chunks, asked for forty times, and the one before');
  release();
  const all = await Promise.all([...early, ...late]);
  all.forEach((bytes, i) => assert.ok(Buffer.from(bytes).equals(Buffer.from(LARGE.subarray(5 * CHUNK + (i % 20) * 2000, 5 * CHUNK + (i % 20) * 2000 + bytes.length)))));
  const { answers } = content.stats();
  assert.ok(answers.shared >= 20);
});

test('wrong bytes are fetched once more, and the right ones kept', async (t) => {
  const problems: LazypullError[] = [];
  const { content, source, at, tree } = await setUp(t, { onProblem: (error) => problems.push(error) });
  let spoilt = 0;
  source.store.change = (bytes, { length }) => {
    if (length > 60_000 || length === 51 || spoilt > 2) return bytes;
    spoilt += 1;
    const wrong = Uint8Array.from(bytes);
    wrong[Math.floor(wrong.length / 2)] = (wrong[Math.floor(wrong.length / 2)] as number) ^ 0xff;
    return wrong;
  };
  spoilt = 1;
  await assert.rejects(content.read({ ...at('d/large', 2 * CHUNK), length: 10 }), failure('DIGEST_MISMATCH', /layer 1 \(sha256:[0-9a-f]{64}\): .*digest/, '/d/large'), 'twice wrong is wrong');
  spoilt = 2;
  const bytes = await content.read({ ...at('d/large', 4 * CHUNK), length: CHUNK });
  assert.ok(Buffer.from(bytes).equals(Buffer.from(LARGE.subarray(4 * CHUNK, 5 * CHUNK))), 'the second time it was right');
  assert.ok(Buffer.from(await readThrough({ content }, fileAt({ tree }, 'd/large'))).equals(Buffer.from(LARGE)), 'nothing wrong was kept');
  const [layer] = content.stats().layers;
  assert.deepEqual([layer?.errors, layer?.refetched], [1, 2]);
  assert.equal(problems.length, 1, 'a layer is complained about once');
  assert.match(problems[0]?.message ?? '', /wrong bytes/);
});

test('a chunk that is wrong for good does not keep back its neighbours', async (t) => {
  const { content, source, at } = await setUp(t);
  await content.read({ ...at('d/small9'), length: 1 });
  const bad = 20 * CHUNK;
  let packed = -1;
  source.store.change = (bytes, { offset }) => {
    // Chunks of noise are stored in one piece, a little longer than they are.
    if (packed < 0) packed = offset;
    const place = packed + (bytes.length > 3 * CHUNK ? Math.floor(bytes.length / 5) * 2 + 300 : 300);
    if (offset > place || place >= offset + bytes.length) return bytes;
    const wrong = Uint8Array.from(bytes);
    wrong[place - offset] = (wrong[place - offset] as number) ^ 1;
    return wrong;
  };
  const reads = await Promise.allSettled(Array.from({ length: 5 }, (_, i) => content.read({ ...at('d/large', bad + i * CHUNK), length: CHUNK })));
  const wrong = reads.filter(({ status }) => status === 'rejected').length;
  assert.ok(wrong <= 1, `${wrong} of five reads failed`);
  reads.forEach((read, i) => {
    if (read.status === 'fulfilled') assert.ok(Buffer.from(read.value).equals(Buffer.from(LARGE.subarray(bad + i * CHUNK, bad + (i + 1) * CHUNK))));
  });
});

test('a read that takes too long fails with its file; what nobody waits for is given up', async (t) => {
  const { content, source, at } = await setUp(t, { readTimeout: 80 });
  await content.read({ ...at('d/small9'), length: 1 });
  let given = 0;
  source.store.change = () => new Promise(() => undefined);
  await assert.rejects(content.read({ ...at('d/small0'), length: 10 }), failure('NETWORK', /layer 1 .*not read within 0.08 s/, '/d/small0'));
  source.store.change = (bytes) => {
    given += 1;
    return bytes;
  };
  const bytes = await content.read({ ...at('d/small0'), length: 10 });
  assert.ok(Buffer.from(bytes).equals(Buffer.from(small(0).subarray(0, 10))));
  assert.equal(given, 1, 'asked for anew');
});

test('who gives up does not take away what others wait for', async (t) => {
  const { content, source, at } = await setUp(t);
  await content.read({ ...at('d/small9'), length: 1 });
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  source.store.change = async (bytes) => {
    await held;
    return bytes;
  };
  source.store.reads.length = 0;
  const stop = new AbortController();
  const first = content.read({ ...at('d/large'), length: 10 }, stop.signal);
  const second = content.read({ ...at('d/large', 10), length: 10 });
  await sleep(10);
  stop.abort();
  await assert.rejects(first, (error) => error instanceof LazypullError && error.code === 'CANCELLED');
  release();
  assert.ok(Buffer.from(await second).equals(Buffer.from(LARGE.subarray(10, 20))));
  assert.equal(source.store.reads.length, 1);
  assert.equal(content.stats().layers[0]?.errors, 0, 'giving up is no error');
  await assert.rejects(content.read({ ...at('d/large'), length: 10 }, AbortSignal.abort()), (error) => error instanceof LazypullError && error.code === 'CANCELLED');
});

test('a store that fails is an error of the read, and no reason not to ask again', async (t) => {
  const { content, source, at } = await setUp(t);
  source.store.change = () => {
    throw new LazypullError('NETWORK', 'connection refused');
  };
  await assert.rejects(content.read({ ...at('d/small1'), length: 10 }), failure('NETWORK', /layer 1 .*connection refused/, '/d/small1'));
  source.store.change = (bytes) => bytes;
  assert.ok(Buffer.from(await content.read({ ...at('d/small1'), length: 10 })).equals(Buffer.from(small(1).subarray(0, 10))));
});

test('one reader after another is read ahead of, and random ones are not', async (t) => {
  const { content, source, at } = await setUp(t);
  await content.read({ ...at('d/small9'), length: 1 });
  await content.whenComplete(AbortSignal.timeout(1)).catch(() => undefined);
  source.store.reads.length = 0;
  for (const chunk of [30, 3, 17, 9, 25]) await content.read({ ...at('d/large', chunk * CHUNK), length: 100 });
  await sleep(20);
  assert.equal(source.store.reads.length, 5);
  assert.ok(contentReads(source).every(({ length }) => length < 2 * CHUNK));
  const other = await setUp(t);
  await other.content.read({ ...other.at('d/small9'), length: 1 });
  await other.content.whenComplete(AbortSignal.timeout(1)).catch(() => undefined);
  other.source.store.reads.length = 0;
  let asked = 0;
  for (let at = 0; at < LARGE.length; at += 4096) {
    const from = other.at('d/large', at);
    const present = new Uint8Array(other.content.devices[from.device]?.present as SharedArrayBuffer);
    const page = from.address / 4096;
    // What other threads read by themselves does not come this way.
    if ((((present[page >> 3] as number) >> (page & 7)) & 1) === 1) continue;
    asked += 1;
    const bytes = await other.content.read({ ...from, length: 4096 });
    assert.ok(Buffer.from(bytes).equals(Buffer.from(LARGE.subarray(at, at + 4096))));
    await sleep(2);
  }
  assert.ok(asked < 20, `${asked} of 80 pages had to be asked for`);
  assert.ok(other.source.store.reads.length < 16, `${other.source.store.reads.length} requests for 40 chunks`);
  const { requestsBy } = other.content.stats().layers[0] as { requestsBy: Record<string, number> };
  assert.ok((requestsBy['ahead'] as number) > 2);
});
